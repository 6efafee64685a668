"""Advice for SB3's algorithms: what changes the reward, and what the policy sees of it.

Which technique means what here, and why some are refused:

* *Reward shaping* happens in the environment (`Guided`), outside SB3's Monitor: the algorithm learns from
  r + beta H(s, a), the log shows the environment's own return. Every algorithm takes it.
* *Action biasing* of DQN and QR-DQN adds beta H(s, .) to the values that the greedy action is chosen by;
  random exploration and the TD update stay. A policy gradient must know what it did: in PPO, A2C and TRPO
  the policy that acts *and is trained* is mu(a|s) ~ exp(logit(a|s) + beta H(s, a)). The term that was in
  force travels with the observation (`AdviceColumns`) into the rollout buffer, so log mu is computed from
  the same numbers when acting and when learning, and the ratio of the first epoch is 1.
* *Control sharing* of DQN and QR-DQN replaces the action. In PPO, A2C and TRPO it is again part of the
  policy: mu(a) = (1 - p) pi(a) + p [a = a*] with p = min(beta, 1), as one categorical distribution.
* *Q augmentation* needs a Q: DQN and QR-DQN have one, and take Q + beta H for choice, prediction and
  target alike. The replay buffer keeps H, not beta H, so an old transition counts with today's beta. A
  value network V is no Q, so the policy gradients refuse it.

Refused besides: eligibility modules, which need a person who trains while the agent learns; a recurrent
policy's biasing and sharing, whose LSTM would have to be passed by; control sharing under action masks,
where H's favourite may be illegal; ARS's, which has neither Q nor probabilities; and Q augmentation
together with `normalize`, because SB3's replay buffer then keeps the environment's observations only.
"""

from __future__ import annotations

from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecNormalize

from textrl.advice.guidance import Guidance
from textrl.advice.techniques import check_accepts
from textrl.errors import UserError
from textrl.learners.sb3.environments import Tape
from textrl.specs import LearnerSpec

Floats = NDArray[np.float32]
#: What the columns beside an observation hold: beta H(s, .), p on H's favourites, or H(s, .).
Columns = Literal["bias", "share", "ratings"]


