"""The records of the eight learners. Importing this imports none of them."""

from __future__ import annotations

from collections.abc import Iterator

from textrl.specs import LearnerSpec

_ALGORITHMS = "textrl.learners.sb3.algorithms"
_SETTINGS = "textrl.learners.sb3.settings"
#: What can take every form of advice but the change of a value that it does not have.
_POLICY_GRADIENT = frozenset({"reward", "action_scores", "behaviour"})
_VALUES = frozenset({"reward", "target", "action_scores", "behaviour"})


def sb3_learners() -> Iterator[LearnerSpec]:
    """Yield the records; `textrl.learners.sb3.advice` says why each accepts what it does."""
    rows: list[tuple[str, str, str, frozenset[str]]] = [
        ("sb3/ppo", "PPO", "Proximal policy optimisation, by Stable-Baselines3.", _POLICY_GRADIENT),
        ("sb3/a2c", "A2C", "Advantage actor-critic, by Stable-Baselines3.", _POLICY_GRADIENT),
        ("sb3/dqn", "DQN", "Deep Q-network, by Stable-Baselines3.", _VALUES),
        ("contrib/qrdqn", "QRDQN", "Quantile-regression DQN, by sb3-contrib.", _VALUES),
        ("contrib/trpo", "TRPO", "Trust-region policy optimisation, by sb3-contrib.", _POLICY_GRADIENT),
        (
            "contrib/maskable_ppo",
            "MaskablePPO",
            "PPO for environments with action_masks(), by sb3-contrib.",
            frozenset({"reward", "action_scores"}),
        ),
        (
            "contrib/recurrent_ppo",
            "RecurrentPPO",
            "PPO with an LSTM, for what one observation does not show, by sb3-contrib.",
            frozenset({"reward"}),
        ),
        (
            "contrib/ars",
            "ARS",
            "Augmented random search over a policy's weights, by sb3-contrib.",
            frozenset({"reward"}),
        ),
    ]
    for name, stem, summary, accepts in rows:
        yield LearnerSpec(
            name=name,
            target=f"{_ALGORITHMS}:{stem}Learner",
            settings=f"{_SETTINGS}:{stem}Settings",
            summary=summary,
            accepts=accepts,
        )
