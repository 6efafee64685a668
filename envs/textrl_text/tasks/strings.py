"""Copy and Reverse: write the letters of the prompt again, forwards or backwards."""

from __future__ import annotations

import string
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np

from textrl_text.tasks.base import RuleTask
from textrl_text.tasks.envs import TextTaskEnv, TextTaskVectorEnv
from textrl_text.tasks.rules import State


@dataclass(frozen=True)
class StringSizes:
    """How large Copy and Reverse are.

    Attributes:
        letters: How many letters there are.
        length: Letters of a prompt, and so of the right response.
        prompts: How many prompts; all that are possible, if those are no more.
    """

    letters: int
    length: int
    prompts: int

    def __post_init__(self) -> None:
        if not 2 <= self.letters <= len(string.ascii_lowercase):
            raise ValueError(f"letters is {self.letters}; give 2 to {len(string.ascii_lowercase)}")
        for name in ("length", "prompts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give at least 1")


class StringRules:
    """Pays 1 / length for each letter that is the right one at its place."""

    def __init__(self, length: int, *, backwards: bool) -> None:
        """Say which letter is the right one.

        Args:
            length: Letters of every prompt.
            backwards: The last letter comes first.
        """
        self.pay = 1 / length
        self.backwards = backwards

    def start(self, prompt: Sequence[int]) -> State:
        """Return the tokens that are to be written."""
        return tuple(reversed(prompt)) if self.backwards else tuple(prompt)

    def step(self, state: State, token: int) -> tuple[State, float]:
        """Compare the token with the first that is to be written."""
        wanted = cast(tuple[int, ...], state)
        return wanted[1:], self.pay if token == wanted[0] else 0.0

    def allowed(self, state: State) -> Collection[int] | None:
        """There are no rules beside the pay."""
        return None


