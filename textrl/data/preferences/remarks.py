"""What `textrl data check` warns of: oddities of records that can be read and may still be mistakes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from textrl.data.preferences.columns import meant
from textrl.data.preferences.schema import COLUMNS, KNOWN, Form


@dataclass(frozen=True)
class Remark:
    """Something that can be read and may still be a mistake.

    Attributes:
        name: For programs.
        count: How many.
        text: Of what, in words.
        first: Where the first one stands, where that is known.
    """

    name: str
    count: int
    text: str
    first: str = ""


#: Name -> what is counted; in the order they are shown.
WARNINGS: Mapping[str, str] = {
    "misplaced": "columns of another form, which are not read (--columns renames what is meant)",
    "split_prompt": "prompts in more than one split: a test on them asks what was trained on",
    "split_user_id": "users in more than one split (textrl data split --by user_id parts them)",
    "split_annotator": "annotators in more than one split (textrl data split --by annotator parts them)",
    "all_tied": "rankings that tie throughout and say nothing about an order",
    "only_ties": "rankings, and all of them tie throughout: of the losses, only rao_kupper learns from ties",
    "contradictory": "pairs of completions ranked both ways by one annotator (or by unnamed ones)",
    "undecided": "pairs of completions ranked once and tied once by one annotator (or by unnamed ones)",
    "circular": "prompts for which preferences of one annotator (or of unnamed ones) run in a circle",
    "beaten_by_itself": "rankings of a completion against the same text",
    "repeated_completion": "rankings that hold a text twice, with one rank",
    "duplicate": "records that stand in the file before, word for word",
    "one_completion": "prompts with one rated or labelled completion and nothing to compare it with",
    "empty_prompt": "empty prompts",
    "empty_completion": "empty completions",
    "no_annotator": "judgements that do not say whose they are, where others do",
}


class Shapes:
    """Takes in which columns records have, and keeps each set of columns once.

    Attributes:
        times: (form, columns) -> how many records have them.
    """

    def __init__(self) -> None:
        self.times: dict[tuple[Form, tuple[str, ...]], int] = {}
        self._first: dict[tuple[Form, tuple[str, ...]], str] = {}

    def see(self, where: str, form: Form, columns: tuple[str, ...]) -> None:
        """Take in the columns of a record."""
        shape = (form, columns)
        if shape not in self.times:
            self.times[shape], self._first[shape] = 0, where
        self.times[shape] += 1

    def misplaced(self) -> tuple[int, str]:
        """Return how many columns of another form there are, and the first of them.

        A column of another form says that something else was meant, unlike one nobody knows.
        """
        count, first = 0, ""
        for (form, columns), times in self.times.items():
            own = COLUMNS[form]
            others = [column for column in columns if column in _OF_FORMS and column not in own]
            count += times * len(others)
            if others and not first:
                first = f"{self._first[form, columns]}: '{others[0]}' in a {form.replace('_', ' ')}"
        return count, first

    def mistyped(self) -> Iterator[Remark]:
        """Yield a remark for each column that nobody knows and that is close to one that a record lacks."""
        intended: dict[str, str | None] = {}
        found: dict[str, tuple[int, str]] = {}
        for (form, columns), times in self.times.items():
            for column in columns:
                if column in KNOWN:
                    continue
                if column not in intended:
                    intended[column] = meant(column, KNOWN)
                if intended[column] is not None and intended[column] not in columns:
                    count, first = found.get(column, (0, self._first[form, columns]))
                    found[column] = (count + times, first)
        for column, (count, first) in found.items():
            said = f"records with a column '{column}', which is not read (did you mean '{intended[column]}'?)"
            yield Remark("mistyped", count, said, first)


_OF_FORMS = frozenset().union(*COLUMNS.values())
