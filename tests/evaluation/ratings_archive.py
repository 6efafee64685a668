"""A small archive with the layout of the real one, so that no test needs a network."""

from __future__ import annotations

import io
import random
import tarfile
from collections.abc import Mapping
from pathlib import Path

STEMS = ("movieReviewSnippets", "amazonReviewSnippets", "nytEditorialSnippets", "tweets")
GOOD = ["wonderful", "moving", "brilliant", "superb", "charming", "delightful"]
BAD = ["dull", "awful", "tedious", "lifeless", "clumsy", "dreadful"]
FILLER = (
    *("story", "plot", "camera", "actor", "scene", "script", "sound", "pace", "ending"),
    *("director", "city", "music", "hero", "tale", "mood"),
)


def made_tables(size: int = 120, seed: int = 0) -> dict[str, bytes]:
    """Tables by file name; a text's mean rating follows from the words in it."""
    generator = random.Random(seed)
    tables = {}
    for stem in STEMS:
        truths, ratings = [], []
        for number in range(size):
            liked = generator.random() < 0.5
            words = [generator.choice(FILLER) for _ in range(8)]
            words.insert(generator.randrange(8), generator.choice(GOOD if liked else BAD))
            given = [(3 if liked else -3) + generator.choice((-1, 0, 1)) for _ in range(4)]
            alone = stem in ("movieReviewSnippets", "tweets")
            identity = str(number + 1) if alone else f"{number // 6 + 1}_{number % 6 + 1}"
            text = " ".join(words).capitalize() + "."
            mean = sum(given) / len(given)
            truths.append(f"{identity}\t{mean}\t{text}")
            ratings.append(f"{identity}\t{mean}\t0.7\t{given}")
        tables[f"{stem}_GroundTruth.txt"] = "\r\n".join(truths).encode()
        tables[f"{stem}_anonDataRatings.txt"] = "\r\n".join(ratings).encode()
    return tables


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def write_archive(path: Path, tables: Mapping[str, bytes], extra: Mapping[str, bytes] | None = None) -> Path:
    """Write a source distribution; `extra` are further members of the inner archive, by full name."""
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as archive:
        for name, content in tables.items():
            add(archive, f"hutto_ICWSM_2014/{name}", content)
        for name, content in (extra or {}).items():
            add(archive, name, content)
    with tarfile.open(path, "w:gz") as archive:
        root = "vaderSentiment-3.3.2/additional_resources"
        add(archive, f"{root}/hutto_ICWSM_2014.tar.gz", inner.getvalue())
    return path
