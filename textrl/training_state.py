"""What a bit-exact resume needs besides weights: random generators and optimizer, as tensors and JSON."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from textrl.errors import UserError

JSON = Any  # what the json module writes and reads back unchanged


def capture_rng() -> tuple[dict[str, Tensor], dict[str, JSON]]:
    """Return the states of the random generators of Python, NumPy, torch and CUDA."""
    version, words, gauss = random.getstate()
    legacy = np.random.get_state(legacy=False)
    assert isinstance(legacy, dict)
    tensors = {
        "torch": torch.get_rng_state(),
        "numpy": torch.from_numpy(legacy["state"]["key"].astype(np.int64)),
        "python": torch.tensor(words, dtype=torch.int64),
    }
    if torch.cuda.is_available():
        tensors |= {f"cuda_{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    numpy_state = {"pos": int(legacy["state"]["pos"]), "has_gauss": int(legacy["has_gauss"])}
    return tensors, {
        "python": {"version": version, "gauss": gauss},
        "numpy": numpy_state | {"gauss": float(legacy["gauss"])},
    }


def restore_rng(tensors: Mapping[str, Tensor], state: Mapping[str, JSON]) -> None:
    """Put the generators back where `capture_rng` found them; GPUs that are absent now are left out."""
    python, legacy = state["python"], state["numpy"]
    random.setstate((python["version"], tuple(tensors["python"].tolist()), python["gauss"]))
    key = tensors["numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", key, legacy["pos"], legacy["has_gauss"], legacy["gauss"]))
    torch.set_rng_state(tensors["torch"].cpu())
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        if f"cuda_{i}" in tensors:
            torch.cuda.set_rng_state(tensors[f"cuda_{i}"].cpu(), i)


def pack_optimizer(opt: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, JSON]]:
    """Split an optimizer's state into named tensors (not copied) and JSON data.

    Sees through accelerate's wrapper.
    """
    opt = getattr(opt, "optimizer", opt)
    tensors: dict[str, Tensor] = {}
    return tensors, {"class": type(opt).__name__, "state": _pack(opt.state_dict(), "", tensors)}


def unpack_optimizer(
    opt: torch.optim.Optimizer, tensors: Mapping[str, Tensor], state: Mapping[str, JSON]
) -> None:
    """Load what `pack_optimizer` gave into an optimizer over the same parameters; bit-exact.

    Raises:
        UserError: When the checkpoint comes from another kind of optimizer or other parameters.
    """
    inner = getattr(opt, "optimizer", opt)
    if state["class"] != type(inner).__name__:
        raise UserError(
            f"The checkpoint holds the state of {state['class']}, but the run uses {type(inner).__name__}; "
            "resume with the settings it was started with."
        )
    try:
        inner.load_state_dict(_unpack(state["state"], tensors))
    except (ValueError, KeyError) as error:
        raise UserError(f"The optimizer's state does not fit the model: {error}.") from error


def _pack(value: Any, path: str, tensors: dict[str, Tensor]) -> JSON:
    """Replace tensors by their names and mark tuples and mappings, which JSON would change."""
    if isinstance(value, Tensor):
        tensors[path] = value.detach()
        return {"tensor": path}
    if isinstance(value, Mapping):
        return {
            "map": [[key, _pack(inner, f"{path}.{key}".lstrip("."), tensors)] for key, inner in value.items()]
        }
    if isinstance(value, list | tuple):
        packed = [_pack(inner, f"{path}.{i}", tensors) for i, inner in enumerate(value)]
        return {"tuple": packed} if isinstance(value, tuple) else packed
    return value


def _unpack(value: JSON, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_unpack(inner, tensors) for inner in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        # A copy: loaded tensors lie in a mapped file at odd addresses, and the optimizer writes into them.
        return tensors[value["tensor"]].clone()
    if "tuple" in value:
        return tuple(_unpack(inner, tensors) for inner in value["tuple"])
    return {key: _unpack(inner, tensors) for key, inner in value["map"]}
