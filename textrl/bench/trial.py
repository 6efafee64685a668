"""One learner, one environment, one seed: train, evaluate, and say what came out as plain data.

A trial's spec has the keys of a config that `textrl run` reads (learner, env, episodes or total_timesteps,
settings, sources, advice, human), and:

    seed               of the learner, and of a simulated trainer, who draws from other streams
    revision           `REVISION` of the code that made the result
    evaluation         episodes in which the final policy is evaluated
    reach              a return whose first crossing is noted, or null
    maps               points along each side of the maps of Q and H over two-dimensional states; 0 for none
    files              dotted key -> SHA-256 of the file whose path stands there
    keep_weights       whether a linear H is part of the result
"""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from textrl.bench.jobs import Tell
from textrl.bench.measures import LAST, steps_to_reach, thinned
from textrl.errors import UserError
from textrl.learners.episodic import EpisodicLearner
from textrl.pipelines.guided import Beside, build_beside
from textrl.registry import Registry, get_registry
from textrl.runs import environment
from textrl.settings import build, to_plain
from textrl.specs import LearnerSpec

Floats = NDArray[np.float64]

TARGET = "textrl.bench.trial:run_trial"
#: The evaluation's start states are the same for all learners and seeds, and no training's.
EVALUATION_SEED = 1_000_000
#: Counts the changes after which a trial of the same settings has another result; as a part of the spec it
#: keeps a benchmark that is resumed from mixing results of before and after.
REVISION = 2


