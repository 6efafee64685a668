"""One small training of each kind, for the tests that run it in another process.

As a script: ``python trainers_job.py FOLDER kill STEP`` trains and kills itself at a step;
``torchrun --nproc_per_node 2 trainers_job.py FOLDER share`` trains in two processes and checks their sums.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from torch import Tensor, nn
from trainers_kit import demonstrations, make_lm, make_scorer, make_tokenizer, rankings, weights

from textrl import distributed
from textrl.reward_model import RewardModelSettings, train_reward_model
from textrl.sft import SFTSettings, train_sft

Log = Callable[[int, Mapping[str, float]], None]


def sft(kind: str, log: Log, **more: Any) -> dict[str, Tensor]:
    """Six steps with dropout, some pretraining text and a last batch that is not full."""
    model = make_lm(kind)
    settings = SFTSettings(
        lr=1e-3, batch_size=7, epochs=2, dropout=0.2, pretrain_fraction=0.1, checkpoint_every=2, eval_every=3
    )
    train_sft(
        model,
        make_tokenizer(),
        demonstrations(18),
        settings,
        log=log,
        held_out=demonstrations(5, seed=1),
        pretrain=("the film was good and the plot was dull", "I liked it but it was not bright"),
        **more,
    )
    return weights(model)


def reward_model(kind: str, log: Log, **more: Any) -> dict[str, Tensor]:
    """Six steps of K-wise rankings with ties; the offset stands among the weights."""
    model = make_scorer(kind)
    settings = RewardModelSettings(
        lr=1e-3, batch_size=5, epochs=2, dropout=0.2, checkpoint_every=2, eval_every=3
    )
    groups = [group for group in rankings(25) if len(set(group.ranks)) > 1][:13]
    result = train_reward_model(
        model,
        make_tokenizer(),
        groups,
        demonstrations(5),
        settings,
        log=log,
        held_out=rankings(6, seed=1),
        **more,
    )
    found = weights(model)
    if kind == "llama":  # see `weights`: gpt2's last bias moves all scores alike
        found["offset"] = torch.tensor([result.offset])
    return found


JOBS = {"sft": sft, "reward_model": reward_model}


def run_shared(folder: Path) -> None:
    """Train every job in all processes; each process writes what it ends with."""
    accelerator = distributed.make_accelerator(cpu=True)
    rank = accelerator.process_index
    check_sums(accelerator)
    for name, job in JOBS.items():
        for kind in ("gpt2", "llama"):
            rows: list[dict[str, float]] = []
            keep: Log = lambda step, figures, rows=rows: rows.append(dict(figures))  # noqa: E731
            found = job(kind, keep, accelerator=accelerator)
            stem = f"{name}-{kind}-{rank}"
            save_file(found, folder / f"{stem}.safetensors")
            (folder / f"{stem}.json").write_text(json.dumps(rows), encoding="utf-8")
    (folder / f"world-{rank}").write_text(str(accelerator.num_processes), encoding="utf-8")


def check_sums(accelerator: Accelerator) -> None:
    """Sums, counts and gradients over processes, by hand."""
    rank, world = accelerator.process_index, accelerator.num_processes
    total = world * (world + 1) // 2
    assert distributed.global_count(accelerator, rank + 1) == total
    assert distributed.sum_metrics(accelerator, {"a": rank + 1.0, "b": 0.5}) == {"a": total, "b": world / 2}
    assert sorted(i for r in range(world) for i in range(*slice(r, 7, world).indices(7))) == list(range(7))
    assert distributed.share(accelerator, 7) == slice(rank, 7, world)
    params = [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(1))]
    params[2].requires_grad_(False)
    params[0].grad = torch.tensor([1.0, 2.0, 3.0]) * (rank + 1)
    if rank == 0:  # the other process saw no row that uses this one
        params[1].grad = torch.ones(2, 2)
    distributed.BUCKET = 3
    distributed.sync_gradients(accelerator, params)
    assert params[0].grad.tolist() == [total, 2 * total, 3 * total]
    assert params[1].grad is not None
    assert params[1].grad.tolist() == [[1.0, 1.0], [1.0, 1.0]]
    assert params[2].grad is None
    start = nn.Parameter(torch.full((2,), float(rank)))
    distributed.broadcast_parameters(accelerator, [start])
    assert start.tolist() == [0.0, 0.0]


def run_and_die(folder: Path, step: int) -> None:
    """Train with checkpoints and die without warning while the log of `step` is written."""

    def log(done: int, figures: Mapping[str, float]) -> None:
        if done == step:
            os.kill(os.getpid(), signal.SIGKILL)

    sft("llama", log, checkpoint_dir=folder)


if __name__ == "__main__":
    if sys.argv[2] == "share":
        run_shared(Path(sys.argv[1]))
    else:
        run_and_die(Path(sys.argv[1]), int(sys.argv[3]))
