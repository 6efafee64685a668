"""What a config file can say about a token environment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from textrl_text.catalog import Difficulty


@dataclass(frozen=True)
class TokenEnvSettings:
    """What a config file can say about a token environment.

    Attributes:
        prompts: A JSONL (.gz) or parquet file, a folder, the id of a dataset, or a list of strings.
        tokenizer: A folder, the name of a registered model or a hub id; None is one token per byte.
        max_new_tokens: Response length in tokens at which an episode ends if no EOS came first.
        max_prompt_tokens: A longer prompt is refused.
        column: The column of the file that holds the prompts.
        split: The split of the dataset, where the prompts are one.
        seed: Keys the order of the prompts.
    """

    prompts: str | list[str] | None = None
    tokenizer: str | None = None
    max_new_tokens: int = 16
    max_prompt_tokens: int = 512
    column: str = "prompt"
    split: str = "train"
    seed: int = 0


@dataclass(frozen=True)
class TextTaskSettings:
    """What a config file can say about a text task; what is null is the difficulty's.

    Attributes:
        difficulty: "tiny", which a linear learner can solve; "small", the benchmark's; or "medium".
        seed: Keys the order of the prompts; what the task is does not depend on it.
    """

    difficulty: Difficulty = "small"
    seed: int = 0


@dataclass(frozen=True)
class CopySettings(TextTaskSettings):
    """What a config file can say about Copy.

    Attributes:
        letters: How many letters there are.
        length: Letters of a prompt, and so of the right response.
        prompts: How many prompts; all that are possible, if those are no more.
    """

    letters: int | None = None
    length: int | None = None
    prompts: int | None = None


@dataclass(frozen=True)
class ReverseSettings(CopySettings):
    """What a config file can say about Reverse."""


@dataclass(frozen=True)
class BracketsSettings(TextTaskSettings):
    """What a config file can say about Brackets.

    Attributes:
        masks: Leave open only what can still be completed.
        kinds: Kinds of brackets, 1 to 4.
        prompt: Brackets of a prompt.
        length: Brackets of a response.
    """

    masks: bool = False
    kinds: int | None = None
    prompt: int | None = None
    length: int | None = None


@dataclass(frozen=True)
class ArithmeticSettings(TextTaskSettings):
    """What a config file can say about Arithmetic.

    Attributes:
        masks: Leave open only digits and EOS.
        largest: Operands are 0 to this.
        operations: "+", or "+-" for differences that are not negative as well.
    """

    masks: bool = False
    largest: int | None = None
    operations: Literal["+", "+-"] | None = None


@dataclass(frozen=True)
class KeywordSettings(TextTaskSettings):
    """What a config file can say about Keyword.

    Attributes:
        subjects: Prompts, of one word each.
        verbs: First words of a response.
        adverbs: Words that may come second.
        adjectives: Words that end a response; one of them is to be avoided.
        beta: Weight of the KL divergence from the prior.
    """

    subjects: int | None = None
    verbs: int | None = None
    adverbs: int | None = None
    adjectives: int | None = None
    beta: float | None = None


@dataclass(frozen=True)
class WordBanditSettings(TextTaskSettings):
    """What a config file can say about WordBandit.

    Attributes:
        words: Words that can be answered.
        contexts: Of these words, how many are prompts.
    """

    words: int | None = None
    contexts: int | None = None


@dataclass(frozen=True)
class DialogueSettings(TextTaskSettings):
    """What a config file can say about Dialogue.

    Attributes:
        masks: Leave open only the customer's own word in the customer's turns.
        kinds: 1 has polite customers only, 2 hasty ones as well.
        items: What can be ordered.
        orders: How many items a customer wants, one after the other.
    """

    masks: bool = False
    kinds: int | None = None
    items: int | None = None
    orders: int | None = None


@dataclass(frozen=True)
class SentimentSettings(TextTaskSettings):
    """What a config file can say about Sentiment.

    Attributes:
        model: Registered model, folder or hub id of the prior, which gives the tokens as well.
        length: Tokens at which a response is cut.
        beta: Weight of the KL divergence from the prior.
    """

    model: str | None = None
    length: int | None = None
    beta: float | None = None


@dataclass(frozen=True)
class LengthSettings(TextTaskSettings):
    """What a config file can say about Length.

    Attributes:
        longest: Prompts ask for one word to so many.
        words: Words to write with.
    """

    longest: int | None = None
    words: int | None = None