def run_trial(spec: Mapping[str, Any], local: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    """Train and evaluate.

    Args:
        spec: See the module.
        local: Dotted key -> path of a file, for the keys of the spec's `files`.
        tell: Told how far it is.

    Raises:
        UserError: When the spec is wrong, or a file is not what it was.
    """
    spec = _with_files(spec, local)
    registry = get_registry()
    registry.register_envs()
    learner, beside = _build(spec, registry)
    total = spec.get("episodes") or spec["total_timesteps"]
    betas: list[float] = []
    episodic = isinstance(learner, EpisodicLearner)

    def after(current: Any) -> None:
        if episodic and beside.guidance is not None:
            betas.append(current.metrics["advice/beta"])
        tell(0.95 * (current.episodes if "episodes" in spec else current.num_timesteps) / total)

    wall_s, cpu_s = time.perf_counter(), time.process_time()
    if "episodes" in spec:
        learner.learn(episodes=spec["episodes"], callback=after)
    else:
        learner.learn(spec["total_timesteps"], callback=after)
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    ends, returns = episodes_of(learner)
    final = evaluate(learner, spec["env"], spec["evaluation"])
    reach = spec.get("reach")
    return {
        "final": float(np.mean(final)) if final else None,
        "final_sd": float(np.std(final)) if final else None,
        "mean": float(np.mean(returns)) if returns else None,
        "last": float(np.mean(returns[-LAST:])) if returns else None,
        "reached": None if reach is None else steps_to_reach(ends, returns, reach),
        "episodes": len(returns),
        "steps": int(learner.num_timesteps),
        "steps_per_s": learner.num_timesteps / cpu_s if cpu_s > 0 else None,
        "cpu_s": cpu_s,
        "wall_s": wall_s,
        "curve": thinned(ends, returns),
        "betas": betas,
        "presses": beside.human.signals if beside.human is not None else None,
        "weights": _weights(learner) if spec.get("keep_weights") else None,
        "maps": _maps(learner, beside, spec["maps"]) if spec.get("maps") else None,
        "settings": to_plain(learner.settings),
        "machine": machine(),
    }


def episodes_of(learner: Any) -> tuple[list[int], list[float]]:
    """Return (environment steps at the end, return) of a learner's episodes, in the order of their ends."""
    if isinstance(learner, EpisodicLearner):
        return np.cumsum(learner.episode_lengths, dtype=np.int64).tolist(), list(learner.episode_returns)
    tapes = learner.environments.tapes
    rows = []
    for tape in tapes:
        # The copies are stepped side by side, so each of their steps counts once for every copy.
        lengths = tape.get_wrapper_attr("get_episode_lengths")()
        ends = np.cumsum(lengths, dtype=np.int64) * len(tapes)
        rows += list(zip(ends.tolist(), tape.get_wrapper_attr("get_episode_rewards")(), strict=True))
    rows.sort(key=lambda row: row[0])
    return [end for end, _ in rows], [float(total) for _, total in rows]


def evaluate(learner: Any, env: Mapping[str, Any], episodes: int) -> list[float]:
    """Return the returns of the final policy, without exploration.

    The episodes run side by side, one decision for all of them, which is what makes networks fast.

    Args:
        learner: Trained.
        env: Section ``env:``.
        episodes: How many; episode i begins with seed `EVALUATION_SEED` + i.
    """
    copies = [_make(env) for _ in range(episodes)]
    seen = [copy.reset(seed=EVALUATION_SEED + i)[0] for i, copy in enumerate(copies)]
    totals = [0.0] * episodes
    normal = learner.get_vec_normalize_env()
    open_ones = list(range(episodes))
    while open_ones:
        batch = np.stack([seen[i] for i in open_ones])
        if normal is not None:
            batch = normal.normalize_obs(batch)
        actions, _ = learner.predict(batch, deterministic=True)
        still = []
        for i, action in zip(open_ones, actions, strict=True):
            seen[i], reward, terminated, truncated, _ = copies[i].step(int(action))
            totals[i] += float(reward)
            if not (terminated or truncated):
                still.append(i)
        open_ones = still
    for copy in copies:
        copy.close()
    return totals


@functools.cache
def machine() -> dict[str, Any]:
    """Return versions and hardware, once for a process; the date would make equal results differ."""
    found = environment()
    del found["date"]
    return found


def digest(path: str | Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        UserError: When it cannot be read.
    """
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"The file {path} cannot be read ({error.strerror}); check the path.") from error


def _with_files(spec: Mapping[str, Any], local: Mapping[str, Any]) -> dict[str, Any]:
    """Return the spec with the paths of its files in their places."""
    filled: dict[str, Any] = to_plain(dict(spec))
    for key, known in filled.get("files", {}).items():
        if digest(local[key]) != known:
            raise UserError(f"The file {local[key]} has changed since the benchmark began; start it again.")
        *sections, last = key.split(".")
        here = filled
        for section in sections:
            here = here[section]
        here[last] = str(local[key])
    return filled


def _build(spec: Mapping[str, Any], registry: Registry) -> tuple[Any, Beside]:
    """Return the learner of a trial, and what stands beside it."""

    def where(key: str) -> str:
        return "the benchmark's settings"

    record = registry.find("learner", spec["learner"])
    settings_class = record.load_settings()
    # The registry keeps records by kind, and every learner of the benchmark has settings.
    assert isinstance(record, LearnerSpec)
    assert settings_class is not None
    settings: Any = build(settings_class, {**spec.get("settings", {}), "seed": spec["seed"]}, where=where)
    env = _make(spec["env"])
    human = spec.get("human")
    if human is not None and human["feedback"]["use"] == "simulated":
        human = {**human, "feedback": {**human["feedback"], "seed": spec["seed"]}}
    beside = build_beside(
        record,
        env,
        sources=spec.get("sources", {}),
        advice=spec.get("advice"),
        human=human,
        registry=registry,
        where=where,
        seed=spec["seed"],
    )
    return record.load()(env, settings, **beside.arguments()), beside


def _make(env: Mapping[str, Any]) -> Any:
    arguments = dict(env)
    return gymnasium.make(arguments.pop("id"), **arguments)


def _weights(learner: Any) -> list[float]:
    """Return a linear H as `textrl.tamer.Tamer.load_weights` reads it."""
    weights: list[float] = learner.tamer.model.weights.reshape(-1).tolist()
    return weights


def _maps(learner: Any, beside: Beside, points: int) -> dict[str, Any]:
    """Return Q and H on a grid over a two-dimensional state space.

    Returns:
        ``x`` and ``y``, (first, last) of each dimension, and for ``q`` and ``h``, as far as there are
        any, (points, points, A) nested lists: second dimension of the state, first, action.
    """
    space = learner.env.observation_space
    x, y = (np.linspace(low, high, points) for low, high in zip(space.low, space.high, strict=True))
    states = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    found: dict[str, Any] = {"x": [float(x[0]), float(x[-1])], "y": [float(y[0]), float(y[-1])]}
    if hasattr(learner, "linear"):
        found["q"] = learner.features.batch(states) @ learner.linear.weights.T
    if hasattr(learner, "tamer"):
        found["h"] = learner.tamer.acting.predict_batch(states)
    elif beside.guidance is not None:
        found["h"] = np.stack([beside.guidance.rate(state) for state in states])
    for name in found.keys() & {"q", "h"}:
        found[name] = np.round(found[name], 4).reshape(points, points, -1).tolist()
    return found
