"""One learner in one world of made words, perhaps with advice and a reader: train it and say where it stood.

A job's spec:

    seed         draws the world and the reader, and keys the learner
    world        of `textrl.bench.text_feedback_world.WorldSettings`
    reward       "true" (the lexicon's), "model" (a reward model's, fitted on pairs) or "none": what is paid
                 beside the KL penalty
    pairs        that a reward model is fitted on
    settings     of the learner
    iterations   of the learner; with 0 it is judged untrained
    sources, advice, human    sections of a config, as `textrl run` reads them
    before       whether the reader teaches before the training, on texts of the prior, and then leaves
    every        iterations between two points of the curve
    episodes     texts that each point is measured on, the same noise for all
    revision     `REVISION` of the code that made the result
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from textrl.advice.text import TextAdvice
from textrl.bench.jobs import Tell
from textrl.bench.text_feedback_world import Floats, World, WorldSettings
from textrl.bench.trial import machine
from textrl.learners.ppo_ptx import PPOPTX
from textrl.learners.ppo_ptx.advised import companion
from textrl.learners.ppo_ptx.networks import Networks
from textrl.learners.ppo_ptx.settings import PPOPTXSettings
from textrl.models.loading import scorer_from_causal_lm
from textrl.pipelines.guided_text import build_text_beside
from textrl.registry import get_registry
from textrl.rewards import RewardSum, Source
from textrl.rollout import generate
from textrl.settings import build, to_plain
from textrl.specs import LearnerSpec, RewardSpec
from textrl.tamer.text.human import TextHuman

TARGET = "textrl.bench.text_feedback_trial:run_trial"
#: Counts the changes after which a trial of the same settings has another result.
REVISION = 2
#: Episode numbers of what is measured, whose noise no training shares.
_EVALUATED = 1_000_000
#: Texts shown at a time before the training, and at most.
_SHOWN, _MOST_SHOWN = 16, 5_000
#: Keys of the streams for pairs of texts, and for texts shown before the training.
_PAIRS, _TEXTS = 0x9A12, 0x7E47
#: Of the reward model: weight of the squared values against the pairs, and Newton's steps.
_RIDGE, _NEWTON = 1.0, 20


def run_trial(spec: Mapping[str, Any], local: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    """Teach, train and measure.

    Args:
        spec: See the module.
        local: Nothing.
        tell: Told how far it is.

    Returns:
        ``curve`` (see `Judge.point`), ``optimum``, ``h`` (see `h_quality`; None without a source), presses
        and texts shown in all, the correlation of the paid reward with the true one under the prior, and
        what it took.
    """
    torch.set_num_threads(1)
    started_s = time.process_time()
    world = World.make(build(WorldSettings, spec["world"], where=_where), spec["seed"])
    paid, agreement = paid_source(world, spec)
    learner, human = make_learner(world, paid, spec)
    judge = Judge(learner, world, spec["episodes"])
    human = learner.beside.human or human
    curve = [judge.point(0)]

    def after(current: PPOPTX) -> None:
        if current.iteration % spec["every"] == 0:
            curve.append(judge.point(0 if human is None else human.presses))
        tell(current.iteration / spec["iterations"])

    if human is not None:
        curve[0]["presses"] = human.presses
    if spec["iterations"]:
        learner.learn(iterations=spec["iterations"], callback=after)
    source = None if learner.beside.guidance is None else learner.beside.guidance.source
    return {
        "curve": curve,
        "optimum": to_plain(judge.optimum),
        "h": None if source is None else h_quality(source.head.snapshot(), world),
        "presses": None if human is None else human.presses,
        "texts": None if human is None else human.texts,
        "seconds": None if human is None else human.clock.now_s,
        "agreement": agreement,
        "tokens": learner.num_timesteps,
        "cpu_s": time.process_time() - started_s,
        "machine": machine(),
    }


def paid_source(world: World, spec: Mapping[str, Any]) -> tuple[Source | None, float | None]:
    """Return what the environment pays, and its correlation with the true score on texts of the prior."""
    if spec["reward"] == "none":
        return None, None
    if spec["reward"] == "true":
        return world.score_source(), 1.0
    values = fitted_values(world, spec["pairs"])
    counts = word_counts(world, 2_000, np.random.default_rng([world.seed, _PAIRS, 1]))
    true, fitted = counts @ world.values, counts @ values
    # A reward model has no unit of its own: it varies as much as the truth does.
    scale = float(true.std() / fitted.std())
    return world.score_source(values * scale), float(np.corrcoef(true, fitted)[0, 1])


def fitted_values(world: World, pairs: int) -> Floats:
    """Return the (V,) words' values of a linear reward model, by penalised logistic regression.

    A rater prefers the first of two texts of the prior with probability 1 / (1 + exp(r_2 - r_1)).

    Args:
        world: Whose prior and scores.
        pairs: How many are compared.
    """
    rng = np.random.default_rng([world.seed, _PAIRS, 0])
    apart = word_counts(world, pairs, rng) - word_counts(world, pairs, rng)
    prefers = rng.random(pairs) < 1 / (1 + np.exp(-apart @ world.values))
    values = np.zeros(len(world.words))
    for _ in range(_NEWTON):
        p = 1 / (1 + np.exp(-apart @ values))
        gradient = apart.T @ (prefers - p) - _RIDGE * values
        curvature = (apart * (p * (1 - p))[:, None]).T @ apart + _RIDGE * np.eye(len(values))
        values += np.linalg.solve(curvature, gradient)
    return values


def word_counts(world: World, texts: int, rng: np.random.Generator) -> Floats:
    """Return (texts, V) how often each word stands in texts of the prior."""
    ids = prior_texts(world, texts, rng)
    counts: Floats = (ids[:, 1:, None] == np.arange(len(world.words))).sum(1).astype(np.float64)
    return counts


def prior_texts(world: World, texts: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw (texts, 1 + T) tokens, prompts included, from the prior."""
    ids = [rng.integers(world.settings.prompts, size=texts)]
    for table in world.transitions():
        cumulated = table[ids[-1]].cumsum(1)
        drawn = rng.random((texts, 1)) * cumulated[:, -1:]
        ids.append((drawn > cumulated).sum(1))
    return np.stack(ids, axis=1)


