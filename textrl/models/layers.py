"""Where a transformer keeps its blocks, whatever its architecture calls them, and freezing them."""

from __future__ import annotations

from typing import Any

from torch import nn

from textrl.errors import UserError

# Paths of the list of blocks below the base model: Llama, Mistral, Qwen, GPT-NeoX; GPT-2; OPT; BERT;
# Wav2Vec-like; DistilBERT.
_BLOCKS = ("layers", "h", "decoder.layers", "encoder.layer", "encoder.layers", "transformer.layer")
# What comes after the blocks and stays trainable.
_FINAL = frozenset({"norm", "ln_f", "final_layer_norm", "final_layernorm", "pooler"})


def base(model: nn.Module) -> nn.Module:
    """Return the model without its head; sees through peft's wrapper."""
    unwrap: Any = getattr(model, "get_base_model", None)
    inner = unwrap() if unwrap else model
    found: nn.Module = getattr(inner, "base_model", inner)
    return found


def blocks(model: nn.Module) -> nn.ModuleList:
    """Return the model's transformer blocks, first to last.

    Raises:
        UserError: When the architecture keeps them in a place this function does not know.
    """
    trunk = base(model)
    for path in _BLOCKS:
        found: Any = trunk
        for part in path.split("."):
            found = getattr(found, part, None)
        if isinstance(found, nn.ModuleList):
            return found
    raise UserError(
        f"The layers of a {type(trunk).__name__} cannot be found (looked for {', '.join(_BLOCKS)}); "
        "use a Llama-, Mistral-, Qwen-, GPT-2-, GPT-NeoX-, OPT- or BERT-like model."
    )


def freeze_below(model: nn.Module, first_trainable: int) -> None:
    """Freeze embeddings, language-model head and the blocks before `first_trainable`.

    The head is frozen even where it is not tied to the embeddings. The other blocks, the final norm
    and a score head are left as they are.

    Raises:
        UserError: When the model has fewer blocks.
    """
    layers = blocks(model)
    if not 0 <= first_trainable <= len(layers):
        raise UserError(
            f"The first trainable layer is {first_trainable}, but the model has {len(layers)} layers; "
            f"choose 0 to {len(layers)}."
        )
    kept = {id(p) for block in layers[first_trainable:] for p in block.parameters()}
    trunk = base(model)
    inside = {id(module) for module in layers.modules()}
    for name, module in trunk.named_modules():
        if name.rpartition(".")[2] in _FINAL and id(module) not in inside:
            kept.update(id(p) for p in module.parameters())
    get_head: Any = getattr(model, "get_output_embeddings", None)
    head = get_head() if get_head else None
    frozen = [*trunk.parameters(), *(head.parameters() if head is not None else ())]
    for parameter in frozen:
        if id(parameter) not in kept:
            parameter.requires_grad_(False)
