"""`textrl data split`: read the keys, plan, write the parts, and say what came out."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from textrl.data.preferences.keys import PROMPT, KeyTable, read_keys
from textrl.data.preferences.lines import RecordFile
from textrl.data.preferences.results import bar, new_folder
from textrl.data.preferences.split import (
    LEFT_OUT,
    PARTS,
    Split,
    SplitSettings,
    binding,
    distinct,
    on_two_sides,
    plan_split,
)

#: A part may miss its size by this share of it before that is worth a warning.
_NEAR = 0.1


@dataclass(frozen=True)
class SplitReport:
    """What a split did.

    Attributes:
        source: The file and its SHA-256.
        settings: As given.
        records: In the file.
        left_out: By the limit for each user.
        parts: Name -> records, share, asked, and how many different keys of each column.
        components: How many pieces the records hang together in.
        largest: Records of the largest piece.
        both_sides: Column -> keys that ended in two parts; 0 for all that were to be kept apart.
        warnings: Sentences.
    """

    source: dict[str, str]
    settings: dict[str, Any]
    records: int
    left_out: int
    parts: dict[str, dict[str, Any]]
    components: int
    largest: int
    both_sides: dict[str, int]
    warnings: list[str]

    def plain(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return asdict(self)


def split_file(source: str | Path, out: Path, settings: SplitSettings) -> SplitReport:
    """Split a file into ``train``, ``validation`` and ``test`` with a ``split.json`` beside them.

    Records come out as they went in, byte for byte where the file is JSONL, in their order.

    Args:
        source: A ``.jsonl(.gz)`` or ``.parquet`` file.
        out: The folder to make.
        settings: How.

    Raises:
        UserError: On a file that cannot be read, a column that is not there, a part that would be empty.
    """
    file = RecordFile(source)
    with bar(f"Reading {file.path.name}", file.size) as tick:
        table = read_keys(file.records(tick), settings.columns, settings.seed)
    split = plan_split(table, settings)
    report = describe(file, table, split, settings)
    asked = {"train": True, "validation": settings.validation > 0, "test": settings.test > 0}
    with new_folder(Path(out)) as folder:
        outputs = [folder / f"{name}{file.suffix}" for name in PARTS if asked[name]]
        position = np.cumsum([asked[name] for name in PARTS]) - 1
        part = np.where(split.part == LEFT_OUT, LEFT_OUT, position[split.part])
        with bar(f"Writing {out}", file.size) as tick:
            file.copy(part.tolist(), outputs, tick)
        text = json.dumps(report.plain(), indent=1, ensure_ascii=False) + "\n"
        (folder / "split.json").write_text(text, encoding="utf-8")
    return report


def describe(file: RecordFile, table: KeyTable, split: Split, settings: SplitSettings) -> SplitReport:
    """Count what came out, from the parts themselves and not from the plan."""
    kept = int((split.part != LEFT_OUT).sum())
    asked = {
        "train": 1 - settings.validation - settings.test,
        "validation": settings.validation,
        "test": settings.test,
    }
    parts: dict[str, dict[str, Any]] = {}
    for index, name in enumerate(PARTS):
        rows = split.part == index
        if asked[name] > 0:
            counts = {column: distinct(table.of(column)[rows]) for column in table.columns}
            share = float(rows.sum()) / kept
            parts[name] = {
                "records": int(rows.sum()),
                "share": share,
                "asked": asked[name],
                "distinct": counts,
            }
    both = {column: on_two_sides(table.of(column), split.part) for column in table.columns}
    both["annotator"] = on_two_sides(table.annotators, split.part)
    report = SplitReport(
        source={"file": str(file.path), "sha256": file.digest()},
        settings=asdict(settings),
        records=len(table.keys),
        left_out=len(table.keys) - kept,
        parts=parts,
        components=len(split.sizes),
        largest=int(split.sizes.max()),
        both_sides=both,
        warnings=[],
    )
    report.warnings.extend(_warnings(table, split, settings, report))
    return report


def _warnings(table: KeyTable, split: Split, settings: SplitSettings, report: SplitReport) -> list[str]:
    found = []
    total = len(table.keys)
    for name in settings.by:
        missing = int((table.of(name) == 0).sum())
        if missing:
            found.append(
                f"{missing:,} of {total:,} records have no '{name}'; only group and prompt hold them."
            )
    empty = int((table.of(PROMPT) == 0).sum())
    if empty and not settings.shared_prompts:
        found.append(f"{empty:,} records have an empty prompt, which ties nothing together.")
    if "annotator" not in settings.by and report.both_sides["annotator"]:
        count, known = report.both_sides["annotator"], distinct(table.annotators)
        found.append(
            f"{count:,} of {known:,} annotators have records in more than one part: a test on people the "
            "model has not learned from needs --by annotator."
        )
    if settings.shared_prompts and report.both_sides[PROMPT]:
        found.append(
            f"{report.both_sides[PROMPT]:,} prompts are in more than one part, as --shared-prompts allows."
        )
    if table.own_splits:
        found.append(
            f"{table.own_splits:,} records have a 'split' of their own, which this split does not follow."
        )
    kept = total - report.left_out
    off = [
        f"{name} has {part['share']:.1%} where {part['asked']:.1%} was asked"
        for name, part in report.parts.items()
        if name != "train" and abs(part["share"] - part["asked"]) > max(_NEAR * part["asked"], 1 / kept)
    ]
    large = report.largest > max(settings.test, settings.validation) * kept
    if off or (large and report.largest > 1):
        chosen = [table.columns.index(name) for name in settings.apart]
        keys = table.keys[split.part != LEFT_OUT][:, chosen]
        said = f"the largest of {report.components:,} pieces has {report.largest / kept:.1%} of the records"
        if large:
            said += ", too large to be held out, so it is in train; it is tied by "
            said += binding(keys, settings.apart)
        found.append("; ".join([*off, said]) + ".")
    return found
