"""QA-Feedback: answers to a question, judged in pairs, become rankings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from preference_world import imported, refused


def answers(*texts: str, preference: Any, **more: Any) -> dict[str, Any]:
    said = {f"prediction {number}": text for number, text in enumerate(texts, start=1)}
    return {"question": "Who?", "passages": [], **said, "preference": preference, **more}


def test_qa_feedback_ranks_answers_by_their_comparisons(tmp_path: Path) -> None:
    passages = [["Ada", "Ada\n\nAda wrote it.", "In 1843."], ["Bob", "He read it."]]
    record = answers(
        "a", "b", "c", "d", preference=[2, 0, 1, 1, 1, 1], gold="x", feedback={"errors": []}, split="dev"
    )
    found, result = imported(tmp_path, [{**record, "passages": passages}])
    # Won less lost: a 0, b 3, c 0, d -3.
    assert found == [
        {
            "prompt": "Ada\n\nAda wrote it. In 1843.\n\nBob\n\nHe read it.\n\nWho?",
            "completions": ["a", "b", "c", "d"],
            "ranks": [2, 1, 2, 3],
            "split": "dev",
        }
    ]
    assert result.origin == "qa-feedback"
    assert result.notes == {
        "reference answers left out": 1,
        "error spans and corrections left out": 1,
    }


def test_qa_feedback_counts_comparisons_that_fit_no_ranking(tmp_path: Path) -> None:
    # a = b and b = c, but a > c: b comes to stand between them, and both ties are changed.
    found, result = imported(tmp_path, [answers("a", "b", "c", preference=[0, 1, 0])])
    assert found[0]["ranks"] == [1, 2, 3]
    assert result.notes == {
        "comparisons changed: with the others of their question they fit no ranking": 2,
    }


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (answers("a", "b", preference=[3]), "'preference' is [3]; 2 answers need 1 numbers"),
        (answers("a", "b", preference=[1, 1]), "2 answers need 1 numbers"),
        (answers("a", "b", preference=[True]), "2 answers need 1 numbers"),
        (answers("a", preference=[]), "one answer alone cannot be compared"),
        (answers("a", "b", preference=[1], question=" "), "'question' is ' '; it must be a text"),
        (answers("a", "b", preference=[1]) | {"prediction 2": 5}, "'prediction 2' is 5; it must be a text"),
        (answers("a", "b", preference=[1], passages=["Ada"]), "a passage is 'Ada'"),
    ],
)
def test_qa_feedback_that_cannot_be_read_names_its_place(
    tmp_path: Path, record: Mapping[str, Any], said: str
) -> None:
    assert said in refused(tmp_path, [record])
