"""One process and two (torchrun, gloo) take the same steps, to 1e-6 relative in float64."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

JOB = Path(__file__).parent / "two_process_job.py"


def run(processes: int, out: Path) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
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
    """Twelve optimizer steps on shares of unequal size: every figure of every iteration, every weight."""
    one, alone = run(1, tmp_path / "one")
    two, shared = run(2, tmp_path / "two")
    assert len(one) == 3
    for ours, theirs in zip(one, two, strict=True):
        assert theirs == pytest.approx(ours, rel=1e-6, abs=1e-9)
    assert one[0] != pytest.approx(one[2], rel=1e-2)
    assert alone.keys() == shared.keys()
    for name, tensor in alone.items():
        assert tensor.dtype == torch.float64
        assert torch.allclose(shared[name], tensor, rtol=1e-6, atol=1e-6 * float(tensor.abs().max())), name
