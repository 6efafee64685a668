from __future__ import annotations

import re
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from textrl.data.corpora import CORPORA, documents, ordinary_passages, ptx_documents
from textrl.data.ratings import load_ratings, ratings_cached
from textrl.errors import UserError


def write(folder: Path, stem: str, rows: list[tuple[str, str]]) -> Path:
    truth = "\n".join(f"{identity}\t0.0\t{text}" for identity, text in rows)
    ratings = "\n".join(f"{identity}\t0.0\t0.0\t[0]" for identity, _ in rows)
    (folder / f"{stem}_GroundTruth.txt").write_text(truth, encoding="utf-8")
    (folder / f"{stem}_anonDataRatings.txt").write_text(ratings, encoding="utf-8")
    return folder


def test_sentences_are_joined_per_document_in_their_order(tmp_path: Path) -> None:
    rows = [("1_1", "One."), ("1_10", "Ten."), ("1_2", "Two."), ("2_1", "Other.")]
    write(tmp_path, "nytEditorialSnippets", rows)
    assert documents("nyt", tmp_path) == ["One. Two. Ten.", "Other."]


def test_lower_cased_reviews_get_their_capitals_back(tmp_path: Path) -> None:
    rows = [("1_1", "i like it , and i'm glad ."), ("1_2", "the i-pod is not mine! is it?")]
    write(tmp_path, "amazonReviewSnippets", rows)
    assert documents("amazon", tmp_path) == ["I like it, and I'm glad. The i-pod is not mine! Is it?"]


def test_stand_ins_for_names_and_links_leave_the_messages(tmp_path: Path) -> None:
    rows = [
        ("1", "RT @anonymous: what a lovely day it is"),
        ("2", "@anonymous thanks"),
        ("3", "see http://url_removed"),
    ]
    rows += [("4", "what a lovely day it is"), ("5", "we like this one a lot http://url_removed :)")]
    write(tmp_path, "tweets", rows)
    assert documents("tweets", tmp_path) == ["what a lovely day it is\nwe like this one a lot :)"]


@pytest.mark.parametrize("name", ["pydoc", "stdlib"])
def test_the_python_installation_gives_prose_only(name: str) -> None:
    found = documents(name)
    paragraphs = [paragraph for document in found for paragraph in document.split("\n")]
    assert len(found) > 20
    assert sum(len(paragraph.split()) for paragraph in paragraphs) > 10_000
    for paragraph in paragraphs:
        assert len(paragraph.split()) >= 15
        assert paragraph.endswith(".")
        assert not re.search(r">>>|::=|\*\*\*\*|^\.\. ", paragraph)


def test_the_stream_is_all_its_corpora_in_a_seeded_order(made_folder: Path) -> None:
    one = ptx_documents(["amazon", "tweets"], seed=1, folder=made_folder)
    assert one == ptx_documents(["amazon", "tweets"], seed=1, folder=made_folder)
    assert one != ptx_documents(["amazon", "tweets"], seed=2, folder=made_folder)
    expected = documents("amazon", made_folder) + documents("tweets", made_folder)
    assert sorted(one) == sorted(expected)


def test_unknown_repeated_and_missing_corpora_are_refused(made_folder: Path) -> None:
    with pytest.raises(UserError, match=r"no corpus named 'nytimes'.*nyt"):
        documents("nytimes")
    for names in ([], ["amazon", "amazon"]):
        with pytest.raises(UserError, match="needs distinct corpora"):
            ptx_documents(names, folder=made_folder)


def test_passages_are_whole_sentences_of_one_document(
    made_folder: Path, letters: PreTrainedTokenizerFast
) -> None:
    found = ordinary_passages(
        "nyt", letters, tokens=2000, shortest=100, longest=250, folder=made_folder, not_in=("amazon",)
    )
    sizes = [len(letters(text)["input_ids"]) for text in found]
    assert all(100 <= size <= 250 for size in sizes)
    assert sum(sizes) >= 2000 > sum(sizes[:-1])
    whole = documents("nyt", made_folder)
    sentences = {one.text for one in load_ratings("nyt", made_folder)}
    for text in found:
        assert sum(text in document for document in whole) >= 1
        assert all(f"{part}." in sentences for part in text.rstrip(".").split(". "))
    again = ordinary_passages("nyt", letters, tokens=2000, shortest=100, longest=250, folder=made_folder)
    assert found == again
    other = ordinary_passages(
        "nyt", letters, tokens=2000, shortest=100, longest=250, folder=made_folder, seed=1
    )
    assert found != other


def test_passages_that_come_out_too_long_are_left_out(
    made_folder: Path, letters: PreTrainedTokenizerFast
) -> None:
    found = ordinary_passages("nyt", letters, tokens=10**9, shortest=90, longest=120, folder=made_folder)
    assert len(found) >= 5
    assert all(90 <= len(letters(text)["input_ids"]) <= 120 for text in found)


def test_no_passage_is_drawn_twice(made_folder: Path, letters: PreTrainedTokenizerFast) -> None:
    found = ordinary_passages("nyt", letters, tokens=10**9, shortest=60, longest=400, folder=made_folder)
    assert len(found) == len(set(found)) > 20


def test_perplexity_text_may_not_be_in_the_stream(
    made_folder: Path, letters: PreTrainedTokenizerFast
) -> None:
    with pytest.raises(UserError, match="'nyt' is part of the pretraining stream"):
        ordinary_passages("nyt", letters, not_in=("nyt", "pydoc"), folder=made_folder)
    with pytest.raises(UserError, match="no passage of 5000 to 6000 tokens"):
        ordinary_passages("nyt", letters, shortest=5000, longest=6000, folder=made_folder)


def test_every_corpus_is_described() -> None:
    assert set(CORPORA) == {"amazon", "nyt", "tweets", "pydoc", "stdlib"}
    assert all(len(words) > 10 for words in CORPORA.values())


@pytest.mark.skipif(not ratings_cached(), reason="the human ratings are not in the cache")
def test_real_corpora_share_no_long_run_of_words_with_the_perplexity_text() -> None:
    def runs(texts: list[str]) -> set[tuple[str, ...]]:
        rows = [re.findall(r"\w+", text.lower()) for text in texts]
        return {tuple(row[i : i + 10]) for row in rows for i in range(len(row) - 9)}

    ordinary = runs(documents("nyt"))
    assert len(ordinary) > 80_000
    for name in ("amazon", "tweets", "pydoc"):
        assert not ordinary & runs(documents(name)), name
