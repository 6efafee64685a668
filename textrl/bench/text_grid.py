"""The grid of `textrl bench text`: learners, tasks, budgets and settings, all fixed before any run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from textrl.bench.running import check_names
from textrl.registry import get_registry

TARGET = "textrl.bench.text_trial:run_text"
#: Seeds 10, 11, ...: settings were chosen on others.
FIRST_SEED = 10
#: Points of a curve, and episodes of the estimates that are not exact.
POINTS, EPISODES = 20, 4096
#: With `--quick`.
QUICK_TOKENS, QUICK_POINTS, QUICK_EPISODES = 2048, 4, 512
DIFFICULTIES = ("tiny", "small")


@dataclass(frozen=True)
class Task:
    """A task of the grid.

    Attributes:
        env: Gymnasium id.
        length: Tokens of a good response, roughly, at each difficulty.
        masks: Whether its rules can close tokens.
        prior: Whether a prior is part of it.
        reader: Truth of the simulated reader: "rule" for what the task pays, "lexicon", or None.
        kl: Without a prior: weight of the KL to the nearly uniform first policy, which keeps a language model
            from being sure too early.
        batch: What an iteration of language-model learners is, where it differs from other tasks'.
    """

    env: str
    length: Mapping[str, float]
    masks: bool = False
    prior: bool = False
    reader: str | None = "rule"
    kl: float = 0.02
    batch: Mapping[str, Any] = field(default_factory=dict)


def _lengths(tiny: float, small: float) -> Mapping[str, float]:
    return {"tiny": tiny, "small": small}


TASKS: Mapping[str, Task] = {
    "copy": Task("TextRL/Copy-v0", _lengths(2, 6)),
    "reverse": Task("TextRL/Reverse-v0", _lengths(2, 6)),
    "brackets": Task("TextRL/Brackets-v0", _lengths(3, 6), masks=True, reader=None),
    "arithmetic": Task("TextRL/Arithmetic-v0", _lengths(2, 2), masks=True, kl=0.1),
    # An episode is one token: the batch of the others would be a sixth of theirs, and of 32 words with almost
    # equal pay a stronger KL or fewer tries keep the wrong one.
    "word_bandit": Task(
        "TextRL/WordBandit-v0",
        _lengths(1, 1),
        kl=0.005,
        batch={"episodes_per_iteration": 1024, "minibatches": 8, "epochs": 8},
    ),
    "dialogue": Task("TextRL/Dialogue-v0", _lengths(7, 9), masks=True),
    "length": Task("TextRL/Length-v0", _lengths(2.5, 5.5)),
    "keyword": Task("TextRL/Keyword-v0", _lengths(3, 3.5), prior=True),
    "sentiment": Task("TextRL/Sentiment-v0", _lengths(3, 16), prior=True, reader="lexicon"),
}
#: Tasks whose tokens are a language model's tens of thousands.
LARGE = {("sentiment", "small")}


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        learner: Registered name; None where nothing is learnt.
        settings: Of the learner, the same on all tasks of own vocabularies.
        with_prior: What is different where a prior is part of the task, but for the weight beta.
        large: What is different where the tokens are a large model's; None where it is not run there.
        masks: Whether it is told the rules.
        reader: Whether a simulated reader stands beside it.
        seeds: How many by default; fewer of what takes long.
        speed: Expected tokens per second of CPU, for the time left.
    """

    learner: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    with_prior: Mapping[str, Any] = field(default_factory=dict)
    large: Mapping[str, Any] | None = None
    masks: bool = False
    reader: bool = False
    seeds: int = 5
    speed: float = 1000.0


