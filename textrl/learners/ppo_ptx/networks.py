"""Policy, reference and value network, and what they share: frozen blocks, or all but adapters and a head.

Shapes: ``B`` sequences, ``P`` prompt tokens, ``T`` response tokens, ``N`` real decisions (row by row,
the True entries of the response mask), ``H`` width.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from textrl.errors import UserError, at_setting
from textrl.learners.ppo_ptx.guards import check_processors
from textrl.learners.ppo_ptx.settings import PPOPTXSettings
from textrl.mdp.logprobs import token_logprobs, token_logprobs_and_entropy
from textrl.mdp.token_loss import Shift, TokenLoss, token_loss
from textrl.models.layers import base, blocks, freeze_below
from textrl.models.loading import load_causal_lm, load_scorer, scorer_from_causal_lm
from textrl.models.packed import packable
from textrl.models.parking import park
from textrl.models.precision import resolve_precision
from textrl.models.recompute import recompute_blocks
from textrl.models.stack import (
    Part,
    Trunk,
    frozen_depth,
    hidden_at,
    score_positions,
    shared_depth,
    states_before,
)
from textrl.rollout import head_of

Result = TypeVar("Result")


@dataclass(frozen=True)
class Rows:
    """Sequences, and which of their tokens were actions.

    Attributes:
        ids: (B, L) int64.
        mask: (B, L) bool.
        actions: (B, L) bool, True where the token was an action; never in the first column.
        trunk: Lends the outputs of frozen blocks.
    """

    ids: Tensor
    mask: Tensor
    actions: Tensor
    trunk: Trunk | None = None


class Networks:
    """The three networks of one run. Dropout is off in all of them: PPO's ratio must start at 1."""

    def __init__(
        self,
        policy: PreTrainedModel,
        value: PreTrainedModel | None,
        tokenizer: PreTrainedTokenizerBase | None,
        settings: PPOPTXSettings,
    ) -> None:
        """Freeze what the settings freeze and take the reference as a copy of the policy.

        Args:
            policy: The initial policy.
            value: A one-label classifier over the policy's tokens; not read where the settings make the
                value a head on the policy, or None.
            tokenizer: Saved beside an exported policy.
            settings: Of the learner.

        Raises:
            UserError: When the policy's generation config asks for what scoring would not see.
        """
        check_processors(policy, settings.policy, settings.sampling_processors)
        self.policy, self.tokenizer = policy, tokenizer
        self.precision = resolve_precision(settings.precision, policy.device)
        self.temperature, self.value_coef = settings.temperature, settings.value_coef
        self.value_is_head = settings.value_network == "head"
        _freeze(policy, settings.first_trainable)
        if settings.lora_rank:
            # Before the adapters come: the reference is made of the same tensors, and stays without them.
            policy.requires_grad_(False)
        self.reference = _frozen_copy(policy)
        shared, stored = {id(p) for p in policy.parameters()}, settings.reference_precision
        with at_setting("settings.reference_" + ("precision" if stored != "same" else "device")):
            device = settings.reference_device
            self.parked_bytes = park(self.reference, precision=stored, device=device, keep=shared)
        self.value = _head_on(policy) if self.value_is_head else _separate(policy, value, settings)
        if settings.lora_rank:
            _add_lora(policy, settings)
        if settings.gradient_checkpointing:
            for model in (policy, *(() if self.value_is_head else (self.value,))):
                recompute_blocks(model)
        self.depths = self._branches()

    @classmethod
    def load(cls, settings: PPOPTXSettings, device: torch.device) -> Networks:
        """Load the initial policy and the value network that the settings name."""
        with at_setting("settings.policy"):
            policy, tokenizer = load_causal_lm(settings.policy)
        value = None
        if settings.value is not None:
            with at_setting("settings.value"):
                value, value_tokenizer = load_scorer(settings.value)
            if value_tokenizer.get_vocab() != tokenizer.get_vocab():
                raise UserError(
                    f"The value network '{settings.value}' has another tokenizer than the policy "
                    f"'{settings.policy}'; leave `value` out to start it from the policy.",
                    key="settings.value",
                )
            value.to(device)
        return cls(policy.to(device), value, tokenizer, settings)

    def _branches(self) -> tuple[int, ...]:
        """Block counts at which a network leaves the policy's frozen prefix."""
        found = {frozen_depth(self.policy)}
        found |= {shared_depth(self.policy, other) for other in (self.reference, self.value)}
        return tuple(sorted(depth for depth in found if depth))

    def trunk(self, ids: Tensor, mask: Tensor) -> Trunk:
        """Return an empty trunk for (B, L) ids; outputs of frozen blocks are filled in as they are needed."""
        return Trunk(self.policy, ids, mask, self.depths)

    @property
    def packs(self) -> bool:
        """Whether rows of different lengths go through the policy's blocks in one list."""
        return packable(self.policy)

    def autocast(self) -> AbstractContextManager[object]:
        """The context that every forward pass runs in."""
        return self.precision.autocast(self.policy.device)

    def logprobs(
        self, model: PreTrainedModel, ids: Tensor, mask: Tensor, actions: Tensor, trunk: Trunk | None
    ) -> Tensor:
        """Return log-probabilities of the real actions.

        Args:
            model: Policy or reference.
            ids: (B, L) int64.
            mask: (B, L) bool.
            actions: (B, L) bool, True where the token was an action; never in the first column.
            trunk: Lends the outputs of frozen blocks.

        Returns:
            (N,) float32.
        """
        return self._with_head(token_logprobs, model, ids, mask, actions, trunk)[0]

    def logprobs_and_entropy(
        self, model: PreTrainedModel, ids: Tensor, mask: Tensor, actions: Tensor, trunk: Trunk | None
    ) -> tuple[Tensor, Tensor]:
        """Like `logprobs`, and the entropy of each decision: (N,) float32 each."""
        return self._with_head(token_logprobs_and_entropy, model, ids, mask, actions, trunk)[0]

    def values(self, ids: Tensor, mask: Tensor, actions: Tensor, trunk: Trunk | None) -> Tensor:
        """Return (N,) values of the states in which the actions were taken."""
        with self.autocast():
            return self.values_of(hidden_at(self.value, Part(ids, mask, states_before(actions), trunk)))

    def policy_loss(
        self, loss: TokenLoss, *rows: Rows, shift: Shift | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return a loss of the policy's log-probabilities, summed over the actions of all rows.

        Args:
            loss: Of the log-probabilities, with the shift in them.
            rows: The sequences.
            shift: Added to the logits of some actions.

        Returns:
            The () loss, which carries the gradient, the (N,) log-probabilities, which do not, and the
            (N, H) states before the actions, for `values_of`.
        """
        with self.autocast():
            weight, bias = head_of(self.policy)
            parts = [Part(one.ids, one.mask, states_before(one.actions), one.trunk) for one in rows]
            before = hidden_at(self.policy, *parts)
            targets = torch.cat([one.ids[one.actions] for one in rows])
            total, logprobs = token_loss(
                before, weight, targets, loss, bias=bias, temperature=self.temperature, shift=shift
            )
        return total, logprobs, before

    def texts(self, ids: Tensor) -> Rows:
        """Return (B, L) ids as rows in which everything but the first token is an action."""
        mask = torch.ones_like(ids, dtype=torch.bool)
        actions = mask.clone()
        actions[:, 0] = False
        return Rows(ids, mask, actions, Trunk(self.policy, ids, mask, ()))

    def logprobs_and_values(
        self, ids: Tensor, mask: Tensor, actions: Tensor, trunk: Trunk | None
    ) -> tuple[Tensor, Tensor]:
        """Return the policy's `logprobs` and the `values`; in one pass where the value is a head."""
        parts = (ids, mask, actions, trunk)
        logprobs, before = self._with_head(token_logprobs, self.policy, *parts)
        return logprobs, self.values_of(before) if self.value_is_head else self.values(*parts)

    def logprobs_entropy_and_values(
        self, ids: Tensor, mask: Tensor, actions: Tensor, trunk: Trunk | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the policy's `logprobs_and_entropy` and the `values`; one pass where the value is a head."""
        both, values = self.measure(token_logprobs_and_entropy, ids, mask, actions, trunk)
        return *both, values

    def measure(
        self,
        function: Callable[..., Result],
        ids: Tensor,
        mask: Tensor,
        actions: Tensor,
        trunk: Trunk | None,
    ) -> tuple[Result, Tensor]:
        """Return a function of the policy's states before the actions, and the (N,) values there.

        Args:
            function: As `token_logprobs`: (states, weight of the head, targets, bias=, temperature=).
            ids: (B, L) int64.
            mask: (B, L) bool.
            actions: (B, L) bool.
            trunk: Lends the outputs of frozen blocks.
        """
        parts = (ids, mask, actions, trunk)
        result, before = self._with_head(function, self.policy, *parts)
        return result, self.values_of(before) if self.value_is_head else self.values(*parts)

    def reference_states(
        self, ids: Tensor, mask: Tensor, actions: Tensor, trunk: Trunk | None
    ) -> tuple[Tensor, Tensor]:
        """Return the reference's `logprobs`, and its (N, H) states before the actions."""
        return self._with_head(token_logprobs, self.reference, ids, mask, actions, trunk)

    def _with_head(
        self,
        function: Callable[..., Result],
        model: PreTrainedModel,
        ids: Tensor,
        mask: Tensor,
        actions: Tensor,
        trunk: Trunk | None,
    ) -> tuple[Result, Tensor]:
        """Apply a function of final hidden states and the head to the states before the actions.

        Returns:
            The function's result, and those (N, H) states.
        """
        with self.autocast():
            weight, bias = head_of(model)
            before = hidden_at(model, Part(ids, mask, states_before(actions), trunk))
            return function(before, weight, ids[actions], bias=bias, temperature=self.temperature), before

    def values_of(self, before: Tensor) -> Tensor:
        """Return the (N,) values that the head reads from (N, H) hidden states."""
        if self.value_is_head:
            # The same numbers; of the gradient the trunk gets a part, and the head all.
            before = before.detach() + self.value_coef * (before - before.detach())
        wide = torch.promote_types(self.value.dtype, torch.float32)
        with self.autocast():
            return score_positions(self.value, before).to(wide)

    def trained(self) -> dict[str, dict[str, nn.Parameter]]:
        """Return the trainable parameters of each network by name."""
        policy = dict(trainable(self.policy))
        own = {id(p) for p in policy.values()}  # of which a value head stands on some
        value = {name: p for name, p in trainable(self.value) if id(p) not in own}
        return {"policy": policy, "value": value}


def trainable(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the parameters that learn, by name."""
    return ((name, p) for name, p in model.named_parameters() if p.requires_grad)


def _freeze(model: PreTrainedModel, first_trainable: int, key: str = "first_trainable") -> None:
    model.eval().requires_grad_(True)
    if first_trainable:
        with at_setting(f"settings.{key}"):
            freeze_below(model, first_trainable)


def _frozen_copy(model: PreTrainedModel) -> PreTrainedModel:
    """Copy what learns and share what does not: the copy costs the memory of the trainable blocks."""
    shared = {id(p): p for p in model.parameters() if not p.requires_grad}
    twin: PreTrainedModel = copy.deepcopy(model, shared)
    return twin.eval().requires_grad_(False)


def _separate(
    policy: PreTrainedModel, value: PreTrainedModel | None, settings: PPOPTXSettings
) -> PreTrainedModel:
    """Return the value network, by default made of the policy's blocks, frozen as the settings say."""
    value = value if value is not None else scorer_from_causal_lm(policy, layers=None).to(policy.device)
    depth = len(blocks(value))
    wanted = settings.value_first_trainable
    first = min(settings.first_trainable, depth) if wanted is None else wanted
    _freeze(value, first, "value_first_trainable")
    return value


def _head_on(policy: PreTrainedModel) -> PreTrainedModel:
    """Return a one-label classifier on the policy's very body; only its score head, of zeros, is new."""
    scorer = scorer_from_causal_lm(policy, layers=1).to(policy.device)
    setattr(scorer, scorer.base_model_prefix, base(policy))
    return scorer.eval()


def _add_lora(policy: PreTrainedModel, settings: PPOPTXSettings) -> None:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise UserError(
            f"lora_rank is {settings.lora_rank} but peft is not installed; install the extra 'lora'.",
            key="settings.lora_rank",
        ) from error
    policy.requires_grad_(False)
    layers = list(range(settings.first_trainable, len(blocks(policy))))
    config = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=2 * settings.lora_rank,
        lora_dropout=0.0,
        target_modules=sorted(_linear_names(blocks(policy)[-1])),
        layers_to_transform=layers,
        # GPT-2 keeps its matrices transposed.
        fan_in_fan_out=any(type(m).__name__ == "Conv1D" for m in policy.modules()),
        task_type="CAUSAL_LM",
    )
    inject_adapter_in_model(config, policy)


def _linear_names(block: nn.Module) -> set[str]:
    """Return the last names of a block's matrix products; GPT-2 keeps its own in transformers' Conv1D."""
    return {
        name.rpartition(".")[2]
        for name, module in block.named_modules()
        if isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
    }
