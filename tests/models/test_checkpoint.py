"""Checkpoints: exact, verified, and never half there."""

from __future__ import annotations

import json
import logging
import os
import resource
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from torch import nn

from textrl import checkpoint
from textrl.errors import UserError

CONFIG = {"train": {"lr": 1e-4, "betas": [0.9, 0.95]}, "name": "läuft"}


def _save(path: Path, value: float = 1.0, size: int = 100) -> Path:
    tensors = {"policy": {"w": torch.full((size,), value)}}
    return checkpoint.save(path, config=CONFIG, tensors=tensors, state={"value": value})


def test_what_is_saved_is_loaded_bit_by_bit(tmp_path: Path) -> None:
    named = {
        "w": torch.randn(3, 5),
        "transposed": torch.randn(3, 5).T,
        "bf16": torch.randn(4).bfloat16(),
        "scalar": torch.tensor(float("nan")),
        "empty": torch.zeros(0, 3),
        "flags": torch.tensor([True, False]),
        "big": torch.tensor([2**62], dtype=torch.int64),
    }
    state = {
        "step": 7,
        "loss": 0.1 + 0.2,
        "worst": float("inf"),
        "names": ["ä", None, True],
        "inner": {"a": []},
    }
    path = checkpoint.save(
        tmp_path / "runs" / "step-7", config=CONFIG, tensors={"policy": named, "none": {}}, state=state
    )
    back = checkpoint.load(path)
    assert back.path == path
    assert back.config == CONFIG
    assert back.state == state
    assert back.tensors["none"] == {}
    assert set(back.tensors["policy"]) == set(named)
    for name, tensor in named.items():
        loaded = back.tensors["policy"][name]
        assert loaded.dtype == tensor.dtype
        assert torch.equal(loaded, tensor) or name == "scalar", name
    assert back.tensors["policy"]["scalar"].isnan()
    assert {f.name for f in path.iterdir()} == {
        "config.yaml", "manifest.json", "none.safetensors", "policy.safetensors", "state.json"
    }  # fmt: skip


def test_tied_weights_stay_one_tensor_and_views_do_not_leak(tmp_path: Path) -> None:
    weight = torch.randn(50, 8)
    named = {"embed": weight, "head": weight, "row": weight[3]}
    back = checkpoint.load(checkpoint.save(tmp_path / "a", config={}, tensors={"m": named}, state={}))
    assert back.tensors["m"]["embed"] is back.tensors["m"]["head"]
    assert torch.equal(back.tensors["m"]["row"], weight[3])
    assert (tmp_path / "a" / "m.safetensors").stat().st_size < 50 * 8 * 4 + 8 * 4 + 1000


@pytest.mark.parametrize("state", [{"betas": (0.9, 0.95)}, {"steps": {1: 2}}, {"when": object()}])
def test_state_that_json_would_change_is_refused(tmp_path: Path, state: dict[str, object]) -> None:
    with pytest.raises(TypeError, match="JSON"):
        checkpoint.save(tmp_path / "a", config={}, tensors={}, state=state)
    assert list(tmp_path.iterdir()) == []


def test_nothing_in_the_folder_is_a_pickle(tmp_path: Path) -> None:
    path = _save(tmp_path / "a")
    assert not [f for f in path.iterdir() if f.suffix not in {".yaml", ".json", ".safetensors"}]
    assert not [f for f in path.iterdir() if f.read_bytes()[:2] in (b"PK", b"\x80\x02", b"\x80\x05")]


