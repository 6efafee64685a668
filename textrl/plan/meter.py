"""Runs real code on tensors that have a shape and a type but no memory, and keeps the books.

A network of any size can so be put through a forward and a backward pass on a laptop, in seconds: nothing
is computed, but every tensor that the pass would make is counted while it would live, and every matrix
product is counted as it would run.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode


def _linear(x: Any, weight: Any, *rest: Any, out_shape: Any = None, **more: Any) -> int:
    """Operations of x W^T, for (n, K) and (N, K)."""
    del rest, out_shape, more
    return 2 * int(x[0]) * int(x[1]) * int(weight[0])


#: The product for few rows (`textrl.models.products`), which torch's counter does not know.
_FEW = {torch.ops.mkldnn._linear_pointwise: _linear} if hasattr(torch.ops.mkldnn, "_linear_pointwise") else {}


@dataclass
class Reading:
    """What one measured piece of code would need.

    Attributes:
        peak: Bytes of the tensors that live at the same time, at most, beside those that were there before.
        kept: Bytes of those that still live at the end of it.
        flops: Of its matrix products, convolutions and attention; a multiplication and an addition are two.
    """

    peak: int = 0
    kept: int = 0
    flops: int = 0


class _Shapes(FakeTensorMode):  # type: ignore[no-untyped-call]
    """One for the process: a copied module, and what transformers keeps between models, stay in it."""

    def __deepcopy__(self, memo: dict[int, Any]) -> _Shapes:
        return self


@cache
def _shapes() -> _Shapes:
    return _Shapes()


@contextmanager
def shapes_only() -> Iterator[None]:
    """Let every tensor made inside have no memory."""
    with _shapes():
        yield


def flop_counter() -> FlopCounterMode:
    """Return torch's counter, which counts what the code runs; new, to be entered."""
    return FlopCounterMode(display=False, custom_mapping=_FEW)


@contextmanager
def measure() -> Iterator[Reading]:
    """Keep the books of a block of code under `shapes_only`; the reading is complete when it ends."""
    reading = Reading()
    ledger = _Ledger()
    with flop_counter() as counter, ledger:
        yield reading
        reading.kept = ledger.now
    reading.peak, reading.flops = ledger.peak, int(counter.get_total_flops())


class _Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the storages that operators make, and takes off those that are freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._live: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        inputs = {_key(leaf) for leaf in tree_leaves((args, kwargs or {})) if isinstance(leaf, Tensor)}
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and _key(leaf) not in inputs:
                self._add(leaf)
        return out

    def _add(self, tensor: Tensor) -> None:
        storage, key = tensor.untyped_storage(), _key(tensor)
        if key in self._live:
            return
        size = storage.nbytes()
        self._live.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        if key in self._live:
            self._live.remove(key)
            self.now -= size


def _key(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
