"""Sentences about films from a small grammar, for machines without a network.

They are rated by VADER's rules, which the report calls a simulated labeler: no person read them. The
fallback shows that every part works; what it says about people's taste is nothing.
"""

from __future__ import annotations

import random

from textrl.data.ratings import Rated

_SUBJECTS = (
    "The film", "The movie", "This story", "The whole picture", "The lead actor", "The director",
    "Her performance", "The second half", "The dialogue", "The camera work", "The score", "The ending",
    "His latest work", "The opening scene", "The young cast", "This remake",
)  # fmt: skip
_VERBS = ("is", "feels", "looks", "seems", "becomes", "turns out to be", "remains", "was")
_DEGREES = ("", "", "", "really", "quite", "so", "often", "never less than", "rather", "always")
_GOOD = (
    "wonderful", "charming", "brilliant", "funny", "moving", "great", "beautiful", "clever", "warm",
    "delightful", "excellent", "fresh", "honest", "joyful", "superb",
)  # fmt: skip
_BAD = (
    "boring", "awful", "dull", "sad", "terrible", "ugly", "weak", "horrible", "lazy", "painful",
    "stupid", "poor", "bad", "ridiculous", "annoying",
)  # fmt: skip
_PLAIN = ("long", "quiet", "short", "loud", "familiar", "small", "old", "simple", "dark", "slow")
_LINKS = ("and", "but", "and at times", "yet also", "and in the end")
_ENDS = (
    "from start to finish",
    "for most viewers",
    "at every turn",
    "in its own way",
    "on the big screen",
    "this time",
)


def made_reviews(count: int, seed: int) -> list[Rated]:
    """Return `count` different sentences with ratings in [-4, 4].

    Args:
        count: How many.
        seed: Of the grammar's choices.
    """
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    analyzer, draw = SentimentIntensityAnalyzer(), random.Random(seed)
    texts: dict[str, None] = {}
    while len(texts) < count:
        texts[_sentence(draw)] = None
    rated = []
    for index, text in enumerate(texts):
        mean = 4 * float(analyzer.polarity_scores(text)["compound"])
        rated.append(Rated(id=str(index), text=text, mean=mean, ratings=(round(mean),)))
    return rated


def _sentence(draw: random.Random) -> str:
    words = [draw.choice(_SUBJECTS), draw.choice(_VERBS), draw.choice(_DEGREES), _adjective(draw)]
    words += [draw.choice(_LINKS), draw.choice(_DEGREES), _adjective(draw), draw.choice(_ENDS)]
    return " ".join(word for word in words if word) + draw.choice((".", ".", ".", "!"))


def _adjective(draw: random.Random) -> str:
    return draw.choice(draw.choice((_GOOD, _BAD, _PLAIN)))
