"""A grid of jobs: nothing finished is repeated, nothing damaged is trusted, nothing is lost to Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bench_kit import calls, squares, workers

from textrl.bench.jobs import Job, read_result, run_jobs
from textrl.errors import UserError

#: Squares numbers slowly, in one worker, until it is stopped.
SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {kit!r})
from bench_kit import squares
from textrl.bench.jobs import run_jobs
if __name__ == "__main__":
    folder = Path({folder!r})
    run_jobs(squares(6, folder, seconds=0.5), folder / "jobs", workers=1)
"""


def test_results_come_in_the_order_of_the_grid(tmp_path: Path) -> None:
    jobs = squares(5, tmp_path)
    outcome = run_jobs(jobs, tmp_path / "jobs", workers=2)
    assert [result["square"] for result in outcome.results.values()] == [0, 1, 4, 9, 16]
    assert list(outcome.results) == [job.name for job in jobs]
    assert outcome.failures == {}
    assert outcome.reused == 0
    assert sorted(calls(tmp_path)) == [0, 1, 2, 3, 4]
    assert os.getpid() not in workers(tmp_path)


def test_finished_jobs_are_not_repeated(tmp_path: Path) -> None:
    run_jobs(squares(3, tmp_path), tmp_path / "jobs", workers=1)
    outcome = run_jobs(squares(5, tmp_path), tmp_path / "jobs", workers=1)
    assert outcome.reused == 3
    assert [result["square"] for result in outcome.results.values()] == [0, 1, 4, 9, 16]
    assert sorted(calls(tmp_path)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "killed"])
def test_a_grid_that_is_stopped_goes_on_where_it_was(tmp_path: Path, how: signal.Signals) -> None:
    script = tmp_path / "grid.py"
    script.write_text(SCRIPT.format(kit=str(Path(__file__).parent), folder=str(tmp_path)))
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stderr=subprocess.PIPE,
        # A background job of a shell without job control is born deaf to Ctrl-C, and so are its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    folder = tmp_path / "jobs"
    _wait(lambda: len(list(folder.glob("square*.json"))) >= 2)
    process.send_signal(how)
    assert process.stderr is not None
    process.stderr.read()
    assert process.wait(timeout=60) != 0
    process.stderr.close()
    (worker,) = workers(tmp_path)
    _wait(lambda: not _alive(worker))
    before = calls(tmp_path)
    finished = {job.spec["n"] for job in squares(6, tmp_path) if read_result(job, folder) is not None}
    assert 2 <= len(finished) < 6
    assert not list(folder.glob("*.error.txt"))
    outcome = run_jobs(squares(6, tmp_path), folder, workers=1)
    assert outcome.reused == len(finished)
    assert [result["square"] for result in outcome.results.values()] == [0, 1, 4, 9, 16, 25]
    again = calls(tmp_path)[len(before) :]
    assert sorted(again) == sorted(set(range(6)) - finished)


