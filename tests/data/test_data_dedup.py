"""Duplicates: identical records, long prefixes, similar shingles; against brute force and datasketch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textrl.cli import main
from textrl.data.preferences.dedup import DedupSettings, dedup_file, read_contents, removals
from textrl.data.preferences.near import band_keys, band_shape, by_minhash, by_prefix, jaccard, shingled


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@given(texts=st.lists(st.text("ab", max_size=8), unique=True, max_size=20), length=st.integers(1, 5))
@settings(deadline=None)
def test_prefix_classes_are_those_of_brute_force(texts: list[str], length: int) -> None:
    found = by_prefix(texts, length)
    for i, text in enumerate(texts):
        alike = [
            j for j, other in enumerate(texts) if len(text) >= length and other[:length] == text[:length]
        ]
        assert found.keeper[i] == min(alike, default=i)
        kept = texts[found.keeper[i]]
        if kept != text:
            assert text.startswith(kept[: int(found.similarity[i])])
            assert found.similarity[i] >= length


def grams(text: str) -> set[str]:
    return {text[i : i + 5] for i in range(max(len(text) - 4, 1))}


@given(first=st.text(max_size=30), second=st.text(max_size=30))
def test_similarity_is_that_of_sets_of_five_characters(first: str, second: str) -> None:
    one, two = grams(first), grams(second)
    assert jaccard(shingled(first), shingled(second)) == pytest.approx(len(one & two) / len(one | two))


def similar_texts() -> list[str]:
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefghij"), 6)) for _ in range(200)]
    texts = [" ".join(rng.choice(words, 30)) for _ in range(40)]
    near = [" ".join([*text.split()[:-1], "changed"]) for text in texts[:15]]
    far = [" ".join([*text.split()[:15], *rng.choice(words, 15)]) for text in texts[15:30]]
    return texts + near + far


def test_near_copies_are_found_and_half_copies_are_not() -> None:
    found = by_minhash(similar_texts(), 0.8)
    assert found.keeper[40:55].tolist() == list(range(15))
    assert (found.similarity[40:55] >= 0.8).all()
    others = [*range(40), *range(55, 70)]
    assert found.keeper[others].tolist() == others


def test_candidates_are_those_of_datasketch() -> None:
    """Two texts share a band here exactly when datasketch's own index gives one for the other."""
    import datasketch

    texts = similar_texts()
    bands, rows = band_shape(0.5)
    parts = [shingled(text) for text in texts]
    keys = band_keys(parts, bands, rows)
    index = datasketch.MinHashLSH(num_perm=128, params=(bands, rows))
    made = list(datasketch.MinHash.generator((p.tolist() for p in parts), num_perm=128, seed=1, hashfunc=int))
    for number, one in enumerate(made):
        index.insert(number, one)
    for number, one in enumerate(made):
        mine = {j for j in range(len(texts)) if (keys[number] == keys[j]).any()}
        assert mine == set(index.query(one))


def test_what_stays_is_not_similar_and_what_goes_resembles_what_stays() -> None:
    texts = similar_texts()
    found = by_minhash(texts, 0.3)
    stays = set(np.flatnonzero(found.keeper == np.arange(len(texts))).tolist())
    assert len(stays) < 60
    for index, keeper in enumerate(found.keeper.tolist()):
        assert keeper in stays
        if keeper != index:
            assert keeper < index
            assert found.similarity[index] == pytest.approx(
                jaccard(shingled(texts[index]), shingled(texts[keeper]))
            )
            assert found.similarity[index] >= 0.3


PAIR = {"prompt": "Why?", "chosen": "So.", "rejected": "No."}


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (PAIR, True),
        ({**PAIR, "prompt": " why? "}, True),
        ({**PAIR, "user_id": "somebody else"}, True),
        ({**PAIR, "annotator": "ann"}, False),  # a second opinion
        ({**PAIR, "chosen": "No.", "rejected": "So."}, False),
        ({**PAIR, "tie": True}, False),
    ],
)
def test_which_records_are_identical(other: dict[str, Any], same: bool) -> None:
    removed = removals(read_contents([PAIR, other], "prompt"), {})
    assert [(item.row, item.kept, item.by) for item in removed] == ([(1, 0, "identical")] if same else [])


def test_all_records_of_a_prompt_stay_or_go(tmp_path: Path) -> None:
    head = "x" * 30
    records = [
        {"prompt": f"{head} one", "completion": f"c{i}", "rank": i, "group": "g", "annotator": i % 2}
        for i in range(4)
    ]
    records += [{"prompt": f"{head} two", "completion": f"c{i}"} for i in range(3)]
    records += [{"prompt": "other", "completion": "c"}, {"prompt": "other", "completion": "C"}]
    source, out = write(tmp_path / "a.jsonl", records), tmp_path / "b.jsonl"
    pairs = tmp_path / "pairs.jsonl"
    report = dedup_file(source, DedupSettings(prefix=20), out, pairs)
    assert read(out) == [*records[:4], records[7]]
    assert report.removed == {"identical": 1, "prefix": 3}
    assert (report.records, report.kept, report.prompts, report.prompts_kept) == (9, 5, 3, 2)
    assert [(row["row"], row["kept"], row["by"]) for row in read(pairs)] == [
        (5, 1, "prefix"),
        (6, 1, "prefix"),
        (7, 1, "prefix"),
        (9, 8, "identical"),
    ]


def test_both_methods_one_after_the_other(tmp_path: Path) -> None:
    text = "the quick brown fox jumps over the lazy dog and then it sleeps in the warm sun"
    records = [
        {"prompt": prompt} for prompt in (text, f"Oh, {text}", f"{text[:40]} never again", "something else")
    ]
    report = dedup_file(write(tmp_path / "a.jsonl", records), DedupSettings(("prefix", "minhash"), prefix=40))
    assert report.removed == {"identical": 0, "prefix": 1, "minhash": 1}
    assert report.kept == 2


def test_a_shared_header_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(
        tmp_path / "a.jsonl", [{"prompt": "You are a helpful assistant. " + str(i)} for i in range(30)]
    )
    assert main(["data", "dedup", str(source), "--prefix", "20"]) == 0
    said = capsys.readouterr().out
    assert "30 of 30 different prompts count as one by prefix" in said
    assert "raise --prefix" in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--method", "minhsh"], "Did you mean 'minhash'?"),
        (["--threshold", "0"], "--threshold is 0"),
        (["--prefix", "0"], "--prefix is 0"),
        (["--out", "b.parquet"], "must end in .jsonl"),
    ],
)
def test_mistakes_of_dedup(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    source = write(tmp_path / "a.jsonl", [PAIR])
    assert main(["data", "dedup", str(source), *options]) == 2
    assert said in capsys.readouterr().err
