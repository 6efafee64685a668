"""Guidance: advice, a technique and a weight, as a learner asks for them.

Every technique leaves the learner bit for bit as it is where the weight is 0: nothing is added, the advice
is not even asked, and no random number is drawn. Guidance draws from a generator of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from textrl import streams
from textrl.advice.betas import Annealed, Eligibility, EligibilitySettings
from textrl.advice.techniques import Technique, augmented, greedy, shaped, shares
from textrl.errors import PluginError, UserError, did_you_mean
from textrl.features import make_features

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class GuidanceSettings:
    """How advice is combined with a learner.

    Attributes:
        technique: How: through the reward, through Q in choice and update, through the choice alone, or by
            acting now and then in the learner's place.
        source: Name of the source that rates the actions.
        beta: Its weight; with `eligibility`, the weight where a person trained last and most (c_s).
        anneal: Multiplies the weight after every episode.
        eligibility: A weight by state and action (action biasing) or by state (control sharing) that
            follows where a person trains; None for one weight everywhere.
    """

    technique: Technique
    source: str
    beta: float
    anneal: float = 1.0
    eligibility: EligibilitySettings | None = None

    def __post_init__(self) -> None:
        """Refuse values that cannot work.

        Raises:
            ValueError: Names the setting, its value and the fix.
        """
        if not (self.beta >= 0 and math.isfinite(self.beta)):
            raise ValueError(f"beta is {self.beta}; it must be 0 or more")
        if not 0 <= self.anneal <= 1:
            raise ValueError(f"anneal is {self.anneal}; it must be between 0 and 1")
        if self.eligibility is not None and self.technique in ("reward_shaping", "q_augmentation"):
            raise ValueError(
                f"eligibility does not go with {self.technique}: a reward or a value that moves by itself "
                "cannot be learnt; use action_biasing or control_sharing"
            )


class Guidance:
    """What a learner asks, state by state.

    Attributes:
        settings: As given.
        advice: The source, an `Advice`. If it also has ``rate(observation) -> (A,)`` in numpy, that is
            used: acting then needs no torch.
    """

    def __init__(
        self,
        settings: GuidanceSettings,
        advice: Any,
        observation_space: Any,
        n_actions: int,
        *,
        seed: int = 0,
    ) -> None:
        """Join advice and technique.

        Args:
            settings: How.
            advice: Rates all actions in a state.
            observation_space: The environment's, for the eligibility module's features.
            n_actions: A.
            seed: Of the generator for control sharing.

        Raises:
            UserError: When there is no such technique, or the source gives no advice.
        """
        if settings.technique not in get_args(Technique):
            fix = did_you_mean(str(settings.technique), get_args(Technique))
            raise UserError(f"There is no technique '{settings.technique}' to combine advice with.{fix}")
        if not (hasattr(advice, "rate") or hasattr(advice, "advise")):
            raise UserError(
                f"The source '{settings.source}' gives no advice ({type(advice).__name__} has no advise()); "
                "name one that rates actions."
            )
        self.settings, self.advice = settings, advice
        self._n_actions = n_actions
        self._rng = streams.stream(seed, streams.GUIDANCE)
        beta = float(settings.beta)  # Python's users write 10 as well as 10.0
        self._annealed = Annealed(beta, settings.anneal)
        self._eligibility: Eligibility | None = None
        if settings.eligibility is not None:
            self._eligibility = Eligibility(
                make_features(settings.eligibility.features, observation_space),
                settings.eligibility,
                scale=beta,
                n_actions=n_actions if settings.technique == "action_biasing" else None,
            )
        self._asked: tuple[bytes, Floats] | None = None
        self._used = 0.0  # sum of the weights that acted in this episode, for the log
        self._uses = 0
        self._logged = beta

    @property
    def beta(self) -> float:
        """The weight now: of all advice, or the most that the eligibility module gives."""
        return self._annealed.beta

    def scores(self, q: Floats, observation: Any, *, acting: bool = True) -> Floats:
        """Return what actions are chosen by, (A,): `q` itself where the technique leaves it alone.

        Args:
            q: (A,) action values.
            observation: Where.
            acting: False in an evaluation, which the log of the training does not count.
        """
        if self.settings.technique in ("q_augmentation", "action_biasing"):
            beta = self._counted(observation) if acting else self.weight(observation)
            if beta if isinstance(beta, float) else beta.any():
                return augmented(q, self.rate(observation), beta)
        return q

    def value(self, q: float, observation: Any, action: int) -> float:
        """Return what the TD update takes for Q(s, a): `q` itself except in Q augmentation."""
        if self.settings.technique == "q_augmentation" and self._annealed.beta:
            return q + self._annealed.beta * float(self.rate(observation)[action])
        return q

    def choose(self, observation: Any) -> int | None:
        """Return the action that H takes in the learner's place (control sharing), or None."""
        if self.settings.technique != "control_sharing":
            return None
        return self._shared(observation, float(self._counted(observation)), self._rng)

    def evaluate(
        self, observation: Any, rng: np.random.Generator, *, deterministic: bool = False
    ) -> int | None:
        """Return what `choose` would, without touching the training's random numbers or log.

        Args:
            observation: Where.
            rng: Of the evaluation.
            deterministic: H acts where it would more often than not.
        """
        if self.settings.technique != "control_sharing":
            return None
        beta = float(self.weight(observation))
        return self._shared(observation, float(beta > 0.5) if deterministic else beta, rng)

    def reward(self, reward: float, observation: Any, action: int) -> float:
        """Return the reward that is learnt from."""
        if self.settings.technique == "reward_shaping" and self._annealed.beta:
            return shaped(reward, self.rate(observation), action, self._annealed.beta)
        return reward

    def step(self, observation: Any, action: int, *, training: bool) -> None:
        """A step was taken; call it after the person's signals and before the next question.

        Args:
            observation: Where the action was taken.
            action: 0 .. A-1.
            training: Whether a person is training.
        """
        self._asked = None  # what a person taught since then counts
        if self._eligibility is not None:
            self._eligibility.step(observation, action, training=training)

    def end_episode(self) -> None:
        """An episode is over."""
        self._asked = None
        self._logged = self._used / self._uses if self._uses else self._annealed.beta
        self._used, self._uses = 0.0, 0
        self._annealed.end_episode()
        if self._eligibility is not None:
            self._eligibility.scale = self._annealed.beta
            self._eligibility.end_episode()

    def rate(self, observation: Any) -> Floats:
        """Return H(s, .), (A,) float64.

        Raises:
            PluginError: When the source gives another shape, or numbers that are not finite.
        """
        # A technique may ask twice within a step; by contents, as environments may reuse their arrays.
        key = np.asarray(observation).tobytes()
        if self._asked is not None and self._asked[0] == key:
            return self._asked[1]
        fast = getattr(self.advice, "rate", None)
        h = np.asarray(self._advised(observation) if fast is None else fast(observation), dtype=np.float64)
        if h.shape != (self._n_actions,) or not math.isfinite(np.add.reduce(h)):
            raise PluginError(
                f"The source '{self.settings.source}' rated the actions {h.tolist()}; it must give "
                f"{self._n_actions} finite numbers."
            )
        self._asked = (key, h)
        return h

    def metrics(self) -> dict[str, float]:
        """Return the mean weight that acted in the last episode."""
        return {"advice/beta": self._logged}

    def state_dict(self) -> dict[str, Any]:
        """Return the weights and the generator, as numpy arrays and JSON data."""
        return {
            "beta": self._annealed.beta,
            "logged": self._logged,
            "rng": dict(self._rng.bit_generator.state),
            "eligibility": None if self._eligibility is None else self._eligibility.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`, as at an episode's end."""
        self._annealed.beta, self._logged = float(state["beta"]), float(state["logged"])
        self._rng.bit_generator.state = dict(state["rng"])
        self._asked, self._used, self._uses = None, 0.0, 0
        if self._eligibility is not None:
            self._eligibility.scale = self._annealed.beta
            self._eligibility.load_state_dict(state["eligibility"])

    def _shared(self, observation: Any, beta: float, rng: np.random.Generator) -> int | None:
        if not beta or not shares(rng, beta):
            return None
        return greedy(self.rate(observation), rng)

    def weight(self, observation: Any) -> float | Floats:
        """Return the weight of the advice here: one, or (A,) one for each action; asking changes nothing."""
        if self._eligibility is not None and self._annealed.beta:
            return self._eligibility.beta(observation)
        return self._annealed.beta

    def weights(self, observations: Any) -> Floats:
        """Return `weight` of B observations, (B, A) or (B, 1)."""
        if self._eligibility is not None and self._annealed.beta:
            return self._eligibility.betas(observations)
        return np.full((len(observations), 1), self._annealed.beta)

    def _counted(self, observation: Any) -> float | Floats:
        """Return the weight here, and remember it for the log."""
        beta = self.weight(observation)
        if self._eligibility is not None:
            self._used += beta if isinstance(beta, float) else float(np.add.reduce(beta)) / len(beta)
            self._uses += 1
        return beta

    def _advised(self, observation: Any) -> Floats:
        import torch

        from textrl.protocols import AdviceState

        state = AdviceState(observation=torch.as_tensor(np.asarray(observation))[None])
        ratings: Floats = self.advice.advise(state)[0].detach().cpu().double().numpy()
        return ratings
