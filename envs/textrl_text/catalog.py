"""Which text tasks there are. Importing this costs next to nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Difficulty = Literal["tiny", "small", "medium"]
DIFFICULTIES: tuple[Difficulty, ...] = get_args(Difficulty)


@dataclass(frozen=True)
class Entry:
    """One text task.

    Attributes:
        title: Its name in the Gymnasium id and in the names of its classes.
        module: Under `textrl_text.tasks`.
        summary: One line for the listings.
        policies: Difficulties for which a small language model over the task's own vocabulary is registered.
    """

    title: str
    module: str
    summary: str
    policies: tuple[Difficulty, ...] = DIFFICULTIES

    @property
    def env_id(self) -> str:
        """The Gymnasium id."""
        return f"TextRL/{self.title}-v0"

    @property
    def target(self) -> str:
        """Where the environment's class is."""
        return f"textrl_text.tasks.{self.module}:{self.title}Env"

    @property
    def vector_target(self) -> str:
        """Where the vector environment's class is."""
        return f"textrl_text.tasks.{self.module}:{self.title}VectorEnv"


TASKS: dict[str, Entry] = {
    "copy": Entry("Copy", "strings", "Write the letters of the prompt again."),
    "reverse": Entry("Reverse", "strings", "Write the letters of the prompt from the last to the first."),
    "brackets": Entry("Brackets", "brackets", "Close the prompt's brackets, so that all are balanced."),
    "arithmetic": Entry("Arithmetic", "arithmetic", "Write the result of a sum; only the whole answer pays."),
    "keyword": Entry("Keyword", "avoidance", "Avoid a word that a language model likes, and change no more."),
    "word_bandit": Entry(
        "WordBandit", "bandit", "Answer with one word; each has its own pay in each context."
    ),
    "dialogue": Entry("Dialogue", "dialogue", "Serve a simulated customer over several turns."),
    "sentiment": Entry(
        "Sentiment",
        "sentiment",
        "Go on with a sentence, friendly and like the language model.",
        policies=("tiny",),  # beyond it the language model is SmolLM2
    ),
    "length": Entry("Length", "length", "Write as many words as the prompt asks for, then stop."),
}


def policy_name(task: str, difficulty: Difficulty) -> str:
    """Return the name under which a task's language model is registered."""
    return f"task-{task.replace('_', '-')}-{difficulty}"