_GROUPS: dict[str, Any] = {
    "precision": "fp32", "episodes_per_iteration": 256, "minibatches": 4, "epochs": 2,
    "micro_batch_size": 256, "learning_rate": 1e-3, "adam_beta2": 0.99, "warmup_iterations": 0,
}  # fmt: skip
_RLOO = {**_GROUPS, "group_size": 8}
_GRPO = {**_GROUPS, "group_size": 8}
_PPO_PTX = {
    **_GROUPS, "value_learning_rate": 2e-3, "lam": 0.95, "value_clip": None, "whiten_advantages": False,
    "ema_decay": 0.0,
}  # fmt: skip
#: For SmolLM2: the upper sixth of the blocks learns, what lies below is computed once.
_LARGE: dict[str, Any] = {
    "first_trainable": 25, "episodes_per_iteration": 64, "minibatches": 2, "epochs": 2,
    "micro_batch_size": 32, "learning_rate": 1e-4,
}  # fmt: skip
_LARGE_PPO = {**_LARGE, "value_network": "head", "value_learning_rate": 1e-3}
_ON_POLICY: dict[str, Any] = {"tuned": False, "n_envs": 32, "gamma": 1.0, "net_arch": [128, 128]}
_PPO = {
    **_ON_POLICY, "n_steps": 32, "batch_size": 256, "n_epochs": 8, "learning_rate": 1e-3,
    "learning_rate_schedule": "linear", "gae_lambda": 0.95, "ent_coef": 0.01,
}  # fmt: skip
_A2C = {
    **_ON_POLICY, "n_steps": 8, "learning_rate": 1e-3, "learning_rate_schedule": "linear", "gae_lambda": 0.95,
    "ent_coef": 0.01, "use_rms_prop": False,
}  # fmt: skip
_DQN = {
    "tuned": False, "n_envs": 8, "gamma": 1.0, "net_arch": [128, 128], "learning_rate": 5e-4,
    "buffer_size": 50_000, "learning_starts": 1000, "batch_size": 128, "train_freq": 1, "gradient_steps": 2,
    "target_update_interval": 500, "exploration_fraction": 0.4, "exploration_final_eps": 0.02,
}  # fmt: skip
#: Advantages in units of reward, so that the entropy's weight is the objective's beta.
_UNSCALED = {"normalize_advantage": False}
ROWS: Mapping[str, Row] = {
    "random": Row(large={}, speed=20_000),
    "greedy": Row(large={}, speed=20_000),
    "best-of-16": Row(large={}, speed=20_000),
    "sarsa": Row(
        "sarsa",
        {"alpha": 0.05, "lam": 0.84, "traces": "replacing", "features": {"kind": "tokens"}, "epsilon": 0.2,
         "epsilon_decay": 0.9998, "epsilon_min": 0.01},
        seeds=3,
        speed=1000,
    ),
    "sb3/dqn": Row("sb3/dqn", _DQN, seeds=3, speed=550),
    "sb3/a2c": Row("sb3/a2c", _A2C, _UNSCALED, speed=4500),
    "sb3/ppo": Row("sb3/ppo", _PPO, _UNSCALED, speed=2000),
    "contrib/maskable_ppo": Row("contrib/maskable_ppo", _PPO, _UNSCALED, speed=1900),
    "contrib/maskable_ppo+masks": Row("contrib/maskable_ppo", _PPO, _UNSCALED, masks=True, speed=1500),
    "contrib/recurrent_ppo": Row(
        "contrib/recurrent_ppo",
        {**_PPO, "lstm_hidden_size": 64, "net_arch": [64]},
        _UNSCALED,
        seeds=3,
        speed=500,
    ),
    "rloo": Row("rloo", _RLOO, large=_LARGE, speed=3500),
    "grpo": Row("grpo", _GRPO, large=_LARGE, speed=3500),
    "ppo_ptx": Row("ppo_ptx", _PPO_PTX, large=_LARGE_PPO, speed=2500),
    "ppo_ptx+h": Row("ppo_ptx", _PPO_PTX, large=_LARGE_PPO, reader=True, speed=2200),
}  # fmt: skip
#: The simulated reader, and how its advice acts.
PRESSES = 300
ADVICE = {"technique": "action_biasing", "source": "h", "beta": 1.0, "anneal": 0.97}

_NO_RULES = "the task has no rules that close tokens"
_NO_WORDS = "a reader judges words, and brackets are none"
_TOO_LARGE = "a vocabulary of 49,152 tokens is for language models"


