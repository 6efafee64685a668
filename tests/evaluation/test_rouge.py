"""ROUGE-L against hand-computed numbers, brute force, and the usual package where it is installed."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textrl.evaluation.rouge import longest_common_subsequence, rouge_l

WORDS = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=7)


def by_brute_force(first: list[str], second: list[str]) -> int:
    subsequences = {kept for size in range(len(second) + 1) for kept in itertools.combinations(second, size)}
    return max(
        size
        for size in range(len(first) + 1)
        for kept in itertools.combinations(first, size)
        if kept in subsequences
    )


@settings(deadline=None)  # the first call imports, on a busy machine slowly
@given(WORDS, WORDS)
def test_the_longest_common_subsequence_is_the_longest(first: list[str], second: list[str]) -> None:
    assert longest_common_subsequence(first, second) == by_brute_force(first, second)


def test_lins_example() -> None:
    """Lin (2004), section 3.1: candidates S2 and S3 of S1 share bigrams alike, and differ in ROUGE-L."""
    s1 = "police killed the gunman"
    assert rouge_l("police kill the gunman", s1).f1 == pytest.approx(0.75)
    assert rouge_l("the gunman kill police", s1).f1 == pytest.approx(0.5)


def test_precision_and_recall() -> None:
    found = rouge_l("The cat, the CAT sat!", "the cat sat on the mat")
    assert (found.precision, found.recall) == pytest.approx((3 / 5, 3 / 6))
    assert found.f1 == pytest.approx(2 * 0.6 * 0.5 / 1.1)


@pytest.mark.parametrize(("candidate", "reference"), [("", "a"), ("a", ""), ("...", "a b"), ("x", "y")])
def test_nothing_in_common_is_zero(candidate: str, reference: str) -> None:
    assert rouge_l(candidate, reference).f1 == 0.0


@settings(deadline=None)  # the first call imports, on a busy machine slowly
@given(st.text(max_size=60), st.text(max_size=60))
def test_it_is_symmetric_and_bounded(first: str, second: str) -> None:
    one, other = rouge_l(first, second), rouge_l(second, first)
    assert one.f1 == pytest.approx(other.f1)
    assert one.precision == pytest.approx(other.recall)
    assert 0.0 <= one.f1 <= 1.0


@settings(deadline=None)  # the first call imports, on a busy machine slowly
@given(
    st.text(alphabet="abcd ABCD.,-_'0123456789\u00e9\n", max_size=80),
    st.text(alphabet="abcd ABCD.,-_'0123456789\u00e9\n", max_size=80),
)
def test_it_equals_the_usual_package(candidate: str, reference: str) -> None:
    package = pytest.importorskip(
        "rouge_score.rouge_scorer", reason="the package rouge-score is not installed"
    )
    theirs = package.RougeScorer(["rougeL"], use_stemmer=False).score(reference, candidate)["rougeL"]
    ours = rouge_l(candidate, reference)
    assert (ours.precision, ours.recall, ours.f1) == pytest.approx(tuple(theirs))
