"""Texts with summaries: TRL's columns from files, the standard library's docstrings, how they are dealt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textrl.config import load_config
from textrl.data.summaries import (
    TRAILER,
    Summary,
    SummarySizes,
    deal,
    lead,
    library_summaries,
    read_summaries,
)
from textrl.errors import UserError

MODULE = '''
"""Read and write small files quickly.

The files are opened, read as a whole and closed again before anything is done with what they hold.

>>> read("x")
"""

def short():
    """Too short."""

def other():
    """Return the number of lines in a file.

    The file is read line by line, so that its size does not matter and only one line is held at a time.

        indented code is left out.
    """
'''


def test_docstrings_are_cut_into_text_and_summary(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("def f(:")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "module.py").write_text(MODULE.replace("small", "large"))
    found = library_summaries(tmp_path)
    assert [one.completion for one in found] == [
        " Read and write small files quickly.",
        " Return the number of lines in a file.",
    ]
    assert all(one.prompt.endswith(TRAILER) for one in found)
    assert found[1].text == (
        "The file is read line by line, so that its size does not matter and only one line is held at a time."
    )


def test_this_pythons_library_has_enough_for_the_offline_config() -> None:
    offline = load_config(Path(__file__).parents[2] / "configs" / "summarize_offline.yaml").data
    found = library_summaries()
    # With a few to spare: the library is another one in the next Python.
    assert len({one.text for one in found}) > 1.03 * sum(offline["data"]["sizes"].values())
    assert len(set(found)) == len(found)
    assert all(4 <= len(one.completion.split()) <= 16 and len(one.text.split()) >= 12 for one in found)


def test_made_texts_are_summarised_by_their_stronger_clause() -> None:
    from textrl.data.made import made_reviews

    found, rated = read_summaries("made", count=50, seed=3), made_reviews(100, 3)
    assert len(set(found)) == 50
    for index, one in enumerate(found):
        pair = rated[2 * index : 2 * index + 2]
        assert one.text == " ".join(sentence.text for sentence in pair)
        strongest = max(pair, key=lambda sentence: abs(sentence.mean))
        clause = one.completion.strip().removesuffix(".")
        assert any(s.text.startswith(clause) and abs(s.mean) == abs(strongest.mean) for s in pair)
        assert 3 <= len(clause.split()) <= 11
    assert read_summaries("made", count=50, seed=3) == found


def test_trl_columns_are_read(tmp_path: Path) -> None:
    file = tmp_path / "tldr.jsonl"
    prompt = "SUBREDDIT: r/a\n\nTITLE: b\n\nPOST: One two three. Four.\n\nTL;DR:"
    file.write_text(json.dumps({"prompt": prompt, "completion": "Numbers."}) + "\n")
    (one,) = read_summaries(str(file))
    assert one == Summary(prompt, " Numbers.")
    assert one.text == "One two three. Four."
    assert lead(one.text, 2) == "One two"


@pytest.mark.parametrize(
    "record", [{"prompt": "a"}, {"prompt": "a", "completion": " "}, {"prompt": 3, "completion": "b"}]
)
def test_a_bad_record_is_named_by_its_line(tmp_path: Path, record: dict[str, object]) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text(json.dumps({"prompt": "a", "completion": "b"}) + "\n" + json.dumps(record) + "\n")
    with pytest.raises(UserError, match=r"bad\.jsonl, line 2: '(prompt|completion)'"):
        read_summaries(str(file))


@settings(deadline=None)  # the first call imports, on a busy machine slowly
@given(st.integers(0, 99), st.lists(st.integers(0, 30), min_size=24, max_size=60))
def test_no_text_is_in_two_parts(seed: int, numbers: list[int]) -> None:
    texts = [Summary(f"Text  {n}", f" s{i}") for i, n in enumerate(numbers)]
    sizes = SummarySizes(sft=2, rm=2, rm_test=2, test=2)
    if len(set(numbers)) < 8:
        with pytest.raises(UserError, match="different texts"):
            deal(texts, sizes, seed)
        return
    parts = deal(texts, sizes, seed)
    prompts = [one.prompt for part in parts.values() for one in part]
    assert len(set(prompts)) == len(prompts) == 8
    assert parts == deal(texts, sizes, seed)


def test_an_empty_part_is_refused() -> None:
    with pytest.raises(ValueError, match="rm_test is 0"):
        SummarySizes(rm_test=0)
