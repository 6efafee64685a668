"""Heads on the disk: a folder of tensors and JSON with a manifest (`textrl.checkpoint`).

    config.yaml            rank, alpha, seed
    head.safetensors       w (r, D) and b (V,), float64
    state.json             which model it was learnt on, and how many gradient steps
    manifest.json          sizes and SHA-256

P is not among them: the model's embeddings, the rank and the seed give it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from textrl import checkpoint
from textrl.errors import UserError
from textrl.tamer.text.head import TokenHead

_CONFIG, _TENSORS = ("rank", "alpha", "seed"), ("w", "b")


def save_head(head: TokenHead, folder: str | Path) -> Path:
    """Write what a head has learnt; a folder of that name is replaced.

    Raises:
        UserError: When the folder cannot be written.
    """
    state = head.state_dict()
    config = {name: state.pop(name) for name in _CONFIG}
    tensors = {name: torch.from_numpy(state.pop(name)) for name in _TENSORS}
    return checkpoint.save(folder, config=config, tensors={"head": tensors}, state=state)


def load_head(head: TokenHead, folder: str | Path) -> None:
    """Give a head what `save_head` wrote.

    Raises:
        UserError: When the folder is missing, damaged, holds something else, or was learnt on another model
            or with another rank or seed.
    """
    # There is no earlier one to resume from, as of a run's checkpoints.
    mend = "copy it again from where it was written, or teach it anew"
    found = checkpoint.load(folder, what="head of tamer_text", mend=mend)
    state: dict[str, Any] = {**found.state, **found.config}
    state |= {name: tensor.numpy() for name, tensor in found.tensors.get("head", {}).items()}
    if not {*_CONFIG, *_TENSORS, "fingerprint", "learnt", "vocabulary", "width"} <= set(state):
        raise UserError(f"The folder {folder} holds no head of tamer_text; give one that save_head wrote.")
    head.load_state_dict(state, where=f"The head {folder}")
