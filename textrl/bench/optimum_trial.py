"""One world that can be enumerated, trained with a real learner and measured exactly on the way.

The worlds are those of `textrl.bench.optimum_world`. The learner samples, scores and updates as in any other
run; the optimum comes from `textrl.evaluation.optimum`. A job's spec:

    seed         draws the world, and keys the learner
    rewards      "episode", "token" or "both", see `optimum_world.make_rewards`
    beta         weight of the KL penalty
    vocabulary   V
    horizon      tokens at which a response is cut
    iterations   of the learner
    measured     points of the curve
    settings     of the learner
    learner      registered name; ppo_ptx where it is left out
    sampled      what is estimated of learners on groups, so that older results are not taken for these
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import gymnasium
import torch

from textrl.bench.jobs import Tell
from textrl.bench.optimum_groups import EVALUATED, SAMPLED
from textrl.bench.optimum_world import generator, make_task, reference
from textrl.bench.trial import machine
from textrl.evaluation.loss_kl import k3_loss_optimum
from textrl.evaluation.optimum import Optimum, Standing, kl_moments, total_variation
from textrl.learners.groups.learner import GroupLearner
from textrl.learners.ppo_ptx import PPOPTX
from textrl.learners.ppo_ptx.networks import Networks
from textrl.learners.ppo_ptx.settings import PPOPTXSettings
from textrl.models.loading import scorer_from_causal_lm
from textrl.registry import get_registry
from textrl.rewards import RewardSum, Source
from textrl.settings import build, to_plain
from textrl.specs import RewardSpec

TARGET = "textrl.bench.optimum_trial:run_world"
#: The learning rates fall, as the square of what is left of the run, to this share of their beginning. A
#: constant rate would leave the policy in a random walk around the optimum as wide as the rate.
_LAST_RATE = 0.01
#: What is trained here.
Trained = PPOPTX | GroupLearner


def make_learner(
    kind: str, beta: float, vocabulary: int, horizon: int, seed: int, settings: Any, name: str = "ppo_ptx"
) -> tuple[Any, Optimum]:
    """Return a learner at the reference, in the token environment, and the optimum of its world.

    Args:
        kind: See `textrl.bench.optimum_world.make_rewards`.
        beta: Weight of the KL penalty, which is paid in the reward unless the settings put it into the loss.
        vocabulary: V.
        horizon: Tokens at which a response is cut.
        seed: Of the world.
        settings: Of the learner.
        name: Registered name of the learner, a `Trained`.
    """
    registry = get_registry()
    registry.register_envs()
    policy = reference(vocabulary, seed)
    task = make_task(kind, vocabulary, horizon, seed, policy)
    optimum = Optimum.of(task, policy, beta, temperature=settings.temperature)
    record = registry.find("reward", "kl")
    assert isinstance(record, RewardSpec)  # the registry keeps records by kind
    settings_class = record.load_settings()
    assert settings_class is not None
    penalty = Source(name="kl", spec=record, reward=record.load()(settings_class()), weight=beta)
    engine = settings if isinstance(settings, PPOPTXSettings) else settings.engine()
    networks = Networks(policy, scorer_from_causal_lm(policy, layers=None), None, engine)
    env = gymnasium.make("TextRL/Tokens-v0", task=task)
    paid = RewardSum([] if getattr(settings, "kl", "reward") == "loss" else [penalty])
    return registry.find("learner", name).load()(env, settings, rewards=paid, networks=networks), optimum


def run_world(spec: Mapping[str, Any], local: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    """Train one world and say where its policy stood on the way.

    Args:
        spec: See the module.
        local: Nothing.
        tell: Told how far it is.

    Returns:
        ``start``, ``last`` and ``averaged`` (the averaged weights at the end) as `Standing`, ``best`` the
        optimal objective, ``curve`` the standings on the way, each with ``episodes``, ``z`` the logged KLs'
        distances from the exact ones in standard errors, and what it took; of learners on groups also what
        `of_groups` gives.
    """
    torch.set_num_threads(1)
    own = {**spec["settings"], "policy": "made by the benchmark", "seed": spec["seed"]}
    name = spec.get("learner", "ppo_ptx")
    settings_class: Any = get_registry().find("learner", name).load_settings()
    settings = build(settings_class, own, where=lambda key: "the benchmark's settings")
    started_s = time.process_time()
    learner, optimum = make_learner(
        spec["rewards"], spec["beta"], spec["vocabulary"], spec["horizon"], spec["seed"], settings, name
    )
    watch = Watch(learner, optimum, every=max(1, spec["iterations"] // spec["measured"]))

    def after(current: Trained) -> None:
        watch(current)
        share = current.iteration / spec["iterations"]
        slow_down(current, max((1 - share) ** 2, _LAST_RATE))
        tell(share)

    start = watch.standing()
    learner.learn(iterations=spec["iterations"], callback=after)
    with learner.updater.averaged():
        averaged = watch.standing()
        further = of_groups(learner, optimum) if isinstance(learner, GroupLearner) else {}
    return further | {
        "responses": len(optimum.ids),
        "best": optimum.best_objective,
        "start": asdict(start),
        "last": asdict(watch.standing()),
        "averaged": asdict(averaged),
        "curve": watch.curve,
        "z": watch.z,
        "episodes": learner.iteration * settings.episodes_per_iteration,
        "tokens": learner.num_timesteps,
        "cpu_s": time.process_time() - started_s,
        "settings": to_plain(settings),
        "machine": machine(),
    }


def slow_down(learner: Any, share: float) -> None:
    """Let the next iterations learn at a share of the rates that the learner's settings name."""
    peak = learner.settings
    rates = [name for name in ("learning_rate", "value_learning_rate") if hasattr(peak, name)]
    learner.updater.settings = replace(peak, **{name: getattr(peak, name) * share for name in rates})


