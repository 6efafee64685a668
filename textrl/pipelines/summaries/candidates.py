"""Candidates of every text from several policies, and a simulated labeler's rankings of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from textrl.data.prompts import read_prompts
from textrl.data.rankings import RankingGroup, read_rankings
from textrl.data.summaries import Summary, lead
from textrl.evaluation.rouge import rouge_l
from textrl.models.loading import load_causal_lm
from textrl.pipelines.rlhf.stages import Context
from textrl.pipelines.summaries.settings import SummarizeSettings
from textrl.rollout import generate

#: Which sampling noise a policy's candidates have; apart from that of training and evaluation.
_NOISE = 2_000_003


def write_candidates(
    context: Context, settings: SummarizeSettings, parts: Mapping[str, Sequence[Summary]]
) -> dict[str, Any]:
    """Sample, rank and write ``data/candidates.jsonl``, ``data/rankings.jsonl`` and the held-out ones.

    Args:
        context: Of the run; its ``models/sft`` is finished.
        settings: Of the pipeline.
        parts: The dealt texts; ``rm`` and ``rm_test`` are read.

    Returns:
        The simulated labeler's mean ROUGE-L F1 of each origin, and how many rankings there are.
    """
    texts = [*parts["rm"], *parts["rm_test"]]
    columns = {origin: _of_origin(context, settings, origin, texts) for origin in settings.candidates.origins}
    context.run.write_jsonl(
        "data/candidates.jsonl",
        (
            {"prompt": text.prompt, "completion": written[row], "origin": origin, "group": str(row)}
            for row, text in enumerate(texts)
            for origin, written in columns.items()
        ),
    )
    groups = [
        rank(text, [written[row] for written in columns.values()], settings.candidates.tie_margin, str(row))
        for row, text in enumerate(texts)
    ]
    ranked = {"rankings": groups[: len(parts["rm"])], "rankings_test": groups[len(parts["rm"]) :]}
    for name, some in ranked.items():
        if settings.candidates.labeler == "none":
            some = []
        added = [group for file in settings.candidates.add for group in read_rankings(file)]
        # Every tenth group that was added is held out, by its prompt, so that no prompt is on both sides.
        added = [group for group in added if _held_out(group.prompt) == (name == "rankings_test")]
        context.run.write_jsonl(f"data/{name}.jsonl", map(record, [*some, *added]))
    means = {
        origin: sum(_quality(text, one) for text, one in zip(texts, written, strict=True)) / len(texts)
        for origin, written in columns.items()
    }
    return {"rouge_l": means, "texts": len(texts)}


def rank(text: Summary, completions: Sequence[str], tie_margin: float, group: str) -> RankingGroup:
    """Rank candidates as the simulated labeler does: by ROUGE-L F1 with the reference, best first.

    Walking from the best down, a candidate shares the rank of those above it while it is within
    `tie_margin` of the first of them.
    """
    quality = [_quality(text, completion) for completion in completions]
    ranks, place, leader = [0.0] * len(quality), 0.0, float("inf")
    for i in sorted(range(len(quality)), key=lambda i: -quality[i]):
        if leader - quality[i] > tie_margin + 1e-9:
            place, leader = place + 1, quality[i]
        ranks[i] = place
    return RankingGroup(
        prompt=text.prompt, completions=tuple(completions), ranks=tuple(ranks), annotator="rouge", group=group
    )


def record(group: RankingGroup) -> dict[str, Any]:
    """Return a ranking as a line of JSON."""
    kept = {key: value for key, value in asdict(group).items() if value is not None}
    return {**kept, "completions": list(group.completions), "ranks": list(group.ranks)}


def read_ranked(folder: Path) -> tuple[list[RankingGroup], list[RankingGroup]]:
    """Return the rankings that `write_candidates` wrote, for training and held out."""
    train, test = (folder / f"{name}.jsonl" for name in ("rankings", "rankings_test"))
    return read_rankings(train), read_rankings(test) if test.stat().st_size else []


def sample_completions(
    context: Context, model: str, prompts: Sequence[str], *, noise: int, max_prompt_tokens: int
) -> list[str]:
    """Write one completion to each prompt.

    Args:
        context: Of the run.
        model: Folder, registered name or hub id.
        prompts: N prompts.
        noise: Keys the sampling.
        max_prompt_tokens: A longer prompt is refused.
    """
    policy, tokenizer = load_causal_lm(model, registry=context.registry)
    policy.requires_grad_(False)
    asked = read_prompts(list(prompts), tokenizer, max_prompt_tokens=max_prompt_tokens)
    size, written = context.settings.evaluation.batch_size, list[str]()
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    for start in range(0, len(asked), size):
        some = [prompt.ids for prompt in asked[start : start + size]]
        width = max(map(len, some))
        ids = torch.full((len(some), width), pad)
        mask = torch.zeros(ids.shape, dtype=torch.bool)
        for row, tokens in enumerate(some):
            ids[row, width - len(tokens) :] = torch.tensor(tokens)
            mask[row, width - len(tokens) :] = True
        rollout = generate(
            policy,
            ids,
            mask,
            max_new_tokens=context.settings.max_new_tokens,
            eos_ids={tokenizer.eos_token_id},
            pad_id=pad,
            seed=_NOISE + noise,
            episodes=torch.arange(start, start + len(some)),
            temperature=context.settings.ppo.temperature,
        )
        rows = zip(rollout.response_ids, rollout.response_mask, strict=True)
        # An untrained model writes any byte; NUL is no text, and no file of rankings may hold it.
        written += [
            tokenizer.decode(row[real], skip_special_tokens=True).replace("\0", "") for row, real in rows
        ]
    return written


def _of_origin(
    context: Context, settings: SummarizeSettings, origin: str, texts: Sequence[Summary]
) -> list[str]:
    """Return one candidate of an origin for every text."""
    if origin == "reference":
        return [text.completion for text in texts]
    if origin == "lead":
        return [" " + lead(text.text, settings.candidates.lead_words) for text in texts]
    supervised = str(context.models / "sft")
    model = {
        "initial": supervised,
        "current": settings.candidates.current or supervised,
        "pretrained": settings.model,
    }[origin]
    noise = ("initial", "current", "pretrained").index(origin)
    prompts = [text.prompt for text in texts]
    limit = settings.max_prompt_tokens
    return sample_completions(context, model, prompts, noise=noise, max_prompt_tokens=limit)


def _quality(text: Summary, completion: str) -> float:
    return rouge_l(completion, text.completion).f1


def _held_out(prompt: str) -> bool:
    return hashlib.sha256(prompt.encode()).digest()[0] < 26  # a tenth of 256
