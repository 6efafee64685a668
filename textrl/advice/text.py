"""Guidance on text: H over the vocabulary, a technique and a weight, as a learner of tokens asks for them.

A learner takes one `TextAdvice` an iteration: a snapshot of H that stays as it is while people teach on, so
that the distribution that acted can be computed again in the update. Where the weight is 0, or nobody has
taught H anything, there is no advice, and the learner is bit for bit the plain one.

Shapes: ``N`` decisions, ``D`` width of the reference, ``V`` vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from textrl.advice.betas import Annealed, Eligibility, EligibilitySettings
from textrl.advice.techniques import Technique
from textrl.advice.text_techniques import capped_bias, favourite, shared_logits
from textrl.errors import UserError, did_you_mean
from textrl.tamer.text.head import FrozenHead

if TYPE_CHECKING:
    from textrl.features.centroids import Centroids


@dataclass(frozen=True, kw_only=True)
class TextEligibilitySettings:
    """Settings of the eligibility module on text: its states are soft assignments to centroids.

    Attributes:
        centroids: K, how many kinds of context are told apart.
        width: Temperature of the assignment: the smaller, the harder; None measures it on the states.
        growth: What a token that is shown while a person trains adds to a centroid's eligibility, times
            its share.
        decay: What is left of the eligibilities after a token that is shown.
        iteration_decay: What is left of them after an iteration, shown or not: advice fades when the
            person is gone.
    """

    centroids: int = 64
    width: float | None = None
    growth: float = 0.2
    decay: float = 0.9998
    iteration_decay: float = 0.98

    def __post_init__(self) -> None:
        """Refuse values that cannot work.

        Raises:
            ValueError: Names the setting, its value and the fix.
        """
        if self.centroids < 2:
            raise ValueError(f"centroids is {self.centroids}; it must be at least 2")
        if self.width is not None and not self.width > 0:
            raise ValueError(f"width is {self.width}; it must be above 0")
        self.core()

    def core(self) -> EligibilitySettings:
        """Return the settings of the module itself."""
        return EligibilitySettings(growth=self.growth, decay=self.decay, episode_decay=self.iteration_decay)


@dataclass(frozen=True, kw_only=True)
class TextGuidanceSettings:
    """How advice on tokens is combined with a learner.

    Attributes:
        technique: ``action_biasing`` (the default choice on text), ``control_sharing``, ``q_augmentation``
            or ``reward_shaping``.
        source: Name of the source that rates tokens.
        beta: Its weight: nats for each unit of H in action biasing, a probability in control sharing,
            units of reward elsewhere; with `eligibility`, the weight where a person trained last and most.
        anneal: Multiplies the weight after every iteration.
        cap_nats: The most that action biasing moves a token's log-probability, either way.
        top_k: Control sharing: H chooses among this many of the policy's most probable tokens.
        form: Q augmentation: added to the ``advantage``, or as a ``potential`` to the reward.
        trained: Which distribution is trained: ``behaviour``, the one that acts, so that the first ratio is
            1; or ``policy``, the one without H, to which the acting one is then off-policy.
        eligibility: A weight by context that follows where a person trains; None for one weight everywhere.
    """

    technique: Technique
    source: str
    beta: float
    anneal: float = 1.0
    cap_nats: float = 3.0
    top_k: int = 20
    form: Literal["advantage", "potential"] = "advantage"
    trained: Literal["behaviour", "policy"] = "behaviour"
    eligibility: TextEligibilitySettings | None = None

    def __post_init__(self) -> None:
        """Refuse values that cannot work, or that contradict each other.

        Raises:
            ValueError: Names the setting, its value and the fix.
        """
        if not (self.beta >= 0 and math.isfinite(self.beta)):
            raise ValueError(f"beta is {self.beta}; it must be 0 or more")
        if not 0 <= self.anneal <= 1:
            raise ValueError(f"anneal is {self.anneal}; it must be between 0 and 1")
        if not 0 < self.cap_nats < math.inf:
            raise ValueError(f"cap_nats is {self.cap_nats}; it must be above 0")
        if self.top_k < 1:
            raise ValueError(f"top_k is {self.top_k}; it must be at least 1")
        acts = self.technique in ("action_biasing", "control_sharing")
        if self.eligibility is not None and not acts:
            raise ValueError(
                f"eligibility does not go with {self.technique}: a reward or a value that moves by itself "
                "cannot be learnt; use action_biasing or control_sharing"
            )
        for name, of in (("cap_nats", "action_biasing"), ("top_k", "control_sharing")):
            default = type(self).__dataclass_fields__[name].default
            if getattr(self, name) != default and self.technique != of:
                raise ValueError(
                    f"{name} is {getattr(self, name)}, which is of {of}, not of {self.technique}; leave it "
                    "out"
                )
        if self.form == "potential" and self.technique != "q_augmentation":
            raise ValueError(f"form is 'potential', which is of q_augmentation, not of {self.technique}")
        if self.trained == "policy" and not acts:
            raise ValueError(
                f"trained is 'policy', but with {self.technique} the policy itself acts; leave it out"
            )


@dataclass(frozen=True, eq=False)
class TextAdvice:
    """Advice as it stands for one iteration.

    Attributes:
        settings: How it is combined.
        head: H.
        beta: The weight now: of all advice, or the most that the eligibility module gives.
        module: The eligibility module, or None.
    """

    settings: TextGuidanceSettings
    head: FrozenHead
    beta: float
    module: Eligibility | None = None

    @property
    def acts(self) -> bool:
        """Whether tokens are drawn from another distribution than the policy's own."""
        return self.settings.technique in ("action_biasing", "control_sharing")

    def weights(self, hidden: Tensor) -> Tensor:
        """Return the (N,) float32 weight in the states with (N, D) hidden states; control sharing's <= 1."""
        if self.module is None:
            weights = torch.full((len(hidden),), self.beta, device=hidden.device)
        else:
            found = self.module.betas(hidden.detach().float().cpu().numpy())[:, 0]
            weights = torch.from_numpy(found).float().to(hidden.device)
        return weights.clamp_(max=1.0) if self.settings.technique == "control_sharing" else weights

    def bias(self, hidden: Tensor, weights: Tensor) -> Tensor:
        """Return what action biasing adds to the logits, (N, V)."""
        return capped_bias(self.head.rate(hidden), weights, self.settings.cap_nats)

    def favourites(self, logits: Tensor, hidden: Tensor) -> Tensor:
        """Return the (N,) tokens that control sharing takes."""
        return favourite(self.head.rate(hidden), logits, self.settings.top_k)

    def acting(self, logits: Tensor, hidden: Tensor) -> Tensor:
        """Return (N, V) logits of mu from those of pi, in states that nothing is remembered of."""
        shares = self.settings.technique == "control_sharing"
        chosen = self.favourites(logits, hidden) if shares else None
        return self.behaviour(logits, hidden, self.weights(hidden), chosen)

    def behaviour(self, logits: Tensor, hidden: Tensor, weights: Tensor, chosen: Tensor | None) -> Tensor:
        """Return (N, V) logits of mu from those of pi.

        Args:
            logits: (N, V), divided by the temperature.
            hidden: (N, D) of the reference.
            weights: (N,) from `weights`.
            chosen: (N,) from `favourites`, in control sharing.
        """
        if chosen is not None:
            return shared_logits(logits, weights, chosen)
        return logits + self.bias(hidden, weights) if self.acts else logits