@dataclass(frozen=True)
class Cell:
    """One row on one task.

    Attributes:
        row: In the table.
        task: Key in `TASKS`.
        difficulty: Of the task.
        budget: Tokens.
        sizes: Of the task.
        quick: Short.
    """

    row: str
    task: str
    difficulty: str
    budget: int
    sizes: Mapping[str, Any]
    quick: bool = False

    def spec(self, seed: int) -> dict[str, Any]:
        """Return the spec of one job; see `textrl.bench.text_trial`."""
        from textrl.bench.text_trial import REVISION

        row, task = ROWS[self.row], TASKS[self.task]
        large = (self.task, self.difficulty) in LARGE
        episodes = QUICK_EPISODES if self.quick else EPISODES
        return {
            "task": self.task,
            "env": task.env,
            "difficulty": self.difficulty,
            "sizes": dict(self.sizes),
            "row": self.row,
            "learner": row.learner,
            "settings": self.settings(),
            "masks": row.masks,
            "kl": task.kl if row.learner in ("rloo", "grpo", "ppo_ptx") else 0.0,
            "budget": self.budget,
            "length": task.length[self.difficulty],
            "points": QUICK_POINTS if self.quick else POINTS,
            "episodes": episodes // 8 if large else episodes,
            "seed": seed,
            "revision": REVISION,
            **(self._reader() if row.reader else {}),
        }

    def settings(self) -> dict[str, Any]:
        """Return the learner's settings on this task."""
        row, task = ROWS[self.row], TASKS[self.task]
        found = dict(row.settings)
        if (self.task, self.difficulty) in LARGE:
            found |= row.large or {}
        if "episodes_per_iteration" in found:
            found |= task.batch
        if task.prior:
            found |= row.with_prior
            if "ent_coef" in found:
                found["ent_coef"] = self.sizes["beta"]
        if self.quick and "episodes_per_iteration" in found:
            found["episodes_per_iteration"] = 64
        if self.quick and "n_steps" in found:
            found["n_steps"] = 8
        if self.quick and "learning_starts" in found:
            found["learning_starts"] = 200
        return found

    def _reader(self) -> dict[str, Any]:
        from textrl.bench.text_trial import READ

        task = TASKS[self.task]
        by_rule = f"textrl.bench.text_beside:{self.task}_{self.difficulty}"
        truth = by_rule if task.reader == "rule" else "lexicon"
        feedback = {"use": "simulated_text", "preset": "stoc", "truth": truth}
        session = {"shown_per_iteration": 8, "max_presses": PRESSES}
        return {
            "sources": {"h": {"use": "tamer_text"}},
            "advice": ADVICE,
            "human": {"source": "h", "feedback": feedback, "session": session},
            "read": READ,
        }

    def cost(self) -> float:
        """Return the expected seconds of CPU of one seed."""
        slower = 10.0 if (self.task, self.difficulty) in LARGE else 1.0
        return 2.0 + slower * self.budget / ROWS[self.row].speed


def why_not(row: str, task: str, difficulty: str) -> str | None:
    """Return why a row is not run on a task; None where it is."""
    if ROWS[row].masks and not TASKS[task].masks:
        return _NO_RULES
    if ROWS[row].reader and TASKS[task].reader is None:
        return _NO_WORDS
    if (task, difficulty) in LARGE and ROWS[row].large is None:
        return _TOO_LARGE
    return None


def grid(difficulty: str, quick: bool) -> list[Cell]:
    """Return all cells, task by task; importing the tasks' code takes a moment."""
    return list(_cells(difficulty, quick))


def _cells(difficulty: str, quick: bool) -> Iterator[Cell]:
    for task, one in TASKS.items():
        recipe = get_registry().find("env", one.env).load().recipe
        budget, sizes = recipe.budgets[difficulty], asdict(recipe.sizes[difficulty])
        for row in ROWS:
            if why_not(row, task, difficulty) is None:
                yield Cell(
                    row, task, difficulty, min(budget, QUICK_TOKENS) if quick else budget, sizes, quick
                )


def select(cells: Sequence[Cell], learners: Sequence[str], envs: Sequence[str]) -> list[Cell]:
    """Return the cells that were asked for; an empty filter lets everything through.

    Args:
        cells: The grid.
        learners: Rows of the table, or registered names, which stand for all their rows.
        envs: Tasks, by name or Gymnasium id.

    Raises:
        UserError: When a name is unknown.
    """
    check_names(
        learners, dict.fromkeys([*ROWS, *(row.learner for row in ROWS.values() if row.learner)]), "learner"
    )
    check_names(envs, [*TASKS, *(task.env for task in TASKS.values())], "task")
    return [
        cell
        for cell in cells
        if (not learners or cell.row in learners or ROWS[cell.row].learner in learners)
        and (not envs or cell.task in envs or TASKS[cell.task].env in envs)
    ]
