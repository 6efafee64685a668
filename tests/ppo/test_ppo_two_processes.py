"""One process and two (torchrun, gloo) take the same steps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

JOB = Path(__file__).parent / "two_process_job.py"


def run(processes: int, out: Path) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    out.mkdir()
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc_per_node={processes}",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([*launcher, str(JOB), str(out)], check=True, env=environment, timeout=240)
    return json.loads((out / "figures.json").read_text()), torch.load(out / "weights.pt", weights_only=True)


def test_two_processes_equal_one(tmp_path: Path) -> None:
    one, alone = run(1, tmp_path / "one")
    two, shared = run(2, tmp_path / "two")
    assert two == pytest.approx(one, rel=1e-4)
    assert two["timesteps"] == one["timesteps"]
    for name, tensor in alone.items():
        assert torch.allclose(shared[name], tensor, rtol=1e-4, atol=1e-5), name