def make_learner(
    world: World, paid: Source | None, spec: Mapping[str, Any]
) -> tuple[PPOPTX, TextHuman | None]:
    """Return the learner, at the prior, and the reader who taught before the training, if one did."""
    registry = get_registry()
    registry.register_envs()
    own = {**spec["settings"], "policy": "made by the benchmark", "seed": spec["seed"]}
    settings = build(PPOPTXSettings, own, where=_where)
    record, learner = registry.find("reward", "kl"), registry.find("learner", "ppo_ptx")
    assert isinstance(record, RewardSpec)  # the registry keeps records by kind
    assert isinstance(learner, LearnerSpec)
    settings_class = record.load_settings()
    assert settings_class is not None
    kl = Source(name="kl", spec=record, reward=record.load()(settings_class()), weight=world.settings.beta)
    human = spec.get("human")
    if human is not None:
        reader = {**human["feedback"], "seed": spec["seed"], "lexicon": world.lexicon}
        human = {**human, "feedback": reader}
    beside = build_text_beside(
        learner, RewardSum([kl]), sources=spec.get("sources", {}), advice=spec.get("advice"), human=human,
        registry=registry, where=_where, seed=spec["seed"],
    )  # fmt: skip
    before = beside.pop("human") if spec.get("before") else None
    if before is not None:
        teach(world, before)
    networks = Networks(
        world.prior, scorer_from_causal_lm(world.prior, layers=None), world.tokenizer, settings
    )
    env = gymnasium.make("TextRL/Tokens-v0", task=world.task([] if paid is None else [paid]))
    return PPOPTX(env, settings, rewards=RewardSum([kl]), networks=networks, **beside), before


