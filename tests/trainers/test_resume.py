"""Interrupted trainings continue and end with the same bits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from trainers_job import JOBS, sft
from trainers_kit import demonstrations, make_lm, make_scorer, make_tokenizer, silent, weights

from textrl import checkpoint
from textrl.data.rankings import RankingGroup
from textrl.errors import UserError
from textrl.fit import checkpoint_step
from textrl.models.loading import blocks
from textrl.reward_model import RewardModelSettings, train_reward_model
from textrl.sft import SFTSettings, train_sft

HERE = Path(__file__).parent
#: Figures that depend on the clock.
TIMES = {"time/fps"}


class Recorder:
    """A log that keeps its rows and can do something after one of them."""

    def __init__(self, at: int = 0, act: Any = None) -> None:
        self.rows: dict[int, dict[str, float]] = {}
        self.at, self.act = at, act

    def __call__(self, step: int, figures: Mapping[str, float]) -> None:
        self.rows[step] = {name: value for name, value in figures.items() if name not in TIMES}
        if step == self.at:
            self.act()


def fail() -> None:
    raise RuntimeError("the power went")


def interrupt() -> None:
    raise KeyboardInterrupt


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("job", ["sft", "reward_model"])
def test_an_interrupted_training_ends_with_the_same_bits(tmp_path: Path, job: str, kind: str) -> None:
    whole = Recorder()
    expected = JOBS[job](kind, whole)
    with pytest.raises(RuntimeError, match="the power went"):
        JOBS[job](kind, Recorder(5, fail), checkpoint_dir=tmp_path)
    assert checkpoint_step(tmp_path) == 4
    rest = Recorder()
    found = JOBS[job](kind, rest, checkpoint_dir=tmp_path, resume=True)
    assert same(expected, found)
    assert min(rest.rows) == 5
    assert all(rest.rows[step] == whole.rows[step] for step in rest.rows)
    # Once more after the end: nothing is left to do, and the figures are those of the checkpoint.
    again = Recorder()
    assert same(expected, JOBS[job](kind, again, checkpoint_dir=tmp_path, resume=True))
    assert not again.rows


def test_a_killed_process_leaves_a_checkpoint_to_go_on_from(tmp_path: Path) -> None:
    command = [sys.executable, str(HERE / "trainers_job.py"), str(tmp_path), "kill", "5"]
    root = str(HERE.parent.parent)
    env = os.environ | {"PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    died = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert checkpoint_step(tmp_path) == 4
    assert same(sft("llama", silent), sft("llama", silent, checkpoint_dir=tmp_path, resume=True))


@pytest.mark.parametrize("act", [interrupt, lambda: signal.raise_signal(signal.SIGINT)])
def test_ctrl_c_saves_the_step_that_was_done(tmp_path: Path, act: Any) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        sft("gpt2", Recorder(3, act), checkpoint_dir=tmp_path)
    assert signal.getsignal(signal.SIGINT) is before
    # By the next even step a signal has been noticed: step 3 itself, or 4 where it came after the sums.
    assert checkpoint_step(tmp_path) in (3, 4)
    assert same(sft("gpt2", silent), sft("gpt2", silent, checkpoint_dir=tmp_path, resume=True))


def test_ctrl_c_in_the_middle_of_a_step_lets_it_finish_and_a_second_one_does_not(tmp_path: Path) -> None:
    def train(times: int, folder: Path, **more: Any) -> dict[str, torch.Tensor]:
        model = make_lm("llama")
        calls: list[int] = []

        def press(module: object, args: object) -> None:
            calls.append(1)
            if len(calls) == 4:
                for _ in range(times):
                    signal.raise_signal(signal.SIGINT)

        settings = SFTSettings(lr=1e-3, batch_size=4, epochs=2, checkpoint_every=0)
        handle = blocks(model)[0].register_forward_pre_hook(press)
        try:
            train_sft(
                model,
                make_tokenizer(),
                demonstrations(12),
                settings,
                log=silent,
                checkpoint_dir=folder,
                **more,
            )
        finally:
            handle.remove()
        return weights(model)

    expected = train(0, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(1, tmp_path / "once")
    step = checkpoint_step(tmp_path / "once")
    assert 0 < step < 6
    assert same(expected, train(0, tmp_path / "once", resume=True))
    with pytest.raises(KeyboardInterrupt):
        train(2, tmp_path / "twice")
    assert checkpoint_step(tmp_path / "twice") == 0


def test_early_stopping_survives_an_interruption(tmp_path: Path) -> None:
    up = [RankingGroup("the film is", ("good", "bad"), (1, 2))] * 8
    down = [RankingGroup("the film is", ("good", "bad"), (2, 1))]
    settings = RewardModelSettings(
        lr=1e-2, batch_size=2, epochs=10, eval_every=2, patience=3, checkpoint_every=1
    )

    def train(log: Any, **more: Any) -> tuple[dict[str, torch.Tensor], Any]:
        model = make_scorer("llama")
        result = train_reward_model(model, make_tokenizer(), up, (), settings, log=log, held_out=down, **more)
        return weights(model), result

    expected, whole = train(silent)
    with pytest.raises(RuntimeError):
        train(Recorder(6, fail), checkpoint_dir=tmp_path)
    found, result = train(silent, checkpoint_dir=tmp_path, resume=True)
    assert result.stopped_early
    assert (result.steps, result.val_loss) == (whole.steps, whole.val_loss)
    assert same(expected, found)
    finished, result = train(silent, checkpoint_dir=tmp_path, resume=True)
    assert (result.steps, result.val_loss) == (whole.steps, whole.val_loss)
    assert same(expected, finished)


def test_checkpoints_are_pruned_and_hold_trained_weights_only(tmp_path: Path) -> None:
    settings = SFTSettings(batch_size=4, checkpoint_every=1, keep_checkpoints=2, first_trainable=1)
    train_sft(
        make_lm("llama"), make_tokenizer(), demonstrations(16), settings, log=silent, checkpoint_dir=tmp_path
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000003", "step-00000004"]
    saved = checkpoint.load(tmp_path / "step-00000004").tensors["model"]
    assert all("layers.1." in name or name == "model.norm.weight" for name in saved)


def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    settings = SFTSettings(batch_size=4)

    def train(examples: int = 8, **more: Any) -> None:
        own = SFTSettings(batch_size=4, **more.pop("settings", {}))
        model = make_lm(more.pop("kind", "llama"))
        train_sft(
            model,
            make_tokenizer(),
            demonstrations(examples),
            own,
            log=silent,
            checkpoint_dir=tmp_path,
            **more,
        )

    train()
    with pytest.raises(UserError, match="holds checkpoints of an earlier run"):
        train()
    with pytest.raises(UserError, match=f"lr = {settings.lr}, now it is 0.5"):
        train(resume=True, settings={"lr": 0.5})
    with pytest.raises(UserError, match="data_sha256"):
        train(9, resume=True)
    with pytest.raises(UserError, match="does not fit the model"):
        train(resume=True, kind="gpt2")
    train(resume=True, settings={"checkpoint_every": 7})


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    expected = sft("llama", silent, checkpoint_dir=tmp_path)
    newest = checkpoint.latest(tmp_path)
    assert newest is not None
    file = newest / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert checkpoint_step(tmp_path) == 4
    assert same(expected, sft("llama", silent, checkpoint_dir=tmp_path, resume=True))
    assert checkpoint_step(tmp_path) == 6
