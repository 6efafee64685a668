"""Scores of one learned reward model.

Shapes: ``B`` sequences, ``P`` prompt tokens, ``T`` response tokens, ``L`` = P + T or the reward model's
own length, ``H`` width.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from textrl.errors import UserError
from textrl.models.heads import is_decoder
from textrl.models.loading import load_scorer
from textrl.models.parking import let_go, park
from textrl.models.stack import Trunk, score_ids, shared_depth
from textrl.protocols import Batch
from textrl_reward_model.encoding import Encoder, longest_input, same_ids, warn_of_padding
from textrl_reward_model.settings import PLAIN, RewardModelRewardSettings


class Scorer:
    """A frozen scorer in evaluation mode.

    Attributes:
        model: The scorer.
        tokenizer: Its own tokenizer.
        offset: Subtracted from every score.
        shared: Whether the policy's ids are scored as they are.
    """

    def __init__(self, settings: RewardModelRewardSettings) -> None:
        """Load the model and decide what it reads.

        Raises:
            UserError: When the model cannot be loaded, or ids cannot be shared although they should.
        """
        model, tokenizer = load_scorer(settings.model)
        warn_of_padding(settings.model, model, tokenizer)
        settings = self.settings = _with_own_template(settings, model)
        self.model: PreTrainedModel = model.eval().requires_grad_(False)
        self.tokenizer: PreTrainedTokenizerBase = tokenizer
        self.offset = (
            float(getattr(model.config, "textrl_reward_offset", 0.0)) if settings.use_offset else 0.0
        )
        self.limit = longest_input(model, tokenizer, settings.max_tokens)
        self.shared = _shares_ids(settings, model, tokenizer)
        self.encoder = Encoder(model, tokenizer, settings, self.limit)
        self._placed: torch.device | None = None

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Tensor:
        """Return (B,) float32: score minus offset.

        Raises:
            UserError: When an input is longer than the model can read, or has ids it does not know.
        """
        self._place(batch.response_ids.device, batch.memo.get("trunk"))
        scores = self._score_shared(batch) if self.shared else self._score_text(batch)
        let_go(self.model)
        return scores.float() - self.offset

    def _place(self, device: torch.device, trunk: Trunk | None) -> None:
        """Move the model to where batches are, and store its weights as the settings say.

        Raises:
            UserError: When parked weights would have to move again.
        """
        if self._placed == device:
            return
        parked = self.settings.precision != "same" or self.settings.device != "same"
        if parked and self._placed is not None:
            raise UserError(
                f"batches came from {self._placed} and now from {device}; stored weights stay on one device, "
                "so set precision and device to 'same'."
            )
        self.model.to(device)
        self._placed = device
        if parked:
            # First let equal frozen blocks be the policy's own: those cost nothing as they are.
            lent: set[int] = set()
            if trunk is not None and self.shared:
                shared_depth(trunk.model, self.model)
                lent = {p.data_ptr() for p in trunk.model.parameters()}
            keep = {id(p) for p in self.model.parameters() if p.data_ptr() in lent}
            park(self.model, precision=self.settings.precision, device=self.settings.device, keep=keep)

    def metrics(self, batch: Batch) -> dict[str, float]:
        """Return the share of inputs that had to be truncated, where that is allowed."""
        if self.shared or self.settings.too_long == "refuse":
            return {}
        lengths = [len(row) for row in self.encoder.untruncated(batch)]
        return {"truncated": sum(length > self.limit for length in lengths) / max(len(lengths), 1)}

    def _score_shared(self, batch: Batch) -> Tensor:
        mask = torch.cat([batch.prompt_mask, batch.response_mask], dim=1)
        ids = self._checked_ids(torch.cat([batch.prompt_ids, batch.response_ids], dim=1), mask)
        trunk = batch.memo.get("trunk")
        size = self.settings.micro_batch_size
        if len(ids) <= size or (trunk is not None and not trunk.hidden):
            # A trunk that is still empty is filled in one pass, for everyone who comes later.
            return score_ids(self.model, ids, mask, batch.memo)
        parts = []
        for index in torch.split(torch.arange(len(ids), device=ids.device), size):
            memo: dict[Any, Any] = {} if trunk is None else {"trunk": trunk.rows(index)}
            parts.append(score_ids(self.model, ids[index], mask[index], memo))
        return torch.cat(parts)

    def _checked_ids(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the (B, L) ids, with garbage on padding replaced where the model could not look it up."""
        longest = int(mask.sum(dim=1).max())
        if longest > self.limit:
            raise UserError(
                f"an input of {longest} tokens is longer than the {self.limit} that {self.settings.model} "
                "reads; shorten the prompts or max_new_tokens."
            )
        size = self.model.get_input_embeddings().num_embeddings
        real = ids.masked_fill(~mask, 0)
        largest = int(real.max())
        if largest >= size:
            raise UserError(
                f"the policy wrote token {largest} and {self.settings.model} has {size} tokens, so ids "
                "cannot be shared; set ids to 'retokenise'."
            )
        # Ids that can be looked up stay as they are: a trunk is found by them.
        return ids if int(ids.min()) >= 0 and int(ids.max()) < size else real

    def _score_text(self, batch: Batch) -> Tensor:
        rows = self.encoder.rows(batch)
        # Sequences of like length go together, so that little padding is computed.
        order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
        scores = torch.empty(len(rows), dtype=torch.float32, device=self.model.device)
        size = self.settings.micro_batch_size
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            scores[chosen] = self._forward([rows[row] for row in chosen])
        return scores

    def _forward(self, rows: list[list[int]]) -> Tensor:
        """Score token rows, padded on the right; (len(rows),) float32."""
        device = self.model.device
        lengths = torch.tensor([len(row) for row in rows], device=device)
        filler = self.tokenizer.pad_token_id or 0
        width = int(lengths.max())
        ids = torch.tensor([row + [filler] * (width - len(row)) for row in rows], device=device)
        mask = torch.arange(width, device=device) < lengths[:, None]
        if not is_decoder(self.model):
            encoded: Tensor = self.model(input_ids=ids, attention_mask=mask.long()).logits.squeeze(-1).float()
            return encoded
        # transformers' own pooling reads the last token that is not pad: one too early after an EOS
        # that is the pad token too. The mask knows better.
        hidden = self.model.base_model(
            input_ids=ids, attention_mask=mask.long(), use_cache=False
        ).last_hidden_state
        pooled = hidden[torch.arange(len(rows), device=device), lengths - 1]
        scores: Tensor = self.model.score(pooled).squeeze(-1).float()
        return scores


