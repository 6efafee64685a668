"""Checkpoints of episodic learners: weights, counters, random generators, guidance and the person."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from textrl import checkpoint
from textrl.errors import UserError
from textrl.learners.surface import check_same_settings
from textrl.rewards.state import join_tensors, split_tensors
from textrl.settings import to_plain

if TYPE_CHECKING:
    from textrl.learners.episodic import EpisodicLearner

_ARRAY = "__array__"


def save(learner: EpisodicLearner, path: str | Path) -> None:
    """Write the checkpoint folder of a learner."""
    tensors: dict[str, dict[str, Tensor]] = {
        "learner": {name: _tensor(array) for name, array in learner.arrays().items()},
        "history": {
            "returns": torch.tensor(learner.episode_returns, dtype=torch.float64),
            "lengths": torch.tensor(learner.episode_lengths, dtype=torch.int64),
        },
    }
    state: dict[str, Any] = {
        "num_timesteps": learner.num_timesteps,
        "episodes": learner.episodes,
        "rng": {name: plain_rng(rng) for name, rng in learner.generators().items()},
    }
    if learner.guidance is not None:
        state["advice"] = to_plain(learner.guidance.settings)
    for name, part in _parts(learner).items():
        tensors[name], state[name] = split_tensors(_mark_arrays(part.state_dict()))
    checkpoint.save(path, config=to_plain(learner.settings), tensors=tensors, state=state)


def restore(learner: EpisodicLearner, path: str | Path) -> None:
    """Put a learner where `save` found it.

    Raises:
        UserError: When the folder is damaged, or was written with other settings, or by a learner with
            another guidance or person beside it.
    """
    loaded = checkpoint.load(path)
    check_same_settings(path, loaded.config, learner.settings)
    parts = _parts(learner)
    kept = {"guidance", "human"} & set(loaded.state)
    if kept != set(parts):
        raise UserError(
            f"{path} was written {_with(kept)}, but the learner runs {_with(set(parts))}; resume with the "
            "same parts."
        )
    advice = None if learner.guidance is None else to_plain(learner.guidance.settings)
    if loaded.state.get("advice") != advice:
        raise UserError(f"{path} was written with other settings of the advice; resume with the same ones.")
    learner.num_timesteps = loaded.state["num_timesteps"]
    learner.episodes = loaded.state["episodes"]
    learner.episode_returns = loaded.tensors["history"]["returns"].tolist()
    learner.episode_lengths = loaded.tensors["history"]["lengths"].tolist()
    for name, rng in learner.generators().items():
        load_rng(rng, loaded.state["rng"][name])
    learner.load_arrays({name: _array(tensor) for name, tensor in loaded.tensors["learner"].items()})
    for name, part in parts.items():
        part.load_state_dict(_unmark_arrays(join_tensors(loaded.tensors.get(name, {}), loaded.state[name])))


def plain_rng(rng: np.random.Generator) -> dict[str, Any]:
    """Return a generator's state as JSON data; NumPy's default generator has integers only."""
    state: dict[str, Any] = dict(rng.bit_generator.state)
    return state


def load_rng(rng: np.random.Generator, state: Mapping[str, Any]) -> None:
    """Put a generator where `plain_rng` found it."""
    rng.bit_generator.state = dict(state)


def _parts(learner: EpisodicLearner) -> dict[str, Any]:
    both = {"guidance": learner.guidance, "human": learner.human}
    return {name: part for name, part in both.items() if part is not None}


def _with(parts: set[str]) -> str:
    return f"with {' and '.join(sorted(parts))}" if parts else "without guidance or a person"


def _tensor(array: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(np.array(array, order="C"))


def _array(tensor: Tensor) -> np.ndarray[Any, Any]:
    # A copy: loaded tensors lie in a mapped file, and weights are written in place.
    return np.array(tensor.numpy())


def _mark_arrays(state: Any) -> Any:
    """Replace numpy arrays by marked tensors, which is what a checkpoint's groups hold."""
    if isinstance(state, np.ndarray):
        return {_ARRAY: _tensor(state)}
    if isinstance(state, np.generic):
        return state.item()
    if isinstance(state, Mapping):
        return {key: _mark_arrays(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [_mark_arrays(value) for value in state]
    return state


def _unmark_arrays(state: Any) -> Any:
    if isinstance(state, Mapping):
        if _ARRAY in state:
            return _array(state[_ARRAY])
        return {key: _unmark_arrays(value) for key, value in state.items()}
    if isinstance(state, list):
        return [_unmark_arrays(value) for value in state]
    return state
