"""Length: the prompt says how many words, and the response must stop in time."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

from textrl_text.tasks.base import RuleTask
from textrl_text.tasks.envs import TextTaskEnv, TextTaskVectorEnv
from textrl_text.tasks.rules import State
from textrl_text.tasks.vocabulary import EOS_ID, word_ids

_NUMBERS = (
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen",
)  # fmt: skip
_FILLERS = (
    "rain", "wind", "snow", "fog", "hail", "sun", "cloud", "storm", "frost", "dew", "thunder", "ice", "mist",
    "drizzle", "breeze", "sleet",
)  # fmt: skip


@dataclass(frozen=True)
class LengthSizes:
    """How large Length is.

    Attributes:
        longest: Prompts ask for one word to so many.
        words: Words to write with.
    """

    longest: int
    words: int

    def __post_init__(self) -> None:
        for name, most in (("longest", len(_NUMBERS)), ("words", len(_FILLERS))):
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name} is {getattr(self, name)}; give 1 to {most}")


class LengthRules:
    """Pays with the last token: 1 for a response of the length asked for, less for others.

    A state is the number of words asked for, of words written, and of tokens left.
    """

    def __init__(self, size: LengthSizes) -> None:
        """Number the words.

        Args:
            size: Of the task.
        """
        self.longest = size.longest
        ids = word_ids(LengthTask().words(size))
        self.asked = {ids[number]: count for count, number in enumerate(_NUMBERS[: size.longest], 1)}
        self.words = frozenset(ids[word] for word in _FILLERS[: size.words])

    def start(self, prompt: Sequence[int]) -> State:
        """Read the number."""
        return self.asked[prompt[1]], 0, self.longest + 1

    def step(self, state: State, token: int) -> tuple[State, float]:
        """Count the token if it is a word; pay if it is the last one."""
        asked, written, left = cast(tuple[int, int, int], state)
        written, left = written + (token in self.words), left - 1
        last = token == EOS_ID or left == 0
        return (asked, written, left), max(1 - abs(written - asked) / asked, 0.0) if last else 0.0

    def allowed(self, state: State) -> Collection[int] | None:
        """There are no rules beside the pay."""
        return None


class LengthTask(RuleTask[LengthSizes]):
    """Length."""

    name = "length"
    pays = "episode"
    sizes: ClassVar = {
        "tiny": LengthSizes(longest=2, words=2),
        "small": LengthSizes(longest=8, words=8),
        "medium": LengthSizes(longest=16, words=16),
    }
    budgets: ClassVar = {"tiny": 20_000, "small": 200_000, "medium": 2_000_000}

    def words(self, size: LengthSizes) -> tuple[str, ...]:
        """Return the words to write with, and those of the prompts."""
        return (*_FILLERS[: size.words], "write", *_NUMBERS[: size.longest], "words", ":")

    def prompts(self, size: LengthSizes) -> Sequence[str]:
        """Return one prompt for each length."""
        return [f"write {number} words :" for number in _NUMBERS[: size.longest]]

    def horizon(self, size: LengthSizes) -> int:
        """Return the greatest length, and EOS."""
        return size.longest + 1

    def rules(self, size: LengthSizes) -> LengthRules:
        """Return what pays."""
        return LengthRules(size)


class LengthEnv(TextTaskEnv):
    """Write as many words as the prompt asks for, then stop.

    ## Description
    The prompt `write three words :` asks for three words and then EOS. Which words does not matter. The
    policy has to count, and what it is paid for is known only at the end.

    ## Action Space
    `Discrete(V)`: the next token. Token 0 is padding, token 1 is EOS, then come the words to write with and
    those of the prompts, which count as no words in a response.

    ## Observation Space
    `Dict(input_ids=Box(0, V-1, (P + T,), int64), attention_mask=Box(0, 1, (P + T,), int8))`: the prompt,
    padded on the left to P tokens, then the response, padded on the right to T; see `TokenEnv`.

    ## Rewards
    max(0, 1 - |written - asked| / asked), paid with the last token. The best return is 1. A policy that
    draws tokens at random gets 0.3203, 0.4186 and 0.4325 in the three difficulties.

    ## Starting State
    One prompt for each length from 1 to `longest`.

    ## Episode End
    `terminated` after EOS, or after T = `longest` + 1 tokens. EOS is no word, so a response that is cut is
    too long, except where words of the prompts filled it.

    ## Arguments
    `difficulty` ("small") is "tiny", "small" or "medium":

    | size                 | tiny   | small   | medium    |
    |----------------------|--------|---------|-----------|
    | longest              | 2      | 8       | 16        |
    | words                | 2      | 8       | 16        |
    | tokens of the budget | 20,000 | 200,000 | 2,000,000 |

    `longest` and `words` replace single sizes. `seed` (0) orders the prompts. `rewards` are paid beside the
    task's own, as in `TokenEnv`; `first_episode`, `episode_stride` and `render_mode` too are `TokenEnv`'s.
    `facts()` says what is known about the task as it is, `policy()` gives a small language model to start
    from.

    ## Version History
    * v0: Initial version.
    """

    recipe = LengthTask()


class LengthVectorEnv(TextTaskVectorEnv):
    """`LengthEnv`, many at once."""

    recipe = LengthEnv.recipe