def _with_own_template(
    settings: RewardModelRewardSettings, model: PreTrainedModel
) -> RewardModelRewardSettings:
    """Return the settings with the template that the model was trained on, where the user gave none."""
    own = getattr(model.config, "textrl_template", PLAIN)
    if own == PLAIN or settings.template != PLAIN or settings.chat:
        return settings
    if settings.ids == "shared":
        raise UserError(
            f"the reward model {settings.model} was trained on the template {own!r}, so ids cannot be "
            "shared; set ids to 'retokenise' or 'auto'."
        )
    return replace(settings, template=own)


def _shares_ids(
    settings: RewardModelRewardSettings, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> bool:
    """Decide whether the policy's ids are scored as they are."""
    if settings.ids == "retokenise":
        return False
    same = settings.policy_tokenizer is not None and same_ids(settings.policy_tokenizer, tokenizer)
    if settings.ids == "auto":
        return same and is_decoder(model) and settings.template == PLAIN and not settings.chat
    if not is_decoder(model):
        raise UserError(
            f"the reward model {settings.model} is an encoder, which wants its own special tokens "
            "around a text; set ids to 'retokenise' or 'auto'."
        )
    if settings.policy_tokenizer is not None and not same:
        raise UserError(
            f"the tokenizers of {settings.model} and {settings.policy_tokenizer} differ, so ids cannot "
            "be shared; set ids to 'retokenise' or 'auto'."
        )
    return True
