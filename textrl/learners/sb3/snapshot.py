"""What a checkpoint of an SB3 algorithm holds, and how it is put back. `SB3Learner.save` says what for."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.utils import set_random_seed
from torch import Tensor

from textrl import checkpoint
from textrl.errors import UserError
from textrl.learners.episodic_state import load_rng, plain_rng
from textrl.learners.sb3.environments import as_arrays, from_arrays, innermost
from textrl.settings import describe, to_plain
from textrl.training_state import capture_rng, pack_optimizer, restore_rng, unpack_optimizer

if TYPE_CHECKING:
    from textrl.learners.sb3.learner import SB3Learner

#: Numbers of SB3's objects that a run goes on from, where an algorithm has them.
_COUNTERS = (
    "num_timesteps",
    "exploration_rate",
    "_n_updates",
    "_episode_num",
    "_n_calls",
    "_current_progress_remaining",
)
_REPLAY = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
#: What SB3 remembers between two steps, beside the observation.
_BETWEEN = ("_last_original_obs", "_last_episode_starts")

Tensors = dict[str, Tensor]
Random = tuple[Tensors, dict[str, Any], dict[str, Any]]


def save(learner: SB3Learner, path: str | Path, *, between_rollouts: bool) -> None:
    """Write the checkpoint folder of a learner."""
    algorithm = learner.algorithm
    tensors: dict[str, Tensors] = {"policy": dict(algorithm.policy.state_dict())}
    state: dict[str, Any] = {
        "learner": learner.label,
        "spaces": _spaces(learner),
        "counters": {name: getattr(algorithm, name) for name in _COUNTERS if hasattr(algorithm, name)},
        "episodes": [_numbers(one) for one in algorithm.ep_info_buffer or []],
        "successes": [float(one) for one in algorithm.ep_success_buffer or []],
        "guidance": _guidance(learner),
    }
    optimizer = getattr(algorithm.policy, "optimizer", None)
    if optimizer is not None:
        tensors["optimizer"], state["optimizer"] = pack_optimizer(optimizer)
    if getattr(algorithm, "weights", None) is not None:
        tensors["search"] = {"weights": algorithm.weights}
    buffer = getattr(algorithm, "replay_buffer", None)
    if buffer is not None:
        tensors["replay"] = _tensors(_replay(buffer, buffer.size()))
        state["replay"] = {"pos": int(buffer.pos), "full": bool(buffer.full)}
    if learner.environments.normalize is not None:
        tensors["normalize"] = _tensors(_statistics(learner.environments.normalize))
    if between_rollouts and algorithm._last_obs is not None:
        tapes = learner.environments.tapes_state()
        if tapes is not None:
            state["starts"], arrays = tapes
            tensors["tapes"] = _tensors(arrays)
            tensors["between"] = _tensors(_between(algorithm))
    tensors["rng"], state["rng"], state["actions_rng"] = random_state(algorithm)
    checkpoint.save(path, config=to_plain(learner.settings), tensors=tensors, state=state)


def restore(learner: SB3Learner, path: str | Path) -> None:
    """Put a learner where `save` found it.

    Raises:
        UserError: See `SB3Learner.restore`.
    """
    loaded = checkpoint.load(path)
    _check(learner, loaded)
    algorithm, state, tensors = learner.algorithm, loaded.state, loaded.tensors
    algorithm.policy.load_state_dict(tensors["policy"])
    if "optimizer" in state:
        unpack_optimizer(algorithm.policy.optimizer, tensors.get("optimizer", {}), state["optimizer"])
    if "search" in tensors:
        algorithm.weights = tensors["search"]["weights"].to(algorithm.device).clone()
    if "replay" in state:
        _load_replay(algorithm.replay_buffer, _arrays(tensors["replay"]), state["replay"])
    if learner.environments.normalize is not None:
        _load_statistics(learner.environments.normalize, _arrays(tensors["normalize"]))
    for name, value in state["counters"].items():
        setattr(algorithm, name, value)
    window = algorithm._stats_window_size
    algorithm.ep_info_buffer = deque(state["episodes"], maxlen=window)
    algorithm.ep_success_buffer = deque(state["successes"], maxlen=window)
    _load_episodes(learner, loaded)
    if learner.guidance is not None:
        learner.guidance.load_state_dict(state["guidance"]["state"])
    # Last: whatever was built or replayed before may have drawn.
    use_random_state(algorithm, (tensors["rng"], state["rng"], state["actions_rng"]))


def random_state(algorithm: Any) -> Random:
    """Return the generators that SB3 draws from: the global ones, and the action space's."""
    return *capture_rng(), plain_rng(algorithm.action_space.np_random)