def test_every_flipped_bit_and_every_truncation_is_found(tmp_path: Path) -> None:
    path = _save(tmp_path / "a", size=3)
    for file in sorted(path.iterdir()):
        whole = file.read_bytes()
        for position in range(len(whole)):
            damaged = bytearray(whole)
            damaged[position] ^= 1 << (position % 8)
            file.write_bytes(damaged)
            assert checkpoint.find_fault(path) is not None, (file.name, position)
        for length in (0, 1, len(whole) // 2, len(whole) - 1):
            file.write_bytes(whole[:length])
            assert checkpoint.find_fault(path) is not None, (file.name, length)
        file.unlink()
        assert checkpoint.find_fault(path) == f"{file.name} is missing"
        file.write_bytes(whole)
    assert checkpoint.find_fault(path) is None


def test_a_damaged_checkpoint_is_refused_in_one_sentence(tmp_path: Path) -> None:
    path = _save(tmp_path / "a")
    file = path / "policy.safetensors"
    file.write_bytes(file.read_bytes()[:-5])
    size = file.stat().st_size
    with pytest.raises(
        UserError, match=f"policy.safetensors has {size} bytes instead of {size + 5}; delete it"
    ):
        checkpoint.load(path)
    with pytest.raises(UserError, match="There is no checkpoint"):
        checkpoint.load(tmp_path / "b")


def test_a_manifest_cannot_point_outside_the_folder(tmp_path: Path) -> None:
    path = _save(tmp_path / "a")
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"]["../secret"] = {"size": 1, "sha256": ""}
    del manifest["sha256"]
    manifest["sha256"] = checkpoint._manifest_sha256(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))
    assert checkpoint.find_fault(path) == "manifest.json names a file outside the folder"


