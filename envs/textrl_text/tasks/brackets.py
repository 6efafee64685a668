"""Brackets: go on so that every bracket is closed by its own kind, in the right order."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

from textrl_text.tasks.base import RuleTask
from textrl_text.tasks.envs import TextTaskEnv, TextTaskVectorEnv
from textrl_text.tasks.rules import State
from textrl_text.tasks.vocabulary import FIRST_WORD

_KINDS = ("(", ")", "[", "]", "{", "}", "<", ">")


@dataclass(frozen=True)
class BracketSizes:
    """How large Brackets is.

    Attributes:
        kinds: Kinds of brackets, 1 to 4.
        prompt: Brackets of a prompt.
        length: Brackets of a response.
    """

    kinds: int
    prompt: int
    length: int

    def __post_init__(self) -> None:
        if not 1 <= self.kinds <= 4:
            raise ValueError(f"kinds is {self.kinds}; give 1 to 4")
        for name in ("prompt", "length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give at least 1")
        if (self.prompt + self.length) % 2:
            whole = self.prompt + self.length
            raise ValueError(f"length is {self.length}, with the prompt {whole} brackets; make them even")


class BracketRules:
    """Pays 1 / length for each bracket after which all can still be closed in time.

    A state is the stack of open brackets, as the tokens that close them, and the tokens left; None once a
    token has spoilt the text, after which nothing is paid.
    """

    def __init__(self, kinds: int, length: int) -> None:
        """Say which tokens open and which close.

        Args:
            kinds: Kinds of brackets.
            length: Tokens of a response.
        """
        self.length = length
        self.closers = {FIRST_WORD + 2 * kind: FIRST_WORD + 2 * kind + 1 for kind in range(kinds)}

    def start(self, prompt: Sequence[int]) -> State:
        """Read the prompt."""
        stack: tuple[int, ...] = ()
        for token in prompt:
            stack = (*stack, self.closers[token]) if token in self.closers else stack[:-1]
        return stack, self.length

    def step(self, state: State, token: int) -> tuple[State, float]:
        """Open or close a bracket."""
        if state is None or token not in self._open(state):
            return None, 0.0
        stack, left = cast(tuple[tuple[int, ...], int], state)
        stack = (*stack, self.closers[token]) if token in self.closers else stack[:-1]
        return (stack, left - 1), 1 / self.length

    def allowed(self, state: State) -> Collection[int] | None:
        """Return what can still be completed; everything once nothing can."""
        return None if state is None else self._open(state)

    def _open(self, state: State) -> list[int]:
        stack, left = cast(tuple[tuple[int, ...], int], state)
        # Below is room for one more pair; above, every token that is left must close.
        openers = list(self.closers) if len(stack) < left else []
        return [*openers, *stack[-1:]]


class BracketTask(RuleTask[BracketSizes]):
    """Brackets."""

    name = "brackets"
    pays = "token"
    has_masks = True
    sizes: ClassVar = {
        "tiny": BracketSizes(kinds=1, prompt=3, length=3),
        "small": BracketSizes(kinds=2, prompt=6, length=6),
        "medium": BracketSizes(kinds=3, prompt=6, length=10),
    }
    budgets: ClassVar = {"tiny": 20_000, "small": 200_000, "medium": 5_000_000}

    def words(self, size: BracketSizes) -> tuple[str, ...]:
        """Return the brackets, each kind's opening one first."""
        return _KINDS[: 2 * size.kinds]

    def prompts(self, size: BracketSizes) -> Sequence[str]:
        """Return every beginning that a response can complete."""
        words = self.words(size)
        pairs = dict(zip(words[::2], words[1::2], strict=True))
        grown: list[tuple[str, str]] = [("", "")]  # text, and the brackets that would close it
        for _ in range(size.prompt):
            opened = [
                (f"{text} {one}", close + stack) for text, stack in grown for one, close in pairs.items()
            ]
            closed = [(f"{text} {stack[0]}", stack[1:]) for text, stack in grown if stack]
            grown = opened + closed
        return [text.strip() for text, stack in grown if len(stack) <= size.length]

    def horizon(self, size: BracketSizes) -> int:
        """Return the length of a response."""
        return size.length

    def rules(self, size: BracketSizes) -> BracketRules:
        """Return what pays."""
        return BracketRules(size.kinds, size.length)


class BracketsEnv(TextTaskEnv):
    """Close the prompt's brackets, so that all are balanced.

    ## Description
    The prompt is the beginning of a text of brackets, for example `( [ ]`. The response goes on for `length`
    brackets, and then each must be closed by one of its own kind, in the right order. There are many right
    responses; what is right depends on everything before, and a mistake cannot be mended.

    ## Action Space
    `Discrete(V)`: the next token. Token 0 is padding, token 1 is EOS, then come the brackets, each kind's
    opening one first: V = 2 kinds + 2.

    ## Observation Space
    `Dict(input_ids=Box(0, V-1, (P + T,), int64), attention_mask=Box(0, 1, (P + T,), int8))`: the prompt,
    padded on the left to P tokens, then the response, padded on the right to T; see `TokenEnv`.

    ## Rewards
    1 / length for each bracket after which all can still be closed by the end, paid as it is written. From
    the first mistake on nothing is paid. The best return is 1. A policy that draws tokens at random gets
    0.1823, 0.1102 and 0.0908 in the three difficulties.

    ## Starting State
    Every text of `prompt` brackets that can be completed, for example 408 of them in "small".

    ## Episode End
    `terminated` after T = `length` tokens, or after EOS, which is a mistake.

    ## Arguments
    `difficulty` ("small") is "tiny", "small" or "medium":

    | size                 | tiny   | small   | medium    |
    |----------------------|--------|---------|-----------|
    | kinds                | 1      | 2       | 3         |
    | prompt               | 3      | 6       | 6         |
    | length               | 3      | 6       | 10        |
    | tokens of the budget | 20,000 | 200,000 | 5,000,000 |

    `kinds`, `prompt` and `length` replace single sizes. `seed` (0) orders the prompts; `masks=True` leaves
    open only what can still be completed. `rewards` are paid beside the task's own, as in `TokenEnv`;
    `first_episode`, `episode_stride` and `render_mode` too are `TokenEnv`'s. `facts()` says what is known
    about the task as it is, `policy()` gives a small language model to start from.

    ## Version History
    * v0: Initial version.
    """

    recipe = BracketTask()


class BracketsVectorEnv(TextTaskVectorEnv):
    """`BracketsEnv`, many at once."""

    recipe = BracketsEnv.recipe
