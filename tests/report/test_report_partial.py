from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import run_folder
from html_tree import Page
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from textrl.errors import UserError
from textrl.report import write_report
from textrl.report.schema import Headline, JudgeSummary, Summary


def report(folder: Path, **parts: Any) -> Page:
    page = Page(write_report(run_folder.write_run(folder, **parts)).read_text("utf-8"))
    assert page.problems == []
    return page


def sections(page: Page) -> list[str]:
    return [attributes["id"] for attributes, _ in page.all("section")]


def test_sft_alone_has_a_report(tmp_path: Path) -> None:
    rows = run_folder.sft_rows(random.Random(0))
    summary = {"wall_s": 92.0, "command": ["textrl", "run", "my sft.yaml"]}
    page = report(tmp_path, rows=rows, summary=summary, samples=None, stages={"sft": {}})
    assert sections(page) == ["diagnosis", "training", "time", "reproduce"]
    (lead,) = [text for _, text in page.all("p", "lead")]
    assert lead.startswith("Supervised fine-tuning: held-out loss 3.36 \u2192 3.06")
    assert page.all("span", "pill")[0][1] == "finished"
    assert "textrl run 'my sft.yaml'" in page.text()
    assert "Estimated from the metrics" in page.text()


def test_interrupted_run_says_so(tmp_path: Path) -> None:
    rng = random.Random(0)
    rows = run_folder.sft_rows(rng) + run_folder.reward_model_rows(rng)[:30]
    summary = {"planned_stages": ["sft", "reward_model", "ppo", "evaluate"]}
    page = report(tmp_path, rows=rows, summary=summary, samples=None, stages={"sft": {"steps": 120}})
    assert page.all("span", "pill")[0][1] == "interrupted"
    (notice,) = [text for _, text in page.all("div", "banner")]
    assert notice == (
        "This run was interrupted before its end: it stopped in the stage Reward model, at step 30; 1 of 4 "
        "stages finished (Supervised fine-tuning). Run the same command with --resume to continue."
    )


def test_commands_of_an_interrupted_run_come_from_its_sessions(tmp_path: Path) -> None:
    sessions = [
        {"command": ["textrl", "run", "a b.yaml"]},
        {"command": ["textrl", "run", "a b.yaml", "--resume"]},
    ]
    page = report(tmp_path, summary=None, environment={"sessions": sessions, "cpu": "x"})
    assert page.all("pre")[0][1] == "textrl run 'a b.yaml'\ntextrl run 'a b.yaml' --resume"
    assert "sessions" not in page.text()
    assert page.all("span", "pill")[0][1] == "finished"


@pytest.mark.parametrize(
    ("done", "planned", "status"),
    [
        ({"ppo": {}}, None, "finished"),
        ({}, None, "interrupted"),
        ({"ppo": {}}, ["ppo", "evaluate"], "interrupted"),
    ],
)
def test_status_is_inferred(
    tmp_path: Path, done: dict[str, Any], planned: list[str] | None, status: str
) -> None:
    summary = {"planned_stages": planned} if planned else {}
    rows = run_folder.ppo_rows(random.Random(0), 5)
    page = report(tmp_path, rows=rows, summary=summary, stages=done, samples=None)
    assert page.all("span", "pill")[0][1] == status


@pytest.mark.parametrize("status", ["running", "failed"])
def test_stated_status_wins(tmp_path: Path, status: str) -> None:
    page = report(tmp_path, summary=run_folder.summary() | {"status": status})
    assert page.all("span", "pill")[0][1] == status
    assert page.all("div", "banner")


@pytest.mark.parametrize("missing", ["summary", "stages", "environment", "config", "samples"])
def test_each_file_may_be_missing(tmp_path: Path, missing: str) -> None:
    page = report(tmp_path, **{missing: None})
    assert page.all("p", "lead")[0][1]
    assert ("samples" in sections(page)) == (missing != "samples")


@pytest.mark.parametrize("key", sorted(run_folder.summary()))
def test_each_part_of_the_summary_may_be_missing(tmp_path: Path, key: str) -> None:
    summary = run_folder.summary()
    del summary[key]
    page = report(tmp_path, summary=summary)
    assert ("frontier" in sections(page)) == (key != "frontier")


@pytest.mark.parametrize("key", sorted(run_folder.summary()["headline"]))
def test_each_headline_figure_may_be_missing(tmp_path: Path, key: str) -> None:
    summary = run_folder.summary()
    del summary["headline"][key]
    (lead,) = [text for _, text in report(tmp_path, summary=summary).all("p", "lead")]
    assert "\u2013" not in lead
    assert "None" not in lead
    assert lead.endswith(".")