class TextGuidance:
    """What a learner of tokens is given beside its environment.

    Attributes:
        settings: As given.
        source: Rates tokens, as the plugin ``tamer_text`` does: it has ``bind_text(model, tokenizer)`` and
            ``head``, which gives snapshots.
    """

    def __init__(self, settings: TextGuidanceSettings, source: Any, *, seed: int = 0) -> None:
        """Join advice and technique.

        Args:
            settings: How.
            source: Rates tokens.
            seed: Of the centroids.

        Raises:
            UserError: When there is no such technique, or the source does not rate tokens.
        """
        if settings.technique not in get_args(Technique):
            fix = did_you_mean(str(settings.technique), get_args(Technique))
            raise UserError(f"There is no technique '{settings.technique}' to combine advice with.{fix}")
        if not hasattr(source, "bind_text"):
            raise UserError(
                f"The source '{settings.source}' does not rate tokens ({type(source).__name__} has no "
                "bind_text()); use one such as 'tamer_text'."
            )
        self.settings, self.source, self._seed = settings, source, seed
        self._annealed = Annealed(float(settings.beta), settings.anneal)
        self._centroids: Centroids | None = None
        self._module: Eligibility | None = None

    @property
    def beta(self) -> float:
        """The weight now: of all advice, or the most that the eligibility module gives."""
        return self._annealed.beta

    def advice(self) -> TextAdvice | None:
        """Return the advice of the coming iteration; None where there is none."""
        head = self.source.head.snapshot()
        if not self.beta or head.zero or (self.settings.eligibility is not None and self._module is None):
            return None
        return TextAdvice(self.settings, head, self.beta, self._module)

    def observe_states(self, hidden: Tensor) -> None:
        """Find the kinds of context among (N, D) states of the first iteration; later ones change nothing."""
        wanted = self.settings.eligibility
        if wanted is None or self._centroids is not None:
            return
        from textrl.features.centroids import Centroids

        found = hidden.detach().float().cpu().numpy()
        self._use(Centroids.fit(found, wanted.centroids, self._seed, wanted.width))

    def shown(self, hidden: Tensor, training: NDArray[np.bool_]) -> None:
        """Tokens with (N, D) states before them were on screen, in this order.

        Args:
            hidden: Of the reference.
            training: (N,) whether a person was training as each appeared.
        """
        if self._module is not None:
            for state, on in zip(hidden.detach().float().cpu().numpy(), training, strict=True):
                self._module.step(state, 0, training=bool(on))

    def end_iteration(self) -> None:
        """An iteration is over."""
        self._annealed.end_episode()
        if self._module is not None:
            self._module.scale = self._annealed.beta
            self._module.end_episode()

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and JSON data; the source has a state of its own."""
        state: dict[str, Any] = {"beta": self._annealed.beta}
        if self._centroids is not None and self._module is not None:
            state["centroids"] = self._centroids.state_dict()
            module = self._module.state_dict()
            state["eligibility"] = {"e": torch.from_numpy(module["e"]), "left": module["left"]}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self._annealed.beta = float(state["beta"])
        if "centroids" in state:
            from textrl.features.centroids import Centroids

            kept = {
                "centroids": state["centroids"]["centroids"].cpu().numpy(),
                "tau": state["centroids"]["tau"],
            }
            self._use(Centroids.from_state(kept))
            assert self._module is not None
            module = state["eligibility"]
            self._module.load_state_dict({"e": module["e"].cpu().numpy(), "left": module["left"]})

    def _use(self, centroids: Centroids) -> None:
        wanted = self.settings.eligibility
        assert wanted is not None  # nobody else asks
        self._centroids = centroids
        self._module = Eligibility(centroids, wanted.core(), scale=self.beta, n_actions=None)
