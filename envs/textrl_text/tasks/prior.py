"""Tasks with a language-model prior: earn reward, and stay near to what the model would say.

The value of a policy is ``E[return] - beta KL(policy || prior)``; see `textrl.evaluation.optimum`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, cast

from textrl.errors import UserError
from textrl.mdp.task import TokenTask
from textrl.rewards import RewardSum, Source
from textrl_text.catalog import Difficulty
from textrl_text.tasks.base import S, WordTask
from textrl_text.tasks.facts import TaskFacts, prior_values
from textrl_text.tasks.policies import Sentence, Shape, fitted_policy


class PriorTask(WordTask[S]):
    """A task whose prior is fitted to sentences, and whose responses can all be written down."""

    # Every response is scored for the optimum, so the largest model is no larger than needed.
    shapes: ClassVar[Mapping[Difficulty, Shape]] = {
        "tiny": Shape(width=32, layers=1, heads=4),
        "small": Shape(width=32, layers=1, heads=4),
        "medium": Shape(width=64, layers=2, heads=4),
    }

    @abstractmethod
    def corpus(self, size: S) -> Sequence[Sentence]:
        """Return what the prior is fitted to."""

    @abstractmethod
    def source(self, size: S) -> Source:
        """Return the task's own source of reward."""

    @abstractmethod
    def beta(self, size: S) -> float:
        """Return the weight of the KL divergence."""

    def build(
        self, size: S, difficulty: Difficulty, seed: int, masks: bool, rewards: RewardSum | None
    ) -> TokenTask:
        """Return the token task of these sizes."""
        refuse_masks(self.env_id, masks)
        more = () if rewards is None else rewards.sources
        return self.token_task(size, seed, [self.source(size), *more], None)

    def facts(self, difficulty: Difficulty = "small", *, masks: bool = False, **overrides: Any) -> TaskFacts:
        """Return the prior's mean return and beta log Z, by enumeration of all responses."""
        size = self.size(difficulty, overrides)
        refuse_masks(self.env_id, masks)
        folder = self.policy(difficulty, **overrides)
        random, optimum = self._values(difficulty, cast(Hashable, size), folder)
        return TaskFacts(
            random=random, optimum=optimum, how="computed", prior=self.policy_label(difficulty, overrides),
            beta=self.beta(size), budget=self.budgets[difficulty],
        )  # fmt: skip

    @lru_cache(maxsize=8)  # noqa: B019 - there is one object of each task
    def _values(self, difficulty: Difficulty, hashable: Hashable, folder: Path) -> tuple[float, float]:
        size = cast(S, hashable)
        task = self.build(size, difficulty, 0, False, None)
        return prior_values(task, str(folder), self.beta(size))

    def policy(self, difficulty: Difficulty = "small", seed: int = 0, **overrides: Any) -> Path:
        """Return the folder of the prior, which no seed changes."""
        size = self.size(difficulty, overrides)
        return fitted_policy(
            self.name, self.words(size), self.shapes[difficulty], self.context(size), self.corpus(size)
        )


def refuse_masks(env_id: str, masks: bool) -> None:
    """Refuse masks where the prior says what may be written.

    Raises:
        UserError: Where they are wanted.
    """
    if masks:
        raise UserError(f"{env_id} has no rules that close tokens; leave masks out.")
