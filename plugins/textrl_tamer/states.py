"""States of the core, which computes in numpy, as the states of sources, which may hold tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor


def tensors(state: Any) -> Any:
    """Return a state with tensors in place of its arrays, which is what a source's state may hold."""
    if isinstance(state, np.ndarray):
        return torch.from_numpy(np.array(state))
    if isinstance(state, Mapping):
        return {key: tensors(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [tensors(value) for value in state]
    return state


def arrays(state: Any) -> Any:
    """Return a state with arrays of its own in place of its tensors."""
    if isinstance(state, Tensor):
        return state.detach().cpu().numpy().copy()
    if isinstance(state, Mapping):
        return {key: arrays(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [arrays(value) for value in state]
    return state