def test_latest_is_the_one_saved_last_that_verifies(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert checkpoint.latest(tmp_path / "absent") is None
    for name in ("step-9", "step-10", "a-last"):
        _save(tmp_path / name)
    assert checkpoint.latest(tmp_path) == tmp_path / "a-last"
    (tmp_path / "a-last" / "state.json").write_text("{}")
    with caplog.at_level(logging.WARNING):
        assert checkpoint.latest(tmp_path) == tmp_path / "step-10"
    assert "a-last is damaged (state.json has 2 bytes" in caplog.text
    _save(tmp_path / "a-last", 3.0)  # replaces the damaged one
    assert checkpoint.latest(tmp_path) == tmp_path / "a-last"
    assert checkpoint.load(tmp_path / "a-last").state == {"value": 3.0}


def test_prune_keeps_the_newest_complete_ones(tmp_path: Path) -> None:
    for step in range(5):
        _save(tmp_path / f"step-{step}")
    (tmp_path / "step-4" / "config.yaml").unlink()
    checkpoint.prune(tmp_path, 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-2", "step-3"]
    with pytest.raises(ValueError, match="at least one"):
        checkpoint.prune(tmp_path, 0)


def test_a_replacement_cut_short_is_undone(tmp_path: Path) -> None:
    path = _save(tmp_path / "a", 1.0)
    path.rename(tmp_path / ".old-999999999-a")  # where a kill between the two renames leaves it
    (tmp_path / ".partial-999999999-a").mkdir()
    assert checkpoint.latest(tmp_path) == path
    assert checkpoint.load(path).state == {"value": 1.0}
    _save(tmp_path / "b")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


KILLED = """
    import os, random, signal, sys, time
    from pathlib import Path
    import torch
    from textrl import checkpoint

    torch.set_num_threads(1)
    folder, rounds = Path(sys.argv[1]), int(sys.argv[2])
    random.seed(0)
    last, broken_off = 0, 0
    for _ in range(rounds):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            step = last
            while True:
                step += 1
                named = {"w": torch.full((20_000,), float(step))}
                path = folder / f"step-{step % 3}"
                checkpoint.save(path, config={}, tensors={"m": named}, state={"step": step})
                os.write(write, f"{step}\\n".encode())
        os.close(write)
        confirmed = os.read(read, 1).decode()  # the first save came back
        time.sleep(random.uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with os.fdopen(read) as stream:
            confirmed += stream.read()
        broken_off += any(p.name.startswith(".") for p in folder.iterdir())
        newest = checkpoint.latest(folder)
        back = checkpoint.load(newest)
        step = back.state["step"]
        assert step >= int(confirmed.split()[-1]), (step, confirmed)
        assert torch.equal(back.tensors["m"]["w"], torch.full((20_000,), float(step)))
        for path in folder.iterdir():
            assert path.name.startswith(".") or checkpoint.find_fault(path) is None, path
        last = step
    assert broken_off > rounds // 4, broken_off
    print("survived", broken_off)
"""


def test_a_kill_in_the_middle_of_a_save_costs_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path), "25"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("survived")


def _fails_on_full_disk(folder: Path) -> None:
    _save(folder / "step-1", 1.0)
    with pytest.raises(UserError, match=r"step-2 could not be written \(.*\); earlier ones are intact"):
        _save(folder / "step-2", 2.0, size=2_000_000)
    with pytest.raises(UserError, match="step-1 could not be written"):
        _save(folder / "step-1", 2.0, size=2_000_000)
    assert [p.name for p in folder.iterdir()] == ["step-1"]
    assert checkpoint.load(folder / "step-1").state == {"value": 1.0}


def test_a_full_disk_leaves_earlier_checkpoints(tmp_path: Path) -> None:
    folder = tmp_path / "full"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk is not permitted here; the file-size limit is tested instead")
    try:
        _fails_on_full_disk(folder)
        with pytest.raises(UserError, match="no space left on device"):
            _save(folder / "step-2", size=2_000_000)
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_refused_write_leaves_earlier_checkpoints(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        _fails_on_full_disk(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="could not be written"):
        _save(tmp_path / "file" / "step-1")


def _train(model: nn.Module, opt: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        x = torch.randn(8, 16)  # from the global generator: resume needs its state too
        nn.functional.dropout(model(x), 0.3).square().mean().backward()
        opt.step()
        opt.zero_grad()


def _model_and_optimizer() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 1))
    groups = [
        {"params": list(model[0].parameters()), "lr": 3e-3, "weight_decay": 0.1},
        {"params": list(model[2].parameters()), "lr": torch.tensor(1e-3)},
    ]
    return model, torch.optim.AdamW(groups, betas=(0.9, 0.95))


def test_training_resumes_bit_exact(tmp_path: Path) -> None:
    torch.manual_seed(3)
    model, opt = _model_and_optimizer()
    _train(model, opt, 5)
    moments, groups = checkpoint.pack_optimizer(opt)
    randoms, generators = checkpoint.capture_rng()
    checkpoint.save(
        tmp_path / "a",
        config={},
        tensors={"model": model.state_dict(), "optimizer": moments, "rng": randoms},
        state={"optimizer": groups, "rng": generators},
    )
    _train(model, opt, 3)

    torch.manual_seed(99)
    resumed, resumed_opt = _model_and_optimizer()
    back = checkpoint.load(tmp_path / "a")
    resumed.load_state_dict(back.tensors["model"])
    checkpoint.unpack_optimizer(resumed_opt, back.tensors["optimizer"], back.state["optimizer"])
    checkpoint.restore_rng(back.tensors["rng"], back.state["rng"])
    assert resumed_opt.param_groups[0]["betas"] == (0.9, 0.95)
    assert resumed_opt.param_groups[1]["lr"].item() == torch.tensor(1e-3).item()
    _train(resumed, resumed_opt, 3)
    for ours, theirs in zip(resumed.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    # Loaded tensors are not written to by the optimizer.
    again = checkpoint.load(tmp_path / "a")
    assert all(torch.equal(back.tensors["optimizer"][k], v) for k, v in again.tensors["optimizer"].items())


def test_another_optimizer_is_refused(tmp_path: Path) -> None:
    model, opt = _model_and_optimizer()
    _train(model, opt, 1)
    tensors, state = checkpoint.pack_optimizer(opt)
    with pytest.raises(UserError, match="state of AdamW, but the run uses SGD"):
        checkpoint.unpack_optimizer(torch.optim.SGD(model.parameters()), tensors, state)
    with pytest.raises(UserError, match="does not fit the model"):
        checkpoint.unpack_optimizer(torch.optim.AdamW(model.parameters()), tensors, state)


def test_random_generators_continue_where_they_were() -> None:
    import random

    import numpy as np

    def draw() -> tuple[list[float], list[float], list[float]]:
        python = [random.gauss(0, 1), random.random()]
        return python, list(np.random.randn(3)), torch.randn(3).tolist()

    random.gauss(0, 1)  # leaves a second normal value in store, which is part of the state
    np.random.randn()
    tensors, state = checkpoint.capture_rng()
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    state = json.loads(json.dumps(state))
    first = draw()
    draw()
    checkpoint.restore_rng(tensors, state)
    assert draw() == first


def test_reading_checkpoints_does_not_import_transformers() -> None:
    code = (
        "import sys, textrl.checkpoint; print([m for m in ('transformers', 'gymnasium') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.strip() == "[]"
