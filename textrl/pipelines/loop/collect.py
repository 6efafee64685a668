"""Sample responses from a policy and have them ranked: what a round adds to the data.

Shapes: ``K`` responses of a prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from textrl.data.prompts import read_prompts
from textrl.data.rankings import RankingGroup, read_rankings
from textrl.data.records import read_records
from textrl.errors import UserError
from textrl.mdp.task import Prompt, TokenTask
from textrl.models.loading import load_causal_lm
from textrl.pipelines.loop.labelers import Candidates, FileLabeler, Labeler, distinct
from textrl.pipelines.loop.world import World, deal_prompts, make_labeler
from textrl.rewards import RewardSum
from textrl.rollout import generate

#: Sampling noise of the candidates is keyed apart from that of training and of the evaluation.
CANDIDATE_SEED = 2_000_003
#: Prompts whose candidates are numbered apart, so that each ranking has mistakes of its own.
TRAIN, HELD_OUT, AT_ONCE = range(3)


def collect(world: World, number: int) -> dict[str, Any]:
    """Sample from the policy of the round before, rank, and write the rankings of a round."""
    train, held_out = deal_prompts(
        world.context.material.prompts, world.settings, world.context.settings.ppo.seed, number
    )
    parts = _candidates(world, number, train, held_out)
    labeler = make_labeler(world, number)
    if isinstance(labeler, FileLabeler):
        labeler.refuse_others([*parts[TRAIN], *parts[HELD_OUT]])
    figures: dict[str, Any] = {}
    for kind, file, name in (
        (TRAIN, world.rankings(number), "rankings"),
        (HELD_OUT, world.held_out(number), "held_out"),
    ):
        groups = rank(labeler, parts[kind])
        if kind == TRAIN and not any(len(set(group.ranks)) > 1 for group in groups):
            raise UserError(
                f"Round {number}: none of the {len(parts[kind])} prompts has responses of different rank; "
                "sample more per prompt (labels.k), or lower labels.tie_margin."
            )
        relative = str(file.relative_to(world.context.run.path))
        world.context.run.write_jsonl(relative, records(groups, world.settings.labels.labeler, number))
        figures[name] = len(groups)
        figures[f"{name}_passed"] = len(parts[kind]) - len(groups)
    groups = read_rankings(world.rankings(number))
    pairs = [(a, b) for group in groups for i, a in enumerate(group.ranks) for b in group.ranks[i + 1 :]]
    return figures | {"pairs": len(pairs), "ties": sum(a == b for a, b in pairs)}


def _candidates(
    world: World, number: int, train: Sequence[str], held_out: Sequence[str]
) -> tuple[list[Candidates], list[Candidates]]:
    """Sample the round's candidates, or read those that are there: people may be ranking them."""
    file = world.data(number) / "candidates.jsonl"
    _, tokenizer = load_causal_lm(str(world.sft))
    prompts = [
        read_prompts(list(part), tokenizer, max_prompt_tokens=world.context.settings.max_prompt_tokens)
        if part
        else []
        for part in (train, held_out)
    ]
    if file.exists():
        kept = [tuple(str(text) for text in record["completions"]) for _, record in read_records(file)]
        texts = [kept[: len(train)], kept[len(train) :]]
    else:
        model, _ = load_causal_lm(str(world.policy(number - 1)))
        texts = [
            sample(world, model, tokenizer, part, first=key(number, kind, 0))
            for kind, part in zip((TRAIN, HELD_OUT), prompts, strict=True)
        ]
        rows = [
            {
                "group": f"round {number}, prompt {index}",
                "prompt": prompt.text,
                "completions": list(responses),
            }
            for index, (prompt, responses) in enumerate(
                zip([*prompts[0], *prompts[1]], [*texts[0], *texts[1]], strict=True)
            )
        ]
        world.context.run.write_jsonl(str(file.relative_to(world.context.run.path)), rows)
    made = [
        [
            Candidates(key(number, kind, index), prompt, responses)
            for index, (prompt, responses) in enumerate(zip(prompts[kind], texts[kind], strict=True))
        ]
        for kind in (TRAIN, HELD_OUT)
    ]
    return made[0], made[1]


def key(number: int, kind: int, index: int) -> int:
    """Return the number of a prompt's candidates, unique in a run."""
    return ((3 * number + kind) << 24) + index


def sample(
    world: World,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    *,
    first: int,
) -> list[tuple[str, ...]]:
    """Return K responses for each prompt, less those that nobody could rank or no file of rankings takes.

    Those are empty ones, which a reward model without an EOS could not read either, and any with a NUL.

    Args:
        world: Of the run.
        model: The policy.
        tokenizer: Its own.
        prompts: The prompts.
        first: Number of the first prompt's candidates; keys the sampling noise.
    """
    settings, count = world.context.settings, world.settings.labels.k
    if not prompts:
        return []
    task = token_task(world, prompts, tokenizer, None)
    model.requires_grad_(False)
    rows = [(index, copy) for index in range(len(prompts)) for copy in range(count)]
    texts: list[str] = []
    size = settings.evaluation.batch_size
    for start in track(
        range(0, len(rows), size), description=f"sample {count} responses of {len(prompts)} prompts"
    ):
        part = rows[start : start + size]
        ids, mask = task.collate([prompts[index] for index, _ in part])
        rollout = generate(
            model,
            ids,
            mask,
            max_new_tokens=task.max_new_tokens,
            eos_ids=task.eos_ids,
            pad_id=task.pad_id,
            seed=CANDIDATE_SEED + settings.ppo.seed,
            episodes=torch.tensor([(first + index) * count + copy for index, copy in part]),
            temperature=settings.ppo.temperature,
        )
        pairs = zip(rollout.response_ids, rollout.response_mask, strict=True)
        texts += [task.decode(row[real].tolist()) for row, real in pairs]
    rows_of_k = [texts[start : start + count] for start in range(0, len(texts), count)]
    return [tuple(text for text in row if text.strip() and "\0" not in text) for row in rows_of_k]


def token_task(
    world: World, prompts: Sequence[Prompt], tokenizer: PreTrainedTokenizerBase, rewards: RewardSum | None
) -> TokenTask:
    """Return the task of some prompts, with the run's length limit."""
    settings = world.context.settings
    return TokenTask(
        prompts,
        tokenizer,
        len(tokenizer),
        {tokenizer.eos_token_id},
        tokenizer.pad_token_id,
        settings.max_new_tokens,
        rewards,
        seed=settings.ppo.seed,
    )


def rank(labeler: Labeler, candidates: Sequence[Candidates]) -> list[RankingGroup]:
    """Return the rankings; prompts that were passed over, or have one response only, are left out."""
    ranked = zip(candidates, labeler.ranks(candidates), strict=True)
    groups = [distinct(one, ranks) for one, ranks in ranked if ranks is not None]
    return [group for group in groups if group is not None]


def records(groups: Iterable[RankingGroup], annotator: str, number: int) -> Iterable[Mapping[str, Any]]:
    """Yield the records of rankings, in the form that `textrl.data.rankings` reads."""
    for index, group in enumerate(groups):
        yield {
            "group": f"round {number}, ranking {index}",
            "prompt": group.prompt,
            "completions": list(group.completions),
            "ranks": list(group.ranks),
            "annotator": annotator,
        }


def rankings_until(files: Iterable[Path]) -> list[RankingGroup]:
    """Return the rankings of several rounds; a file without any counts for nothing."""
    return [group for file in files if file.stat().st_size for group in read_rankings(file)]