@pytest.mark.parametrize("damage", ["half", "empty", "other spec", "other result", "no object", "binary"])
def test_a_damaged_file_is_not_trusted(tmp_path: Path, damage: str) -> None:
    jobs = squares(2, tmp_path)
    run_jobs(jobs, tmp_path / "jobs", workers=1)
    file = jobs[1].file(tmp_path / "jobs")
    whole = file.read_text()
    data = json.loads(whole)
    text = {
        "half": whole[: len(whole) // 2],
        "empty": "",
        "other spec": json.dumps(data | {"spec": {"n": 2}}),
        "other result": json.dumps(data | {"result": {"square": 2}}),
        "no object": "[1]",
    }
    file.write_bytes(text[damage].encode() if damage in text else b"\xff\xfe\x00")
    assert read_result(jobs[1], tmp_path / "jobs") is None
    outcome = run_jobs(jobs, tmp_path / "jobs", workers=1)
    assert outcome.reused == 1
    assert outcome.results["square 1"] == {"square": 1}
    assert calls(tmp_path) == [0, 1, 1]


def test_a_temporary_file_is_no_result_and_other_settings_do_not_overwrite(tmp_path: Path) -> None:
    folder = tmp_path / "jobs"
    (job,) = squares(1, tmp_path)
    other = Job(job.name, job.target, {"n": 3}, job.local)
    folder.mkdir()
    job.file(folder).with_name(f".{job.file(folder).name}.1").write_text("{}")
    assert read_result(job, folder) is None
    run_jobs([job], folder, workers=1)
    run_jobs([other], folder, workers=1)
    assert job.file(folder) != other.file(folder)
    assert read_result(job, folder) == {"square": 0}
    assert read_result(other, folder) == {"square": 9}


def test_where_a_file_lies_is_not_part_of_a_jobs_identity(tmp_path: Path) -> None:
    (job,) = squares(1, tmp_path)
    moved = Job(job.name, job.target, job.spec, {"log": "elsewhere"}, cost=9.0)
    assert moved.key == job.key
    assert Job(job.name, "other:square", job.spec).key != job.key


def test_a_job_that_fails_is_named_and_tried_again(tmp_path: Path) -> None:
    jobs = [
        Job("refused", "bench_kit:refuse", {}),
        Job("broken", "bench_kit:break_down", {}),
        Job("nan", "bench_kit:not_finite", {}),
        Job("absent", "bench_kit:no_such_function", {}),
        *squares(1, tmp_path),
    ]
    folder = tmp_path / "jobs"
    outcome = run_jobs(jobs, folder, workers=1)
    assert outcome.results == {"square 0": {"square": 0}}
    assert outcome.failures["refused"] == "This job is refused."
    assert outcome.failures["broken"].startswith("ZeroDivisionError: nothing to divide by (see ")
    assert "break_down" in next(folder.glob("broken*.error.txt")).read_text()
    assert "ValueError" in outcome.failures["nan"]  # NaN is not JSON
    assert "AttributeError" in outcome.failures["absent"]
    works = Job("broken", "bench_kit:break_down", {}, {"works": True})
    assert run_jobs([works], folder, workers=1).results == {"broken": {"fine": True}}


def test_a_worker_that_dies_takes_only_its_job_with_it(tmp_path: Path) -> None:
    dead = Job("dead", "bench_kit:die", {}, cost=100.0)
    outcome = run_jobs([dead, *squares(3, tmp_path)], tmp_path / "jobs", workers=1)
    assert len(outcome.results) == 3
    assert "exit code 7" in outcome.failures["dead"]


def test_workers_have_one_thread_and_the_parent_keeps_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    outcome = run_jobs([Job("threads", "bench_kit:threads", {})], tmp_path / "jobs", workers=1)
    assert outcome.results["threads"] == {"threads": ["1", "1"]}
    assert os.environ["OMP_NUM_THREADS"] == "2"
    assert "MKL_NUM_THREADS" not in os.environ


def test_importing_the_command_and_the_workers_is_light() -> None:
    code = (
        "import json, sys, textrl.bench, textrl.bench.jobs, textrl.bench.startup\n"
        "print(json.dumps(sorted({'numpy', 'torch', 'gymnasium', 'stable_baselines3'} & set(sys.modules))))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(found) == []


def test_what_cannot_work_is_refused(tmp_path: Path) -> None:
    jobs = squares(1, tmp_path)
    with pytest.raises(ValueError, match="one name"):
        run_jobs(jobs * 2, tmp_path / "jobs", workers=1)
    (tmp_path / "file").write_text("")
    with pytest.raises(
        UserError, match=r"file/jobs cannot be made \(Not a directory\); choose another --out"
    ):
        run_jobs(jobs, tmp_path / "file" / "jobs", workers=1)


def _wait(condition: object, seconds: float = 60.0) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"