@torch.no_grad()
def teach(world: World, human: TextHuman) -> None:
    """Show texts of the prior until the reader has given all presses (or nothing is left to say)."""
    source: Any = human.source
    source.bind_text(world.prior, world.tokenizer)
    rng = np.random.default_rng([world.seed, _TEXTS])
    inner: Any = world.prior.base_model
    while not human.finished and human.texts < _MOST_SHOWN:
        ids = torch.from_numpy(prior_texts(world, _SHOWN, rng))
        hidden = inner(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[:, :-1]
        for row, states in zip(ids.tolist(), hidden.numpy(), strict=True):
            if not human.finished:
                human.show(world.words[row[0]], {}, row[1:], states)


@dataclass(frozen=True, eq=False)
class _Standing:
    """Means over texts: score, KL from the prior, nats a text, and KL(acting || policy), nats a word."""

    score: float
    kl: float
    kl_policy: float


class Judge:
    """Measures what a learner writes by the truth, with and without advice.

    Expectations over the next word are taken exactly in every state of the sampled texts, which leaves only
    the scatter of the states.

    Attributes:
        optimum: Of the world.
    """

    def __init__(self, learner: PPOPTX, world: World, episodes: int) -> None:
        """Prepare.

        Args:
            learner: Measured as it is at each call.
            world: Its world.
            episodes: Texts for each measurement.
        """
        self.learner, self.world, self.optimum = learner, world, world.optimum()
        self._episodes = torch.arange(_EVALUATED, _EVALUATED + episodes)
        self._values = torch.from_numpy(world.values)

    def point(self, presses: int) -> dict[str, float]:
        """Return a point of the curve.

        Args:
            presses: Heard so far.

        Returns:
            ``steps`` and ``presses`` so far; ``score`` per text, ``kl`` from the prior, nats per text, and
            ``closed``, the share of the objective's gap; the same three with ``_without``, for the policy
            without advice; ``kl_policy``, KL(mu || pi), nats per word.
        """
        advice = self.learner.beside.advice()
        without = self._measure(None)
        acting = without if advice is None or not advice.acts else self._measure(advice)
        found = {"steps": float(self.learner.num_timesteps), "presses": float(presses)}
        for name, standing in (("", acting), ("_without", without)):
            objective = standing.score - self.world.settings.beta * standing.kl
            found |= {
                f"score{name}": standing.score,
                f"kl{name}": standing.kl,
                f"closed{name}": self.optimum.closed(objective),
            }
        return found | {"kl_policy": acting.kl_policy}

    @torch.no_grad()
    def _measure(self, advice: TextAdvice | None) -> _Standing:
        networks, task, settings = self.learner.networks, self.learner.task, self.learner.settings
        prompts, mask = task.collate([task.prompt_for(int(episode)) for episode in self._episodes])
        rows, steps = len(prompts), task.max_new_tokens
        with companion(networks, advice, rows=rows, prompt=prompts.shape[1], steps=steps) as adviser:
            written = generate(
                networks.policy, prompts, mask, max_new_tokens=steps, eos_ids=task.eos_ids,
                pad_id=task.pad_id, seed=settings.seed, episodes=self._episodes, adviser=adviser,
            )  # fmt: skip
        logits = self._logits(networks.policy, written.ids)
        log_ref = self._logits(networks.reference, written.ids).double().log_softmax(-1)
        log_pi = logits.double().log_softmax(-1)
        log_mu = log_pi
        if advice is not None:
            inner: Any = networks.reference.base_model
            states = inner(input_ids=written.ids, attention_mask=written.mask).last_hidden_state[:, :-1]
            flat = advice.acting(logits.flatten(0, 1), states.flatten(0, 1))
            log_mu = flat.view_as(logits).double().log_softmax(-1)
        mu = log_mu.exp()
        return _Standing(
            score=float((mu * self._values).sum((1, 2)).mean()),
            kl=float(_divergence(mu, log_mu, log_ref).sum(1).mean()),
            kl_policy=float(_divergence(mu, log_mu, log_pi).mean()),
        )

    @staticmethod
    def _logits(model: Any, ids: Tensor) -> Tensor:
        """Return the (B, T, V) logits before each word of the response."""
        logits: Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[:, :-1]
        return logits


def _divergence(p: Tensor, log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return KL(p || q) over the last dimension; 0 log 0 is 0."""
    return torch.where(p > 0, p * (log_p - log_q), 0.0).sum(-1)


@torch.no_grad()
def h_quality(head: Any, world: World) -> dict[str, float]:
    """Say how well H knows the lexicon, over the prior's states before the second word of a text.

    Returns:
        ``correlation`` of H's mean rating of each word with its value (0 where H is the same everywhere),
        and the mean rating of the ``good``, ``neutral`` and ``bad`` words.
    """
    words = torch.arange(len(world.words))
    ids = torch.stack([words % world.settings.prompts, words], dim=1)
    inner: Any = world.prior.base_model
    hidden = inner(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[:, -1]
    rated = head.rate(hidden).double().mean(0).numpy()
    kinds = {"good": world.values > 0, "neutral": world.values == 0, "bad": world.values < 0}
    correlation = 0.0 if rated.std() < 1e-12 else float(np.corrcoef(rated, world.values)[0, 1])
    return {"correlation": correlation, **{name: float(rated[of].mean()) for name, of in kinds.items()}}


def _where(key: str) -> str:
    return "the benchmark's settings"
