"""`textrl bench text`: the scale. 0 is random and 1 the best, exactly, for policies that are known."""

from __future__ import annotations

import itertools
import math

import gymnasium
import numpy as np
import pytest
import torch
from text_bench_kit import Table, best_table, job_of, mean_return, prompt_of

from textrl.bench import text_beside
from textrl.bench.text_building import acting_of, build_learner
from textrl.bench.text_grid import TASKS
from textrl.bench.text_play import Greedy, OfModel, Uniform, play
from textrl.bench.text_scores import Judge, best_of_logprobs, clean_env, judge, starting_model, tree_logprobs
from textrl.evaluation.optimum import all_responses, episode_rewards, response_logprobs
from textrl.registry import get_registry

#: Rules pay, and all responses can be written down.
RULES = ("copy", "reverse", "brackets", "arithmetic", "word_bandit", "length")
PRIORS = ("keyword", "sentiment")


@pytest.fixture(autouse=True)
def envs() -> None:
    get_registry().register_envs()


def judge_of(task: str) -> Judge:
    return judge(TASKS[task].env, "tiny")


@pytest.mark.parametrize("name", RULES)
def test_random_is_0_and_the_best_is_1_where_rules_pay(name: str) -> None:
    judged = judge_of(name)
    uniform = Uniform(judged.task.vocab_size)
    everything = tree_logprobs(judged.task, uniform)
    torch.testing.assert_close(everything.exp().sum(1), torch.ones(len(everything), dtype=torch.float64))
    exact = mean_return(judged.task, everything)
    assert judged.facts.normalised(exact) == pytest.approx(0.0, abs=1e-6)
    best = best_table(judged.task)
    assert judged.value(best).score == pytest.approx(1.0, abs=1e-6)
    assert judged.sampled(best, 40, seed=0).score == pytest.approx(1.0, abs=1e-6)
    # As it samples: within five standard errors of an episode's return, which lies in [0, 1].
    assert abs(judged.sampled(uniform, 4000, seed=1).value - exact) < 5 * 0.5 / math.sqrt(4000)


@pytest.mark.parametrize("name", PRIORS)
def test_the_prior_is_0_and_the_tilted_prior_is_1(name: str) -> None:
    judged = judge_of(name)
    assert judged.optimum is not None
    prior = judged.value(OfModel(starting_model(judged.env, 0)))
    assert prior.score == pytest.approx(0.0, abs=1e-5)
    assert prior.kl == pytest.approx(0.0, abs=1e-5)
    best = judged.value(Table(judged.task, judged.optimum.log_best))
    assert best.score == pytest.approx(1.0, abs=1e-5)
    assert best.value == pytest.approx(best.reward - judged.facts.beta * (best.kl or 0.0))
    assert judged.value(Uniform(judged.task.vocab_size)).score < 0


def test_a_policy_that_is_sure_pays_for_it_in_nats() -> None:
    judged = judge_of("keyword")
    assert judged.optimum is not None
    one = judged.value(best_table(judged.task))
    row = int(judged.optimum.rewards[0].argmax())
    expected = judged.optimum.rewards[0, row] + judged.facts.beta * judged.optimum.log_ref[0, row]
    assert one.value == pytest.approx(float(expected), abs=1e-6)
    assert one.kl == pytest.approx(-float(judged.optimum.log_ref[0, row]), abs=1e-5)


def test_the_tree_is_in_the_order_of_the_responses() -> None:
    judged = judge_of("sentiment")
    model = starting_model(judged.env, 0)
    ids, mask = all_responses(judged.task)
    by_response = [response_logprobs(model, judged.task, p, ids, mask) for p in judged.task.prompts]
    torch.testing.assert_close(
        tree_logprobs(judged.task, OfModel(model)), torch.stack(by_response), atol=1e-4, rtol=0
    )


def test_a_recurrent_policy_remembers_along_every_branch() -> None:
    judged = judge_of("sentiment")
    learner, _, _ = build_learner(job_of("contrib/recurrent_ppo", "sentiment"), judged.env)
    acting = acting_of(learner, judged.task.vocab_size)
    every = tree_logprobs(judged.task, acting)
    torch.testing.assert_close(every.exp().sum(1), torch.ones(2, dtype=torch.float64))
    # What it writes when it plays alone, one row at a time, is what the tree calls most probable.
    response = int(tree_logprobs(judged.task, Greedy(acting))[0].argmax())
    ids, mask = all_responses(judged.task)
    paid = episode_rewards(judged.task, judged.task.prompts[0], ids, mask)
    assert play(judged.task, acting, [judged.task.prompts[0]], None)[0] == pytest.approx(
        float(paid[response])
    )


def test_the_best_of_n_by_hand() -> None:
    p, paid = np.array([0.1, 0.2, 0.3, 0.4]), np.array([1.0, 0.0, 1.0, 0.5])
    drawn = np.zeros(4)
    for draws in itertools.product(range(4), repeat=3):
        chosen = max(draws, key=lambda one: paid[one])  # max() keeps the first of equal ones
        drawn[chosen] += math.prod(p[list(draws)])
    found = best_of_logprobs(torch.tensor(p).log()[None], torch.tensor(paid)[None], 3).exp()[0]
    torch.testing.assert_close(found, torch.tensor(drawn))
    assert float(best_of_logprobs(torch.tensor(p).log()[None], torch.tensor(paid)[None], 1).exp()[0, 1]) == (
        pytest.approx(0.2)
    )


