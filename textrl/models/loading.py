"""Load policies and reward models, and make reward models out of policies.

Models come in fp32 and evaluation mode. Nothing runs code from a model's folder
(``trust_remote_code=False``), and weights are read from safetensors only.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from textrl.data.cache import cache_dir as cache_dir
from textrl.errors import UserError
from textrl.models.layers import base as base
from textrl.models.layers import blocks as blocks
from textrl.models.layers import freeze_below as freeze_below
from textrl.models.sources import convert_gguf as convert_gguf
from textrl.models.sources import one_line, quiet_transformers, resolve
from textrl.models.sources import set_padding as set_padding
from textrl.models.tiny import tiny_gpt2 as tiny_gpt2


def load_causal_lm(
    name: str, *, registry: Any = None, attn: str = "sdpa"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a policy, with its tokenizer (left padding, own pad token).

    Args:
        name: A registered model, a local folder, a GGUF file, or a hub id ``owner/name``.
        registry: Where registered names are looked up; the installed plugins by default.
        attn: transformers' attention implementation.

    Raises:
        UserError: When there is no such model or it cannot be loaded.
    """
    folder = resolve(name, registry)
    model, missing = _load(AutoModelForCausalLM, name, folder, attn)
    saved_as = model.config.architectures or []
    fault = f"{', '.join(missing[:3])} missing" if missing else ""
    if any(kind.endswith("ForSequenceClassification") for kind in saved_as):
        fault = f"it was saved as {saved_as[0]}"
    if fault:
        raise UserError(
            f"The model '{name}' is no complete language model ({fault}); "
            "name one that was saved as a causal language model."
        )
    return model, _tokenizer_for(model, name, folder)


def load_scorer(name: str, *, attn: str = "sdpa") -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a reward model: any sequence classifier with one label, with its tokenizer.

    Args:
        name: A registered model, a local folder, or a hub id ``owner/name``.
        attn: transformers' attention implementation.

    Raises:
        UserError: When there is no such model, or it has no trained score head, or another number of labels.
    """
    folder = resolve(name)
    model, missing = _load(AutoModelForSequenceClassification, name, folder, attn)
    if missing:
        raise UserError(
            f"The model '{name}' is no reward model: it has no trained score head "
            f"({', '.join(missing[:3])} missing); train one from it first."
        )
    if model.config.num_labels != 1:
        raise UserError(
            f"The model '{name}' gives {model.config.num_labels} scores; a reward model gives one."
        )
    return model, _tokenizer_for(model, name, folder)


def scorer_from_causal_lm(model: PreTrainedModel, *, layers: int | None) -> PreTrainedModel:
    """Make a reward or value model with a causal language model's blocks and a score head of zeros.

    Weights are copied, not shared. ``save_pretrained`` gives a folder that transformers alone can load.

    Args:
        model: The language model.
        layers: How many of its blocks to take, from the first; None takes all.

    Raises:
        UserError: When the model has fewer blocks.
    """
    depth = len(blocks(model))
    layers = depth if layers is None else layers
    if not 1 <= layers <= depth:
        raise UserError(
            f"A reward model of {layers} layers cannot be made from a model of {depth}; choose 1 to {depth}."
        )
    config = copy.deepcopy(model.config)
    for key, value in list(vars(config).items()):
        # Some architectures list what each layer is (layer_types, no_rope_layers).
        if "layer" in key and isinstance(value, list) and len(value) == depth:
            setattr(config, key, value[:layers])
    config.num_hidden_layers = layers
    config.num_labels = 1
    if config.pad_token_id is None:
        eos = config.eos_token_id
        config.pad_token_id = eos[0] if isinstance(eos, list) else eos
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn and then overwritten
        scorer = AutoModelForSequenceClassification.from_config(
            config, dtype=torch.float32, attn_implementation=model.config._attn_implementation
        )
    wanted = base(scorer).state_dict()
    source = base(model).state_dict()
    base(scorer).load_state_dict({key: source[key] for key in wanted if key in source}, strict=True)
    inner = {id(p) for p in base(scorer).parameters()}
    for parameter in scorer.parameters():
        if id(parameter) not in inner:
            nn.init.zeros_(parameter)
    scorer.eval()
    return scorer


def _load(kind: Any, name: str, folder: str, attn: str) -> tuple[PreTrainedModel, list[str]]:
    """Load the weights; also return the names of those that the folder lacks."""
    try:
        with quiet_transformers():
            model, info = kind.from_pretrained(
                folder,
                dtype=torch.float32,
                attn_implementation=attn,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except Exception as error:  # transformers and safetensors raise many kinds
        raise UserError(_failure("model", name, folder, error)) from error
    return model.eval(), sorted(info["missing_keys"])


def _tokenizer_for(model: PreTrainedModel, name: str, folder: str) -> PreTrainedTokenizerBase:
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # as above
        raise UserError(_failure("tokenizer", name, folder, error)) from error
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise UserError(
            f"The tokenizer of '{name}' has {len(tokenizer)} tokens, but its model only {rows}; "
            "they do not belong together."
        )
    set_padding(model, tokenizer)
    return tokenizer


def _failure(what: str, name: str, folder: str, error: Exception) -> str:
    again = "" if Path(folder) == Path(name).expanduser() else f"; delete {folder} to have it made again"
    return f"The {what} in '{name}' cannot be loaded ({one_line(error)}){again}."
