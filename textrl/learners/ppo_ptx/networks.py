"""Policy, reference and value network, and the frozen blocks that they share.

Shapes: ``B`` sequences, ``P`` prompt tokens, ``T`` response tokens, ``N`` real decisions (row by row,
the True entries of the response mask), ``H`` width.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TypeVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from textrl.errors import UserError
from textrl.learners.ppo_ptx.settings import PPOPTXSettings
from textrl.mdp.logprobs import token_logprobs, token_logprobs_and_entropy
from textrl.models.layers import blocks, freeze_below
from textrl.models.loading import load_causal_lm, load_scorer, scorer_from_causal_lm
from textrl.models.precision import resolve_precision
from textrl.models.stack import Trunk, final_hidden, frozen_depth, score_positions, shared_depth
from textrl.rollout import head_of

Result = TypeVar("Result")


class Networks:
    """The three networks of one run. Dropout is off in all of them: PPO's ratio must start at 1."""

    def __init__(
        self,
        policy: PreTrainedModel,
        value: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase | None,
        settings: PPOPTXSettings,
    ) -> None:
        """Freeze what the settings freeze and take the reference as a copy of the policy.

        Args:
            policy: The initial policy.
            value: A one-label classifier over the policy's tokens.
            tokenizer: Saved beside an exported policy.
            settings: Of the learner.
        """
        self.policy, self.value, self.tokenizer = policy, value, tokenizer
        self.precision = resolve_precision(settings.precision, policy.device)
        self.temperature = settings.temperature
        _freeze(policy, settings.first_trainable)
        depth = len(blocks(value))
        wanted = settings.value_first_trainable
        _freeze(value, min(settings.first_trainable, depth) if wanted is None else wanted)
        self.reference = _frozen_copy(policy)
        if settings.lora_rank:
            _add_lora(policy, settings)
        self.depths = self._branches()

    @classmethod
    def load(cls, settings: PPOPTXSettings, device: torch.device) -> Networks:
        """Load the initial policy and the value network that the settings name."""
        policy, tokenizer = load_causal_lm(settings.policy)
        if settings.value is None:
            value = scorer_from_causal_lm(policy, layers=None)
        else:
            value, value_tokenizer = load_scorer(settings.value)
            if value_tokenizer.get_vocab() != tokenizer.get_vocab():
                raise UserError(
                    f"The value network '{settings.value}' has another tokenizer than the policy "
                    f"'{settings.policy}'; leave `value` out to start it from the policy."
                )
        return cls(policy.to(device), value.to(device), tokenizer, settings)

    def _branches(self) -> tuple[int, ...]:
        """Block counts at which a network leaves the policy's frozen prefix."""
        found = {frozen_depth(self.policy)}
        found |= {shared_depth(self.policy, other) for other in (self.reference, self.value)}
        return tuple(sorted(depth for depth in found if depth))

    def trunk(self, ids: Tensor, mask: Tensor) -> Trunk:
        """Return an empty trunk for (B, L) ids; outputs of frozen blocks are filled in as they are needed."""
        return Trunk(self.policy, ids, mask, self.depths)

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
        return self._with_head(token_logprobs, model, ids, mask, actions, trunk)

    def logprobs_and_entropy(
        self, model: PreTrainedModel, ids: Tensor, mask: Tensor, actions: Tensor, trunk: Trunk | None
    ) -> tuple[Tensor, Tensor]:
        """Like `logprobs`, and the entropy of each decision: (N,) float32 each."""
        return self._with_head(token_logprobs_and_entropy, model, ids, mask, actions, trunk)

    def _with_head(
        self,
        function: Callable[..., Result],
        model: PreTrainedModel,
        ids: Tensor,
        mask: Tensor,
        actions: Tensor,
        trunk: Trunk | None,
    ) -> Result:
        """Apply a function of final hidden states and the head to the states before the actions."""
        with self.autocast():
            hidden = final_hidden(model, ids, mask, trunk)
            weight, bias = head_of(model)
            before = hidden[:, :-1][actions[:, 1:]]
            return function(before, weight, ids[actions], bias=bias, temperature=self.temperature)

    def values(self, ids: Tensor, mask: Tensor, actions: Tensor, trunk: Trunk | None) -> Tensor:
        """Return (N,) values of the states in which the actions were taken."""
        with self.autocast():
            scores = score_positions(self.value, final_hidden(self.value, ids, mask, trunk))
        return scores[:, :-1][actions[:, 1:]].float()

    def trained(self) -> dict[str, dict[str, nn.Parameter]]:
        """Return the trainable parameters of each network by name."""
        return {"policy": dict(trainable(self.policy)), "value": dict(trainable(self.value))}


def trainable(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the parameters that learn, by name."""
    return ((name, p) for name, p in model.named_parameters() if p.requires_grad)


def _freeze(model: PreTrainedModel, first_trainable: int) -> None:
    model.eval().requires_grad_(True)
    if first_trainable:
        freeze_below(model, first_trainable)


def _frozen_copy(model: PreTrainedModel) -> PreTrainedModel:
    """Copy what learns and share what does not: the copy costs the memory of the trainable blocks."""
    shared = {id(p): p for p in model.parameters() if not p.requires_grad}
    twin: PreTrainedModel = copy.deepcopy(model, shared)
    return twin.eval().requires_grad_(False)


def _add_lora(policy: PreTrainedModel, settings: PPOPTXSettings) -> None:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise UserError(
            f"lora_rank is {settings.lora_rank} but peft is not installed; install the extra 'lora'."
        ) from error
    policy.requires_grad_(False)
    layers = list(range(settings.first_trainable, len(blocks(policy))))
    config = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=2 * settings.lora_rank,
        lora_dropout=0.0,
        target_modules=sorted(_linear_names(blocks(policy)[-1])),
        layers_to_transform=layers,
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