class StringTask(RuleTask[StringSizes]):
    """Copy or Reverse."""

    pays = "token"
    backwards: ClassVar[bool]

    def words(self, size: StringSizes) -> tuple[str, ...]:
        """Return the letters."""
        return tuple(string.ascii_lowercase[: size.letters])

    def prompts(self, size: StringSizes) -> Sequence[str]:
        """Return all strings, or so many different ones, which no seed changes."""
        words, every = self.words(size), size.letters**size.length
        if every <= size.prompts:
            numbers: Sequence[int] = range(every)
        else:
            numbers = _distinct(size.prompts, every)
        return [
            " ".join(words[number // size.letters**place % size.letters] for place in range(size.length))
            for number in numbers
        ]

    def horizon(self, size: StringSizes) -> int:
        """Return the length of a string."""
        return size.length

    def rules(self, size: StringSizes) -> StringRules:
        """Return what pays."""
        return StringRules(size.length, backwards=self.backwards)


def _distinct(count: int, below: int) -> list[int]:
    """Return different numbers from 0 to below - 1, the same ones always."""
    # NumPy promises the raw stream of a bit generator for ever.
    stream, found = np.random.PCG64(0), dict[int, None]()
    while len(found) < count:
        # Two draws, since a string may have more forms than 64 bits count.
        found[(int(stream.random_raw()) << 64 | int(stream.random_raw())) % below] = None
    return list(found)


class CopyTask(StringTask):
    """Copy."""

    name = "copy"
    backwards = False
    sizes: ClassVar = {
        "tiny": StringSizes(letters=3, length=2, prompts=9),
        "small": StringSizes(letters=8, length=6, prompts=2048),
        "medium": StringSizes(letters=20, length=12, prompts=4096),
    }
    budgets: ClassVar = {"tiny": 20_000, "small": 150_000, "medium": 5_000_000}


class ReverseTask(StringTask):
    """Reverse."""

    name = "reverse"
    backwards = True
    sizes = CopyTask.sizes
    budgets = CopyTask.budgets


class CopyEnv(TextTaskEnv):
    """Write the letters of the prompt again.

    ## Description
    The prompt `c a b` asks for `c a b`: each place of the response wants the letter at the same place of the
    prompt. Tests whether a learner reads its prompt at all, and whether credit reaches the right token.

    ## Action Space
    `Discrete(V)`: the next token. Token 0 is padding, token 1 is EOS, then come the letters: V = letters +
    2.

    ## Observation Space
    `Dict(input_ids=Box(0, V-1, (P + T,), int64), attention_mask=Box(0, 1, (P + T,), int8))`: the prompt,
    padded on the left to P tokens, then the response, padded on the right to T; see `TokenEnv`.

    ## Rewards
    1 / length for each right letter, paid as it is written. The best return is 1. A policy that draws tokens
    at random gets 0.1800, 0.0781 and 0.0356 in the three difficulties.

    ## Starting State
    `length` letters: every string that there is, or `prompts` different ones, which no seed changes.

    ## Episode End
    `terminated` after T = `length` tokens, or after EOS, which is never right here.

    ## Arguments
    `difficulty` ("small") is "tiny", "small" or "medium":

    | size                 | tiny   | small   | medium    |
    |----------------------|--------|---------|-----------|
    | letters              | 3      | 8       | 20        |
    | length               | 2      | 6       | 12        |
    | prompts              | 9      | 2048    | 4096      |
    | tokens of the budget | 20,000 | 150,000 | 5,000,000 |

    `letters`, `length` and `prompts` replace single sizes. `seed` (0) orders the prompts. `rewards` are paid
    beside the task's own, as in `TokenEnv`; `first_episode`, `episode_stride` and `render_mode` too are
    `TokenEnv`'s. `facts()` says what is known about the task as it is, `policy()` gives a small language
    model to start from.

    ## Version History
    * v0: Initial version.
    """

    recipe = CopyTask()


class CopyVectorEnv(TextTaskVectorEnv):
    """`CopyEnv`, many at once."""

    recipe = CopyEnv.recipe


class ReverseEnv(TextTaskEnv):
    """Write the letters of the prompt from the last to the first.

    ## Description
    The prompt `c a b` asks for `b a c`. As Copy, but where to look moves backwards while the response goes
    on: a network with relative positions cannot just look a fixed distance back.

    ## Action Space
    `Discrete(V)`: the next token. Token 0 is padding, token 1 is EOS, then come the letters: V = letters +
    2.

    ## Observation Space
    `Dict(input_ids=Box(0, V-1, (P + T,), int64), attention_mask=Box(0, 1, (P + T,), int8))`: the prompt,
    padded on the left to P tokens, then the response, padded on the right to T; see `TokenEnv`.

    ## Rewards
    1 / length for each right letter, paid as it is written. The best return is 1. A policy that draws tokens
    at random gets 0.1800, 0.0781 and 0.0356 in the three difficulties.

    ## Starting State
    `length` letters: every string that there is, or `prompts` different ones, which no seed changes.

    ## Episode End
    `terminated` after T = `length` tokens, or after EOS, which is never right here.

    ## Arguments
    `difficulty` ("small") is "tiny", "small" or "medium":

    | size                 | tiny   | small   | medium    |
    |----------------------|--------|---------|-----------|
    | letters              | 3      | 8       | 20        |
    | length               | 2      | 6       | 12        |
    | prompts              | 9      | 2048    | 4096      |
    | tokens of the budget | 20,000 | 150,000 | 5,000,000 |

    `letters`, `length` and `prompts` replace single sizes. `seed` (0) orders the prompts. `rewards` are paid
    beside the task's own, as in `TokenEnv`; `first_episode`, `episode_stride` and `render_mode` too are
    `TokenEnv`'s. `facts()` says what is known about the task as it is, `policy()` gives a small language
    model to start from.

    ## Version History
    * v0: Initial version.
    """

    recipe = ReverseTask()


class ReverseVectorEnv(TextTaskVectorEnv):
    """`ReverseEnv`, many at once."""

    recipe = ReverseEnv.recipe
