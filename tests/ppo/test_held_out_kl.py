"""The evaluation's KL, held to whole distributions of both policies in float64."""

from __future__ import annotations

import pytest
import torch
from tiny_world import EOS, PAD, tiny_gpt2
from transformers import PreTrainedModel

from textrl.pipelines.rlhf.evaluate import held_out_kl
from textrl.rollout import Rollout, generate


def sampled(model: PreTrainedModel, temperature: float) -> Rollout:
    """24 responses to prompts of one and two tokens, some of them ended by EOS."""
    ids = torch.tensor([[PAD, 2], [3, 4], [4, 5]]).repeat(8, 1)
    return generate(
        model, ids, ids != PAD, max_new_tokens=5, eos_ids={EOS}, pad_id=PAD, seed=3,
        episodes=torch.arange(24), temperature=temperature,
    )  # fmt: skip


def log_ratio(
    new: PreTrainedModel, old: PreTrainedModel, rollout: Rollout, row: int, temperature: float
) -> float:
    """Sum of log pi_new - log pi_old over the real tokens of one response, without batch or padding."""
    prompt = rollout.prompt_ids[row][rollout.prompt_mask[row]]
    response = rollout.response_ids[row][rollout.response_mask[row]]
    whole = torch.cat([prompt, response])[None]
    totals = []
    for model in (new, old):
        logits = model.double()(input_ids=whole).logits[0, len(prompt) - 1 : -1] / temperature
        totals.append(float(logits.log_softmax(-1).gather(1, response[:, None]).sum()))
    return totals[0] - totals[1]


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_mean_of_summed_log_ratios_of_the_distribution_that_was_sampled(temperature: float) -> None:
    new, old = tiny_gpt2(0).requires_grad_(False), tiny_gpt2(1).requires_grad_(False)
    rollout = sampled(new, temperature)
    lengths = rollout.response_mask.sum(1)
    assert lengths.min() < lengths.max()  # or the mask is not tested
    found = held_out_kl(old, [rollout], temperature=temperature)["kl_per_sequence"]
    with torch.no_grad():
        each = [log_ratio(new, old, rollout, row, temperature) for row in range(len(lengths))]
    assert found["value"] == pytest.approx(sum(each) / len(each), abs=1e-4)
    assert found["lo"] < found["value"] < found["hi"]


def test_nothing_learned_is_no_kl() -> None:
    model = tiny_gpt2(0).requires_grad_(False)
    assert held_out_kl(model, [sampled(model, 1.0)])["kl_per_sequence"]["value"] == pytest.approx(0, abs=1e-5)
