"""One measurement of `textrl bench rollout`, in a process of its own; the last line is JSON.

python -m textrl.bench.rollout_worker speed --size tiny --batch 64
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from textrl.bench.rollout_limits import floor_s, limits
from textrl.bench.rollout_sizes import PROMPT, RESPONSE, Shape, make_model, make_prompts
from textrl.mdp.task import Prompt, TokenTask
from textrl.rollout import generate


def speed(size: str, batch: int, repeats: int) -> dict[str, Any]:
    """Time our rollout and transformers' `generate` in turns, so that both meet the same machine."""
    model = make_model(size)
    ids, mask = make_prompts(model, batch)
    found = limits()
    ours, theirs = [], []
    written = {
        "ours": int(_ours(model, ids, mask, RESPONSE).response_mask.sum()),
        "generate": _theirs(model, ids, mask, RESPONSE).shape[1] * batch - ids.numel(),
    }
    for _ in range(repeats):
        theirs.append(_seconds(lambda: _theirs(model, ids, mask, RESPONSE)))
        ours.append(_seconds(lambda: _ours(model, ids, mask, RESPONSE)))
    shape = Shape.of(model)
    # The prompt goes through the blocks only; every response token but the last through blocks and head.
    flops = shape.forward_flops(batch, PROMPT + RESPONSE, RESPONSE)
    floor = floor_s(flops, shape.rollout_bytes(batch, PROMPT, RESPONSE), found)
    return {
        "size": size,
        "batch": batch,
        "prompt": PROMPT,
        "response": RESPONSE,
        "tokens": written,
        "ours_s": ours,
        "generate_s": theirs,
        "ratio": statistics.median(theirs) / statistics.median(ours),
        "floor_s": floor,
        "limits": found,
        "threads": torch.get_num_threads(),
    }


def stepping(size: str, batch: int, repeats: int) -> dict[str, Any]:
    """Compare a step of the vector environment with a step of the model, at the same batch."""
    import gymnasium

    from textrl.registry import get_registry

    model = make_model(size)
    ids, mask = make_prompts(model, batch)
    _ours(model, ids, mask, 8)
    model_s = min(_seconds(lambda: _ours(model, ids, mask, RESPONSE)) for _ in range(repeats)) / RESPONSE
    prompts = [Prompt(ids=tuple(row)) for row in ids.tolist()]
    task = TokenTask(prompts, None, model.config.vocab_size, (), 2, RESPONSE, None)
    get_registry().register_envs()
    env = gymnasium.make_vec("TextRL/Tokens-v0", num_envs=batch, task=task)
    env.reset()
    actions = np.random.default_rng(0).integers(3, model.config.vocab_size, (RESPONSE, batch))
    env_s = min(_seconds(lambda: [env.step(row) for row in actions]) for _ in range(repeats)) / RESPONSE
    return {
        "size": size,
        "batch": batch,
        "model_step_ms": 1e3 * model_s,
        "env_step_ms": 1e3 * env_s,
        "share": env_s / model_s,
    }


def lengths(size: str, batch: int, repeats: int, longest: int) -> dict[str, Any]:
    """Time rollouts of 64 to `longest` tokens and fit a T + b T^2 to them."""
    counts = [t for t in (64, 128, 192, 256, 384, 512, 768, 1024) if t <= longest]
    model = make_model(size, positions=PROMPT + longest)
    ids, mask = make_prompts(model, batch)
    _ours(model, ids, mask, 16)
    # In rounds over all lengths, so that a slow moment of the machine does not fall on one of them.
    rounds = [[_seconds(partial(_ours, model, ids, mask, count)) for count in counts] for _ in range(repeats)]
    times = np.array(rounds).min(axis=0)
    linear, square, deviations = fit(np.array(counts, dtype=np.float64), times)
    return {
        "size": size,
        "batch": batch,
        "tokens": counts,
        "seconds": times.tolist(),
        "a_ms": 1e3 * linear,
        "b_us": 1e6 * square,
        "deviations": deviations.tolist(),
        "worst": float(np.abs(deviations).max()),
    }


def fit(counts: Any, times: Any) -> tuple[float, float, Any]:
    """Fit times = a T + b T^2 by least relative squares.

    Args:
        counts: (K,) tokens T.
        times: (K,) s.

    Returns:
        a in s, b in s, and (K,) relative deviations of the times from the fit.
    """
    columns = np.stack([counts, counts**2], axis=1) / times[:, None]
    (linear, square), *_ = np.linalg.lstsq(columns, np.ones(len(times)), rcond=None)
    fitted = linear * counts + square * counts**2
    return float(linear), float(square), times / fitted - 1


def _ours(model: PreTrainedModel, ids: Tensor, mask: Tensor, steps: int) -> Any:
    return generate(
        model,
        ids,
        mask,
        max_new_tokens=steps,
        eos_ids=(),
        pad_id=2,
        seed=0,
        episodes=torch.arange(len(ids)),
    )


@torch.no_grad()
def _theirs(model: PreTrainedModel, ids: Tensor, mask: Tensor, steps: int) -> Tensor:
    config = model.generation_config
    config.eos_token_id, config.pad_token_id = None, 2  # no early stop
    out: Tensor = model.generate(
        ids, attention_mask=mask.long(), max_new_tokens=steps, do_sample=True, top_k=0, top_p=1.0
    )
    return out


def _seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["speed", "stepping", "lengths"])
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--longest", type=int, default=1024)
    given = parser.parse_args()
    if given.what == "speed":
        result = speed(given.size, given.batch, given.repeats)
    elif given.what == "stepping":
        result = stepping(given.size, given.batch, given.repeats)
    else:
        result = lengths(given.size, given.batch, given.repeats, given.longest)
    print(json.dumps(result))  # noqa: T201


if __name__ == "__main__":
    main()