def use_random_state(algorithm: Any, kept: Random) -> None:
    """Put the generators back where `random_state` found them."""
    restore_rng(kept[0], kept[1])
    load_rng(algorithm.action_space.np_random, kept[2])


class OwnRandom:
    """Generators for predictions: while in use they stand where SB3 looks, then the training's return."""

    def __init__(self, algorithm: Any, seed: int) -> None:
        self._algorithm, self._seed = algorithm, seed
        self._kept: Random | None = None

    @contextmanager
    def __call__(self, *, draws: bool) -> Iterator[None]:
        """Lend them; where nothing is drawn, do nothing."""
        if not draws:
            yield
            return
        training = random_state(self._algorithm)
        if self._kept is None:
            self._algorithm.action_space.seed(self._seed)
            set_random_seed(self._seed)
        else:
            use_random_state(self._algorithm, self._kept)
        try:
            yield
        finally:
            self._kept = random_state(self._algorithm)
            use_random_state(self._algorithm, training)


def check_learner(loaded: checkpoint.Checkpoint, label: str) -> None:
    """Refuse the checkpoint of another learner.

    Raises:
        UserError: Names both.
    """
    writer = loaded.state.get("learner")
    if writer != label:
        raise UserError(f"{loaded.path} was written by the learner '{writer}', not by '{label}'.")


def _check(learner: SB3Learner, loaded: checkpoint.Checkpoint) -> None:
    check_learner(loaded, learner.label)
    mine = to_plain(learner.settings)
    # A setting that did not exist yet was at what is now its default.
    known = {field.name: field.default for field in describe(type(learner.settings))} | loaded.config
    changed = [key for key, value in mine.items() if known.get(key) != value]
    if changed:
        raise UserError(
            f"{loaded.path} was written with other settings ({', '.join(changed)}); "
            "resume with the same ones."
        )
    if loaded.state["spaces"] != _spaces(learner):
        observation, action = loaded.state["spaces"]
        raise UserError(
            f"{loaded.path} belongs to an environment with observations {observation} and actions {action}; "
            "resume in the same one."
        )
    theirs, own = loaded.state["guidance"], _guidance(learner)
    if (theirs and theirs["settings"]) != (own and own["settings"]):
        raise UserError(
            f"{loaded.path} was written {_named(theirs)}, but the learner runs {_named(own)}; "
            "resume with the same guidance."
        )


def _named(guidance: Mapping[str, Any] | None) -> str:
    if guidance is None:
        return "without guidance"
    return f"with the guidance {guidance['settings']}"


def _guidance(learner: SB3Learner) -> dict[str, Any] | None:
    if learner.guidance is None:
        return None
    return {"settings": to_plain(learner.guidance.settings), "state": learner.guidance.state_dict()}


def _spaces(learner: SB3Learner) -> list[str]:
    vec = innermost(learner.environments.vec)
    return [str(vec.observation_space), str(vec.action_space)]


def _numbers(episode: Mapping[str, Any]) -> dict[str, float]:
    return {key: float(value) for key, value in episode.items() if isinstance(value, int | float | np.number)}


def _replay(buffer: Any, size: int) -> dict[str, NDArray[Any]]:
    """Return views of the first `size` rows of a replay buffer's arrays."""
    found = {}
    for name in _REPLAY:
        # Observations of a dict space lie in a dict of arrays.
        for key, array in as_arrays(getattr(buffer, name)).items():
            found[f"{name}/{key}"] = array[:size]
    return found


