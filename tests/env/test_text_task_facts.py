"""Random and best values of the text tasks, against brute force, by hand, and by play."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from textrl_text.tasks import DIFFICULTIES, TASKS
from textrl_text.tasks.facts import TaskFacts, rule_values
from textrl_text.tasks.lookup import make_text_task, task_facts, text_task
from textrl_text.tasks.vocabulary import EOS_ID, PAD_ID, word_ids

from textrl.evaluation.optimum import Optimum, all_responses, episode_rewards
from textrl.mdp.task import TokenTask
from textrl.models.loading import load_causal_lm

RULED = ["copy", "reverse", "brackets", "arithmetic", "word_bandit", "dialogue", "length"]
#: Sizes of which every response can be written down.
ENUMERABLE: list[tuple[str, dict[str, Any]]] = [
    ("copy", {}),
    ("reverse", {}),
    ("brackets", {}),
    ("brackets", {"kinds": 2, "prompt": 2, "length": 4}),
    ("arithmetic", {}),
    ("arithmetic", {"largest": 2, "operations": "+-"}),
    ("word_bandit", {}),
    ("length", {}),
]


def pays_all(task: TokenTask, prompt: str, responses: Sequence[str]) -> list[list[float]]:
    """Return what each token of responses of one length is paid; `$` is EOS, `_` is padding."""
    assert task.tokenizer is not None
    ids = {**task.tokenizer.get_vocab(), "$": EOS_ID, "_": PAD_ID}
    (start,) = [one for one in task.prompts if one.text == prompt]
    tokens = torch.tensor([[ids[word] for word in response.split()] for response in responses])
    mask = torch.ones_like(tokens, dtype=torch.bool)
    paid: list[list[float]] = task.score(task.batch([start] * len(responses), tokens, mask)).total.tolist()
    return paid


def pays(task: TokenTask, prompt: str, response: str) -> list[float]:
    """Return what each token of one response is paid; see `pays_all`."""
    return pays_all(task, prompt, [response])[0]


@pytest.mark.parametrize(("name", "sizes"), ENUMERABLE)
def test_dynamic_programming_agrees_with_all_responses(name: str, sizes: dict[str, Any]) -> None:
    task, facts = make_text_task(name, "tiny", **sizes), task_facts(name, "tiny", **sizes)
    ids, mask = all_responses(task)
    uniform = torch.pow(torch.tensor(float(task.vocab_size), dtype=torch.float64), -mask.sum(1).double())
    assert float(uniform.sum()) == pytest.approx(1)
    paid = torch.stack([episode_rewards(task, prompt, ids, mask) for prompt in task.prompts])
    assert facts.random == pytest.approx(float((uniform * paid).sum(1).mean()), abs=1e-6)
    assert facts.optimum == pytest.approx(float(paid.max(1).values.mean()), abs=1e-6)


@pytest.mark.parametrize("name", ["brackets", "arithmetic", "dialogue"])
def test_under_masks_the_best_is_the_same_and_chance_is_better(name: str) -> None:
    free, masked = task_facts(name, "tiny"), task_facts(name, "tiny", masks=True)
    assert masked.optimum == pytest.approx(free.optimum)
    assert masked.random is not None
    assert free.random is not None
    assert masked.random > free.random


@pytest.mark.parametrize(("name", "masks"), [*((name, False) for name in RULED), ("dialogue", True)])
def test_chance_by_play_agrees(name: str, masks: bool) -> None:
    """Random tokens in the environment's own terms: within 4 standard errors of the exact mean."""
    difficulty: Any = "tiny"
    task, facts = make_text_task(name, difficulty, masks=masks), task_facts(name, difficulty, masks=masks)
    generator, returns = np.random.default_rng(1), []
    episodes = 300 if masks else 1000
    ids = torch.zeros((episodes, task.max_new_tokens), dtype=torch.int64)
    mask = torch.zeros_like(ids, dtype=torch.bool)
    prompts = [task.prompt_for(episode) for episode in range(episodes)]
    for row, prompt in enumerate(prompts):
        written: list[int] = []
        while not written or task.finish_reason(written[-1], len(written)) is None:
            token = int(generator.integers(task.vocab_size))
            if masks:
                token = int(generator.choice(np.flatnonzero(task.action_mask(prompt, written))))
            written.append(token)
        ids[row, : len(written)], mask[row, : len(written)] = torch.tensor(written), True
    returns = task.score(task.batch(prompts, ids, mask)).total.double().sum(1)
    assert facts.random is not None
    assert abs(float(returns.mean()) - facts.random) < 4 * float(returns.std()) / math.sqrt(episodes)


