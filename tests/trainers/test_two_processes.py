"""Each trainer in one process and in two gives the same losses and the same weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from trainers_job import JOBS
from trainers_kit import assert_close

from textrl.distributed import make_accelerator
from textrl.errors import UserError

HERE = Path(__file__).parent


def launch(script: list[str]) -> None:
    """Run a script with its arguments in two processes and wait for both."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    root = str(HERE.parent.parent)
    path = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    env = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [*launcher, *script]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes ended with."""
    folder = tmp_path_factory.mktemp("shared")
    launch([str(HERE / "trainers_job.py"), str(folder), "share"])
    assert [(folder / f"world-{rank}").read_text() for rank in (0, 1)] == ["2", "2"]
    return folder


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("job", list(JOBS))
def test_two_processes_train_like_one(shared: Path, job: str, kind: str) -> None:
    rows: list[dict[str, float]] = []
    alone = JOBS[job](kind, lambda step, figures: rows.append(dict(figures)))
    first, second = (load_file(shared / f"{job}-{kind}-{rank}.safetensors") for rank in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in alone)
    # Held to 1e-6 of each tensor, except that Adam enlarges rounding in gpt2's biases that are near 0.
    assert_close(alone, first, rtol=1e-6 if kind == "llama" else 1e-5)
    theirs = json.loads((shared / f"{job}-{kind}-0.json").read_text())
    assert len(theirs) == len(rows) == 6
    for own, other in zip(rows, theirs, strict=True):
        assert own.keys() == other.keys()
        # Rounding moves gpt2's last bias, and with it all scores alike; see `weights`.
        free = {"time/fps"} | ({"train/score_mean"} if kind == "gpt2" else set())
        for name in own.keys() - free:
            assert own[name] == pytest.approx(other[name], rel=2e-6, abs=1e-6), name
    # The log is the main process's alone.
    assert json.loads((shared / f"{job}-{kind}-1.json").read_text()) == []


def test_a_process_leaves_the_group_before_the_interpreter_ends(tmp_path: Path) -> None:
    """Whoever stays in it is aborted now and then, by a thread of gloo that outlives the interpreter."""
    job = tmp_path / "job.py"
    job.write_text(
        "import atexit, pathlib, sys, torch.distributed as group\n"
        "def tell():  # registered first, so called last\n"
        "    pathlib.Path(sys.argv[1], f'{rank}').write_text(f'{joined} {group.is_initialized()}')\n"
        "atexit.register(tell)\n"
        "from textrl.distributed import make_accelerator\n"
        "rank = [make_accelerator(cpu=True) for _ in range(2)][0].process_index\n"
        "joined = group.is_initialized()\n",
        encoding="utf-8",
    )
    launch([str(job), str(tmp_path)])
    assert [(tmp_path / str(rank)).read_text() for rank in (0, 1)] == ["True False"] * 2


def test_processes_that_did_not_join_are_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_accelerator()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="2 processes were launched but accelerate joined 1"):
        make_accelerator()
