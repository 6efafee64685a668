"""Training, validation and test parts that share no user, no group and no prompt.

InstructGPT splits by user id, so that the test asks whether a model serves people it has not met. Here
records that share a user, a group or a (normalised) prompt hang together, and a part takes whole connected
components: nothing can be on two sides by way of a third record. Which component goes where is decided by
keyed hashes: it depends on the seed and on the records, not on their order in the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from textrl.data.preferences.keys import PROMPT, Keys, KeyTable, Labels, components, mixed
from textrl.errors import UserError, did_you_mean

#: Parts in the order of their indices; -1 is a record left out.
PARTS = ("train", "validation", "test")
LEFT_OUT = -1
GROUP = "group"
USER = "user_id"


@dataclass(frozen=True)
class SplitSettings:
    """How to split.

    Attributes:
        by: Columns of which no value may be on two sides, besides group and prompt.
        test: Share of the records.
        validation: Share of the records.
        max_per_user: Most prompts of one user (the first column of `by`), None for all; InstructGPT has 200.
        shared_prompts: Prompts may be on two sides: for data with few prompts and many completions.
        seed: Another one gives another split.
    """

    by: tuple[str, ...] = (USER,)
    test: float = 0.1
    validation: float = 0.1
    max_per_user: int | None = None
    shared_prompts: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot work.

        Raises:
            UserError: Names the option.
        """
        for name, share in (("test", self.test), ("validation", self.validation)):
            if not 0 <= share < 1:
                raise UserError(f"--{name} is {share}; give a share of the records from 0 to below 1.")
        if self.test + self.validation >= 1:
            raise UserError(
                f"--test {self.test} and --validation {self.validation} leave nothing to train on; lower one."
            )
        if self.max_per_user is not None and self.max_per_user < 1:
            raise UserError(f"--max-per-user is {self.max_per_user}; it must be at least 1.")
        if self.max_per_user is not None and not self.by:
            raise UserError("--max-per-user needs to know the users: name their column with --by.")

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column of keys that is read."""
        return tuple(dict.fromkeys((*self.by, GROUP, PROMPT)))

    @property
    def apart(self) -> tuple[str, ...]:
        """The columns of which no value may be on two sides."""
        return tuple(name for name in self.columns if name != PROMPT or not self.shared_prompts)


@dataclass(frozen=True)
class Split:
    """Which record goes where.

    Attributes:
        part: (N,) index into `PARTS`, or `LEFT_OUT`.
        labels: (N,) component; -1 where left out.
        sizes: Records in each component, by label.
    """

    part: NDArray[np.int8]
    labels: Labels
    sizes: NDArray[np.int64]


def plan_split(table: KeyTable, settings: SplitSettings) -> Split:
    """Assign every record.

    Args:
        table: With `settings.columns`.
        settings: How.

    Raises:
        UserError: When a column is in no record, or the records hang together so much that a part stays
            empty.
    """
    for name in settings.by:
        if name not in table.seen:
            raise UserError(
                f"No record has the column '{name}' of --by; name one that is there, or write --by "
                f"alone to keep only groups and prompts whole.{did_you_mean(name, table.seen)}"
            )
    total = len(table.keys)
    kept = np.ones(total, bool)
    if settings.max_per_user is not None:
        kept = within_cap(table, settings.by[0], settings.max_per_user)
    chosen = [table.columns.index(name) for name in settings.apart]
    keys = table.keys[kept][:, chosen]
    labels = components(keys)
    sizes = np.bincount(labels)
    order = np.argsort(mixed(_smallest(np.column_stack([keys, table.whole[kept]]), labels, len(sizes))))
    count = int(kept.sum())
    wanted = {"validation": round(settings.validation * count), "test": round(settings.test * count)}
    parts = fill(sizes, order, [wanted["validation"], wanted["test"]])
    _refuse_empty(parts, sizes, settings, keys)
    part = np.full(total, LEFT_OUT, np.int8)
    part[kept] = parts[labels]
    every = np.full(total, -1, np.int64)
    every[kept] = labels
    return Split(part, every, sizes)


def fill(sizes: NDArray[np.int64], order: Labels, wanted: Sequence[int]) -> NDArray[np.int8]:
    """Assign components to parts so that the sizes come near what is wanted.

    The components are taken in `order`; each goes to the last part with room for it, to part 0 where none
    has. A part that stays short then takes the smallest component of part 0 if that brings it nearer.

    Args:
        sizes: (M,) records in each component.
        order: (M,) components, at random.
        wanted: Records of parts 1, 2, ...

    Returns:
        (M,) index of the part.
    """
    parts = np.zeros(len(sizes), np.int8)
    room = list(wanted)
    for component in order.tolist():
        if not any(room):
            break
        size = int(sizes[component])
        for index in reversed(range(len(room))):
            if size <= room[index]:
                room[index] -= size
                parts[component] = index + 1
                break
    for index, short in enumerate(room):
        left = order[parts[order] == 0]
        if short and len(left) > 1:
            smallest = int(left[np.argmin(sizes[left])])
            if sizes[smallest] - short < short:
                parts[smallest] = index + 1
    return parts


def within_cap(table: KeyTable, user: str, most: int) -> NDArray[np.bool_]:
    """Return (N,) whether a record is among the `most` prompts of its user that stay.

    All records of a prompt stay or go together; which prompts stay is decided by hash. Records without a
    prompt count one by one, or by their group; records without a user all stay.
    """
    users = table.of(user)
    groups = table.of(GROUP)
    prompts = table.of(PROMPT)
    units = mixed(np.where(prompts != 0, prompts, np.where(groups != 0, groups, table.whole)) ^ mixed(users))
    order = np.lexsort((units, users))
    sorted_users, sorted_units = users[order], units[order]
    first_user = np.ones(len(order), bool)
    first_user[1:] = sorted_users[1:] != sorted_users[:-1]
    first_unit = first_user.copy()
    first_unit[1:] |= sorted_units[1:] != sorted_units[:-1]
    counted = np.cumsum(first_unit)
    starts = np.maximum.accumulate(np.where(first_user, counted, 0))
    kept = np.empty(len(order), bool)
    kept[order] = (counted - starts < most) | (sorted_users == 0)
    return kept


def on_two_sides(keys: Keys, part: NDArray[np.int8]) -> int:
    """Count the keys that have records in training and in another part, or in both of the others."""
    rows = np.flatnonzero((keys != 0) & (part != LEFT_OUT))
    if not len(rows):
        return 0
    inverse = np.unique(keys[rows], return_inverse=True)[1]
    low, high = np.full(inverse.max() + 1, 127, np.int8), np.full(inverse.max() + 1, -1, np.int8)
    np.minimum.at(low, inverse, part[rows])
    np.maximum.at(high, inverse, part[rows])
    return int((low != high).sum())


def distinct(keys: Keys) -> int:
    """Count the different keys; 0 is none."""
    return len(np.unique(keys[keys != 0]))


def _smallest(keys: Keys, labels: Labels, count: int) -> Keys:
    """Return (count,) smallest key of each component, which no order of the file changes."""
    largest = np.iinfo(np.uint64).max
    per_record = np.where(keys == 0, largest, keys).min(axis=1)
    found = np.full(count, largest, np.uint64)
    np.minimum.at(found, labels, per_record)
    return found


def _refuse_empty(
    parts: NDArray[np.int8], sizes: NDArray[np.int64], settings: SplitSettings, keys: Keys
) -> None:
    asked: Mapping[str, float] = {"train": 1.0, "validation": settings.validation, "test": settings.test}
    for index, name in enumerate(PARTS):
        if asked[name] == 0 or (parts == index).any():
            continue
        share = sizes.max() / sizes.sum()
        raise UserError(
            f"The part '{name}' would be empty: of {int(sizes.sum()):,} records {share:.0%} hang together "
            f"(pieces: {len(sizes):,}) through {binding(keys, settings.apart)}; add records, ask for other "
            "shares, or tie them by less (--by, --shared-prompts)."
        )


def binding(keys: Keys, columns: Sequence[str]) -> str:
    """Say which column ties the largest component: what its size would be without each of them.

    Args:
        keys: (N, C).
        columns: C names.
    """
    total = len(keys)
    said = []
    for index, name in enumerate(columns):
        if keys[:, index].any():
            rest = np.bincount(components(np.delete(keys, index, axis=1))).max() / total
            said.append(f"'{name}' (without it {rest:.0%})")
    return " and ".join(said) or "nothing"
