"""One learner, one text task, one seed: train within the budget, measure, return plain data.

A job's spec:

    task         name in `textrl.bench.text_grid.TASKS`
    env          Gymnasium id
    difficulty   of the task
    sizes        of the task at that difficulty, so that results of other sizes are not taken for these
    row          of the table; decides how the policy is made where nothing is learnt
    learner      registered name, or null
    settings     of the learner
    masks        whether the task's rules close tokens while it learns and is measured
    kl           weight of the KL to the starting policy where no prior is part of the task, or 0
    budget       tokens that may be sampled
    length       tokens of a good response, roughly; plans the fall of learning rates
    points       of the curve
    episodes     of the estimate of what a policy earns as it samples
    seed         of the learner, of its first weights, and of a simulated reader
    sources, advice, human   sections of a config, where a reader stands beside the learner
    revision     `REVISION` of the code that made the result
    read         `READ` of that code, where a reader stands beside the learner
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch

from textrl.bench.jobs import Tell
from textrl.bench.text_building import BEST_OF, acting_of, build_learner, nothing_learnt, used_settings
from textrl.bench.text_play import Acting, Greedy, OfChoice, OfModel, Uniform
from textrl.bench.text_scores import Judge, clean_env, judge, plain, starting_model
from textrl.bench.text_unknown import run_unknown
from textrl.bench.trial import machine
from textrl.learners.groups.learner import GroupLearner
from textrl.learners.ppo_ptx import PPOPTX
from textrl.registry import get_registry

TARGET = "textrl.bench.text_trial:run_text"
#: Counts the changes after which a job of the same settings has another result.
REVISION = 1
#: Counts those that change only what a reader's presses teach.
READ = 1
#: Score at whose first crossing the tokens are noted.
REACH = 0.95


def run_text(spec: Mapping[str, Any], local: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    """Train and measure.

    Args:
        spec: See the module.
        local: Nothing.
        tell: Told how far it is.

    Returns:
        ``score`` and ``value`` (`textrl.bench.text_scores.Value`) with ``reward`` and ``kl``, ``sampled``
        (the score of the policy as it samples, where that is another), ``curve`` [[tokens, score], ...],
        ``reached``, ``tokens``, times, and what the task's scale is.
    """
    torch.set_num_threads(1)
    registry = get_registry()
    registry.register_envs()
    clean = clean_env(spec["env"], spec["difficulty"])
    if clean.facts().optimum is None:
        return run_unknown(spec, clean, tell) | {"machine": machine()}
    judged = judge(spec["env"], spec["difficulty"])
    found = _untrained(spec, judged) if spec["learner"] is None else _trained(spec, judged, tell)
    facts = judged.facts
    scale = {"random": facts.random, "optimum": facts.optimum, "how": facts.how, "beta": facts.beta}
    return found | {"scale": scale, "machine": machine()}


def _untrained(spec: Mapping[str, Any], judged: Judge) -> dict[str, Any]:
    """Measure a row that learns nothing."""
    started_s, row, seed, episodes = time.perf_counter(), spec["row"], spec["seed"], spec["episodes"]
    model = OfModel(starting_model(judged.env, seed))
    if row == "random":
        # Where a prior is part of the task, what it says is the zero of the scale.
        known = judged.optimum is not None
        acting: Acting = model if known else Uniform(judged.task.vocab_size)
        value = judged.value(acting) if known else judged.sampled(acting, episodes, seed)
    elif row == "greedy":
        value = judged.value(Greedy(model))
    else:
        value = judged.best_of(model, BEST_OF, max(1, episodes // BEST_OF), seed)
    return nothing_learnt() | plain(value) | {"wall_s": time.perf_counter() - started_s}


def _trained(spec: Mapping[str, Any], judged: Judge, tell: Tell) -> dict[str, Any]:
    """Train a learner within the budget, and measure it on the way and at the end."""
    learner, settings, task = build_learner(spec, judged.env)
    watch = Watch(spec, judged, learner, task, tell)
    watch.begin()
    learner.learn(_planned(spec, settings), callback=watch)
    wall_s, cpu_s = watch.end()
    acting = acting_of(learner, judged.task.vocab_size)
    value = judged.value(acting, task=task)
    sampled = None
    if judged.optimum is None and not isinstance(acting, OfChoice):
        sampled = judged.sampled(acting, spec["episodes"], spec["seed"], task=task).score
    curve = [*watch.curve, [int(learner.num_timesteps), value.score]]
    return plain(value) | {
        "sampled": sampled,
        "curve": curve,
        "reached": next((tokens for tokens, score in curve if score >= REACH), None),
        "tokens": int(learner.num_timesteps),
        "tokens_per_s": learner.num_timesteps / cpu_s if cpu_s > 0 else None,
        "cpu_s": cpu_s,
        "wall_s": wall_s,
        "presses": learner.beside.human.presses if "human" in spec else None,
        "without": _without(spec, judged, learner),
        "settings": used_settings(learner),
    }


def _without(spec: Mapping[str, Any], judged: Judge, learner: Any) -> float | None:
    """Return the score of a policy that learnt with a reader, without the reader's advice."""
    return judged.value(OfModel(learner.networks.policy)).score if "advice" in spec else None


class Watch:
    """Measures a learner now and then, stops it before it samples more than the budget, and keeps the time.

    What measuring takes is not counted. Called after every iteration, episode or step of the copies.

    Attributes:
        curve: [tokens, score] on the way.
    """

    def __init__(self, spec: Mapping[str, Any], judged: Judge, learner: Any, task: Any, tell: Tell) -> None:
        self.spec, self.judged, self.learner, self.task, self.tell = spec, judged, learner, task, tell
        self.curve: list[list[float]] = []
        self._every = spec["budget"] / spec["points"]
        self._longest = _round_of(learner)
        self._measuring_s = self._measuring_cpu_s = 0.0

    def begin(self) -> None:
        """Start the clocks."""
        self._wall_s, self._cpu_s = time.perf_counter(), time.process_time()

    def end(self) -> tuple[float, float]:
        """Return seconds of wall time and of CPU that the training took."""
        wall_s, cpu_s = time.perf_counter() - self._wall_s, time.process_time() - self._cpu_s
        return wall_s - self._measuring_s, cpu_s - self._measuring_cpu_s

    def __call__(self, learner: Any) -> bool:
        """Return whether the training goes on."""
        tokens, budget = learner.num_timesteps, self.spec["budget"]
        if tokens >= self._every * (len(self.curve) + 1) and tokens < budget:
            wall_s, cpu_s = time.perf_counter(), time.process_time()
            acting = acting_of(learner, self.judged.task.vocab_size)
            value = self.judged.value(acting, task=self.task, few=True)
            self.curve.append([int(tokens), value.score])
            self._measuring_s += time.perf_counter() - wall_s
            self._measuring_cpu_s += time.process_time() - cpu_s
        self.tell(0.95 * tokens / budget)
        return bool(tokens + self._longest <= budget)


def _round_of(learner: Any) -> int:
    """Return the tokens that a learner may sample before it is asked again whether to go on."""
    if isinstance(learner, PPOPTX | GroupLearner):
        return int(learner.settings.episodes_per_iteration * learner.task.max_new_tokens)
    return 0  # these end where they are told


def _planned(spec: Mapping[str, Any], settings: Any) -> int:
    """Return for how many tokens a learner is asked: as many whole updates as the budget holds."""
    chunk = (getattr(settings, "n_steps", None) or 1) * (getattr(settings, "n_envs", None) or 1)
    whole = spec["budget"] // chunk * chunk
    return int(whole or spec["budget"])