def test_the_best_of_n_is_better_with_n_and_never_above_1() -> None:
    copy, keyword = judge_of("copy"), judge_of("keyword")
    model = OfModel(starting_model(copy.env, 0))
    scores = [copy.best_of(model, n, 64, seed=0).score for n in (1, 4, 64)]
    assert scores[0] < scores[1] < scores[2] <= 1 + 1e-9
    # Under a prior more draws are paid more, and cost more nats; the best policy is a compromise.
    prior = OfModel(starting_model(keyword.env, 0))
    found = [keyword.best_of(prior, n, 1, seed=0) for n in (1, 2, 4, 400)]
    assert [one.reward for one in found] == sorted(one.reward for one in found)
    assert [one.kl for one in found] == sorted(one.kl or 0.0 for one in found)
    assert found[0].score == pytest.approx(0.0, abs=1e-5)
    assert found[0].score < found[1].score < found[2].score <= 1 + 1e-9


# Beside the learner ------------------------------------------------------------------------------------


def test_the_prior_pays_its_log_probabilities_as_tokens_are_written() -> None:
    judged = judge_of("keyword")
    assert judged.optimum is not None
    source = text_beside.prior_source(starting_model(judged.env, 0), 0.5)
    assert (source.weight, source.spec.causal, source.spec.side) == (0.5, True, "env")
    ids, mask = judged.optimum.ids, judged.optimum.mask
    batch = judged.task.batch([judged.task.prompts[0]] * len(ids), ids, mask)
    paid = source.reward(batch)
    assert not paid[~mask].any()
    torch.testing.assert_close(paid.double().sum(1), judged.optimum.log_ref[0], atol=1e-4, rtol=0)
    shorter = judged.task.batch([judged.task.prompts[0]] * len(ids), ids[:, :1], mask[:, :1])
    assert torch.equal(source.reward(shorter)[:, 0], paid[:, 0])


def test_a_learner_of_rewards_is_paid_the_objective_without_the_entropy() -> None:
    """J = E[return + beta log prior] + beta entropy: what the environment pays is the first part."""
    judged = judge_of("keyword")
    assert judged.optimum is not None
    learner, settings, task = build_learner(job_of("sb3/ppo", "keyword"), judged.env)
    assert task is judged.task
    assert settings.ent_coef == judged.facts.beta
    env = learner.env.unwrapped
    env.reset(seed=0)
    total, over = 0.0, False
    while not over:
        _, reward, over, _, _ = env.step(2)
        total += reward
    ids = judged.optimum.ids
    response = next(row for row in range(len(ids)) if (ids[row][judged.optimum.mask[row]] == 2).all()
                    and judged.optimum.mask[row].all())  # fmt: skip
    expected = judged.optimum.rewards[0, response] + judged.facts.beta * judged.optimum.log_ref[0, response]
    assert total == pytest.approx(float(expected), abs=1e-4)


@pytest.mark.parametrize(
    ("task", "prompt", "before", "word", "value"),
    [
        ("copy", "a b", "", "a", 2.0), ("copy", "a b", "", "b", -2.0), ("copy", "a b", "a ", "b", 2.0),
        ("reverse", "a b", "", "b", 2.0), ("reverse", "a b", "b ", "b", -2.0),
        ("arithmetic", "1 + 1 =", "", "2", 2.0), ("arithmetic", "1 + 1 =", "", "1", -2.0),
        ("length", "write two words :", "rain ", "rain", 2.0),
        ("length", "write one words :", "rain ", "rain", -2.0),
        ("keyword", "soup", "is ", "bad", -2.0), ("keyword", "soup", "is ", "good", 0.0),
        ("dialogue", "polite tea :", "hello hello ", "order", 2.0),
        ("dialogue", "polite tea :", "", "bye", 0.0), ("copy", "a b", "", "elsewhere", 0.0),
    ],
)  # fmt: skip
def test_readers_know_the_task(task: str, prompt: str, before: str, word: str, value: float) -> None:
    made = clean_env(TASKS[task].env, "tiny").task
    assert prompt_of(made, prompt).text == prompt
    assert text_beside.READERS[task](made)(prompt, {}, before, word) == value


def test_a_reader_of_the_bandit_thinks_of_a_word_what_it_is_paid() -> None:
    made = clean_env(TASKS["word_bandit"].env, "tiny").task
    prompt, tokens = made.prompts[0], list(range(2, made.vocab_size))
    truth = text_beside.READERS["word_bandit"](made)
    paid = [episode_rewards(made, prompt, torch.tensor([[t]]), torch.tensor([[True]]))[0] for t in tokens]
    for token, pay in zip(tokens, paid, strict=True):
        assert truth(prompt.text, {}, "", made.decode([token])) == pytest.approx(4 * float(pay) - 2, abs=1e-6)


def test_readers_are_found_by_name() -> None:
    assert callable(text_beside.__getattr__("copy_tiny"))
    with pytest.raises(AttributeError, match="brackets_tiny"):
        text_beside.__getattr__("brackets_tiny")
    assert set(text_beside.READERS) == {name for name, task in TASKS.items() if task.reader == "rule"}
    for name, task in TASKS.items():
        env = gymnasium.make(task.env, difficulty="tiny").unwrapped
        assert (env.facts().prior is not None) == task.prior, name  # type: ignore[attr-defined]
