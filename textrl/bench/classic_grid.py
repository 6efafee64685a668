"""The grid of `textrl bench classic-control`: learners, environments, budgets, and what others report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from textrl.bench import papers, trial
from textrl.bench.running import check_names
from textrl.learners.sb3.tuned import timesteps

MOUNTAIN_CAR, CART_POLE, ACROBOT = ENVS = ("MountainCar-v0", "CartPole-v1", "Acrobot-v1")
#: The return whose first crossing is noted.
REACH = {MOUNTAIN_CAR: -110.0}
#: Episodes in which the simulated trainer is present.
TAUGHT = {MOUNTAIN_CAR: (0, 16), CART_POLE: (0, 12)}
#: With `--quick`: environment steps of networks, episodes of linear learners, episodes of an evaluation.
QUICK_STEPS, QUICK_EPISODES, QUICK_EVALUATION = 2048, 12, 10
#: SARSA(lambda) on Mountain Car learns in seconds, so it shows with `--quick` too when it reaches `REACH`.
QUICK_REACHING = 300

Measure = Literal["final", "mean", "last", "steps"]


@dataclass(frozen=True)
class Published:
    """Somebody else's figure.

    Attributes:
        measure: Which of ours it compares with.
        value: The figure.
        source: Whose it is.
        sem: Standard error of the mean, where it is known.
        note: Under what conditions.
    """

    measure: Measure
    value: float
    source: str
    sem: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Cell:
    """One learner on one environment.

    Attributes:
        row: The learner's name in the table.
        env: Gymnasium id.
        learner: Registered name.
        sections: Of the config: settings, sources, advice, human.
        episodes: Length of the training, or
        timesteps: its length.
        seeds: How many by default.
        speed: Expected environment steps per second of CPU, for the time left.
    """

    row: str
    env: str
    learner: str
    sections: Mapping[str, Any] = field(default_factory=dict)
    episodes: int | None = None
    timesteps: int | None = None
    seeds: int = 5
    speed: float = 3000.0

    @property
    def training(self) -> str:
        """The length of the training, for reading."""
        return f"{self.timesteps:,} steps" if self.timesteps else f"{self.episodes} episodes"

    def spec(self, seed: int, *, evaluation: int) -> dict[str, Any]:
        """Return the trial of one seed."""
        length = {"total_timesteps": self.timesteps} if self.timesteps else {"episodes": self.episodes}
        return {
            "learner": self.learner,
            "env": {"id": self.env},
            **length,
            **self.sections,
            "seed": seed,
            "revision": trial.REVISION,
            "evaluation": evaluation,
            "reach": REACH.get(self.env),
        }

    def cost(self) -> float:
        """Return the expected seconds of CPU of one seed."""
        steps = self.timesteps or (self.episodes or 0) * _LENGTH[self.env]
        return 1.0 + steps / self.speed


#: Mean length of a training episode, roughly.
_LENGTH = {MOUNTAIN_CAR: 115, CART_POLE: 300, ACROBOT: 140}
#: Row and registered name -> expected environment steps per second of CPU on the three environments.
_NETWORKS: Mapping[str, tuple[float, float, float]] = {
    "sb3/dqn": (520.0, 575.0, 213.0),
    "sb3/ppo": (2500.0, 1600.0, 2050.0),
    "sb3/a2c": (4900.0, 3400.0, 3900.0),
    "contrib/qrdqn": (420.0, 505.0, 155.0),
    "contrib/trpo": (1100.0, 1500.0, 1350.0),
    "contrib/ars": (2150.0, 3600.0, 1950.0),
}
#: Learners that are on none of the three environments -> why.
_ABSENT: Mapping[str, str] = {
    "ppo": "textrl bench ppo-core holds it against sb3/ppo",
    "contrib/maskable_ppo": "the environment has no action_masks()",
    "contrib/recurrent_ppo": "nothing is hidden there that an LSTM would have to remember",
}
ROWS = (
    "sarsa/rbf-optimistic", "sarsa/rbf-pessimistic", "sarsa/tiles", "tamer", "tamer+rl", *_NETWORKS, *_ABSENT,
)  # fmt: skip
_OPTIMISTIC, _PESSIMISTIC, _TILES, _TAMER, _BOTH = ROWS[:5]

_NO_GRID = "a Gaussian grid over six dimensions would have 40^6 features"
_NO_TRAINER = "no simulated trainer knows what is good there"
#: What is not run, and why.
SKIPPED: Mapping[tuple[str, str], str] = {
    (_OPTIMISTIC, CART_POLE): "every step pays +1, so that weights of 0 are pessimistic, and no larger ones "
    "are published",
    (_OPTIMISTIC, ACROBOT): _NO_GRID,
    (_PESSIMISTIC, ACROBOT): _NO_GRID,
    (_TAMER, ACROBOT): _NO_TRAINER,
    (_BOTH, ACROBOT): _NO_TRAINER,
    **{(row, env): why for row, why in _ABSENT.items() for env in ENVS},
}

_ZOO = "RL Zoo"
_NUMPY = "measured with an independent NumPy implementation"
#: Others' figures; the measured ones are those that references/tamer.md of the project lists.
PUBLISHED: Mapping[tuple[str, str], Sequence[Published]] = {
    (_OPTIMISTIC, MOUNTAIN_CAR): (
        Published("mean", -112.3, _NUMPY, 0.3, "500 episodes, 30 seeds"),
        Published("last", -101.4, _NUMPY, None, "500 episodes, 30 seeds"),
    ),
    (_PESSIMISTIC, MOUNTAIN_CAR): (
        Published("mean", -118.7, _NUMPY, 1.4, "500 episodes, 30 seeds"),
        Published("last", -106.5, _NUMPY, None, "500 episodes, 30 seeds"),
    ),
    (_TILES, MOUNTAIN_CAR): (
        Published("mean", -117.0, _NUMPY, None, "500 episodes"),
        Published("last", -106.5, _NUMPY, None, "500 episodes"),
    ),
    (_PESSIMISTIC, CART_POLE): (Published("last", 385.9, _NUMPY, 28.6, "150 episodes, 20 seeds"),),
    ("sb3/dqn", MOUNTAIN_CAR): (Published("final", -100.8, _ZOO, None, "120k steps"),),
    ("sb3/ppo", MOUNTAIN_CAR): (Published("final", -110.4, _ZOO, None, "1M steps"),),
    ("sb3/dqn", CART_POLE): (Published("final", 500.0, _ZOO),),
    ("sb3/ppo", CART_POLE): (Published("final", 500.0, _ZOO),),
    ("sb3/dqn", ACROBOT): (Published("final", -76.6, _ZOO),),
    ("sb3/ppo", ACROBOT): (Published("final", -73.5, _ZOO),),
    ("contrib/qrdqn", ACROBOT): (Published("final", -69.1, _ZOO),),
}


def grid(quick: bool) -> list[Cell]:
    """Return all cells, environment by environment."""
    return [cell for env in ENVS for cell in (*_linear(env, quick), *_networks(env, quick))]


def select(cells: Sequence[Cell], learners: Sequence[str], envs: Sequence[str]) -> list[Cell]:
    """Return the cells that were asked for; an empty filter lets everything through.

    Args:
        cells: The grid.
        learners: Rows of the table, or registered names, which stand for all their rows.
        envs: Gymnasium ids.

    Raises:
        UserError: When a name is unknown.
    """
    check_names(learners, {*ROWS, *(cell.learner for cell in cells)}, "learner")
    check_names(envs, ENVS, "environment")
    return [
        cell
        for cell in cells
        if (not learners or cell.row in learners or cell.learner in learners)
        and (not envs or cell.env in envs)
    ]


def _linear(env: str, quick: bool) -> Iterator[Cell]:
    usual = 150 if env == CART_POLE else 500
    length: dict[str, Any] = {"episodes": QUICK_EPISODES if quick else usual}
    reaching = length
    if quick and env == MOUNTAIN_CAR:
        reaching = {"episodes": QUICK_REACHING}
    rbf, tiles = (
        {"seeds": seeds, "speed": speed, "env": env, **reaching}
        for seeds, speed in ((30, 15_000.0), (30, 9_000.0 if env == ACROBOT else 15_000.0))
    )
    person = {"seeds": 20, "speed": 5_000.0, "env": env, **length}
    if env == MOUNTAIN_CAR:
        optimistic, pessimistic = papers.MOUNTAIN_CAR_OPTIMISTIC, papers.MOUNTAIN_CAR_PESSIMISTIC
        yield Cell(_OPTIMISTIC, learner="sarsa", sections={"settings": optimistic}, **rbf)
        yield Cell(_PESSIMISTIC, learner="sarsa", sections={"settings": pessimistic}, **rbf)
        yield Cell(_TILES, learner="sarsa", sections={"settings": papers.MOUNTAIN_CAR_TILES}, **tiles)
    elif env == CART_POLE:
        # Returns differ so much between seeds that the published figure needs this many.
        rbf["seeds"] = 60
        yield Cell(_PESSIMISTIC, learner="sarsa", sections={"settings": papers.CART_POLE}, **rbf)
        yield Cell(_TILES, learner="sarsa", sections={"settings": papers.CART_POLE_TILES}, **tiles)
    else:
        yield Cell(_TILES, learner="sarsa", sections={"settings": papers.ACROBOT_TILES}, **tiles)
        return
    pole = env == CART_POLE
    teaching = {
        "sources": {"h": papers.POLE_H if pole else papers.CAR_H},
        "human": papers.taught(papers.POLE_TRAINER if pole else papers.CAR_TRAINER, TAUGHT[env]),
    }
    yield Cell(_TAMER, learner="tamer", sections=teaching, **person)
    biasing = {
        "technique": "action_biasing",
        "source": "h",
        "beta": 200.0 if pole else 100.0,
        "eligibility": papers.POLE_DECAY if pole else {},
    }
    base = papers.CART_POLE if pole else papers.MOUNTAIN_CAR_PESSIMISTIC
    yield Cell(_BOTH, learner="sarsa", sections={"settings": base, "advice": biasing, **teaching}, **person)


def _networks(env: str, quick: bool) -> Iterator[Cell]:
    """Yield the learners of SB3 with the Zoo's settings and lengths."""
    for name, speeds in _NETWORKS.items():
        steps = QUICK_STEPS if quick else timesteps(name, env)
        assert steps is not None  # the Zoo tuned all of them for the three environments
        yield Cell(name, env, name, timesteps=steps, speed=speeds[ENVS.index(env)])