class Guided(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Tells the guidance what happens in one copy of the environment, and lets it shape the reward.

    At an episode's end `info["own_episode"]` holds what the Monitor inside has seen: one outside, where an
    algorithm needs the shaped return, writes its own over ``info["episode"]``.
    """

    def __init__(self, env: Tape, guidance: Guidance) -> None:
        super().__init__(env)
        self._tape, self._guidance = env, guidance

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step; the reward is the one to learn from."""
        before, taken = self._tape.observation, int(action)
        observation, reward, terminated, truncated, info = self._tape.step(action)
        learnt = self._guidance.reward(float(reward), before, taken)
        self._guidance.step(before, taken, training=False)
        if terminated or truncated:
            self._guidance.end_episode()
        if "episode" in info:
            info["own_episode"] = info["episode"]
        return observation, learnt, terminated, truncated, info


class AdviceColumns(VecEnvWrapper):  # type: ignore[misc] # SB3 is not type-checked here
    """Appends A columns of advice to observations of S numbers: (N, S) -> (N, S + A).

    They are taken from the environment's own observations, also where what the policy sees is normalised.
    """

    def __init__(self, venv: VecEnv, guidance: Guidance, kind: Columns) -> None:
        """Widen the observations.

        Raises:
            UserError: When they are not vectors of floats, or the actions are not discrete.
        """
        space, actions = venv.observation_space, venv.action_space
        if not (isinstance(space, spaces.Box) and len(space.shape) == 1 and space.dtype.kind == "f"):
            raise UserError(
                f"Advice for choosing actions needs observations that are vectors of floats, not {space}."
            )
        self.count = number_of_actions(actions)
        free = np.full(self.count, np.inf, dtype=np.float32)
        wide = spaces.Box(
            np.concatenate([space.low, -free]), np.concatenate([space.high, free]), dtype=space.dtype
        )
        super().__init__(venv, observation_space=wide)
        self.guidance, self.kind = guidance, kind

    def reset(self) -> Floats:
        """Reset all copies."""
        observations = self.venv.reset()
        return self._widened(observations)

    def step_wait(self) -> tuple[Floats, NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Step all copies."""
        observations, rewards, dones, infos = self.venv.step_wait()
        for info in infos:
            if "terminal_observation" in info:
                info["terminal_observation"] = self._last(info["terminal_observation"])
        return self._widened(observations), rewards, dones, infos

    def _last(self, observation: NDArray[Any]) -> NDArray[Any]:
        """Return an episode's last observation, which a target bootstraps from where a limit cut it off."""
        advice = np.zeros((1, self.count), dtype=np.float32)
        if self.kind == "ratings":  # a value of actions; a value of the state takes no advice
            advice = columns(self.guidance, self.kind, observation[None], self.count)
        last: NDArray[Any] = widened(observation[None], advice)[0]
        return last

    def _widened(self, observations: Floats) -> Floats:
        own = self.venv.get_original_obs() if isinstance(self.venv, VecNormalize) else observations
        return widened(observations, columns(self.guidance, self.kind, own, self.count))


def columns(guidance: Guidance, kind: Columns, observations: NDArray[Any], count: int) -> Floats:
    """Return what stands beside the observations: (N, A).

    Args:
        guidance: Is asked only where its weight is above 0.
        kind: What to return.
        observations: (N, S), the environment's own.
        count: A.
    """
    rows = np.zeros((len(observations), count), dtype=np.float32)
    beta = weight(guidance)
    if not beta:
        return rows
    for row, observation in zip(rows, observations, strict=True):
        if kind == "bias":
            row[:] = guidance.scores(np.zeros(count), observation)
        else:
            ratings = guidance.rate(observation)
            best = ratings == ratings.max()
            row[:] = ratings if kind == "ratings" else min(beta, 1.0) * best / best.sum()
    return rows


def widened(observations: NDArray[Any], advice: Floats) -> NDArray[Any]:
    """Return (N, S + A) of the observations' type."""
    return np.concatenate([observations, advice.astype(observations.dtype)], axis=1)


def weight(guidance: Guidance) -> float:
    """Return beta now; without an eligibility module it is one number."""
    return guidance.beta


def number_of_actions(space: Any) -> int:
    """Return A.

    Raises:
        UserError: When the actions are not discrete.
    """
    if not isinstance(space, spaces.Discrete):
        raise UserError(f"Advice rates discrete actions; the environment's are {space}.")
    return int(space.n)


def check_parts(spec: LearnerSpec, human: Any, rewards: Any) -> None:
    """Refuse what other learners have beside them and these do not.

    Args:
        spec: The learner's record.
        human: A person beside the loop.
        rewards: Learner-side sources of reward, a `RewardSum`; an empty one is nothing.

    Raises:
        UserError: Names the learner, the part and the fix.
    """
    if human is not None:
        raise UserError(
            f"The learner '{spec.name}' has no person beside it; use the learner 'sarsa' or 'tamer', or give "
            "it a source that was taught before."
        )
    names = ", ".join(source.name for source in getattr(rewards, "sources", ()))
    if names:
        raise UserError(
            f"The learner '{spec.name}' takes rewards from the environment only, not {names}; "
            "use the learner 'ppo_ptx' for those."
        )


def check_guidance(guidance: Guidance | None, spec: LearnerSpec, env: Any, *, normalize: bool) -> None:
    """Refuse guidance that cannot work with a learner; the module's docstring says why.

    Raises:
        UserError: Names the learner, the technique and the fix.
    """
    if guidance is None:
        return
    technique = guidance.settings.technique
    check_accepts(spec, technique)
    if guidance.settings.eligibility is not None:
        raise UserError(
            f"The learner '{spec.name}' cannot take an eligibility module: it has no person who trains "
            "while it learns; leave eligibility out, or use the learner 'sarsa'."
        )
    if isinstance(env, VecEnv):
        raise UserError(
            f"The learner '{spec.name}' takes advice for environments that it copies itself; give it a "
            "Gymnasium environment or its id instead of a vector environment."
        )
    if technique == "q_augmentation" and normalize:
        raise UserError(
            f"The learner '{spec.name}' cannot take q_augmentation together with normalize: its replay "
            "buffer would lose the advice; set normalize to false."
        )
