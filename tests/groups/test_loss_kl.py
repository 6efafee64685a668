"""Where k3 as a loss term rests: one step in closed form, several steps by exact gradients."""

from __future__ import annotations

import pytest
import torch
from tiny_world import EOS, PAD, VOCAB, TokenCount, source, tiny_gpt2, tiny_task
from torch import Tensor

from textrl.evaluation.loss_kl import at_rest, k3_loss_optimum
from textrl.evaluation.optimum import Optimum, total_variation
from textrl.mdp.kl import k3
from textrl.mdp.task import Prompt, TokenTask
from textrl.rewards import RewardSum


def test_one_step_by_hand() -> None:
    # lambda = 2: 1 * .5 / (2 - 1) + 1 * .5 / (2 - 1) = 1 where both actions pay 1.
    same = at_rest(torch.tensor([0.5, 0.5]).double(), torch.tensor([1.0, 1.0]).double(), 1.0)
    assert same.tolist() == pytest.approx([0.5, 0.5])
    # ref (.75, .25), q (0, 1), beta 1: .75 / l + .25 / (l - 1) = 1 -> l^2 - 2 l + .75 = 0 -> l = 1.5.
    found = at_rest(torch.tensor([0.75, 0.25]).double(), torch.tensor([0.0, 1.0]).double(), 1.0)
    assert found.tolist() == pytest.approx([0.5, 0.5])


def test_responses_of_one_token_give_the_closed_form() -> None:
    task = TokenTask((Prompt(ids=(2,)),), None, VOCAB, {EOS}, PAD, 1, RewardSum([source(TokenCount())]))
    optimum = Optimum.of(task, tiny_gpt2(), 0.7)
    pi = k3_loss_optimum(optimum, 0.7)[0].exp()
    # beta ref / pi + r is the same for all: lambda.
    level = 0.7 * optimum.log_ref[0].exp() / pi + optimum.rewards[0]
    assert float(pi.sum()) == pytest.approx(1)
    assert level.tolist() == pytest.approx([float(level[0])] * len(level))
    assert float(level[0]) == pytest.approx(float((pi * optimum.rewards[0]).sum()) + 0.7)


def gradient_at(log_pi: Tensor, optimum: Optimum, beta: float) -> float:
    """Return the largest entry of the exact expected gradient of -R log pi + beta k3 by all logits."""
    responses = [tuple(r[m].tolist()) for r, m in zip(optimum.ids, optimum.mask, strict=True)]
    taken = {response[: t + 1] for response in responses for t in range(len(response))}
    states = sorted({one[:-1] for one in taken})

    def masses(log_probability: Tensor) -> dict[tuple[int, ...], float]:
        held = dict.fromkeys([*taken, ()], 0.0)
        for response, p in zip(responses, log_probability.exp().tolist(), strict=True):
            for t in range(len(response) + 1):
                held[response[:t]] += p
        return held

    pi_of, ref_of = masses(log_pi), masses(optimum.log_ref[0])
    size = optimum.task.vocab_size
    table = torch.tensor([[pi_of[(*state, a)] / pi_of[state] for a in range(size)] for state in states])
    logits = table.double().log().requires_grad_()
    logs = torch.log_softmax(logits, 1)
    loss = torch.zeros((), dtype=torch.float64)
    for response, paid, p in zip(responses, optimum.rewards[0].tolist(), log_pi.exp().tolist(), strict=True):
        for t, token in enumerate(response):
            new = logs[states.index(response[:t]), token]
            ref = torch.tensor(ref_of[response[: t + 1]] / ref_of[response[:t]]).double().log()
            loss = loss + p * (beta * k3(new, ref) - paid * new)
    (gradient,) = torch.autograd.grad(loss, logits)
    return float(gradient.abs().max())


def test_several_steps_are_at_rest() -> None:
    optimum = Optimum.of(tiny_task(max_new_tokens=3), tiny_gpt2(), 0.5)
    one = TokenTask((optimum.task.prompts[1],), None, VOCAB, {EOS}, PAD, 3, optimum.task.rewards)
    alone = Optimum.of(one, tiny_gpt2(), 0.5)
    own = k3_loss_optimum(alone, 0.5)
    assert float(own.exp().sum()) == pytest.approx(1)
    assert gradient_at(own[0], alone, 0.5) < 1e-6
    assert gradient_at(alone.log_best[0], alone, 0.5) > 1e-2
    assert gradient_at(own[0], alone, 0.6) > 1e-3
    assert float(total_variation(own, alone.log_best)) > 0.05
