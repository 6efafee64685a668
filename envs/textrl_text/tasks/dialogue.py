"""Dialogue: serve a customer, who answers every turn, over several turns of one episode.

A token is written in every step, and in this framework whatever is written is an action. So the customer's
words are tokens of the response as well: the policy writes the whole transcript, its own turns and, between
them, what the customer says. The customer is a machine that the policy cannot move: whatever is written in
the customer's turn, the dialogue goes on as if the customer had said what the machine says, and the machine's
own word pays a little. With ``masks=True`` only that word is left open in the customer's turn, so the
customer speaks for itself. Both forms have the same optimum.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import ClassVar, cast

from textrl_text.tasks.base import RuleTask
from textrl_text.tasks.envs import TextTaskEnv, TextTaskVectorEnv
from textrl_text.tasks.rules import State
from textrl_text.tasks.vocabulary import EOS_ID, word_ids

_ITEMS = ("tea", "soup", "cake", "milk", "rice", "figs", "bread", "plums")
_KINDS = ("polite", "hasty")
_CLERK = ("hello", "order?", "sorry", "bye")
_CUSTOMER = ("thanks", "hm", "fine")
#: What the customer's own word pays in the customer's turn, as a share of what a good turn of the clerk's
#: pays. A price on other words instead would make leaving early the safest thing to learn.
_LISTENING = 0.5


@dataclass(frozen=True)
class DialogueSizes:
    """How large Dialogue is.

    Attributes:
        kinds: 1 has polite customers only, 2 hasty ones as well.
        items: What can be ordered.
        orders: How many items a customer wants, one after the other.
    """

    kinds: int
    items: int
    orders: int

    def __post_init__(self) -> None:
        for name, least, most in (("kinds", 1, 2), ("items", 2, len(_ITEMS)), ("orders", 1, 4)):
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} is {getattr(self, name)}; give {least} to {most}")


@dataclass(frozen=True)
class Talk:
    """Where a dialogue stands.

    Attributes:
        plan: Tokens that the customer still waits for, the next one first.
        unit: What a good turn of the clerk's pays.
        cross: Whether the customer waits for an apology first.
        reply: What the customer says now; None in the clerk's turn.
        content: Whether the reply is to a good turn that was not the last.
    """

    plan: tuple[int, ...]
    unit: float
    cross: bool = False
    reply: int | None = None
    content: bool = False


class DialogueRules:
    """The customer, and what each turn pays."""

    def __init__(self, words: Sequence[str]) -> None:
        """Number the words."""
        self.ids = word_ids(words)
        self.items = frozenset(self.ids[item] for item in _ITEMS if item in self.ids)
        self.own = [EOS_ID, *(self.ids[word] for word in _CLERK), *sorted(self.items)]

    def start(self, prompt: Sequence[int]) -> State:
        """Read what the customer will wait for."""
        wanted = [token for token in prompt if token in self.items]
        greeting = [self.ids["hello"]] if prompt[0] == self.ids["polite"] else []
        plan = (*greeting, self.ids["order?"], *wanted, self.ids["bye"])
        return Talk(plan, 1 / (len(plan) + _LISTENING * (len(plan) - 1)))

    def step(self, state: State, token: int) -> tuple[State, float]:
        """Take one turn: the clerk's, or the customer's."""
        talk = cast(Talk, state)
        if talk.reply is not None:
            heard = talk.content and token == talk.reply
            return replace(talk, reply=None, content=False), _LISTENING * talk.unit if heard else 0.0
        if talk.cross:
            calm = token == self.ids["sorry"]
            return replace(talk, cross=not calm, reply=self.ids["fine" if calm else "hm"]), 0.0
        if not talk.plan:
            return replace(talk, reply=self.ids["bye"]), 0.0
        if token != talk.plan[0]:
            return replace(talk, cross=True, reply=self.ids["hm"]), 0.0
        rest = talk.plan[1:]
        return replace(talk, plan=rest, reply=self._answer(token, rest), content=bool(rest)), talk.unit

    def _answer(self, token: int, rest: tuple[int, ...]) -> int:
        """Return what a content customer says: the greeting back, the next item, or thanks."""
        if token in (self.ids["hello"], self.ids["bye"]):
            return token
        return rest[0] if rest[0] in self.items else self.ids["thanks"]

    def allowed(self, state: State) -> Collection[int] | None:
        """Return the customer's word in the customer's turn, else the clerk's words and EOS."""
        reply = cast(Talk, state).reply
        return self.own if reply is None else [reply]