@pytest.mark.parametrize("name", RULED)
def test_the_figures_in_the_docstring_are_true(name: str) -> None:
    from textrl.registry import get_registry

    text = " ".join((get_registry().find("env", TASKS[name].env_id).load().__doc__ or "").split())
    chance = re.search(r"at random gets ([\d.]+), ([\d.]+) and ([\d.]+) in the three", text)
    assert chance
    several = re.search(r"best return, .*?, is ([\d.]+), ([\d.]+) and ([\d.]+) in the three", text)
    best = several.groups() if several else ("1", "1", "1")
    assert several or "best return is 1." in text
    # Where all prompts are much alike and would take seconds, one in 41 is worked out.
    for column, difficulty in enumerate(DIFFICULTIES):
        task, thinned = make_text_task(name, difficulty), 0.0
        if len(task.prompts) > 400 and name != "brackets":
            task.prompts, thinned = task.prompts[::41], 0.0005
        rules = text_task(name).rules(text_task(name).size(difficulty, {}))  # type: ignore[attr-defined]
        random, optimum = rule_values(task, rules)
        assert random == pytest.approx(float(chance[column + 1]), abs=5e-5 + thinned)
        assert optimum == pytest.approx(float(best[column]), abs=5e-5)


def test_copy_and_reverse_pay_place_by_place() -> None:
    copy, reverse = make_text_task("copy", "tiny", length=4, prompts=99), make_text_task("reverse", "tiny")
    prompt = next(one.text for one in copy.prompts if one.text == "a b c a")
    assert pays(copy, prompt, "a c c a") == [0.25, 0.0, 0.25, 0.25]
    assert pays(copy, prompt, "a b $") == [0.25, 0.25, 0.0]
    assert pays(reverse, "a b", "b a") == [0.5, 0.5]
    assert pays(reverse, "a b", "a b") == [0.0, 0.0]


def balanced(words: Sequence[str]) -> bool:
    """Return whether every bracket is closed by its own kind: cancel neighbours until nothing changes."""
    text, before = "".join(words), ""
    while text != before:
        before, text = text, text.replace("()", "").replace("[]", "")
    return not text


def test_brackets_pay_as_long_as_a_completion_exists() -> None:
    task = make_text_task("brackets", "tiny", kinds=2, prompt=2, length=4)
    words = ["(", ")", "[", "]"]
    completable = [
        " ".join(start)
        for start in itertools.product(words, repeat=2)
        if any(balanced([*start, *rest]) for rest in itertools.product(words, repeat=4))
    ]
    assert sorted(prompt.text for prompt in task.prompts) == sorted(completable)
    for prompt in completable:
        whole = [r for r in itertools.product(words, repeat=4) if balanced([*prompt.split(), *r])]
        begun = {rest[:n] for rest in whole for n in range(1, 5)}
        responses = list(itertools.product([*words, "_"], repeat=4))
        paid = pays_all(task, prompt, [" ".join(response) for response in responses])
        for response, each in zip(responses, paid, strict=True):
            assert each == [0.25 if response[:n] in begun else 0.0 for n in range(1, 5)]


def test_masks_of_brackets_leave_open_what_pays() -> None:
    task = make_text_task("brackets", "tiny", masks=True)
    ids = word_ids(["(", ")"])
    (prompt,) = [one for one in task.prompts if one.text == "( ) ("]
    assert np.flatnonzero(task.action_mask(prompt, [])).tolist() == [ids["("], ids[")"]]
    assert np.flatnonzero(task.action_mask(prompt, [ids["("]])).tolist() == [ids[")"]]
    assert np.flatnonzero(task.action_mask(prompt, [ids[")"]])).tolist() == [ids["("]]


def test_arithmetic_pays_the_whole_answer_alone() -> None:
    task = make_text_task("arithmetic", "medium")
    answers = {prompt.text: eval(prompt.text.rstrip("= ").replace(" ", "")) for prompt in task.prompts}
    assert set(answers.values()) == set(range(19))
    for text, answer in answers.items():
        right = " ".join(str(answer))
        assert pays(task, text, f"{right} $")[-1] == 1
        assert sum(pays(task, text, right)) == 0
        assert sum(pays(task, text, f"0 {right}"[:5])) == 0
        assert sum(pays(task, text, f"{' '.join(str((answer + 1) % 10))} $")) == (answer == (answer + 1) % 10)
    assert pays(task, "9 + 9 =", "1 8 $") == [0.0, 0.0, 1.0]  # an episode's pay stands on its last token


def test_length_counts_words_and_nothing_else() -> None:
    task = make_text_task("length", "small")
    prompt = "write four words :"
    assert sum(pays(task, prompt, "rain wind rain rain $")) == 1
    assert sum(pays(task, prompt, "rain wind rain $")) == 0.75
    assert sum(pays(task, prompt, "rain _ write rain $")) == 0.5
    assert sum(pays(task, prompt, "$")) == 0
    assert sum(pays(task, prompt, " ".join(["snow"] * 9))) == 0  # cut five too late
    assert sum(pays(task, "write eight words :", " ".join(["snow"] * 9))) == pytest.approx(1 - 1 / 8)


