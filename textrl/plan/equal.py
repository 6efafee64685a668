"""How many leading blocks two saved models have in common, read from their files."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from safetensors import safe_open

_BLOCK = re.compile(r"\.(?:layers|h|layer)\.(\d+)\.")
_EMBEDDING = re.compile(r"(?:wte|wpe|embed_tokens|embed_in|word_embeddings|position_embeddings)\.")


def equal_blocks(first: str, second: str) -> int:
    """Return the number of leading blocks, with the embeddings, whose weights are equal in both folders.

    Args:
        first: Folder with safetensors files.
        second: Another one; a causal language model and a classifier name their blocks alike.
    """
    ours, theirs = _files(first), _files(second)
    common = [name for name in ours if name in theirs]
    embeddings = [name for name in ours if _EMBEDDING.search(name) and not _BLOCK.search(name)]
    if not common or any(name not in theirs for name in embeddings):
        return 0
    if not all(_equal(name, ours, theirs) for name in embeddings):
        return 0
    by_block: dict[int, list[str]] = {}
    for name in common:
        found = _BLOCK.search(name)
        if found:
            by_block.setdefault(int(found[1]), []).append(name)
    depth = 0
    while depth in by_block and all(_equal(name, ours, theirs) for name in by_block[depth]):
        depth += 1
    return depth


def _files(folder: str) -> dict[str, Path]:
    """Return which file holds each tensor."""
    held: dict[str, Path] = {}
    for file in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            held.update(dict.fromkeys(tensors.keys(), file))
    return held


def _equal(name: str, ours: dict[str, Path], theirs: dict[str, Path]) -> bool:
    with safe_open(ours[name], "pt") as first, safe_open(theirs[name], "pt") as second:
        return torch.equal(first.get_tensor(name), second.get_tensor(name))