class DialogueTask(RuleTask[DialogueSizes]):
    """Dialogue."""

    name = "dialogue"
    pays = "token"
    has_masks = True
    sizes: ClassVar = {
        "tiny": DialogueSizes(kinds=1, items=2, orders=1),
        "small": DialogueSizes(kinds=2, items=4, orders=2),
        "medium": DialogueSizes(kinds=2, items=6, orders=3),
    }
    budgets: ClassVar = {"tiny": 50_000, "small": 200_000, "medium": 5_000_000}

    def words(self, size: DialogueSizes) -> tuple[str, ...]:
        """Return the clerk's words, the customer's, and those of the prompts."""
        return (*_CLERK, *_ITEMS[: size.items], *_CUSTOMER, *_KINDS[: size.kinds], ":")

    def prompts(self, size: DialogueSizes) -> Sequence[str]:
        """Return what is known about each customer: the kind, and the orders."""
        orders = product(_ITEMS[: size.items], repeat=size.orders)
        return [f"{kind} {' '.join(order)} :" for order in orders for kind in _KINDS[: size.kinds]]

    def horizon(self, size: DialogueSizes) -> int:
        """Return the turns of a polite customer's dialogue; the last one needs no answer."""
        return 2 * (size.orders + 3) - 1

    def rules(self, size: DialogueSizes) -> DialogueRules:
        """Return the customer."""
        return DialogueRules(self.words(size))


class DialogueEnv(TextTaskEnv):
    """Serve a simulated customer over several turns.

    ## Description
    A clerk, who is the policy, and a customer, who is simulated, take turns of one word each. The prompt is
    a note about the customer: `polite tea cake :` is somebody who wants to be greeted, then asked
    (`order?`), then served tea, then cake, and then to hear `bye`; `hasty` customers want no greeting. After
    a word that does not fit, the customer is cross, says `hm`, and waits for `sorry`, which costs two turns.

        clerk     hello         order?       tea        cake            bye
        customer         hello         tea        cake          thanks

    In this framework every token of a response is an action, the customer's words as well. The policy
    therefore writes the whole transcript. It cannot move the customer: whatever it writes in the customer's
    turn, the dialogue goes on as if the customer's own word stood there, and that word pays a little. What
    the customer says follows from the note and from the clerk's words, so it can be learnt. With
    `masks=True` nothing but the customer's word is left open in the customer's turns: then the customer
    speaks, and the policy only the clerk's part. Both forms have the same best return.

    ## Action Space
    `Discrete(V)`: the next token. Token 0 is padding, token 1 is EOS, then come the clerk's words, what can
    be ordered, the customer's words and those of the notes.

    ## Observation Space
    `Dict(input_ids=Box(0, V-1, (P + T,), int64), attention_mask=Box(0, 1, (P + T,), int8))`: the prompt,
    padded on the left to P tokens, then the response, padded on the right to T; see `TokenEnv`.

    ## Rewards
    One unit for each word of the clerk's that the customer was waiting for, paid as it is written, and half
    a unit where the customer's reply to it is left as it is. The last turn needs no reply. A unit is such
    that the best return is 1. A policy that draws tokens at random gets 0.0172, 0.0125 and 0.0090 in the
    three difficulties.

    ## Starting State
    One note for each sequence of `orders` items and each kind of customer.

    ## Episode End
    `terminated` after EOS, with which the clerk leaves, or after T = 2 (orders + 3) - 1 tokens: the turns
    that a polite customer needs.

    ## Arguments
    `difficulty` ("small") is "tiny", "small" or "medium":

    | size                 | tiny   | small   | medium    |
    |----------------------|--------|---------|-----------|
    | kinds                | 1      | 2       | 2         |
    | items                | 2      | 4       | 6         |
    | orders               | 1      | 2       | 3         |
    | tokens of the budget | 50,000 | 200,000 | 5,000,000 |

    `kinds`, `items` and `orders` replace single sizes. `seed` (0) orders the prompts; `masks=True` is
    explained above. `rewards` are paid beside the task's own, as in `TokenEnv`; `first_episode`,
    `episode_stride` and `render_mode` too are `TokenEnv`'s. `facts()` says what is known about the task as
    it is, `policy()` gives a small language model to start from.

    ## Version History
    * v0: Initial version.
    """

    recipe = DialogueTask()


class DialogueVectorEnv(TextTaskVectorEnv):
    """`DialogueEnv`, many at once."""

    recipe = DialogueEnv.recipe