def test_a_dialogue_by_hand() -> None:
    """A polite customer with two orders has 5 turns and 4 replies that count: a unit is 1 / 7."""
    task = make_text_task("dialogue", "small")
    unit = 1 / 7
    good = "hello hello order? tea tea cake cake thanks bye"
    assert pays(task, "polite tea cake :", good) == pytest.approx([unit, unit / 2] * 4 + [unit])
    # Somebody who is in a hurry is cross about a greeting, until the clerk says sorry; 4 + 3 / 2 units.
    hasty = pays(task, "hasty tea cake :", "hello hm sorry fine order? tea tea cake cake")
    assert hasty == pytest.approx([0, 0, 0, 0, *[unit * 7 / 5.5 * share for share in (1, 0.5, 1, 0.5, 1)]])
    # Talking over the customer pays nothing, and the dialogue goes on all the same.
    over = pays(task, "polite tea cake :", "hello bye order? bye tea cake")
    assert over == pytest.approx([unit, 0, unit, 0, unit, unit / 2])
    # While the customer is cross nothing helps but an apology.
    cross = pays(task, "polite tea cake :", "tea hm hello hm sorry fine hello hello $")
    assert cross == pytest.approx([0, 0, 0, 0, 0, 0, unit, unit / 2, 0])


def test_the_customer_speaks_through_the_mask() -> None:
    task = make_text_task("dialogue", "small", masks=True)
    assert task.tokenizer is not None
    ids = task.tokenizer.get_vocab()
    (prompt,) = [one for one in task.prompts if one.text == "polite tea cake :"]
    written = [ids["hello"]]
    assert np.flatnonzero(task.action_mask(prompt, written)).tolist() == [ids["hello"]]
    own = np.flatnonzero(task.action_mask(prompt, [*written, ids["hello"]]))
    assert set(own) == {EOS_ID} | {
        ids[w] for w in ("hello", "order?", "sorry", "bye", "tea", "soup", "cake", "milk")
    }
    crossed = [*written, ids["hello"], ids["bye"]]
    assert np.flatnonzero(task.action_mask(prompt, crossed)).tolist() == [ids["hm"]]


def test_the_bandits_table_is_the_task() -> None:
    task, facts = make_text_task("word_bandit", "tiny"), task_facts("word_bandit", "tiny")
    words = [prompt.text for prompt in task.prompts]
    table = np.array(
        [[pays(task, prompt, word)[0] for word in ("baba", "bade", "baki", "balo")] for prompt in words]
    )
    assert ((table > 0) & (table < 1)).all()
    assert facts.optimum == pytest.approx(table.max(1).mean())
    assert facts.random == pytest.approx(table.sum() / table.shape[0] / 6)  # padding and EOS pay nothing
    assert pays(task, words[0], "$") == pays(task, words[0], "_") == [0.0]


def test_the_keywords_best_value_in_closed_form() -> None:
    """With pay -1 or 0, Z is 1 - p + p exp(-1 / beta), where p is how often the prior says the word."""
    facts = task_facts("keyword", "tiny")
    assert facts.random is not None
    assert facts.beta is not None
    p, beta = -facts.random, facts.beta
    assert facts.optimum == pytest.approx(beta * math.log(1 - p + p * math.exp(-1 / beta)), abs=1e-6)
    assert facts.prior == "task-keyword-tiny"
    assert facts.normalised(facts.random) == 0
    other = task_facts("keyword", "tiny", beta=1.0)
    assert other.optimum == pytest.approx(math.log(1 - p + p * math.exp(-1)), abs=1e-6)


@pytest.mark.parametrize("name", ["keyword", "sentiment"])
def test_the_prior_says_what_its_corpus_says(name: str) -> None:
    recipe: Any = text_task(name)
    size = recipe.size("tiny", {})
    task = make_text_task(name, "tiny")
    optimum = Optimum.of(task, load_causal_lm(str(recipe.policy("tiny")), attn="eager")[0], beta=1.0)
    texts = [task.decode(row[real].tolist()) for row, real in zip(optimum.ids, optimum.mask, strict=True)]
    complete = [EOS_ID in row[real].tolist() for row, real in zip(optimum.ids, optimum.mask, strict=True)]
    for at, prompt in enumerate(task.prompts):
        wanted = {one.response: one.weight for one in recipe.corpus(size) if one.prompt == prompt.text}
        assert sum(wanted.values()) == pytest.approx(1)
        found = {t: float(p) for t, p, whole in zip(texts, optimum.log_ref[at].exp(), complete, strict=True)
                 if whole and t in wanted}  # fmt: skip
        assert found == pytest.approx(wanted, abs=0.02)


def test_no_score_without_an_optimum() -> None:
    facts = TaskFacts(random=0.2, optimum=0.7, how="computed", prior=None, beta=None, budget=1)
    assert facts.normalised(0.2) == 0
    assert facts.normalised(0.7) == 1
    assert facts.normalised(0.45) == pytest.approx(0.5)
