"""What `textrl bench tamer` runs: the agents of the papers, and the figures measured elsewhere.

Sequential TAMER+RL (Knox and Stone, AAMAS 2010): H is learnt first, then combined. Simultaneous TAMER+RL
(AAMAS 2012): a trainer teaches while SARSA(lambda) learns from reward. "Theirs" are the figures that
references/tamer.md of the project lists, measured with an independent NumPy implementation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from textrl.bench import papers, trial

PARTS = ("h-models", "sequential", "simultaneous", "cart-pole")
MOUNTAIN_CAR = "MountainCar-v0"
PAPERS_CAR, PAPERS_POLE = "TextRL/MountainCarRLLibrary-v0", "TextRL/CartPoleRLLibrary-v0"
SEEDS = 20
#: Episodes of a run, and of a run with `--quick`.
EPISODES = {"h-models": 20, "sequential": 150, "simultaneous": 100, "cart-pole": 150}
QUICK_EPISODES = {"h-models": 3, "sequential": 8, "simultaneous": 8, "cart-pole": 8}
#: Episodes in which H alone is judged.
GREEDY, QUICK_GREEDY = 100, 5
#: Points along each side of the maps.
MAP = 60
#: Arms whose Q or H is drawn.
_MAPPED = ("good", "mediocre", "h_alone", "alone", "action_biasing-100", "action_biasing-early")
#: File's SHA-256 -> name of the two H models that people trained in the experiments of AAMAS 2010.
PEOPLE = {
    "c9081ff74c427ef54c52b4a28a9bf1e80acd332625bc9d1454514fb40ca96c24": "H1",
    "1367b345c6fbfa7280d89434f1ae3ad7ecf96cdeb7d89d13c3140e013c998a06": "H2",
}


@dataclass(frozen=True)
class Theirs:
    """A figure measured elsewhere.

    Attributes:
        mean: Mean return of all episodes.
        last: Mean return of the last 50, where it is known.
        note: Under what conditions, where they are not quite ours.
    """

    mean: float
    last: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Arm:
    """One agent.

    Attributes:
        part: Of the study.
        name: Unique in its part (and for its H model).
        label: In tables.
        learner: Registered name.
        env: Gymnasium id.
        episodes: Length of a run.
        sections: Of the config: settings, sources, advice, human.
        model: Name of the H model that it uses; None for none.
        files: Dotted keys where the H model's path stands.
        theirs: Figures measured elsewhere, by the name of the H model, or under "".
        evaluation: Episodes that the final policy is judged by.
    """

    part: str
    name: str
    label: str
    learner: str
    env: str
    episodes: int
    sections: Mapping[str, Any]
    model: str | None = None
    files: tuple[str, ...] = ()
    theirs: Mapping[str, Theirs] = field(default_factory=dict)
    evaluation: int = 0

    @property
    def key(self) -> str:
        """Unique in the study."""
        return f"{self.part}/{self.name}" + (f"/{self.model}" if self.model else "")

    def spec(self, seed: int, *, digest: str | None = None) -> dict[str, Any]:
        """Return the trial of one seed; the first one also draws maps where the state has two dimensions."""
        return {
            "learner": self.learner,
            "env": {"id": self.env},
            "episodes": self.episodes,
            **self.sections,
            "seed": seed,
            "revision": trial.REVISION,
            "evaluation": self.evaluation,
            "maps": MAP if seed == 0 and self.name in _MAPPED and self.part != "cart-pole" else 0,
            "files": dict.fromkeys(self.files, digest),
            "keep_weights": self.part == "h-models",
        }


#: The trainers of the two default H models. One knows the solution and rates everything that matters; one
#: knows a rule of thumb and rates six steps in ten.
TRAINERS: Mapping[str, dict[str, Any]] = {
    "good": {"use": "simulated", "preset": "oracle", "truth": "solved", "dead_zone": 0.1},
    "mediocre": papers.CAR_TRAINER,
}


def h_models(quick: bool) -> Iterator[Arm]:
    """Yield the TAMER agents whose H the sequential part uses."""
    episodes = (QUICK_EPISODES if quick else EPISODES)["h-models"]
    for name, trainer in TRAINERS.items():
        sections = {"sources": {"h": papers.CAR_H}, "human": papers.taught(trainer, (0, episodes))}
        evaluation = QUICK_GREEDY if quick else GREEDY
        yield Arm(
            "h-models", name, f"TAMER, {name} trainer", "tamer", MOUNTAIN_CAR, episodes, sections,
            evaluation=evaluation,
        )  # fmt: skip


#: Technique -> what it is called and its betas, each with figures of the two human-trained models, if any are
#: known. Sharing is a probability; the others weigh H against returns of about -100.
_SEQUENTIAL: Mapping[str, tuple[str, Mapping[float, tuple[Theirs, Theirs] | None]]] = {
    "action_biasing": (
        "action biasing",
        {1.0: None, 10.0: None, 100.0: (Theirs(-107.5), Theirs(-106.4))},
    ),
    "control_sharing": (
        "control sharing",
        {0.1: None, 0.3: None, 1.0: (Theirs(-112.3), Theirs(-116.6))},
    ),
    "q_augmentation": (
        "Q augmentation",
        {1.0: None, 10.0: (Theirs(-129.2), Theirs(-122.1)), 100.0: None},
    ),
    "reward_shaping": (
        "reward shaping",
        {
            1.0: (Theirs(-125.5), Theirs(-125.2)),
            10.0: (Theirs(-144, note="about"), Theirs(-153, note="about")),
            100.0: (Theirs(-165.9, -199), Theirs(-173.5, -194)),
        },
    ),
}
#: beta is multiplied by this after every episode.
ANNEAL = 0.98


def sequential(models: tuple[str, ...], quick: bool) -> Iterator[Arm]:
    """Yield SARSA alone, and H alone and each technique with each H model."""
    episodes = (QUICK_EPISODES if quick else EPISODES)["sequential"]
    base = {"settings": papers.MOUNTAIN_CAR_PESSIMISTIC}
    yield Arm(
        "sequential", "alone", "SARSA alone", "sarsa", MOUNTAIN_CAR, episodes, base,
        theirs={"": Theirs(-140.3)},
    )  # fmt: skip
    for model in models:
        yield Arm(
            "sequential", "h_alone", "H alone, greedy", "tamer", MOUNTAIN_CAR,
            QUICK_GREEDY if quick else GREEDY, {"settings": {}}, model, ("settings.weights",),
            {"H1": Theirs(-106.7), "H2": Theirs(-106.2)},
        )  # fmt: skip
        for technique, (label, betas) in _SEQUENTIAL.items():
            for beta, theirs in betas.items():
                advice = {"technique": technique, "source": "h", "beta": beta, "anneal": ANNEAL}
                yield Arm(
                    "sequential", f"{technique}-{beta:g}", f"{label}, beta {beta:g}", "sarsa", MOUNTAIN_CAR,
                    episodes, {**base, "sources": {"h": {"use": "tamer"}}, "advice": advice}, model,
                    ("sources.h.weights",), dict(zip(PEOPLE.values(), theirs or (), strict=False)),
                )  # fmt: skip


_LATE: dict[str, Any] = {**papers.CAR_TRAINER, "delay": {"low": 0.6, "high": 1.2}}
_LATER: dict[str, Any] = {**papers.CAR_TRAINER, "delay": {"low": 0.8, "high": 1.4}}
_NOISY: dict[str, Any] = {**papers.CAR_TRAINER, "p_press": 0.3, "p_error": 0.2}
_ADVERSARIAL: dict[str, Any] = {"use": "simulated", "preset": "adversarial"}
_MATCHED: dict[str, Any] = {**papers.CAR_H, "delay": {"kind": "uniform", "low": 0.6, "high": 1.2}}
_MATCHED_LATER: dict[str, Any] = {**papers.CAR_H, "delay": {"kind": "uniform", "low": 0.8, "high": 1.4}}
_DELAYED = Theirs(-132.7, note=".4 to .6 s later")
_EARLY, _AFTER, _WITH_QUICK_EARLY, _WITH_QUICK_AFTER = (0, 16), (20, 32), (0, 3), (4, 7)
_AB, _CS = "action_biasing", "control_sharing"
#: c_s of the eligibility module.
_SCALE = {_AB: 100.0, _CS: 2.0}
_SHORT = {_AB: "action biasing", _CS: "control sharing"}


def simultaneous(quick: bool) -> Iterator[Arm]:
    """Yield SARSA alone and both techniques with several schedules and trainers, on the papers' car."""
    episodes = (QUICK_EPISODES if quick else EPISODES)["simultaneous"]
    early, after = (_WITH_QUICK_EARLY, _WITH_QUICK_AFTER) if quick else (_EARLY, _AFTER)
    when, then = (f"episodes {first + 1}-{last}" for first, last in (early, after))
    base = {"settings": papers.MOUNTAIN_CAR_PESSIMISTIC}

    def arm(
        technique: str,
        name: str,
        what: str,
        trainer: dict[str, Any],
        stretch: tuple[int, int],
        theirs: Theirs | None = None,
        h: dict[str, Any] = papers.CAR_H,
    ) -> Arm:
        advice = {
            "technique": technique, "source": "h", "beta": _SCALE[technique], "eligibility": {},
        }  # fmt: skip
        sections = {
            **base, "sources": {"h": h}, "advice": advice, "human": papers.taught(trainer, stretch),
        }  # fmt: skip
        return Arm(
            "simultaneous", f"{technique}-{name}", f"{_SHORT[technique]}, {what}", "sarsa", PAPERS_CAR,
            episodes, sections, theirs={} if theirs is None else {"": theirs},
        )  # fmt: skip

    yield Arm(
        "simultaneous", "alone", "SARSA alone", "sarsa", PAPERS_CAR, episodes, base,
        theirs={"": Theirs(-144.0)},
    )  # fmt: skip
    usual = papers.CAR_TRAINER
    yield arm(_AB, "early", f"taught in {when}", usual, early, Theirs(-111.2))
    yield arm(_CS, "early", f"taught in {when}", usual, early, Theirs(-113.0))
    yield arm(_AB, "after", f"taught in {then}", usual, after, Theirs(-141.2))
    yield arm(_CS, "after", f"taught in {then}", usual, after)
    noisy = "30 % presses, 20 % of them wrong"
    yield arm(_AB, "noisy", noisy, _NOISY, early, Theirs(-125.8))
    yield arm(_CS, "noisy", noisy, _NOISY, early, Theirs(-150.9))
    for technique in (_AB, _CS):
        for name, by, trainer, h in (
            ("late", ".4", _LATE, _MATCHED),
            ("later", ".6", _LATER, _MATCHED_LATER),
        ):
            theirs = _DELAYED if technique == _AB else None
            yield arm(technique, name, f"presses {by} s later than assumed", trainer, early, theirs)
            yield arm(technique, f"{name}_matched", f"presses {by} s later, credited so", trainer, early, h=h)
    yield arm(_AB, "adversarial", "always the wrong key", _ADVERSARIAL, early)
    yield arm(_CS, "adversarial", "always the wrong key", _ADVERSARIAL, early)


def cart_pole(quick: bool) -> Iterator[Arm]:
    """Yield SARSA alone and both techniques with both schedules, on the papers' pole."""
    episodes = (QUICK_EPISODES if quick else EPISODES)["cart-pole"]
    stretches = {"early": (0, 3), "after": (4, 7)} if quick else {"early": (0, 12), "after": (25, 33)}
    base = {"settings": papers.CART_POLE}
    yield Arm("cart-pole", "alone", "SARSA alone", "sarsa", PAPERS_POLE, episodes, base)
    for technique, scale in ((_AB, 200.0), (_CS, 1.0)):
        for name, stretch in stretches.items():
            advice = {
                "technique": technique, "source": "h", "beta": scale, "eligibility": papers.POLE_DECAY,
            }  # fmt: skip
            human = papers.taught(papers.POLE_TRAINER, stretch)
            sections = {**base, "sources": {"h": papers.POLE_H}, "advice": advice, "human": human}
            label = f"{_SHORT[technique]}, taught in episodes {stretch[0] + 1}-{stretch[1]}"
            yield Arm(
                "cart-pole", f"{technique}-{name}", label, "sarsa", PAPERS_POLE, episodes, sections
            )  # fmt: skip