def test_perplexity_change_is_computed_when_only_the_two_values_are_there(tmp_path: Path) -> None:
    summary = run_folder.summary()
    summary["headline"] = {"perplexity_before": 20.0, "perplexity_after": 19.0}
    (lead,) = [text for _, text in report(tmp_path, summary=summary).all("p", "lead")]
    assert lead == "Perplexity on ordinary text went down by 5.0\u202f%."


def test_no_clear_difference_is_said(tmp_path: Path) -> None:
    summary = run_folder.summary()
    summary["headline"]["judge_gain"] = {"value": 0.04, "lo": -0.08, "hi": 0.16}
    (lead,) = [text for _, text in report(tmp_path, summary=summary).all("p", "lead")]
    assert "sees no clear difference between" in lead
    assert "+0.04 (95 % interval \u22120.08 to +0.16)" in lead


def test_a_loss_is_said_to_be_lower(tmp_path: Path) -> None:
    summary = run_folder.summary()
    summary["headline"]["judge_gain"] = {"value": -0.5, "lo": -0.7, "hi": -0.3}
    (lead,) = [text for _, text in report(tmp_path, summary=summary).all("p", "lead")]
    assert "text 0.50 points lower (95 % interval 0.30 to 0.70) than" in lead


def test_torn_and_damaged_files_are_named_and_left_out(tmp_path: Path) -> None:
    folder = run_folder.write_run(tmp_path)
    with (folder / "metrics.jsonl").open("ab") as stream:
        stream.write(b'{"stage": "ppo", "step": 61, "train/kl_r')
    (folder / "summary.json").write_text('{"headline": ', encoding="utf-8")
    (folder / "samples.jsonl").write_bytes(b'{"prompt": "caf\xff", "before": 3, "after": null}\n[1]\nx\n')
    page = Page(write_report(folder).read_text("utf-8"))
    notices = " ".join(text for _, text in page.all("div", "banner"))
    assert "line 241 of metrics.jsonl could not be read and is left out" in notices
    assert "summary.json is not valid JSON" in notices
    assert "2 lines of samples.jsonl could not be read and are left out" in notices
    assert len(page.all("li", "sample")) == 1
    assert "(empty)" in page.text()


def test_a_line_separator_inside_a_sample_does_not_split_its_row(tmp_path: Path) -> None:
    folder = run_folder.write_run(tmp_path, samples=None)
    row = {"prompt": "p", "before": "a\u2028b\u0085c", "after": "d"}
    (folder / "samples.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    page = Page(write_report(folder).read_text("utf-8"))
    assert len(page.all("li", "sample")) == 1
    assert not page.all("div", "banner")


def test_nulls_where_figures_were_not_finite_leave_gaps(tmp_path: Path) -> None:
    rows = run_folder.ppo_rows(random.Random(0), 20)
    rows[3]["train/value_loss"] = None
    rows[4]["train/value_loss"] = float("inf")
    rows[5]["train/grad_norm"] = 10**400
    page = report(tmp_path, rows=rows)
    assert "NaN or infinite values in ppo train/value_loss, ppo train/grad_norm" in page.text()


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no run folder at"):
        write_report(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"is not a run folder: it holds none of config\.yaml"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_earlier_report(tmp_path: Path) -> None:
    folder = run_folder.write_run(tmp_path)
    before = write_report(folder).read_bytes()
    # A file size limit makes the kernel refuse the write as a full disk does.
    code = (
        "import resource, sys; from pathlib import Path; from textrl.report import write_report;"
        "from textrl.errors import UserError; resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))\n"
        "try: write_report(Path(sys.argv[1]))\n"
        "except UserError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True
    )
    assert "report.html' could not be written (File too large); make room" in done.stdout
    assert (folder / "report.html").read_bytes() == before
    assert not list(folder.glob(".report*"))


_KEYS = sorted(
    {*Summary.__annotations__, *Headline.__annotations__, *JudgeSummary.__annotations__}
    | {"value", "lo", "hi", "phrase", "share", "after", "kl", "arm", "distinct_2", "seconds"}
)
_LEAVES = st.one_of(st.none(), st.booleans(), st.integers(-5, 10**20), st.floats(), st.text(max_size=4))
_JSON = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(_KEYS), inner, max_size=5)
    ),
    max_leaves=25,
)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    summary=st.dictionaries(st.sampled_from(sorted(Summary.__annotations__)), _JSON, max_size=8),
    rows=st.lists(
        st.dictionaries(st.sampled_from(["stage", "step", "reward/x", "train/kl_ref"]), _JSON), max_size=4
    ),
    sample=st.dictionaries(st.sampled_from(["prompt", "before", "after", "judge_after"]), _JSON),
    environment=_JSON,
)
def test_no_summary_of_any_shape_stops_the_report(
    summary: dict[str, Any], rows: list[dict[str, Any]], sample: dict[str, Any], environment: Any
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        report(Path(folder), summary=summary, rows=rows, samples=[sample], environment=environment)
