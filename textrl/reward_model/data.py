"""Groups of tokenised completions, and what people said about them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from textrl.batching import Row, context_length
from textrl.data.rankings import RankingGroup
from textrl.errors import UserError
from textrl.models.heads import is_decoder
from textrl.sft import SFTExample, rows_of
from textrl.training import TrainSettings

_log = logging.getLogger(__name__)


class Group(NamedTuple):
    """K tokenised completions of a prompt, their ranks (lower is better) and what else is known.

    ``margin`` is by how much any completion is better than one of a worse rank; where there are
    ``ratings``, their differences say it.
    """

    rows: tuple[Row, ...]
    ranks: tuple[float, ...]
    margin: float = 0.0
    ratings: tuple[float, ...] | None = None

    @property
    def width(self) -> int:
        """Tokens of the longest row."""
        return max(len(row.ids) for row in self.rows)

    @property
    def decided(self) -> bool:
        """Whether any pair is not a tie."""
        return len(set(self.ranks)) > 1


def tokenise(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    groups: Sequence[RankingGroup],
    settings: TrainSettings,
    what: str,
) -> list[Group]:
    """Tokenise groups; where one has no place, `what` names it in errors, with its number from 1.

    Raises:
        UserError: When a prompt leaves no room for a completion, or a completion is empty.
    """
    found = []
    for number, group in enumerate(groups, start=1):
        examples = [SFTExample(group.prompt, completion) for completion in group.completions]
        name = group.where or f"{what} {number}"
        rows = rows_for(model, tokenizer, examples, settings, f"{name}, completion")
        found.append(Group(tuple(rows), group.ranks, float(group.margin or 0.0), group.ratings))
    return found


def tell_cut(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    groups: Sequence[RankingGroup],
    tokenised: Sequence[Group],
    settings: TrainSettings,
) -> None:
    """Log how many completions lost their end, and how many rankings lost their difference with it."""
    limit = context_length(model, settings.max_tokens)
    cut = alike = 0
    for group, made in zip(groups, tokenised, strict=True):
        full = [row for row in made.rows if len(row.ids) >= limit]
        if not full:
            continue
        pairs = zip(group.completions, made.rows, strict=True)
        cut += sum(_loses_its_end(tokenizer, group.prompt, *pair, limit) for pair in pairs)
        alike += len({row.ids for row in made.rows}) < len(set(group.completions))
    if cut:
        same = f"; {alike:,} rankings hold different texts that read the same then" if alike else ""
        _log.warning(
            "%d completions are with their prompt longer than max_tokens %d and lost their end%s; raise "
            "max_tokens to read them whole.", cut, limit, same,
        )  # fmt: skip


def _loses_its_end(
    tokenizer: PreTrainedTokenizerBase, prompt: str, completion: str, row: Row, limit: int
) -> bool:
    if len(row.ids) < limit:
        return False
    head = row.first if prompt else 0
    return head + len(tokenizer(completion, add_special_tokens=False, verbose=False).input_ids) > limit


def rows_for(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[SFTExample],
    settings: TrainSettings,
    what: str,
) -> list[Row]:
    """Tokenise prompts with completions for a decoder or an encoder; `what` names them in errors.

    A decoder reads the prompt's ids and then the completion's, as the policy wrote them. An encoder reads
    the joined text between its own special tokens, and no EOS is appended.
    """
    if is_decoder(model):
        return rows_of(model, tokenizer, examples, settings, what)
    limit = min(context_length(model, settings.max_tokens), tokenizer.model_max_length)
    return [
        _encoder_row(tokenizer, example, limit, f"{what} {number}")
        for number, example in enumerate(examples, start=1)
    ]


def _encoder_row(tokenizer: PreTrainedTokenizerBase, example: SFTExample, limit: int, what: str) -> Row:
    if not example.completion:
        raise UserError(f"{what} has an empty completion; remove it or give it text.")
    head = len(tokenizer(example.prompt, verbose=False).input_ids)
    if example.prompt and head >= limit:
        raise UserError(
            f"{what} has a prompt of {head} tokens, which leaves no room for a completion within "
            f"{limit}; shorten it or raise max_tokens."
        )
    # Cut at the end, as for decoders; the tokenizer keeps its closing special token.
    text = example.prompt + example.completion
    return Row(tuple(tokenizer(text, truncation=True, max_length=limit).input_ids), 1)


def as_pairs(groups: Sequence[RankingGroup]) -> list[RankingGroup]:
    """Return every decided pair as a group of its own: the "independent" pairs that K-wise training avoids.

    A completion of a group of K then goes through the network up to K - 1 times.
    """
    found: list[RankingGroup] = []
    for group in groups:
        size = len(group.completions)
        for i in range(size):
            for j in range(i + 1, size):
                if group.ranks[i] != group.ranks[j]:
                    found.append(_pair(group, i, j))
    return found


def _pair(group: RankingGroup, i: int, j: int) -> RankingGroup:
    one: dict[str, Any] = {
        "completions": (group.completions[i], group.completions[j]),
        "ranks": (group.ranks[i], group.ranks[j]),
    }
    if group.ratings is not None:
        one["ratings"] = (group.ratings[i], group.ratings[j])
    return replace(group, **one)
