"""What is to be written: prompts, vocabulary, where an episode ends, and what it is worth.

A `TokenTask` is the part of the decision process that the scalar environment, the vector
environment and a learner's batched rollout share, so that one seed gives the same prompts, the same
episodes and the same rewards on all three paths. It keeps no running state: which prompt an episode
starts from is a function of (seed, episode number).

Shapes: ``B`` sequences, ``P`` prompt tokens (left-padded), ``T`` response tokens (right-padded),
``V`` vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from textrl.errors import UserError
from textrl.mdp.order import keyed_order
from textrl.protocols import Batch

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from textrl.rewards import RewardBreakdown, RewardSum

FinishReason = Literal["eos", "length"]

#: What a task can put into a batch by itself; log-probs and hidden states belong to a learner.
ENV_NEEDS = frozenset({"text", "records"})


@dataclass(frozen=True)
class Prompt:
    """Where an episode starts.

    Attributes:
        ids: P token ids, at least one.
        text: The prompt as text.
        record: All columns of the prompt's line in its file.
    """

    ids: tuple[int, ...]
    text: str = ""
    record: Mapping[str, Any] = field(default_factory=dict)


#: Given the prompt and the response so far, which of the V tokens may be written next: (V,) bool.
ActionMask = Callable[[Prompt, Sequence[int]], NDArray[np.bool_]]


class TokenTask:
    """Prompts, vocabulary, episode ends and environment-side rewards of one text task."""

    def __init__(
        self,
        prompts: Sequence[Prompt],
        tokenizer: PreTrainedTokenizerBase | None,
        vocab_size: int,
        eos_ids: Collection[int],
        pad_id: int,
        max_new_tokens: int,
        rewards: RewardSum | None,
        seed: int = 0,
        allowed: ActionMask | None = None,
    ) -> None:
        """Check and keep the parts.

        Args:
            prompts: Where episodes start; see `prompt_for` for their order.
            tokenizer: Decodes responses for the rewards that need text. Without one, the text of a
                token is its number.
            vocab_size: V, the number of actions.
            eos_ids: Tokens that end an episode; may be empty.
            pad_id: Fills the places that no token occupies; masks say which those are.
            max_new_tokens: Response length in tokens at which an episode ends if no EOS came first.
            rewards: Environment-side sources of reward, or None for a task that pays nothing.
            seed: Keys the order of the prompts.
            allowed: Which tokens may be written next; None allows all.

        Raises:
            UserError: On an empty list of prompts, a token outside the vocabulary, a limit below 1,
                or a source of reward that needs what only a learner has.
        """
        self.prompts = tuple(prompts)
        self.tokenizer = tokenizer
        self.vocab_size = vocab_size
        self.eos_ids = frozenset(eos_ids)
        self.pad_id = pad_id
        self.max_new_tokens = max_new_tokens
        self.rewards = rewards
        self.seed = seed
        self.allowed = allowed
        self._check_numbers()
        self._check_prompts()
        self._check_rewards()
        #: Length of the longest prompt in tokens: P of every observation.
        self.max_prompt_tokens = max(len(prompt.ids) for prompt in self.prompts)

    def _check_numbers(self) -> None:
        if self.vocab_size < 1:
            raise UserError(f"vocab_size is {self.vocab_size}; a task needs at least one token.")
        if self.max_new_tokens < 1:
            raise UserError(f"max_new_tokens is {self.max_new_tokens}; an episode has at least one step.")
        if self.seed < 0:
            raise UserError(f"seed is {self.seed}; give a number from 0 upwards.")
        for name, token in [("pad_id", self.pad_id), *(("eos_ids", eos) for eos in sorted(self.eos_ids))]:
            if not 0 <= token < self.vocab_size:
                raise UserError(f"{name} holds {token}, outside the vocabulary of {self.vocab_size} tokens.")

    def _check_prompts(self) -> None:
        if not self.prompts:
            raise UserError("The task has no prompts; give at least one.")
        for index, prompt in enumerate(self.prompts):
            if not prompt.ids:
                raise UserError(f"Prompt {index} ({prompt.text!r}) has no tokens; give at least one.")
            low, high = min(prompt.ids), max(prompt.ids)
            if low < 0 or high >= self.vocab_size:
                raise UserError(
                    f"Prompt {index} holds token {low if low < 0 else high}, outside the vocabulary of "
                    f"{self.vocab_size} tokens; tokenize it with the policy's own tokenizer."
                )

    def _check_rewards(self) -> None:
        for source in self.rewards.sources if self.rewards is not None else ():
            beyond = sorted(source.spec.needs - ENV_NEEDS)
            if source.spec.side == "learner" or beyond:
                what = ", ".join(beyond) or "the learner's side"
                raise UserError(
                    f"The reward '{source.name}' ({source.spec.name}) needs {what}, which an environment "
                    "does not have; give it to the learner, and the environment rewards.side('env')."
                )

    def prompt_for(self, episode: int, seed: int | None = None) -> Prompt:
        """Return the prompt that starts episode number `episode`.

        Every run of ``len(prompts)`` episodes visits each prompt once, in an order that is drawn anew
        for each such epoch from (seed, epoch). Random access: no call depends on an earlier one.

        Args:
            episode: From 0 upwards.
            seed: Overrides the task's own seed.
        """
        epoch, position = divmod(episode, len(self.prompts))
        order = keyed_order((self.seed if seed is None else seed, epoch), len(self.prompts))
        return self.prompts[int(order[position])]

    def finish_reason(self, token: int, length: int) -> FinishReason | None:
        """Say why the episode ends when `token` is the `length`-th token of its response, or None."""
        if token in self.eos_ids:
            return "eos"
        return "length" if length >= self.max_new_tokens else None

    def action_mask(self, prompt: Prompt, response: Sequence[int]) -> NDArray[np.bool_]:
        """Return which tokens may be written after `response`: (V,) bool.

        Raises:
            UserError: When the task's `allowed` gives a wrong shape, a wrong type or no token at all.
        """
        if self.allowed is None:
            return np.ones(self.vocab_size, dtype=np.bool_)
        mask = np.array(self.allowed(prompt, response))
        if mask.shape != (self.vocab_size,) or mask.dtype != np.bool_:
            raise UserError(
                f"The task's allowed function returned {mask.dtype} of shape {mask.shape}; "
                f"it must return bool of shape ({self.vocab_size},)."
            )
        if not mask.any():
            raise UserError(
                f"The task's allowed function left no token after {len(response)} tokens; allow at least one."
            )
        return mask

    def collate(self, prompts: Sequence[Prompt], width: int | None = None) -> tuple[Tensor, Tensor]:
        """Pad prompts on the left.

        Args:
            prompts: B prompts.
            width: P; the longest of the given prompts when None.

        Returns:
            ids (B, P) int64 and mask (B, P) bool, True on real tokens.
        """
        size = max((len(prompt.ids) for prompt in prompts), default=0) if width is None else width
        ids = torch.full((len(prompts), size), self.pad_id, dtype=torch.int64)
        mask = torch.zeros((len(prompts), size), dtype=torch.bool)
        for row, prompt in enumerate(prompts):
            if len(prompt.ids) > size:
                raise UserError(f"A prompt of {len(prompt.ids)} tokens does not fit a width of {size}.")
            ids[row, size - len(prompt.ids) :] = torch.tensor(prompt.ids, dtype=torch.int64)
            mask[row, size - len(prompt.ids) :] = True
        return ids, mask

    def batch(
        self,
        prompts: Sequence[Prompt],
        response_ids: Tensor,
        response_mask: Tensor,
        *,
        logprobs: Tensor | None = None,
        ref_logprobs: Tensor | None = None,
        ref_hidden: Tensor | None = None,
        memo: dict[Any, Any] | None = None,
        needs: Collection[str] = (),
    ) -> Batch:
        """Describe episodes to rewards, with text and records only where a source needs them.

        Args:
            prompts: B prompts.
            response_ids: (B, T) int64.
            response_mask: (B, T) bool.
            logprobs: (B, T) of the acting policy, if at hand.
            ref_logprobs: (B, T) of the frozen reference, if at hand.
            ref_hidden: (B, T, H) of the frozen reference, if at hand.
            memo: Shared scratch space; see `textrl.protocols.Batch`.
            needs: What learner-side sources need in addition to the task's own.
        """
        wanted = set(needs) | (set(self.rewards.needs) if self.rewards is not None else set())
        ids, mask = self.collate(prompts)
        text = "text" in wanted
        return Batch(
            prompt_ids=ids.to(response_ids.device),
            prompt_mask=mask.to(response_ids.device),
            response_ids=response_ids,
            response_mask=response_mask,
            prompt_text=[prompt.text for prompt in prompts] if text else None,
            text=self._texts(response_ids, response_mask) if text else None,
            records=[prompt.record for prompt in prompts] if "records" in wanted else None,
            logprobs=logprobs,
            ref_logprobs=ref_logprobs,
            ref_hidden=ref_hidden,
            memo={} if memo is None else memo,
        )

    def _texts(self, response_ids: Tensor, response_mask: Tensor) -> list[str]:
        rows = zip(response_ids.tolist(), response_mask.tolist(), strict=True)
        return [self.decode([token for token, real in zip(*row, strict=True) if real]) for row in rows]

    def score(self, batch: Batch) -> RewardBreakdown:
        """Score whole episodes with the task's rewards; zeros where it has none."""
        if self.rewards is not None:
            return self.rewards(batch)
        from textrl.rewards import RewardBreakdown

        nothing = torch.zeros(batch.response_mask.shape, device=batch.response_mask.device)
        return RewardBreakdown(total=nothing, components={}, raw={})

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids`, which hold no padding, without special tokens."""
        if self.tokenizer is None:
            return " ".join(str(token) for token in ids if token not in self.eos_ids)
        text: str = self.tokenizer.decode(
            list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text
