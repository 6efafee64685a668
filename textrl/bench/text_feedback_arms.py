"""What `textrl bench text-feedback` runs in the worlds of made words: agents, readers, delays, rewards.

Every number below that could be tuned (learning rate, weights of the techniques, H's step size, reading
speed) was chosen on worlds 100 to 103, one run each; what is reported comes from worlds 0, 1, ...
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from textrl.bench import text_feedback_trial as trial

PARTS = ("techniques", "presses", "rewards", "delays", "readers", "credit")
SEEDS = 5
PRESSES = 300
#: How many presses the part of that name compares; `PRESSES` is among the techniques already.
AMOUNTS = (30, 100, 1000)
WORLD: Mapping[str, Any] = {"words": 60, "horizon": 10, "prompts": 4, "beta": 1.0}
QUICK_WORLD: Mapping[str, Any] = {**WORLD, "words": 24, "horizon": 6}
SETTINGS: Mapping[str, Any] = {
    "precision": "fp32",
    "episodes_per_iteration": 64,
    "minibatches": 4,
    "epochs": 4,
    "micro_batch_size": 64,
    "learning_rate": 5e-4,
    "value_learning_rate": 3e-3,
    "adam_beta2": 0.999,
    "warmup_iterations": 0,
    "value_clip": None,
    "ema_decay": 0.0,
}
ITERATIONS, QUICK_ITERATIONS = 16, 3
EPISODES, QUICK_EPISODES = 128, 32
#: Pairs of texts that a reward model is fitted on.
PAIRS = 200
#: Two words a second, texts of ten words: a person can read that, and press at most of them.
STEP_S = 0.5
SHOWN = 12
H: Mapping[str, Any] = {"use": "tamer_text", "rank": 32, "alpha": 0.1}
#: The weight is multiplied by this after each iteration where H was learnt before.
ANNEAL = 0.95
#: Delays of readers who are half a second and a second later than credit assumes by itself.
LATE: Mapping[str, Any] = {"kind": "uniform", "low": 0.7, "high": 2.5}
LATER: Mapping[str, Any] = {"kind": "uniform", "low": 1.2, "high": 3.0}
_AB, _CS, _QA, _RS = "action_biasing", "control_sharing", "q_augmentation", "reward_shaping"


@dataclass(frozen=True)
class Technique:
    """A technique as the study uses it.

    Attributes:
        name: In names of arms.
        label: In tables.
        advice: Section of a config, without ``source``.
    """

    name: str
    label: str
    advice: Mapping[str, Any]


#: Taught before; Q augmentation and reward shaping go the same way while a reader teaches, since the
#: eligibility module is defined for the other two alone.
SEQUENTIAL = (
    Technique("ab", "action biasing", {"technique": _AB, "beta": 4.0, "anneal": ANNEAL}),
    Technique("cs", "control sharing", {"technique": _CS, "beta": 0.3, "anneal": ANNEAL}),
    Technique("qa", "Q augmentation, advantage", {"technique": _QA, "beta": 8.0, "anneal": ANNEAL}),
    Technique(
        "qp", "Q augmentation, potential",
        {"technique": _QA, "form": "potential", "beta": 8.0, "anneal": ANNEAL},
    ),
    Technique("rs", "reward shaping", {"technique": _RS, "beta": 4.0, "anneal": ANNEAL}),
)  # fmt: skip
SIMULTANEOUS = (
    Technique("ab", "action biasing", {"technique": _AB, "beta": 4.0, "eligibility": {}}),
    Technique("cs", "control sharing", {"technique": _CS, "beta": 0.5, "eligibility": {}}),
    *SEQUENTIAL[2:],
)
#: H as the only guide: as a reward it must not fade.
_ONLY = Technique("rs", "reward shaping", {"technique": _RS, "beta": 4.0})
_BY_NAME = {
    **{("sim", one.name): one for one in SIMULTANEOUS},
    **{("seq", one.name): one for one in SEQUENTIAL},
}


@dataclass(frozen=True)
class Arm:
    """One agent.

    Attributes:
        part: Of the study.
        name: Unique in its part.
        label: In tables.
        spec: Of its trial, but for the seed and what all share.
        presses: That the reader may give; 0 without a reader.
        rival: Key of the arm without a reader that it is held against; None for such an arm itself.
        mode: ``sim``, ``seq``, or nothing.
        technique: Its name, or nothing.
    """

    part: str
    name: str
    label: str
    spec: Mapping[str, Any] = field(default_factory=dict)
    presses: int = 0
    rival: str | None = None
    mode: str = ""
    technique: str = ""

    @property
    def key(self) -> str:
        """Unique in the study."""
        return f"{self.part}/{self.name}"

    def job(self, seed: int, quick: bool) -> dict[str, Any]:
        """Return the spec of one seed."""
        iterations = QUICK_ITERATIONS if quick else ITERATIONS
        return {
            "seed": seed,
            "world": dict(QUICK_WORLD if quick else WORLD),
            "reward": "true",
            "pairs": PAIRS,
            "settings": dict(SETTINGS),
            "iterations": iterations,
            "before": self.mode == "seq",
            "every": 1,
            "episodes": QUICK_EPISODES if quick else EPISODES,
            "revision": trial.REVISION,
            **self.spec,
        }


#: What everything with the true reward is held against.
PLAIN = "techniques/plain"
PLAIN_MODEL = "rewards/model-plain"


def sections(
    advice: Mapping[str, Any],
    *,
    presses: int = PRESSES,
    reader: Mapping[str, Any] | None = None,
    h: Mapping[str, Any] | None = None,
    step_s: float = STEP_S,
) -> dict[str, Any]:
    """Return the sections of a config: H, how it is combined, and the reader who teaches it.

    Args:
        advice: Without ``source``.
        presses: After which the reader leaves.
        reader: Settings of ``simulated_text``; the preset ``stoc`` by default.
        h: Further settings of ``tamer_text``.
        step_s: Seconds from word to word.
    """
    session = {"step_s": step_s, "max_presses": presses, "shown_per_iteration": SHOWN}
    feedback = {"use": "simulated_text", **(reader or {"preset": "stoc"})}
    return {
        "sources": {"h": {**H, **(h or {})}},
        "advice": {**advice, "source": "h"},
        "human": {"source": "h", "feedback": feedback, "session": session},
    }


def taught(
    part: str, name: str, mode: str, technique: str, what: str = "", *, rival: str = PLAIN, **more: Any
) -> Arm:
    """Return an agent with a reader.

    Args:
        part: Of the study.
        name: Added to mode and technique.
        mode: ``sim``: the reader teaches during the training; ``seq``: before it.
        technique: Of those above.
        what: Added to the label.
        rival: See `Arm`.
        more: Of `sections`; ``reward`` of the trial.
    """
    reward = more.pop("reward", "true")
    one = _BY_NAME[mode, technique]
    advice = more.pop("advice", one.advice)
    when = "while training" if mode == "sim" else "before"
    label = f"{one.label}, taught {when}" + (f", {what}" if what else "")
    spec = {"reward": reward, **sections(advice, **more)}
    full = "-".join(filter(None, (mode, technique, name)))
    return Arm(part, full, label, spec, more.get("presses", PRESSES), rival, mode, technique)


def every_arm() -> list[Arm]:
    """Return the agents of all parts, in their order."""
    return [*techniques(), *amounts(), *rewards(), *delays(), *readers(), *credit()]


def techniques() -> Iterator[Arm]:
    """Yield PPO-ptx alone and with each technique, 300 presses."""
    yield Arm("techniques", "plain", "PPO-ptx alone")
    for one in SIMULTANEOUS:
        yield taught("techniques", "", "sim", one.name)
    constant = {"technique": _AB, "beta": 4.0}
    yield taught("techniques", "everywhere", "sim", "ab", "one weight everywhere", advice=constant)
    fading = {"technique": _AB, "beta": 4.0, "anneal": 0.85, "eligibility": {}}
    yield taught("techniques", "fading", "sim", "ab", "fading (x .85 an iteration)", advice=fading)
    window = {"technique": _AB, "beta": 3.0, "eligibility": {"centroids": 16}}
    yield taught(
        "techniques", "window", "sim", "ab", "loss 'window', 16 contexts", advice=window, h={"loss": "window"}
    )
    yield taught(
        "techniques", "window-everywhere", "sim", "ab", "loss 'window', one weight everywhere",
        advice=constant, h={"loss": "window"},
    )  # fmt: skip
    for one in SEQUENTIAL:
        yield taught("techniques", "", "seq", one.name)


def amounts() -> Iterator[Arm]:
    """Yield the techniques with fewer and with more presses."""
    for presses in AMOUNTS:
        for mode, name in _BY_NAME:
            yield taught("presses", str(presses), mode, name, f"{presses} presses", presses=presses)


def rewards() -> Iterator[Arm]:
    """Yield agents that are paid by a reward model, and agents that are paid nothing but the KL penalty."""
    yield Arm("rewards", "model-plain", "PPO-ptx alone, paid by a reward model", {"reward": "model"})
    paid: dict[str, Any] = {"reward": "model", "rival": PLAIN_MODEL}
    for mode, name in _BY_NAME:
        yield taught("rewards", "model", mode, name, "paid by a reward model", **paid)
    unpaid: dict[str, Any] = {"reward": "none"}
    yield taught("rewards", "none", "sim", "ab", "paid nothing", **unpaid)
    yield taught(
        "rewards", "none", "seq", "rs", "paid nothing, constant weight", advice=_ONLY.advice, **unpaid
    )
    untrained = taught("rewards", "untrained", "seq", "ab", "nothing is trained", **unpaid)
    yield Arm(
        untrained.part, untrained.name, untrained.label, {**untrained.spec, "iterations": 0},
        PRESSES, PLAIN, "seq", "ab",
    )  # fmt: skip


def delays() -> Iterator[Arm]:
    """Yield readers who are later than assumed, told and not told."""
    cases: tuple[tuple[str, str, Mapping[str, Any], Mapping[str, Any] | None], ...] = (
        ("late", "reader .5 s later than assumed", LATE, None),
        ("later", "reader 1 s later than assumed", LATER, None),
        ("later-told", "reader 1 s later, and credited so", LATER, LATER),
    )
    for mode, technique in _BY_NAME:
        # How much later makes a difference is asked of one technique.
        for name, what, takes, assumed in cases if technique == "ab" else cases[1:]:
            own = {} if assumed is None else {"delay": dict(assumed)}
            yield taught(
                "delays", name, mode, technique, what,
                reader={"preset": "stoc", "delay": dict(takes)}, h=own,
            )  # fmt: skip


def readers() -> Iterator[Arm]:
    """Yield other readers than ``stoc``."""
    for preset in ("reference", "mistake10", "late", "adversarial"):
        yield taught("readers", preset, "sim", "ab", f"reader '{preset}'", reader={"preset": preset})
    yield taught(
        "readers", "adversarial", "sim", "cs", "reader 'adversarial'", reader={"preset": "adversarial"}
    )


def credit() -> Iterator[Arm]:
    """Yield what H learns by itself: two losses at three reading speeds; nothing is trained."""
    for loss in ("importance", "window"):
        for step_s in (0.25, 0.5, 1.0):
            arm = taught(
                "credit", f"{loss}-{step_s:g}", "seq", "ab", reward="none", h={"loss": loss}, step_s=step_s
            )
            label = f"{loss}, a word every {step_s:g} s"
            yield Arm(arm.part, arm.name, label, {**arm.spec, "iterations": 0}, PRESSES, PLAIN, "seq", "ab")
