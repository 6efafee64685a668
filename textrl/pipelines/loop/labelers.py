"""Who ranks: scores with or without mistakes, or a file that people filled in.

Shapes: ``K`` responses of a prompt.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from textrl.data.rankings import RankingGroup, read_rankings
from textrl.errors import UserError
from textrl.evaluation.statistics import Floats
from textrl.mdp.task import Prompt


@dataclass(frozen=True)
class Candidates:
    """K responses to one prompt, to be ranked.

    Attributes:
        number: Keys the labeler's mistakes; unique in a run.
        prompt: The prompt with its record.
        responses: K texts; equal ones stay, since each was sampled.
    """

    number: int
    prompt: Prompt
    responses: tuple[str, ...]


class Rater(Protocol):
    """Gives responses scores; larger is better."""

    def __call__(self, candidates: Sequence[Candidates]) -> list[Floats]:
        """Return (K,) scores for each set of candidates."""
        ...


class Labeler(Protocol):
    """Ranks responses."""

    def ranks(self, candidates: Sequence[Candidates]) -> list[tuple[float, ...] | None]:
        """Return K ranks for each set of candidates, 1 the best and equal for a tie; None where it passed."""
        ...


class ScoringLabeler:
    """Ranks by score, perhaps with mistakes.

    The mistakes are Gumbel noise on the scores: the order is then Plackett and Luce's, in which of two
    responses the better one comes first with probability sigmoid(difference / temperature), the
    Bradley-Terry model that the reward model assumes.
    """

    def __init__(
        self, rater: Rater, *, temperature: float = 0.0, tie_margin: float = 0.0, seed: int = 0
    ) -> None:
        """Keep the parts; see `textrl.pipelines.loop.settings.LabelSettings`."""
        self.rater, self.temperature, self.tie_margin, self.seed = rater, temperature, tie_margin, seed

    def ranks(self, candidates: Sequence[Candidates]) -> list[tuple[float, ...] | None]:
        """Return K ranks for each set of candidates; equal responses always tie."""
        found: list[tuple[float, ...] | None] = []
        for one, scores in zip(candidates, self.rater(candidates), strict=True):
            noise = (
                self.temperature * gumbel((self.seed, one.number), len(scores)) if self.temperature else 0.0
            )
            # A text that was sampled twice is the same text: it has the noise of its first appearance.
            first = [one.responses.index(text) for text in one.responses]
            found.append(ranks_by_score((scores + noise)[first], self.tie_margin))
        return found


class FileLabeler:
    """Rankings that people made of candidates that the loop wrote."""

    def __init__(self, file: Path) -> None:
        """Read the file.

        Raises:
            UserError: When it cannot be read, or two rankings are of the same prompt.
        """
        self.file = file
        self._by_prompt: dict[str, RankingGroup] = {}
        for group in read_rankings(file):
            if group.prompt in self._by_prompt:
                raise UserError(
                    f"{file}: the prompt {group.prompt[:60]!r} is ranked twice; keep one ranking."
                )
            self._by_prompt[group.prompt] = group

    def refuse_others(self, candidates: Sequence[Candidates]) -> None:
        """Refuse a file with rankings of prompts that are not among all candidates of the round.

        Raises:
            UserError: Names one of them.
        """
        unknown = self._by_prompt.keys() - {one.prompt.text for one in candidates}
        if unknown:
            raise UserError(
                f"{self.file}: the prompt {min(unknown)[:60]!r} is none of this round's; rank its own file."
            )

    def ranks(self, candidates: Sequence[Candidates]) -> list[tuple[float, ...] | None]:
        """Return the ranks of the file; None where a prompt is not in it.

        Raises:
            UserError: When a ranking is of other responses than the candidates.
        """
        found: list[tuple[float, ...] | None] = []
        for one in candidates:
            group = self._by_prompt.get(one.prompt.text)
            if group is None:
                found.append(None)
                continue
            ranks = dict(zip(group.completions, group.ranks, strict=True))
            for text in group.completions:
                if text not in one.responses:
                    raise UserError(
                        f"{self.file}: the completion {text[:60]!r} is none of those sampled for the prompt "
                        f"{one.prompt.text[:60]!r}; rank the texts of this round, unchanged."
                    )
            missing = [text for text in one.responses if text not in ranks]
            if missing:
                raise UserError(
                    f"{self.file}: the completion {missing[0][:60]!r} of the prompt {one.prompt.text[:60]!r} "
                    "has no rank; rank all of a prompt's completions, or leave the prompt out."
                )
            found.append(tuple(ranks[text] for text in one.responses))
        return found


def ranks_by_score(scores: Floats, tie_margin: float) -> tuple[float, ...]:
    """Return 1 for the best of (K,) scores and for its ties, 2 for the next, and so on.

    Walking down, a response ties with those above it while it is within `tie_margin` of the first of them,
    so that ties are transitive.
    """
    ranks = [0.0] * len(scores)
    rank, leader = 0.0, math.inf
    for index in np.argsort(-scores, kind="stable").tolist():
        if leader - scores[index] > tie_margin + 1e-9:  # 2.2 - 2.0 is more than 0.2 in binary
            rank, leader = rank + 1, float(scores[index])
        ranks[index] = rank
    return tuple(ranks)


def gumbel(key: Sequence[int], count: int) -> Floats:
    """Return (count,) standard Gumbel noise that depends on `key` alone."""
    # NumPy promises the raw stream of a bit generator for ever, but not what Generator makes of it.
    raw = np.random.PCG64(list(key)).random_raw(count)
    uniform = (np.asarray(raw >> np.uint64(11), dtype=np.float64) + 0.5) / 2.0**53
    return np.asarray(-np.log(-np.log(uniform)), dtype=np.float64)


def distinct(candidates: Candidates, ranks: Sequence[float]) -> RankingGroup | None:
    """Return the ranking of the different responses; None where there are not two of them."""
    by_text = dict(zip(candidates.responses, ranks, strict=True))
    if len(by_text) < 2:
        return None
    return RankingGroup(candidates.prompt.text, tuple(by_text), tuple(by_text.values()))
