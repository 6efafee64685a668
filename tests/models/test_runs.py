"""Run folders: refusals, metrics that survive a kill, resume without doubled rows."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from textrl.errors import UserError
from textrl.runs import Run

CONFIG = {"train": {"lr": 1e-4, "layers": (1, 2)}, "model": "tiny-gpt2"}


def _run(path: Path, *, resume: bool = False, config: dict[str, object] | None = None) -> Run:
    return Run.create(path, config=config or CONFIG, command=["textrl", "run", "x.yaml"], resume=resume)


def test_a_used_folder_needs_resume(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    run = _run(tmp_path / "empty")
    assert not run.resumed
    with pytest.raises(
        UserError, match="empty already exists; continue it with --resume or choose another --name"
    ):
        _run(tmp_path / "empty")
    assert _run(tmp_path / "empty", resume=True).resumed
    assert not _run(tmp_path / "new" / "deep", resume=True).resumed
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        _run(tmp_path / "file")


def test_resume_with_other_settings_is_refused(tmp_path: Path) -> None:
    _run(tmp_path / "a")
    other = {"train": {"lr": 2e-4, "layers": [1, 2]}, "model": "tiny-gpt2"}
    with pytest.raises(UserError, match=r"started with train.lr = 0.0001, now it is 0.0002; resume with"):
        _run(tmp_path / "a", resume=True, config=other)
    with pytest.raises(UserError, match=r"train.seed = None, now it is 1"):
        _run(tmp_path / "a", resume=True, config={**CONFIG, "train": {**CONFIG["train"], "seed": 1}})


def test_resume_in_another_precision_is_refused(tmp_path: Path) -> None:
    def start(precision: str | None, *, resume: bool = True) -> Run:
        return Run.create(tmp_path / "a", config=CONFIG, command=[], resume=resume, precision=precision)

    start("bf16", resume=False)
    with pytest.raises(
        UserError, match=r"started in bf16, now it would go on in fp32; set TEXTRL_PRECISION=b"
    ):
        start("fp32")
    assert start("bf16").environment()["precision"] == "bf16"


def test_another_process_is_kept_out(tmp_path: Path) -> None:
    run = _run(tmp_path / "a")
    code = (
        "import sys; from textrl.runs import Run; from textrl.errors import UserError\n"
        f"try: Run.create(sys.argv[1], config={CONFIG!r}, command=[], resume=True)\n"
        "except UserError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(run.path)], capture_output=True, text=True, check=True
    )
    assert "is in use by another process" in done.stdout


def test_logger_writes_rows_and_events(tmp_path: Path) -> None:
    run = _run(tmp_path / "a")
    log = run.logger("ppo")
    log.record("train/loss", torch.tensor(0.5))
    log.record("train/n", np.int64(3))
    log.record("train/nan", float("nan"))
    log.record("rollout/lengths", torch.arange(5.0))
    log.record("note", "text")
    log.record("hidden", 1.0, exclude="json")
    log.dump(7)
    log.record_mean("train/loss", 1.0)
    log.record_mean("train/loss", 2.0)
    log.dump(8)
    log.close()
    first, second = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert 0 <= first.pop("time_s") <= second.pop("time_s") < 60
    assert first == {"stage": "ppo", "step": 7, "train/loss": 0.5, "train/n": 3, "train/nan": None}
    assert second == {"stage": "ppo", "step": 8, "train/loss": 1.5}
    assert _events(run, "ppo", "train/loss") == [(7, 0.5), (8, 1.5)]


def _events(run: Run, stage: str, tag: str) -> list[tuple[int, float]]:
    board = EventAccumulator(str(run.path / "tensorboard" / stage))
    board.Reload()
    return [(event.step, event.value) for event in board.Scalars(tag)]


def _log(run: Run, stage: str, steps: range, value: float) -> None:
    log = run.logger(stage)
    for step in steps:
        log.record("x", value)
        log.dump(step)
    log.close()


def test_rewind_drops_what_will_be_written_again(tmp_path: Path) -> None:
    run = _run(tmp_path / "a")
    _log(run, "sft", range(1, 4), 1.0)
    _log(run, "ppo", range(1, 6), 1.0)
    with (run.path / "metrics.jsonl").open("a") as stream:
        stream.write('{"stage": "ppo", "st')  # killed while writing
    run = _run(tmp_path / "a", resume=True)
    assert len(run.metrics("ppo")) == 5
    run.rewind("ppo", 3)
    _log(run, "ppo", range(4, 7), 2.0)
    rows = run.metrics()
    assert [(row["stage"], row["step"], row["x"]) for row in rows] == [
        *[("sft", step, 1.0) for step in (1, 2, 3)],
        *[("ppo", step, 1.0) for step in (1, 2, 3)],
        *[("ppo", step, 2.0) for step in (4, 5, 6)],
    ]
    assert _events(run, "ppo", "x") == [(row["step"], row["x"]) for row in rows if row["stage"] == "ppo"]
    times = [row["time_s"] for row in rows]
    assert times == sorted(times)


def test_time_leaves_out_the_interruption(tmp_path: Path) -> None:
    run = _run(tmp_path / "a")
    run.append_metrics("sft", 1, {})
    row = run.metrics()[0] | {"time_s": 500.0}
    run.write_jsonl("metrics.jsonl", [row])
    assert 500 <= _run(tmp_path / "a", resume=True).time_s < 510


def test_a_broken_row_in_the_middle_is_named(tmp_path: Path) -> None:
    run = _run(tmp_path / "a")
    (run.path / "metrics.jsonl").write_text(
        '{"stage": "sft", "step": 1}\nnonsense\n{"stage": "sft", "step": 2}\n'
    )
    with pytest.raises(UserError, match=r"metrics.jsonl, line 2, is not JSON"):
        run.metrics()


def test_stages_and_summary_accumulate(tmp_path: Path) -> None:
    run = _run(tmp_path / "a")
    assert not run.done("sft")
    assert run.payload("sft") == {}
    run.mark_done("sft", {"loss": np.float32(0.5), "model": Path("models/sft")})
    run.mark_done("empty")
    run.summarise({"win_rate": 0.8, "worst": float("-inf")})
    run.summarise({"kl": torch.tensor(3.0), "win_rate": 0.9})
    run = _run(tmp_path / "a", resume=True)
    assert run.done("sft")
    assert run.done("empty")
    assert run.payload("sft") == {"loss": 0.5, "model": "models/sft"}
    assert json.loads((run.path / "summary.json").read_text()) == {"win_rate": 0.9, "worst": None, "kl": 3.0}
    (run.path / "summary.json").write_text("[1]")
    with pytest.raises(UserError, match=r"summary.json does not hold a JSON object"):
        run.summarise({})


def test_environment_states_versions_and_sessions(tmp_path: Path) -> None:
    _run(tmp_path / "a")
    found = _run(tmp_path / "a", resume=True).environment()
    assert found["versions"]["torch"] == torch.__version__
    assert found["threads"] == torch.get_num_threads()
    assert found["cpu"]
    assert found["date"]
    assert [session["command"] for session in found["sessions"]] == [["textrl", "run", "x.yaml"]] * 2
    assert [session["resume"] for session in found["sessions"]] == [False, True]


def test_a_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    run = _run(tmp_path / "a")
    run.write_json("samples.json", ["old"])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(
            UserError, match=r"samples.json could not be written \(file too large\); make room"
        ):
            run.write_json("samples.json", ["x" * 20_000])
        with pytest.raises(UserError, match=r"metrics.jsonl could not be written"):
            run.append_metrics("sft", 1, {"x" * 20_000: 1.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert json.loads((run.path / "samples.json").read_text()) == ["old"]
    assert not [file for file in run.path.iterdir() if file.name.startswith(".samples")]
