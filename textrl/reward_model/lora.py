"""LoRA adapters (Hu et al. 2021) on a reward model, merged into its weights when training ends."""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedModel

from textrl.errors import UserError
from textrl.models.layers import base, blocks


def add_lora(model: PreTrainedModel, rank: int, first_trainable: int, seed: int) -> None:
    """Freeze all but the score head and put adapters on the matrices of the blocks from `first_trainable`.

    Scaled by alpha / rank = 2, without dropout, as the learner's are.

    Raises:
        UserError: When peft is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise UserError("mode is 'lora' but peft is not installed; install the extra 'lora'.") from error
    inside = {id(parameter) for parameter in base(model).parameters()}
    head = [parameter for parameter in model.parameters() if id(parameter) not in inside]
    layers = blocks(model)
    names = {
        name.rpartition(".")[2]
        for name, module in layers[-1].named_modules()
        if isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
    }
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        target_modules=sorted(names),
        layers_to_transform=list(range(first_trainable, len(layers))),
        # GPT-2 keeps its matrices transposed.
        fan_in_fan_out=any(type(module).__name__ == "Conv1D" for module in layers.modules()),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # peft finds a block's number in the name of its weights, which needs the name of the whole.
        inject_adapter_in_model(config, model)
    for parameter in head:  # which peft has frozen with everything else
        parameter.requires_grad_(True)


@torch.no_grad()
def merge_lora(model: PreTrainedModel) -> None:
    """Add the adapters to the weights and take them out, so that any reader loads the folder."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if not hasattr(child, "get_delta_weight"):
                continue
            inner = child.get_base_layer()
            inner.weight = nn.Parameter(inner.weight + child.get_delta_weight("default"), requires_grad=False)
            setattr(parent, name, inner)
    for attribute in ("peft_config", "_hf_peft_config_loaded"):
        model.__dict__.pop(attribute, None)
