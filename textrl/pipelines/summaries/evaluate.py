"""The held-out evaluation: every policy and baseline by ROUGE-L and by the normalised reward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from textrl.data.summaries import Summary, lead
from textrl.evaluation import text_metrics
from textrl.evaluation.compare import compare_scores
from textrl.evaluation.rouge import rouge_l
from textrl.evaluation.statistics import bootstrap_mean
from textrl.mdp.task import TokenTask
from textrl.models.loading import load_causal_lm
from textrl.pipelines.rlhf.evaluate import evaluation_task, held_out_kl, responses, sample_all
from textrl.pipelines.rlhf.stages import Context, make_rewards
from textrl.pipelines.summaries.settings import SummarizeSettings

_JUDGE = "rouge_l"


def evaluate(context: Context, settings: SummarizeSettings, texts: Sequence[Summary]) -> dict[str, Any]:
    """Compare the supervised model, the trained policy and the baselines; writes summary and samples.

    Args:
        context: Of the run; its models are finished.
        settings: Of the pipeline.
        texts: Held out from everything.

    Returns:
        Mean ROUGE-L F1 of each, and the KL.
    """
    before, tokenizer = load_causal_lm(str(context.models / "sft"))
    after, _ = load_causal_lm(str(context.models / "policy"))
    for model in (before, after):
        model.requires_grad_(False)
    task = evaluation_task(context, tokenizer, make_rewards(context).side("env"))
    sampled = {"sft": sample_all(context, before, task), "ppo": sample_all(context, after, task)}
    written = {name: [task.decode(row) for row in responses(rows)] for name, rows in sampled.items()}
    written["lead"] = [" " + lead(text.text, settings.candidates.lead_words) for text in texts]
    written["reference"] = [text.completion for text in texts]
    rouge = {name: rouge_of(some, texts) for name, some in written.items()}
    reward = {name: rewards_of(context, task, some) for name, some in written.items()}
    table = {
        name: {
            "rouge_l": bootstrap_mean(rouge[name]).plain(),
            "reward": bootstrap_mean(reward[name]).plain(),
            "words": text_metrics.mean_words(written[name]),
        }
        for name in written
    }
    kl = held_out_kl(before, sampled["ppo"], temperature=context.settings.ppo.temperature)
    judged = compare_scores(rouge["sft"], rouge["ppo"])
    trained = context.run.payload("reward_model")
    context.run.summarise(
        {
            "names": {"before": "SFT", "after": "PPO"},
            "headline": {
                "prompts": len(texts),
                "judge": _JUDGE,
                "judge_gain": judged["gain"],
                "win_rate": judged["win_rate"],
                **kl,
            },
            "judges": [
                {
                    "name": _JUDGE,
                    "features": "longest common subsequence with the reference summary",
                    **judged,
                }
            ],
            "reward_model": compare_scores(reward["sft"], reward["ppo"])
            | {"pair_accuracy": trained.get("pair_accuracy")},
            "text": _surface(written["sft"], written["ppo"]),
            "summaries": table,
        }
    )
    drawn = np.random.default_rng(0).permutation(len(texts))[: settings.evaluation.shown].tolist()
    context.run.write_jsonl(
        "samples.jsonl",
        (
            {
                "prompt": texts[i].prompt,
                "before": written["sft"][i],
                "after": written["ppo"][i],
                "judge_before": rouge["sft"][i],
                "judge_after": rouge["ppo"][i],
            }
            for i in drawn
        ),
    )
    return {"rouge_l": {name: row["rouge_l"] for name, row in table.items()}, **kl, "summaries": table}


def rouge_of(written: Sequence[str], texts: Sequence[Summary]) -> list[float]:
    """Return the ROUGE-L F1 of N summaries with the references."""
    return [rouge_l(one, text.completion).f1 for one, text in zip(written, texts, strict=True)]


@torch.no_grad()
def rewards_of(context: Context, task: TokenTask, written: Sequence[str]) -> list[float]:
    """Return what the environment's rewards say of N texts, one to each of the task's prompts.

    The reward model was shifted so that reference summaries of the training texts have mean 0.
    """
    tokenizer = task.tokenizer
    assert tokenizer is not None  # the pipeline builds the task with one
    eos = min(task.eos_ids)
    # Whole, also where they are longer than a policy may write: references and baselines have no limit.
    rows = [[*ids, eos] for ids in tokenizer(list(written), add_special_tokens=False)["input_ids"]]
    totals: list[float] = []
    size = context.settings.evaluation.batch_size
    for start in range(0, len(rows), size):
        some = rows[start : start + size]
        ids = torch.full((len(some), max(map(len, some))), task.pad_id)
        mask = torch.zeros(ids.shape, dtype=torch.bool)
        for row, tokens in enumerate(some):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = True
        batch = task.batch(task.prompts[start : start + size], ids, mask)
        totals += task.score(batch).total.sum(1).tolist()
    return totals


def table_of(table: dict[str, Any]) -> str:
    """Return the evaluation as lines for a terminal."""
    lines = [f"{'':12}{'ROUGE-L F1':>24}{'reward':>26}{'words':>8}"]
    for name, row in table.items():
        cells = [
            f"{row[key]['value']:.3f} [{row[key]['lo']:.3f}, {row[key]['hi']:.3f}]"
            for key in ("rouge_l", "reward")
        ]
        lines.append(f"{name:12}{cells[0]:>24}{cells[1]:>26}{row['words']:>8.1f}")
    return "\n".join(lines)


def _surface(before: Sequence[str], after: Sequence[str]) -> dict[str, dict[str, float]]:
    first, second = list(before), list(after)
    return {
        "distinct_2": {
            "before": text_metrics.distinct_n(first, 2),
            "after": text_metrics.distinct_n(second, 2),
        },
        "repetition": {
            "before": text_metrics.repetition(first),
            "after": text_metrics.repetition(second),
        },
        "length_words": {
            "before": text_metrics.mean_words(first),
            "after": text_metrics.mean_words(second),
        },
    }
