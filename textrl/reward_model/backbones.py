"""From a model's name to a reward model that can be trained: decoder, encoder, or one trained before."""

from __future__ import annotations

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from textrl.errors import UserError
from textrl.models.heads import score_layer
from textrl.models.layers import blocks
from textrl.models.loading import load_causal_lm, load_scorer, scorer_from_causal_lm
from textrl.models.sources import one_line, quiet_transformers, resolve
from textrl.registry import Registry


def reward_backbone(
    name: str, *, layers: int | None = None, seed: int = 0, registry: Registry | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return a sequence classifier of one label to train, with its tokenizer.

    A causal language model (an SFT model, say) becomes a scorer with a head of zeros. An encoder (BERT
    and its kind) gets the head of its own class, drawn where the class has layers of its own there, and
    zeros in the last one. A reward model goes on as it is.

    Args:
        name: Registered model, folder, GGUF file or hub id.
        layers: Blocks to keep, from the first; None keeps all.
        seed: Of weights that have to be drawn.
        registry: Where registered names are looked up; the installed plugins by default.

    Raises:
        UserError: When there is no such model, or it cannot become a reward model.
    """
    folder = resolve(name, registry)
    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise UserError(f"The model '{name}' cannot be loaded ({one_line(error)}).") from error
    saved_as = config.architectures or []
    if any(kind.endswith("ForSequenceClassification") for kind in saved_as):
        if layers is not None:
            raise UserError(
                f"The model '{name}' is a reward model already, so layers cannot be {layers}; leave it out."
            )
        return load_scorer(name)
    causal = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.model_type)
    if causal in saved_as or config.model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        policy, tokenizer = load_causal_lm(name, registry=registry)
        return scorer_from_causal_lm(policy, layers=layers), tokenizer
    return _encoder(name, folder, layers, seed)


def _encoder(
    name: str, folder: str, layers: int | None, seed: int
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    changes = {} if layers is None else {"num_hidden_layers": layers}
    try:
        with quiet_transformers(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = AutoModelForSequenceClassification.from_pretrained(
                folder,
                num_labels=1,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                **changes,
            )
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # transformers and safetensors raise many kinds
        raise UserError(f"The encoder '{name}' cannot become a reward model ({one_line(error)}).") from error
    head = score_layer(model)
    if head is None or not 1 <= len(blocks(model)) == (layers or len(blocks(model))):
        raise UserError(f"A {type(model).__name__} cannot be made a reward model; use a BERT-like encoder.")
    nn.init.zeros_(head.weight)
    if head.bias is not None:
        nn.init.zeros_(head.bias)
    if tokenizer.pad_token_id is None:
        raise UserError(f"The tokenizer of '{name}' has no padding token; give it one.")
    model.config.pad_token_id = tokenizer.pad_token_id
    return model.eval(), tokenizer
