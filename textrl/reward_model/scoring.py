"""Scores of single texts by a reward model in memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from textrl.batching import pad, plan
from textrl.models.precision import resolve_precision
from textrl.reward_model.data import rows_for
from textrl.reward_model.job import score_rows
from textrl.reward_model.settings import RewardModelSettings
from textrl.sft import SFTExample


@torch.no_grad()
def score_examples(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[SFTExample],
    settings: RewardModelSettings,
) -> NDArray[np.float64]:
    """Return (N,) scores less the model's offset, of texts tokenised as in training.

    Args:
        model: A reward model in evaluation mode.
        tokenizer: Its tokenizer.
        examples: N prompts with completions; each distinct text is computed once.
        settings: Of the training: lengths, EOS, size of the micro-batches, precision.

    Raises:
        UserError: When a prompt leaves no room for a completion, or a completion is empty.
    """
    rows = rows_for(model, tokenizer, examples, settings, "Text")
    distinct = sorted({row.ids: row for row in rows}.values())
    device = next(model.parameters()).device
    precision = resolve_precision(settings.precision, device)
    found: dict[tuple[int, ...], float] = {}
    for part in plan([len(row.ids) for row in distinct], settings.micro_batch_tokens):
        batch = pad([[distinct[i]] for i in part], tokenizer.pad_token_id or 0, device)
        with precision.autocast(device):
            scores = score_rows(model, batch).double().tolist()
        found |= {distinct[i].ids: score for i, score in zip(part, scores, strict=True)}
    offset = float(getattr(model.config, "textrl_reward_offset", 0.0))
    return np.array([found[row.ids] for row in rows]) - offset
