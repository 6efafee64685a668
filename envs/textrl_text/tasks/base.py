"""What every text task is made of: sizes for each difficulty, words, prompts, and what is paid."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

from textrl.errors import UserError, did_you_mean
from textrl.mdp.task import Prompt, TokenTask
from textrl.rewards import RewardSum, Source
from textrl.settings import build
from textrl_text.catalog import DIFFICULTIES, TASKS, Difficulty, policy_name
from textrl_text.tasks.facts import TaskFacts, rule_values
from textrl_text.tasks.policies import Shape, random_policy
from textrl_text.tasks.rules import Rules, rule_masks, rules_source
from textrl_text.tasks.vocabulary import EOS_ID, FIRST_WORD, PAD_ID, word_ids, word_tokenizer

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

S = TypeVar("S", bound="DataclassInstance")


class TextTask(ABC, Generic[S]):
    """A family of token tasks, one for each difficulty.

    A difficulty fixes everything that decides what the task is worth: prompts, vocabulary, pay. The seed
    only orders the prompts.

    Attributes:
        name: Key in `textrl_text.catalog.TASKS`.
        sizes: Of each difficulty.
        budgets: Tokens that a learner may sample, for every learner the same.
    """

    name: ClassVar[str]
    sizes: ClassVar[Mapping[Difficulty, Any]]
    budgets: ClassVar[Mapping[Difficulty, int]]

    @property
    def env_id(self) -> str:
        """The Gymnasium id."""
        return TASKS[self.name].env_id

    def size(self, difficulty: str, overrides: Mapping[str, Any]) -> S:
        """Return the sizes of a difficulty, some of them replaced; None replaces nothing.

        Raises:
            UserError: On an unknown difficulty or size, or a value that cannot be.
        """
        if difficulty not in DIFFICULTIES:
            known = ", ".join(DIFFICULTIES)
            raise UserError(
                f"{self.env_id}: difficulty is {difficulty!r}; choose one of {known}."
                f"{did_you_mean(str(difficulty), DIFFICULTIES)}",
                key="difficulty",
            )
        own = self.sizes[difficulty]
        arguments = ("difficulty", "masks", "rewards", "seed", *asdict(own))
        for name in overrides:
            if name not in arguments:
                raise UserError(f"{self.env_id}: unknown argument '{name}'.{did_you_mean(name, arguments)}")
        given = {key: value for key, value in overrides.items() if value is not None}
        made: S = build(type(own), {**asdict(own), **given}, where=lambda _: self.env_id)
        return made

    def make(
        self,
        difficulty: Difficulty = "small",
        seed: int = 0,
        *,
        masks: bool = False,
        rewards: RewardSum | None = None,
        **overrides: Any,
    ) -> TokenTask:
        """Return the token task.

        Args:
            difficulty: Which sizes.
            seed: Keys the order of the prompts.
            masks: Whether the task's rules close some tokens.
            rewards: Paid beside the task's own; the facts know nothing of them.
            overrides: Sizes to replace.

        Raises:
            UserError: See `size`; or where masks are wanted and the task has no such rules.
        """
        return self.build(self.size(difficulty, overrides), difficulty, seed, masks, rewards)

    @abstractmethod
    def build(
        self, size: S, difficulty: Difficulty, seed: int, masks: bool, rewards: RewardSum | None
    ) -> TokenTask:
        """Return the token task of these sizes; see `make`."""

    @abstractmethod
    def facts(self, difficulty: Difficulty = "small", *, masks: bool = False, **overrides: Any) -> TaskFacts:
        """Return what is known about the task; see `TaskFacts`.

        Args:
            difficulty: Which sizes.
            masks: As given to `make`; the random policy keeps to them.
            overrides: Sizes to replace.
        """

    @abstractmethod
    def policy(self, difficulty: Difficulty = "small", seed: int = 0, **overrides: Any) -> Path:
        """Return the folder of the language model that learning starts from; made once.

        Args:
            difficulty: Which sizes.
            seed: Draws the first weights, unless they are the prior's.
            overrides: Sizes to replace.
        """

    def policy_label(self, difficulty: Difficulty, overrides: Mapping[str, Any]) -> str:
        """Return the registered name of the language model, or its folder where sizes were replaced."""
        return str(self.policy(difficulty, **overrides)) if overrides else policy_name(self.name, difficulty)


class WordTask(TextTask[S]):
    """A task over a vocabulary of its own.

    Attributes:
        shapes: Of the language model, for each difficulty.
    """

    shapes: ClassVar[Mapping[Difficulty, Shape]] = {
        "tiny": Shape(width=32, layers=1, heads=4),
        "small": Shape(width=64, layers=2, heads=4),
        "medium": Shape(width=128, layers=4, heads=4),
    }

    @abstractmethod
    def words(self, size: S) -> tuple[str, ...]:
        """Return the vocabulary beside padding and EOS."""

    @abstractmethod
    def prompts(self, size: S) -> Sequence[str]:
        """Return the prompts: words between single spaces."""

    @abstractmethod
    def horizon(self, size: S) -> int:
        """Return the number of tokens at which a response is cut."""

    def token_task(self, size: S, seed: int, sources: Sequence[Source], rules: Rules | None) -> TokenTask:
        """Return the token task that pays `sources`, with the masks of `rules`."""
        words = self.words(size)
        ids = word_ids(words)
        prompts = [
            Prompt(tuple(ids[word] for word in text.split()), text, {"prompt": text})
            for text in self.prompts(size)
        ]
        return TokenTask(
            prompts=prompts,
            tokenizer=word_tokenizer(words),
            vocab_size=FIRST_WORD + len(words),
            eos_ids={EOS_ID},
            pad_id=PAD_ID,
            max_new_tokens=self.horizon(size),
            rewards=RewardSum(sources),
            seed=seed,
            allowed=None if rules is None else rule_masks(rules, FIRST_WORD + len(words)),
        )

    def context(self, size: S) -> int:
        """Return the longest sequence in tokens."""
        return max(len(text.split()) for text in self.prompts(size)) + self.horizon(size)


class RuleTask(WordTask[S]):
    """A task that pays by rule, so that its optimum follows by dynamic programming.

    Attributes:
        pays: Whether tokens are paid as they are written, or the episode at its end.
        has_masks: Whether the rules close tokens.
    """

    pays: ClassVar[Literal["token", "episode"]]
    has_masks: ClassVar[bool] = False

    @abstractmethod
    def rules(self, size: S) -> Rules:
        """Return the machine that pays."""

    def build(
        self, size: S, difficulty: Difficulty, seed: int, masks: bool, rewards: RewardSum | None
    ) -> TokenTask:
        """Return the token task of these sizes."""
        if masks and not self.has_masks:
            raise UserError(f"{self.env_id} has no rules that close tokens; leave masks out.")
        rules = self.rules(size)
        own = rules_source(rules, self.pays)
        more = () if rewards is None else rewards.sources
        return self.token_task(size, seed, [own, *more], rules if masks else None)

    def facts(self, difficulty: Difficulty = "small", *, masks: bool = False, **overrides: Any) -> TaskFacts:
        """Return the mean return of the uniform policy and the best mean return, by dynamic programming."""
        size = self.size(difficulty, overrides)
        task = self.build(size, difficulty, 0, masks, None)
        random, optimum = rule_values(task, self.rules(size), masks)
        return TaskFacts(
            random=random, optimum=optimum, how="computed", prior=None, beta=None,
            budget=self.budgets[difficulty],
        )  # fmt: skip

    def policy(self, difficulty: Difficulty = "small", seed: int = 0, **overrides: Any) -> Path:
        """Return the folder of a language model with random weights, nearly uniform."""
        size = self.size(difficulty, overrides)
        return random_policy(self.name, self.words(size), self.shapes[difficulty], self.context(size), seed)
