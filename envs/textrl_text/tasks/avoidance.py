"""Keyword: avoid a word that the language model often says, and change nothing else."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

from textrl.rewards import Source
from textrl_text.tasks.envs import TextTaskEnv, TextTaskVectorEnv
from textrl_text.tasks.policies import Sentence
from textrl_text.tasks.prior import PriorTask
from textrl_text.tasks.rules import State, rules_source
from textrl_text.tasks.vocabulary import word_ids

#: The word to avoid.
KEYWORD = "bad"
_SUBJECTS = ("soup", "tea", "cake", "milk", "bread")
_VERBS = ("is", "was", "seems")
_ADVERBS = ("very", "so", "really")
_ADJECTIVES = (KEYWORD, "good", "cold", "sweet", "fresh")


@dataclass(frozen=True)
class KeywordSizes:
    """How large Keyword is.

    Attributes:
        subjects: Prompts, of one word each.
        verbs: First words of a response.
        adverbs: Words that may come second.
        adjectives: Words that end a response; the first of them is to be avoided.
        beta: Weight of the KL divergence from the prior.
    """

    subjects: int
    verbs: int
    adverbs: int
    adjectives: int
    beta: float

    def __post_init__(self) -> None:
        parts = (("subjects", _SUBJECTS, 1), ("verbs", _VERBS, 1), ("adverbs", _ADVERBS, 0))
        for name, words, least in (*parts, ("adjectives", _ADJECTIVES, 2)):
            if not least <= getattr(self, name) <= len(words):
                raise ValueError(f"{name} is {getattr(self, name)}; give {least} to {len(words)}")
        if not self.beta > 0:
            raise ValueError(f"beta is {self.beta}; it must be above 0")


class KeywordRules:
    """Takes 1 away when the word is written for the first time. A state says whether it has been."""

    def __init__(self, token: int) -> None:
        """Keep the token of the word."""
        self.token = token

    def start(self, prompt: Sequence[int]) -> State:
        """Begin without the word."""
        return False

    def step(self, state: State, token: int) -> tuple[State, float]:
        """Look for the word."""
        said = cast(bool, state)
        return said or token == self.token, -1.0 if token == self.token and not said else 0.0

    def allowed(self, state: State) -> Collection[int] | None:
        """There are no rules beside the pay."""
        return None


class KeywordTask(PriorTask[KeywordSizes]):
    """Keyword."""

    name = "keyword"
    sizes: ClassVar = {
        "tiny": KeywordSizes(subjects=1, verbs=1, adverbs=0, adjectives=2, beta=0.2),
        "small": KeywordSizes(subjects=2, verbs=2, adverbs=1, adjectives=4, beta=0.2),
        "medium": KeywordSizes(subjects=5, verbs=3, adverbs=3, adjectives=5, beta=0.1),
    }
    budgets: ClassVar = {"tiny": 50_000, "small": 200_000, "medium": 1_000_000}

    def words(self, size: KeywordSizes) -> tuple[str, ...]:
        """Return adjectives, verbs, adverbs and subjects."""
        return (
            *_ADJECTIVES[: size.adjectives], *_VERBS[: size.verbs], *_ADVERBS[: size.adverbs],
            *_SUBJECTS[: size.subjects],
        )  # fmt: skip

    def prompts(self, size: KeywordSizes) -> Sequence[str]:
        """Return the subjects."""
        return _SUBJECTS[: size.subjects]

    def horizon(self, size: KeywordSizes) -> int:
        """Return the tokens of verb, adverb, adjective and EOS."""
        return 4 if size.adverbs else 3

    def beta(self, size: KeywordSizes) -> float:
        """Return the weight of the KL divergence."""
        return size.beta

    def source(self, size: KeywordSizes) -> Source:
        """Return what takes the reward away."""
        return rules_source(KeywordRules(word_ids(self.words(size))[KEYWORD]), "token")

    def corpus(self, size: KeywordSizes) -> Sequence[Sentence]:
        """Return all sentences; how often the word comes depends on subject and verb.

        So the best policy says some verbs less often too: what follows them is often the word.
        """
        found = []
        for at, subject in enumerate(_SUBJECTS[: size.subjects]):
            for verb, verb_share in _shares(_VERBS[: size.verbs], 0.6):
                # From .45 to .85: the word is the likeliest adjective, more so after a later verb.
                bad = min(0.45 + 0.05 * at + 0.2 * _VERBS.index(verb), 0.85)
                others = _shares(_ADJECTIVES[1 : size.adjectives], 0.5)
                adjectives = [(KEYWORD, bad), *((word, (1 - bad) * share) for word, share in others)]
                for adverb, adverb_share in _shares(("", *_ADVERBS[: size.adverbs]), 0.5):
                    for adjective, share in adjectives:
                        text = " ".join(f"{verb} {adverb} {adjective}".split())
                        found.append(Sentence(subject, text, verb_share * adverb_share * share))
        return found


def _shares(words: Sequence[str], ratio: float) -> list[tuple[str, float]]:
    """Return probabilities of which each is `ratio` times the one before."""
    total = sum(ratio**place for place in range(len(words)))
    return [(word, ratio**place / total) for place, word in enumerate(words)]


class KeywordEnv(TextTaskEnv):
    """Avoid a word that a language model likes, and change no more.

    ## Description
    A small language model, the prior, goes on after a dish's name: `soup` `was very bad`. It says `bad` in
    about every second sentence. The policy starts as the prior, and is to say `bad` no more, yet otherwise
    what the prior says: the value of a policy is `E[return] - beta KL(policy || prior)`. Saying nothing, or
    always the same, is safe from the word and far from the prior. Since `bad` follows some verbs more often
    than others, the best policy says those verbs less often: the credit reaches back.

    The prior is a GPT-2 with weights that were fitted to the sentences of `KeywordTask.corpus`. It is made
    on first use and registered as `task-keyword-tiny`, `task-keyword-small` and `task-keyword-medium`.

    ## Action Space
    `Discrete(V)`: the next token. Token 0 is padding, token 1 is EOS, then come adjectives, verbs, adverbs
    and dishes.

    ## Observation Space
    `Dict(input_ids=Box(0, V-1, (P + T,), int64), attention_mask=Box(0, 1, (P + T,), int8))`: the prompt,
    padded on the left to P tokens, then the response, padded on the right to T; see `TokenEnv`.

    ## Rewards
    -1 with the token `bad`, the first time; nothing else is paid. The KL divergence is not paid by the
    environment, which knows no policy: give the learner the reward `kl` with the weight `facts().beta` and
    the prior as its reference. The best value is `beta log Z`, where Z is the prior's mean of `exp(return /
    beta)`, by enumeration of all responses. `facts()` computes it and the prior's own value, for the weights
    that were fitted here.

    ## Starting State
    One of the dishes.

    ## Episode End
    `terminated` after EOS, or after T tokens: 3 in "tiny", else 4.

    ## Arguments
    `difficulty` ("small") is "tiny", "small" or "medium":

    | size                 | tiny   | small   | medium    |
    |----------------------|--------|---------|-----------|
    | subjects             | 1      | 2       | 5         |
    | verbs                | 1      | 2       | 3         |
    | adverbs              | 0      | 1       | 3         |
    | adjectives           | 2      | 4       | 5         |
    | beta                 | 0.2    | 0.2     | 0.1       |
    | tokens of the budget | 50,000 | 200,000 | 1,000,000 |

    `subjects`, `verbs`, `adverbs`, `adjectives` and `beta` replace single sizes. `seed` (0) orders the
    prompts. `rewards` are paid beside the task's own, as in `TokenEnv`; `first_episode`, `episode_stride`
    and `render_mode` too are `TokenEnv`'s. `facts()` says what is known about the task as it is, `policy()`
    gives a small language model to start from.

    ## Version History
    * v0: Initial version.
    """

    recipe = KeywordTask()


class KeywordVectorEnv(TextTaskVectorEnv):
    """`KeywordEnv`, many at once."""

    recipe = KeywordEnv.recipe
