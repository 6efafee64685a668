"""What simulated trainers know: rules, a solved Mountain Car, anybody's function."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from textrl.errors import UserError, did_you_mean
from textrl_human.trainers import Trainer, Truth

#: Truths by name, each about one task.
KNOWN = ("rule", "pole_rule", "solved")


def find_truth(trainer: Trainer) -> Truth:
    """Return what the trainer's `truth` names.

    Raises:
        UserError: When there is no such truth.
    """
    truth = trainer.truth
    if callable(truth):
        return truth
    if truth == "rule":
        return push_with_the_velocity
    if truth == "pole_rule":
        return push_under_the_pole
    if truth == "solved":
        from textrl_human.mountain_car import solved

        return solved(1.0 - trainer.myopia).advantage
    place, _, name = truth.rpartition(":")
    if not place or not name.isidentifier():
        raise UserError(
            f"The trainer's truth is '{truth}'; write one of {', '.join(KNOWN)}, 'module:function' or "
            f"'file.py:function'.{did_you_mean(truth, KNOWN)}"
        )
    function: Truth = load_function(place, name)
    return function


def push_with_the_velocity(observation: Any, action: int) -> float:
    """Mountain Car's rule: +1 for pushing the way the car rolls (left while it stands), -1 otherwise.

    Args:
        observation: (position, velocity).
        action: 0 left, 1 none, 2 right.
    """
    _expect(observation, 2, "rule", "Mountain Car (position, velocity)")
    return 1.0 if action == (2 if float(observation[1]) > 0 else 0) else -1.0


def push_under_the_pole(observation: Any, action: int) -> float:
    """Cart Pole's rule: +1 for pushing towards the side to which the pole leans and falls, -1 otherwise.

    Args:
        observation: (position, its velocity, angle, its velocity).
        action: 0 left, 1 right.
    """
    _expect(observation, 4, "pole_rule", "Cart Pole (four numbers)")
    # Where the pole will lean in a quarter of a second.
    falls_right = float(observation[2]) + 0.25 * float(observation[3]) > 0
    return 1.0 if action == int(falls_right) else -1.0


def _expect(observation: Any, size: int, truth: str, task: str) -> None:
    if np.shape(observation) != (size,):
        raise UserError(
            f"The truth '{truth}' is for {task}, not for observations of the shape {np.shape(observation)}; "
            "set truth to a function of your own."
        )


def load_function(place: str, name: str) -> Callable[..., Any]:
    """Import ``name`` from a module or a Python file.

    Raises:
        UserError: When that fails, or it is no function.
    """
    try:
        module = _file(place) if place.endswith(".py") else importlib.import_module(place)
    except Exception as error:  # whatever the file does when it is imported
        raise UserError(
            f"The trainer's truth '{place}:{name}' cannot be imported ({type(error).__name__}: {error})."
        ) from error
    found = getattr(module, name, None)
    if not callable(found):
        raise UserError(f"The trainer's truth '{place}:{name}' is no function; name one in {place}.")
    function: Callable[..., Any] = found
    return function


@functools.cache
def _file(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
