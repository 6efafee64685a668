"""Score heads: which model has one, where it is, and what it reads.

A decoder is read at the last real token, found by the mask; an encoder (BERT and its kind) pools as its
own class does. Shapes: ``R`` rows, ``T`` tokens, ``H`` width of what the head's last layer reads.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from textrl.models.layers import base, blocks
from textrl.models.stack import run_blocks, score_positions

#: A reward model reads the prompt and the response, one after the other, unless its template says otherwise.
PLAIN_TEMPLATE = "{prompt}{response}"
_SLOT = re.compile(r"\{(prompt|response)\}")


def fill_template(template: str, prompt: str, response: str) -> str:
    """Put two texts in the places of ``{prompt}`` and ``{response}``."""
    # One pass, so that a prompt that contains "{response}" stays as it is.
    texts = {"prompt": prompt, "response": response}
    return _SLOT.sub(lambda slot: texts[slot[1]], template)


def is_decoder(model: PreTrainedModel) -> bool:
    """Return whether the model reads left to right and scores its last token."""
    causal = model.config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    return causal and hasattr(model, "score") and not model.config.is_encoder_decoder


def score_layer(model: PreTrainedModel) -> nn.Linear | None:
    """Return the last linear layer of a head with one label, None where the model has no such head."""
    inside = {id(module) for module in base(model).modules()}
    found = [
        module
        for module in model.modules()
        if isinstance(module, nn.Linear) and module.out_features == 1 and id(module) not in inside
    ]
    return found[-1] if found and model.config.num_labels == 1 else None


def pooled(
    model: PreTrainedModel, ids: Tensor, mask: Tensor, hidden: Tensor | None = None, depth: int = 0
) -> Tensor:
    """Return (R, H) what the head's last layer reads.

    Args:
        model: A sequence classifier with one label.
        ids: (R, T) int64, padded on the right.
        mask: (R, T) bool.
        hidden: Of a decoder: (R, T, W) output of the first `depth` blocks, where it is known already.
        depth: See `hidden`.
    """
    if not is_decoder(model):
        return _read_by_head(model, ids, mask)
    if hidden is None:
        final = base(model)(
            input_ids=ids,
            attention_mask=mask.long(),
            position_ids=_positions(mask),
            use_cache=False,
        ).last_hidden_state
    else:
        final = run_blocks(model, hidden, mask, depth, len(blocks(model)), final=True)
    last = mask.sum(1) - 1  # rows are padded on the right
    chosen: Tensor = final[torch.arange(len(last), device=last.device), last]
    return chosen


def score(
    model: PreTrainedModel, ids: Tensor, mask: Tensor, hidden: Tensor | None = None, depth: int = 0
) -> Tensor:
    """Return the (R,) scores of rows; see `pooled` for the arguments."""
    if is_decoder(model):
        return score_positions(model, pooled(model, ids, mask, hidden, depth)[:, None]).squeeze(1)
    out: Tensor = model(input_ids=ids, attention_mask=mask.long()).logits.squeeze(-1)
    return out.to(torch.promote_types(out.dtype, torch.float32))


def pads_with_eos(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether transformers' own pooling would read a decoder one token early.

    It looks for the last token that is not the pad token, so an EOS that is the pad token too is skipped.
    """
    pad, eos = model.config.pad_token_id, tokenizer.eos_token_id
    return is_decoder(model) and pad is not None and pad == eos


def _positions(mask: Tensor) -> Tensor:
    """Return (R, T) positions from 0, and 0 on padding, as `textrl.batching.pad` gives them."""
    return torch.arange(mask.shape[1], device=mask.device).expand(mask.shape) * mask


def _read_by_head(model: PreTrainedModel, ids: Tensor, mask: Tensor) -> Tensor:
    """Return (R, H) the input of the last layer, caught on its way through transformers' own forward."""
    layer = score_layer(model)
    assert layer is not None  # checked before training
    caught: list[Tensor] = []

    def catch(module: nn.Module, args: tuple[Any, ...]) -> None:
        caught.append(args[0])

    handle = layer.register_forward_pre_hook(catch)
    try:
        model(input_ids=ids, attention_mask=mask.long())
    finally:
        handle.remove()
    return caught[0]