def _load_replay(buffer: Any, arrays: Mapping[str, NDArray[Any]], state: Mapping[str, Any]) -> None:
    size = len(arrays["rewards/"])
    for name, view in _replay(buffer, size).items():
        view[:] = arrays[name]
    buffer.pos, buffer.full = state["pos"], state["full"]


def _statistics(normalize: Any) -> dict[str, NDArray[Any]]:
    """Return mean, variance and count of `VecNormalize`, and the returns that it discounts."""
    found = {"returns": np.asarray(normalize.returns, dtype=np.float64)}
    for name, running in _running(normalize).items():
        for part in ("mean", "var", "count"):
            found[f"{name}/{part}"] = np.asarray(getattr(running, part), dtype=np.float64)
    return found


def _load_statistics(normalize: Any, arrays: Mapping[str, NDArray[Any]]) -> None:
    normalize.returns = arrays["returns"]
    for name, running in _running(normalize).items():
        running.mean, running.var = arrays[f"{name}/mean"], arrays[f"{name}/var"]
        running.count = float(arrays[f"{name}/count"])


def _running(normalize: Any) -> dict[str, Any]:
    observed = normalize.obs_rms if isinstance(normalize.obs_rms, dict) else {"": normalize.obs_rms}
    return {"reward": normalize.ret_rms} | {f"observation/{key}": value for key, value in observed.items()}


def _between(algorithm: Any) -> dict[str, NDArray[Any]]:
    """Return what SB3 remembers from one rollout to the next, observation first."""
    found = {f"_last_obs/{key}": array for key, array in as_arrays(algorithm._last_obs).items()}
    for name in _BETWEEN:
        if getattr(algorithm, name, None) is not None:
            found |= {f"{name}/{key}": array for key, array in as_arrays(getattr(algorithm, name)).items()}
    lstm = getattr(algorithm, "_last_lstm_states", None)
    for index, tensor in enumerate([] if lstm is None else [*lstm.pi, *lstm.vf]):
        found[f"_last_lstm_states/{index}"] = tensor.cpu().numpy()
    return found


def _load_between(algorithm: Any, arrays: Mapping[str, NDArray[Any]]) -> None:
    for name in ("_last_obs", *_BETWEEN):
        prefix = f"{name}/"
        own = {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}
        if own:
            setattr(algorithm, name, from_arrays(own))
    lstm = getattr(algorithm, "_last_lstm_states", None)
    if lstm is not None:
        loaded = [torch.from_numpy(arrays[f"_last_lstm_states/{i}"]).to(algorithm.device) for i in range(4)]
        algorithm._last_lstm_states = type(lstm)((loaded[0], loaded[1]), (loaded[2], loaded[3]))


def _load_episodes(learner: SB3Learner, loaded: checkpoint.Checkpoint) -> None:
    """Continue the episodes under way, or leave it to SB3 to begin new ones."""
    algorithm, environments = learner.algorithm, learner.environments
    vec = innermost(environments.vec)
    algorithm._last_obs = None
    if "starts" in loaded.state:
        if environments.replay(loaded.state["starts"], _arrays(loaded.tensors["tapes"])):
            _load_between(algorithm, _arrays(loaded.tensors["between"]))
        # The copies have been reset; SB3's seeds for the first time are not for the next.
        vec._reset_seeds()
        vec._reset_options()
    else:
        # Other start states than those that the run began with.
        vec.seed(learner.settings.seed + algorithm.num_timesteps)


def _tensors(arrays: Mapping[str, NDArray[Any]]) -> Tensors:
    return {name: torch.from_numpy(np.array(array, order="C")) for name, array in arrays.items()}


def _arrays(tensors: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    # Copies: loaded tensors lie in a mapped file, and these are written into.
    return {name: np.array(tensor.numpy()) for name, tensor in tensors.items()}