def of_groups(learner: GroupLearner, optimum: Optimum) -> dict[str, Any]:
    """Return what is measured of a learner on groups beside its standing.

    Returns:
        ``sampled``: reward, KL and objective as `EVALUATED` responses of the policy give them, each with its
        standard error and what pi* has exactly (``best``); and where k3 is in the loss ``own``: total
        variation from the resting point of that loss (`textrl.evaluation.loss_kl`), ``apart``: of that from
        pi*.
    """
    log_policy = optimum.logprobs(learner.networks.policy)
    count, size = EVALUATED // len(log_policy), learner.settings.group_size
    drawn = torch.multinomial(
        log_policy.exp(), count, replacement=True, generator=generator(learner.settings.seed, 4)
    )
    best = asdict(optimum.standing_of(optimum.log_best))
    kl = log_policy - optimum.log_ref
    sampled = {}
    for name, values in zip(SAMPLED, (optimum.rewards, kl, optimum.rewards - optimum.beta * kl), strict=True):
        each = values.gather(1, drawn)
        error = math.sqrt(float(each.var(1).mean()) / drawn.numel())
        sampled[name] = {"mean": float(each.mean()), "error": error, "best": best[name]}
    found: dict[str, Any] = {"sampled": sampled}
    if learner.beta:
        # Advantages are rewards minus the mean of the group, the own one included.
        own = k3_loss_optimum(optimum, learner.beta * size / (size - 1))
        found["own"] = float(total_variation(log_policy, own).mean())
        found["apart"] = float(total_variation(own, optimum.log_best).mean())
    return found


class Watch:
    """Measures a learner's policy exactly, and holds every KL that it logs against the exact one.

    Attributes:
        curve: Standings now and then, with ``episodes``, the number that the policy has learnt from.
        z: (mean of k1 - exact KL) / (exact standard error), one for each iteration after the first.
    """

    def __init__(self, learner: Trained, optimum: Optimum, *, every: int) -> None:
        """Begin before the first iteration.

        Args:
            learner: Not trained yet.
            optimum: Of its task, reference and beta.
            every: Iterations between two points of the curve.
        """
        self.learner, self.optimum, self.every = learner, optimum, every
        self.curve: list[dict[str, float]] = []
        self.z: list[float] = []
        self._expected: tuple[float, float] | None = None
        self._note()

    def standing(self) -> Standing:
        """Measure the policy as it is."""
        return self.optimum.standing(self.learner.networks.policy)

    def __call__(self, learner: Trained) -> None:
        """Called after each iteration; the KL logged by it is that of the policy before its update."""
        if self._expected is not None:
            mean, error = self._expected
            self.z.append((learner.metrics["train/kl_ref"] - mean) / error)
        self._note()

    def _note(self) -> None:
        log_policy = self.optimum.logprobs(self.learner.networks.policy)
        episodes = self.learner.settings.episodes_per_iteration
        if self.learner.iteration % self.every == 0:
            standing = asdict(self.optimum.standing_of(log_policy))
            self.curve.append({"episodes": self.learner.iteration * episodes, **standing})
        mean, variance = kl_moments(log_policy, self.optimum.log_ref)
        # Every iteration starts from each prompt equally often, so only the scatter within prompts counts.
        error = math.sqrt(float(variance.mean()) / episodes)
        # At the reference itself k1 is 0 for every response.
        self._expected = (float(mean.mean()), error) if error > 1e-6 else None
