"""Write a trained policy as an ordinary transformers folder."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from textrl.learners.ppo_ptx.networks import Networks


@torch.no_grad()
def export_policy(networks: Networks, path: str | Path, weights: Mapping[str, Tensor]) -> None:
    """Save policy and tokenizer with `save_pretrained`; LoRA adapters are merged.

    Args:
        networks: Of the learner.
        path: The folder.
        weights: Trainable weights to use instead of the current ones, by name; empty keeps those.
    """
    policy = copy.deepcopy(
        networks.policy, {id(p): p for p in networks.policy.parameters() if not p.requires_grad}
    )
    for name, param in policy.named_parameters():
        if name in weights:
            param.data = weights[name].clone()
    layers = [m for m in policy.modules() if hasattr(m, "get_delta_weight")]
    for layer in layers:
        base = layer.get_base_layer()
        # A new parameter: the old one is shared with the policy that goes on learning.
        base.weight = nn.Parameter(base.weight + layer.get_delta_weight("default"))
    if layers:
        for module in list(policy.modules()):
            for child_name, child in list(module.named_children()):
                if child in layers:
                    setattr(module, child_name, child.get_base_layer())
    policy.save_pretrained(path)
    if networks.tokenizer is not None:
        networks.tokenizer.save_pretrained(path)
