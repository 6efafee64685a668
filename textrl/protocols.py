"""The contracts between environments, rewards, learners and people.

Shapes: ``B`` sequences, ``P`` prompt tokens (left-padded), ``T`` response tokens (right-padded),
``A`` actions, ``V`` vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:  # importing this module must not import torch
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Finished (or truncated) episodes, as a reward sees them. Rewards must not change it.

    Attributes:
        prompt_ids: (B, P) int64, left-padded.
        prompt_mask: (B, P) bool, True on real tokens.
        response_ids: (B, T) int64, right-padded; includes the EOS action where there was one.
        response_mask: (B, T) bool, True on real actions.
        prompt_text: B strings, where a source `needs` text.
        text: B decoded responses without special tokens, where a source `needs` text.
        records: B prompt records (the columns of the prompt file), where a source `needs` records.
        logprobs: (B, T) log-probabilities of the acting policy, where a source `needs` them.
        ref_logprobs: (B, T) log-probabilities of the frozen reference, where a source `needs` them.
        times: (B, T) display times in seconds, where a source `needs` them.
        ref_hidden: (B, T, H) last hidden states of the frozen reference before each response token, where a
            source `needs` them.
        memo: Scratch space shared by everyone who scores this batch: frozen layers that several
            networks share leave their output here (see `textrl.models.stack`). Never data.
    """

    prompt_ids: Tensor
    prompt_mask: Tensor
    response_ids: Tensor
    response_mask: Tensor
    prompt_text: Sequence[str] | None = None
    text: Sequence[str] | None = None
    records: Sequence[Mapping[str, Any]] | None = None
    logprobs: Tensor | None = None
    ref_logprobs: Tensor | None = None
    times: Tensor | None = None
    ref_hidden: Tensor | None = None
    memo: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class Signal:
    """One act of feedback: a press, a rating, a correction.

    Attributes:
        value: The scalar the person gave.
        time_s: When, on the clock that also stamped what was shown.
        kind: ``"press"``, ``"rating"``, ...
        payload: Anything else, JSON-serialisable.
    """

    value: float
    time_s: float
    kind: str = "press"
    payload: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class Reward(Protocol):
    """A source of reward.

    Optional methods, used where present: ``state_dict() / load_state_dict(state)`` for sources with
    state, ``observe(signals)`` for those that learn online, ``adapt_weight(weight, stats) -> float``
    for those whose weight follows a controller (stats: ``kl_per_sequence`` in nats, ``episodes``),
    ``metrics(batch) -> Mapping[str, float]`` for extra figures to log.
    """

    def __call__(self, batch: Batch) -> Tensor:
        """Return (B, T) per token or (B,) per episode, floating, finite, zero outside the mask."""
        ...


@dataclass(frozen=True, kw_only=True)
class AdviceState:
    """Where advice is asked for.

    Attributes:
        observation: (B, ...) observations of the environment.
        ref_hidden: (B, H) last hidden states of the frozen reference, on text.
    """

    observation: Tensor
    ref_hidden: Tensor | None = None


@runtime_checkable
class Advice(Protocol):
    """A source that can rate all actions in a state.

    Optional, used where present: ``bind(env)``, told the environment whose actions it rates;
    ``bind_text(model, tokenizer)``, told the frozen reference and its tokenizer before a learner of tokens
    begins, whether the source advises or pays; ``taught``, false where it rates nothing until a person has
    taught it.
    """

    def advise(self, state: AdviceState) -> Tensor:
        """Return (B, A) ratings."""
        ...


@runtime_checkable
class Feedback(Protocol):
    """A person, a simulated person, or a recorded log.

    Optional, used where present: ``watch(observation, action, shown_s)``, told each step that is shown
    while training is on, before `poll` is asked about later times; ``clock``, the clock that stamps its
    signals (see `textrl.tamer.human.Clock`); ``check(env)``, which raises `UserError` before anything
    begins where it cannot judge an environment; ``check_text(model)``, the same where texts are shown, of
    the model with that fingerprint; ``live``, true where somebody must press meanwhile;
    ``state_dict() / load_state_dict(state)``, for a resume.
    """

    def poll(self, now_s: float) -> Sequence[Signal]:
        """Return the signals given up to `now_s` that were not returned before, oldest first."""
        ...


@runtime_checkable
class Learner(Protocol):
    """Stable-Baselines3's surface, so its callbacks, `evaluate_policy` and loggers apply."""

    num_timesteps: int

    def learn(self, total_timesteps: int, callback: Any = None, progress_bar: bool = False) -> Learner:
        """Train until `num_timesteps` has grown to `total_timesteps`; one timestep is one token."""
        ...

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Any, Any]:
        """Return (actions, state) for one observation or a batch."""
        ...

    def save(self, path: str) -> None:
        """Write a checkpoint folder."""
        ...

    def set_logger(self, logger: Any) -> None:
        """Use an SB3-compatible logger."""
        ...
