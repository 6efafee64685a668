"""Which floating-point type the forward pass runs in; master weights are always fp32.

bf16 pays only where the hardware multiplies it natively: a CPU without AVX512-BF16, AMX or Arm's BF16
extension emulates it and is about a hundred times slower than in fp32. So ``auto`` gives other figures on
other machines; ``TEXTRL_PRECISION=fp32`` in the environment says once for all configs what it shall mean.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import torch

from textrl.errors import UserError, did_you_mean

PrecisionName = Literal["auto", "fp32", "bf16"]

#: What ``auto`` means, where this variable of the environment is set.
VARIABLE = "TEXTRL_PRECISION"
_NATIVE_BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


@dataclass(frozen=True)
class Precision:
    """How to run a forward pass.

    Attributes:
        autocast_dtype: The type `torch.autocast` casts matrix products to; None runs all in fp32.
    """

    autocast_dtype: torch.dtype | None = None

    @property
    def name(self) -> str:
        """``"fp32"`` or ``"bf16"``."""
        return "fp32" if self.autocast_dtype is None else "bf16"

    def autocast(self, device: torch.device | str) -> contextlib.AbstractContextManager[object]:
        """Return a fresh context manager for the forward pass on `device`."""
        if self.autocast_dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(torch.device(device).type, dtype=self.autocast_dtype)


def resolve_precision(name: str, device: torch.device | str | None = None) -> Precision:
    """Turn a setting into a `Precision`.

    Args:
        name: ``"fp32"``, ``"bf16"``, or ``"auto"``: what ``TEXTRL_PRECISION`` says, by default bf16 where
            `device` computes it natively.
        device: Where the model will run; by default the GPU when there is one.

    Raises:
        UserError: When `name`, or the variable, is none of the three.
    """
    given = "precision"
    if name == "auto" and os.environ.get(VARIABLE):
        given, name = f"the environment's {VARIABLE}", os.environ[VARIABLE]
    if name not in get_args(PrecisionName):
        known = get_args(PrecisionName)
        raise UserError(f"{given} '{name}' does not exist.{did_you_mean(name, known)}")
    wanted = name == "bf16" or (name == "auto" and has_native_bf16(device))
    return Precision(torch.bfloat16 if wanted else None)


def has_native_bf16(device: torch.device | str | None = None) -> bool:
    """Whether `device` (by default the GPU when there is one) multiplies bf16 without emulation."""
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return kind == "cpu" and bool(cpu_flags() & _NATIVE_BF16_FLAGS)


@cache
def cpu_flags() -> frozenset[str]:
    """Return the CPU's feature flags as Linux lists them; empty on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()
