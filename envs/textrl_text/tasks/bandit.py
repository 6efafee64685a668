"""WordBandit: one token, whose pay depends on the prompt's word."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from textrl_text.tasks.base import RuleTask
from textrl_text.tasks.envs import TextTaskEnv, TextTaskVectorEnv
from textrl_text.tasks.rules import State
from textrl_text.tasks.vocabulary import FIRST_WORD

_SYLLABLES = ("ba", "de", "ki", "lo", "mu", "na", "pe", "ri", "so", "tu", "va", "ze", "fi", "go", "hu", "ja")
_MOST = len(_SYLLABLES) ** 2


@dataclass(frozen=True)
class BanditSizes:
    """How large WordBandit is.

    Attributes:
        words: Words that can be answered.
        contexts: Of these words, how many are prompts.
    """

    words: int
    contexts: int

    def __post_init__(self) -> None:
        if not 2 <= self.words <= _MOST:
            raise ValueError(f"words is {self.words}; give 2 to {_MOST}")
        if not 1 <= self.contexts <= self.words:
            raise ValueError(f"contexts is {self.contexts}; give 1 to the number of words, {self.words}")


class BanditRules:
    """Pays the one token what a table says."""

    def __init__(self, size: BanditSizes) -> None:
        """Draw the table: (contexts, words) uniform numbers from 0 to 1, which no seed changes."""
        raw = np.random.PCG64([size.words, size.contexts]).random_raw(size.words * size.contexts)
        # NumPy promises the raw stream of a bit generator for ever; its upper 53 bits make a double.
        pays = (np.asarray(raw, dtype=np.uint64) >> np.uint64(11)).astype(np.float64) * 2.0**-53
        self.pays: NDArray[np.float64] = pays.reshape(size.contexts, size.words)

    def start(self, prompt: Sequence[int]) -> State:
        """Return the context."""
        return prompt[0] - FIRST_WORD

    def step(self, state: State, token: int) -> tuple[State, float]:
        """Look the pay up; padding and EOS, which are no words, have none."""
        word = token - FIRST_WORD
        return state, float(self.pays[cast(int, state), word]) if word >= 0 else 0.0

    def allowed(self, state: State) -> Collection[int] | None:
        """There are no rules beside the pay."""
        return None


class BanditTask(RuleTask[BanditSizes]):
    """WordBandit."""

    name = "word_bandit"
    pays = "token"
    sizes: ClassVar = {
        "tiny": BanditSizes(words=4, contexts=2),
        "small": BanditSizes(words=32, contexts=8),
        "medium": BanditSizes(words=256, contexts=64),
    }
    budgets: ClassVar = {"tiny": 10_000, "small": 50_000, "medium": 1_000_000}

    def words(self, size: BanditSizes) -> tuple[str, ...]:
        """Return words of two syllables."""
        every = [first + second for first in _SYLLABLES for second in _SYLLABLES]
        return tuple(every[: size.words])

    def prompts(self, size: BanditSizes) -> Sequence[str]:
        """Return the contexts."""
        return self.words(size)[: size.contexts]

    def horizon(self, size: BanditSizes) -> int:
        """Return 1."""
        return 1

    def rules(self, size: BanditSizes) -> BanditRules:
        """Return what pays."""
        return BanditRules(size)


class WordBanditEnv(TextTaskEnv):
    """Answer with one word; each has its own pay in each context.

    ## Description
    The prompt is one word, and so is the response. What a word is paid after a prompt stands in a table of
    random numbers. There is nothing to be understood: a contextual bandit, whose arms are tokens. It shows
    exploration and the noise of a learner alone, without time.

    ## Action Space
    `Discrete(V)`: the next token. Token 0 is padding, token 1 is EOS, then come the words: V = words + 2.

    ## Observation Space
    `Dict(input_ids=Box(0, V-1, (P + T,), int64), attention_mask=Box(0, 1, (P + T,), int8))`: the prompt,
    padded on the left to P tokens, then the response, padded on the right to T; see `TokenEnv`.

    ## Rewards
    The table's number, uniform in [0, 1], which no seed changes; 0 for padding and EOS. The best return, the
    mean over the prompts of the best word's pay, is 0.8263, 0.9546 and 0.9963 in the three difficulties. A
    policy that draws tokens at random gets 0.3748, 0.5105 and 0.4952 in the three difficulties.

    ## Starting State
    One of the `contexts`.

    ## Episode End
    `terminated` after the first token.

    ## Arguments
    `difficulty` ("small") is "tiny", "small" or "medium":

    | size                 | tiny   | small  | medium    |
    |----------------------|--------|--------|-----------|
    | words                | 4      | 32     | 256       |
    | contexts             | 2      | 8      | 64        |
    | tokens of the budget | 10,000 | 50,000 | 1,000,000 |

    `words` and `contexts` replace single sizes. `seed` (0) orders the prompts. `rewards` are paid beside the
    task's own, as in `TokenEnv`; `first_episode`, `episode_stride` and `render_mode` too are `TokenEnv`'s.
    `facts()` says what is known about the task as it is, `policy()` gives a small language model to start
    from.

    ## Version History
    * v0: Initial version.
    """

    recipe = BanditTask()


class WordBanditVectorEnv(TextTaskVectorEnv):
    """`WordBanditEnv`, many at once."""

    recipe = WordBanditEnv.recipe
