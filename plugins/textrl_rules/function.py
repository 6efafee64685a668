"""Any Python function as a reward."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, SupportsFloat

import torch
from torch import Tensor

from textrl.errors import PluginError, UserError, did_you_mean
from textrl.protocols import Batch
from textrl_rules.settings import CallableSettings


class CallableReward:
    """Pay what a function of (prompt, response, record) returns."""

    def __init__(self, settings: CallableSettings) -> None:
        """Import the function.

        Raises:
            UserError: When the module, the file or the function does not exist or does not import.
        """
        self.name = settings.function
        self.function = load_function(settings.function)

    def __call__(self, batch: Batch) -> Tensor:
        """Return (B,) float32.

        Raises:
            PluginError: When the function raises or returns something that is not a number.
        """
        assert batch.prompt_text is not None
        assert batch.text is not None
        assert batch.records is not None  # in the record's needs
        rows = zip(batch.prompt_text, batch.text, batch.records, strict=True)
        values = [self._value(row, *arguments) for row, arguments in enumerate(rows)]
        return torch.tensor(values, dtype=torch.float32)

    def _value(self, row: int, prompt: str, response: str, record: Any) -> float:
        try:
            value = self.function(prompt, response, record)
        except Exception as error:
            message = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(".:")
            raise PluginError(
                f"the function {self.name} raised {message} for row {row} ({response[:60]!r})."
            ) from error
        if isinstance(value, str) or not isinstance(value, SupportsFloat):
            kind = type(value).__name__
            raise PluginError(f"the function {self.name} returned a {kind} for row {row}; return a number.")
        try:
            return float(value)
        except (TypeError, ValueError, RuntimeError) as error:  # arrays and tensors of more than one number
            kind = type(value).__name__
            raise PluginError(
                f"the function {self.name} returned a {kind} for row {row} that is not one number."
            ) from error


def load_function(target: str) -> Callable[[str, str, Any], Any]:
    """Import ``"module:function"`` or ``"file.py:function"``.

    Raises:
        UserError: Naming what is missing, or the error of the import.
    """
    place, _, name = target.rpartition(":")
    module = _load_file(Path(place).expanduser()) if place.endswith(".py") else _load_module(place)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            names = [
                key for key, value in vars(module).items() if callable(value) and not key.startswith("_")
            ]
            raise UserError(f"{place} has no function '{name}'.{did_you_mean(name, names)}")
        found = getattr(found, part)
    if not callable(found):
        raise UserError(f"{target} is a {type(found).__name__}; name a function.")
    function: Callable[[str, str, Any], Any] = found
    return function


def _load_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:
        kind = type(error).__name__
        raise UserError(
            f"the function's module '{name}' cannot be imported ({kind}: {error}); "
            "install it, or write a path that ends in .py."
        ) from error


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UserError(f"the function's file {path} does not exist (looked in {Path.cwd()}).")
    path = path.resolve()
    # A name of its own, so that two files called rewards.py can be used in one run.
    name = f"_textrl_callable_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"the function's file {path} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise UserError(
            f"the function's file {path} cannot be imported ({type(error).__name__}: {error})."
        ) from error
    return module
