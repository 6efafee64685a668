"""The same question on a language model: SmolLM2 goes on with a sentence, and a reader likes friendly words.

The environment is ``TextRL/Sentiment-v0``, whose reward (VADER's score of the whole continuation, paid with
its last token) is the truth; the reader ``stoc`` presses at words that change that score. Policy, reference
and value network share the lower blocks, which are frozen, and H reads the reference.

A job's spec has the sections of a config as `textrl run` reads them (env, settings, sources, rewards, advice,
human), and:

    seed         keys the learner and the reader, and orders the prompts
    iterations   of the learner
    episodes     continuations that the beginning and the end are judged on, the same noise for all
    revision     `REVISION` of the code that made the result
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import gymnasium
import torch

from textrl.advice.text import TextAdvice
from textrl.bench.jobs import Tell
from textrl.bench.trial import machine
from textrl.learners.ppo_ptx import PPOPTX
from textrl.learners.ppo_ptx.generation import sample
from textrl.learners.ppo_ptx.settings import PPOPTXSettings
from textrl.pipelines.guided_text import build_text_beside
from textrl.registry import get_registry
from textrl.rewards import build_rewards
from textrl.settings import build
from textrl.specs import LearnerSpec

TARGET = "textrl.bench.text_feedback_language:run_language"
#: Counts the changes after which a trial of the same settings has another result.
REVISION = 2
#: Name under which the environment pays.
TRUTH = "task"
#: Episode numbers of what is judged, whose noise no training shares.
_JUDGED = 1_000_000


def run_language(spec: Mapping[str, Any], local: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    """Train and judge.

    Args:
        spec: See the module.
        local: Nothing.
        tell: Told how far it is.

    Returns:
        ``curve``: for each iteration ``steps`` before its update and ``score``, the mean of what was written
        in it, with advice where some acts, ``kl`` from the prior, nats a continuation, ``kl_policy``,
        KL(mu || pi), nats a token, and ``presses`` so far. ``start``, ``end`` and ``alone`` (the end without
        advice): scores of the judged continuations. Presses, and what it took.
    """
    torch.set_num_threads(1)
    started_s = time.process_time()
    learner = make_learner(spec)
    curve: list[dict[str, float]] = []
    start = judge(learner, None, spec["episodes"])

    def after(current: PPOPTX) -> None:
        found, human = current.metrics, current.beside.human
        curve.append(
            {
                "steps": float(found["time/total_timesteps"]),
                "score": float(found[f"reward/{TRUTH}"]),
                "kl": float(found["train/kl_ref"]),
                "kl_policy": float(found.get("advice/kl_policy", 0.0)),
                "beta": float(found.get("advice/beta", 0.0)),
                "presses": 0.0 if human is None else float(human.presses),
            }
        )
        tell(current.iteration / spec["iterations"])

    learner.learn(iterations=spec["iterations"], callback=after)
    advice, human = learner.beside.advice(), learner.beside.human
    alone = judge(learner, None, spec["episodes"])
    acts = advice is not None and advice.acts
    return {
        "curve": curve,
        "start": start,
        "end": judge(learner, advice, spec["episodes"]) if acts else alone,
        "alone": alone,
        "presses": None if human is None else human.presses,
        "texts": None if human is None else human.texts,
        "seconds": None if human is None else human.clock.now_s,
        "favourites": None if human is None else favourites(learner),
        "cpu_s": time.process_time() - started_s,
        "machine": machine(),
    }


def make_learner(spec: Mapping[str, Any]) -> PPOPTX:
    """Return the learner with everything that stands beside it."""
    registry = get_registry()
    registry.register_envs()
    settings = build(PPOPTXSettings, {**spec["settings"], "seed": spec["seed"]}, where=_where)
    paying = {name: spec["sources"][name] for name in spec["rewards"]}
    rewards = build_rewards(paying, spec["rewards"], registry, _where)
    human = spec.get("human")
    if human is not None:
        human = {**human, "feedback": {**human["feedback"], "seed": spec["seed"]}}
    record = registry.find("learner", "ppo_ptx")
    assert isinstance(record, LearnerSpec)  # the registry keeps records by kind
    beside = build_text_beside(
        record, rewards, sources=spec["sources"], advice=spec.get("advice"), human=human, registry=registry,
        where=_where, seed=spec["seed"],
    )  # fmt: skip
    arguments = dict(spec["env"])
    env = gymnasium.make(arguments.pop("id"), seed=spec["seed"], **arguments)
    return PPOPTX(env, settings, rewards=rewards.side("learner"), **beside)


def judge(learner: PPOPTX, advice: TextAdvice | None, episodes: int) -> float:
    """Return the mean true score of continuations, with advice or without."""
    numbers = torch.arange(_JUDGED, _JUDGED + episodes)
    task, settings = learner.task, learner.settings
    prompts = [task.prompt_for(int(number)) for number in numbers]
    written = sample(learner.networks, task, prompts, numbers, settings, None, advice)
    batch = task.batch(prompts, written.response_ids, written.response_mask)
    return float(task.score(batch).components[TRUTH].double().sum(1).mean())


def favourites(learner: PPOPTX, count: int = 12) -> dict[str, list[str]]:
    """Return the tokens whose own rating (the bias of H) is highest, and lowest."""
    assert learner.beside.human is not None  # who calls has looked
    source: Any = learner.beside.human.source
    order = source.head.b.argsort()
    names = source.tokenizer.batch_decode([[int(token)] for token in [*order[:count], *order[-count:]]])
    return {"worst": names[:count], "best": names[: count - 1 : -1]}


def _where(key: str) -> str:
    return "the benchmark's settings"
