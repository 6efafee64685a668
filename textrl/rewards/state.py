"""Divide a state into tensors (safetensors) and the rest (JSON), and join them again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

_TENSOR = "__tensor__"


def split_tensors(state: Any) -> tuple[dict[str, Tensor], Any]:
    """Return (tensors by path, JSON-able rest); in the rest ``{"__tensor__": path}`` marks their places.

    Raises:
        TypeError: When the state holds anything else than tensors, mappings with string keys, lists,
            tuples (they come back as lists), numbers, strings, booleans and None; names the path.
    """
    tensors: dict[str, Tensor] = {}

    def walk(value: Any, path: str) -> Any:
        if isinstance(value, Tensor):
            tensors[path] = value.detach().cpu().contiguous().clone()
            return {_TENSOR: path}
        if isinstance(value, Mapping):
            if not all(isinstance(key, str) for key in value) or _TENSOR in value:
                raise TypeError(f"the state at '{path}' has keys that are not plain strings")
            return {key: walk(item, f"{path}/{key}" if path else key) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [walk(item, f"{path}/{index}" if path else str(index)) for index, item in enumerate(value)]
        if value is None or isinstance(value, str | bool | int | float):
            return value
        raise TypeError(f"the state at '{path}' is a {type(value).__name__}, neither JSON nor a tensor")

    return tensors, walk(state, "")


def join_tensors(tensors: Mapping[str, Tensor], rest: Any) -> Any:
    """Undo `split_tensors`."""
    if isinstance(rest, Mapping):
        if _TENSOR in rest:
            return tensors[rest[_TENSOR]]
        return {key: join_tensors(tensors, item) for key, item in rest.items()}
    if isinstance(rest, list):
        return [join_tensors(tensors, item) for item in rest]
    return rest
