"""Arithmetic: the answer can be checked, and nothing else is paid."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

from textrl_text.tasks.base import RuleTask
from textrl_text.tasks.envs import TextTaskEnv, TextTaskVectorEnv
from textrl_text.tasks.rules import State
from textrl_text.tasks.vocabulary import EOS_ID, word_ids

_DIGITS = "0123456789"


@dataclass(frozen=True)
class ArithmeticSizes:
    """How large Arithmetic is.

    Attributes:
        largest: Operands are 0 to this.
        operations: "+", or "+-" for differences that are not negative as well.
    """

    largest: int
    operations: Literal["+", "+-"]

    def __post_init__(self) -> None:
        if not 1 <= self.largest <= 499:
            raise ValueError(f"largest is {self.largest}; give 1 to 499")


class ArithmeticRules:
    """Pays 1 with the EOS that follows the right digits, and nothing else.

    A state is the digits that are still to be written; None after a wrong token.
    """

    def __init__(self, words: Sequence[str]) -> None:
        """Number the words."""
        self.ids = word_ids(words)
        self.words = {token: word for word, token in self.ids.items()}
        self.digits = [token for token, word in self.words.items() if word in _DIGITS]

    def start(self, prompt: Sequence[int]) -> State:
        """Work out the answer."""
        text = "".join(self.words[token] for token in prompt).rstrip("=")
        sign = "-" if "-" in text else "+"
        first, second = (int(number) for number in text.split(sign))
        answer = first - second if sign == "-" else first + second
        return tuple(self.ids[digit] for digit in str(answer))

    def step(self, state: State, token: int) -> tuple[State, float]:
        """Compare the token with the next one of the answer."""
        if state is None:
            return None, 0.0
        wanted = cast(tuple[int, ...], state)
        if not wanted:
            return None, 1.0 if token == EOS_ID else 0.0
        return (wanted[1:] if token == wanted[0] else None), 0.0

    def allowed(self, state: State) -> Collection[int] | None:
        """Return the digits and EOS: what a number is written with."""
        return [EOS_ID, *self.digits]


class ArithmeticTask(RuleTask[ArithmeticSizes]):
    """Arithmetic."""

    name = "arithmetic"
    pays = "episode"
    has_masks = True
    sizes: ClassVar = {
        "tiny": ArithmeticSizes(largest=1, operations="+"),
        "small": ArithmeticSizes(largest=3, operations="+"),
        "medium": ArithmeticSizes(largest=9, operations="+-"),
    }
    budgets: ClassVar = {"tiny": 20_000, "small": 150_000, "medium": 5_000_000}

    def words(self, size: ArithmeticSizes) -> tuple[str, ...]:
        """Return the digits that occur, signs and the equals sign."""
        digits = _DIGITS[: min(2 * size.largest, 9) + 1]
        return (*digits, *size.operations, "=")

    def prompts(self, size: ArithmeticSizes) -> Sequence[str]:
        """Return every sum, its digits apart."""
        return [
            " ".join(f"{first}{sign}{second}=")
            for sign in size.operations
            for first in range(size.largest + 1)
            for second in range(size.largest + 1)
            if sign == "+" or first >= second
        ]

    def horizon(self, size: ArithmeticSizes) -> int:
        """Return the digits of the largest answer, and EOS."""
        return len(str(2 * size.largest)) + 1

    def rules(self, size: ArithmeticSizes) -> ArithmeticRules:
        """Return what pays."""
        return ArithmeticRules(self.words(size))


class ArithmeticEnv(TextTaskEnv):
    """Write the result of a sum; only the whole answer pays.

    ## Description
    The prompt `3 + 4 =` asks for `7` and EOS. The answer can be verified, and nothing else is known about a
    response: no step is paid, and a part of the answer is worth nothing.

    ## Action Space
    `Discrete(V)`: the next token. Token 0 is padding, token 1 is EOS, then come the digits that occur, `+`,
    in "medium" `-`, and `=`.

    ## Observation Space
    `Dict(input_ids=Box(0, V-1, (P + T,), int64), attention_mask=Box(0, 1, (P + T,), int8))`: the prompt,
    padded on the left to P tokens, then the response, padded on the right to T; see `TokenEnv`.

    ## Rewards
    1 where the response is the answer, without leading zeros, and then EOS; else 0. It is paid with the last
    token. The best return is 1. A policy that draws tokens at random gets 0.0204, 0.0083 and 0.0032 in the
    three difficulties.

    ## Starting State
    Every sum of two numbers from 0 to `largest`; with `operations="+-"` every difference as well that is not
    negative.

    ## Episode End
    `terminated` after EOS, or after T tokens: the digits of twice `largest`, and one more.

    ## Arguments
    `difficulty` ("small") is "tiny", "small" or "medium":

    | size                 | tiny   | small   | medium    |
    |----------------------|--------|---------|-----------|
    | largest              | 1      | 3       | 9         |
    | operations           | +      | +       | +-        |
    | tokens of the budget | 20,000 | 150,000 | 5,000,000 |

    `largest` and `operations` replace single sizes. `seed` (0) orders the prompts; `masks=True` leaves open
    only digits and EOS. `rewards` are paid beside the task's own, as in `TokenEnv`; `first_episode`,
    `episode_stride` and `render_mode` too are `TokenEnv`'s. `facts()` says what is known about the task as
    it is, `policy()` gives a small language model to start from.

    ## Version History
    * v0: Initial version.
    """

    recipe = ArithmeticTask()


class ArithmeticVectorEnv(TextTaskVectorEnv):
    """`ArithmeticEnv`, many at once."""

    recipe = ArithmeticEnv.recipe
