"""The text tasks as environments: documentation, checkers, seeds, settings, arguments, wrong input."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check
from stable_baselines3.common.env_checker import check_env as sb3_check
from textrl_text.sb3 import TokenVecEnv
from textrl_text.settings import TextTaskSettings
from textrl_text.tasks import DIFFICULTIES, TASKS
from textrl_text.tasks.envs import TextTaskEnv, TextTaskVectorEnv
from textrl_text.tasks.lookup import make_text_task, task_facts, task_policy, text_task

from textrl.cli import main
from textrl.data.cache import cache_dir
from textrl.errors import UserError
from textrl.models.loading import load_causal_lm
from textrl.registry import get_registry
from textrl.specs import EnvSpec

HEADINGS = [
    "Description",
    "Action Space",
    "Observation Space",
    "Rewards",
    "Starting State",
    "Episode End",
    "Arguments",
    "Version History",
]
#: Tasks whose "small" needs no other model than their own.
OWN_WORDS = [name for name in TASKS if name != "sentiment"]
MASKED = ["brackets", "arithmetic", "dialogue"]


def env_class(name: str) -> type[TextTaskEnv]:
    loaded: type[TextTaskEnv] = get_registry().find("env", TASKS[name].env_id).load()
    return loaded


def make(name: str, **arguments: Any) -> Any:
    return gymnasium.make(f"textrl.envs:{TASKS[name].env_id}", **arguments)


@pytest.mark.parametrize("name", TASKS)
def test_the_class_has_gymnasiums_headings_in_order(name: str) -> None:
    text = env_class(name).__doc__ or ""
    assert re.findall(r"^ *## (.+)$", text, re.M) == HEADINGS


@pytest.mark.parametrize("name", TASKS)
def test_the_docstring_names_the_sizes_that_hold(name: str) -> None:
    text = env_class(name).__doc__ or ""
    rows = {cells[0]: cells[1:] for line in re.findall(r"^ +\| (.+) \|$", text, re.M)
            for cells in [[cell.strip() for cell in line.split("|")]]}  # fmt: skip
    task = text_task(name)
    for column, difficulty in enumerate(DIFFICULTIES):
        size = dataclasses.asdict(task.size(difficulty, {}))
        written = {key: rows[key][column] for key in size}
        assert written == {key: "" if value is None else str(value) for key, value in size.items()}
        assert rows["tokens of the budget"][column] == f"{task.budgets[difficulty]:,}"


@pytest.mark.parametrize("name", TASKS)
def test_the_settings_are_the_arguments(name: str) -> None:
    spec = get_registry().find("env", TASKS[name].env_id)
    settings = spec.load_settings()
    assert settings is not None
    assert issubclass(settings, TextTaskSettings)
    given = {field.name: field.default for field in dataclasses.fields(settings)}
    task = text_task(name)
    assert given.pop("difficulty") == "small"
    assert given.pop("seed") == 0
    assert ("masks" in given) == (name in MASKED)
    given.pop("masks", None)
    assert given == dict.fromkeys(dataclasses.asdict(task.size("tiny", {})))
    # A null in a config file is the difficulty's own.
    assert (
        env_class(name)(difficulty="tiny", **given).task.vocab_size == make_text_task(name, "tiny").vocab_size
    )


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("masks", [False, True])
def test_both_public_checkers_pass_without_a_warning(name: str, masks: bool) -> None:
    if masks and name not in MASKED:
        with pytest.raises(UserError, match=f"{TASKS[name].env_id} has no rules that close tokens"):
            make(name, difficulty="tiny", masks=True)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = make(name, difficulty="tiny", masks=masks, render_mode="ansi")
        gymnasium_check(env.unwrapped)
        sb3_check(env.unwrapped, warn=True, skip_render_check=False)


@pytest.mark.parametrize("name", TASKS)
def test_scalar_vector_and_sb3_forms_pay_the_same(name: str) -> None:
    env, envs = make(name, difficulty="tiny", seed=3), gymnasium.make_vec(
        f"textrl.envs:{TASKS[name].env_id}", num_envs=2, difficulty="tiny", seed=3
    )  # fmt: skip
    assert isinstance(env.unwrapped, TextTaskEnv)
    assert isinstance(envs, TextTaskVectorEnv)
    sb3 = TokenVecEnv(make_text_task(name, "tiny", 3), num_envs=2)
    generator = np.random.default_rng(0)
    found: dict[int, list[float]] = {}
    paid = [[], []]
    first, infos = envs.reset()
    also = sb3.reset()
    numbers = infos["episode_index"].tolist()
    moves: dict[int, list[int]] = {}
    for _ in range(20):
        np.testing.assert_array_equal(first["input_ids"], also["input_ids"])
        actions = generator.integers(0, envs.single_action_space.n, 2)
        first, rewards, ended, _, infos = envs.step(actions)
        sb3.step_async(actions)
        also, same, done, _ = sb3.step_wait()
        np.testing.assert_allclose(rewards, same, atol=1e-6)
        np.testing.assert_array_equal(ended, done)
        for row in range(2):
            moves.setdefault(numbers[row], []).append(int(actions[row]))
            paid[row].append(float(rewards[row]))
            if ended[row]:
                found[numbers[row]], paid[row] = paid[row], []
                numbers[row] = int(infos["episode_index"][row])
    assert len(found) >= 6
    for number, rewards_of in found.items():
        env.reset(options={"episode": number})
        alone = [env.step(token)[1] for token in moves[number]]
        np.testing.assert_allclose(alone, rewards_of, atol=1e-6)


@pytest.mark.parametrize("name", OWN_WORDS)
@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_the_tokenizer_round_trips_and_the_task_is_the_same_under_every_seed(
    name: str, difficulty: Any
) -> None:
    task, other = make_text_task(name, difficulty, 0), make_text_task(name, difficulty, 1)
    assert task.prompts == other.prompts
    assert len({prompt.ids for prompt in task.prompts}) == len(task.prompts)
    assert task.tokenizer is not None
    for prompt in task.prompts[:50]:
        assert tuple(task.tokenizer(prompt.text)["input_ids"]) == prompt.ids
        assert task.decode(prompt.ids) == prompt.text
    assert len(task.tokenizer) == task.vocab_size
    assert task.eos_ids == {task.tokenizer.eos_token_id}
    assert task.pad_id == task.tokenizer.pad_token_id != task.tokenizer.eos_token_id
    if len(task.prompts) > 3:
        orders = [[one.prompt_for(episode) for episode in range(20)] for one in (task, other)]
        assert orders[0] != orders[1]


def test_a_word_that_is_none_is_refused_and_a_saved_tokenizer_is_the_same() -> None:
    tokenizer = make_text_task("copy", "tiny").tokenizer
    assert tokenizer is not None
    with pytest.raises(Exception, match="UNK"):
        tokenizer("a z")
    model, saved = load_causal_lm("task-copy-tiny")
    assert saved.get_vocab() == tokenizer.get_vocab()
    assert saved.decode(saved("a c b")["input_ids"]) == "a c b"
    assert model.config.pad_token_id == tokenizer.pad_token_id


def test_the_records_name_what_exists() -> None:
    registry = get_registry(strict=True)
    for name, entry in TASKS.items():
        spec = registry.find("env", entry.env_id)
        assert isinstance(spec, EnvSpec)
        assert spec.load().recipe.name == name
        assert spec.vector_target == entry.vector_target
        for difficulty in entry.policies:
            assert callable(registry.find("model", f"task-{name.replace('_', '-')}-{difficulty}").load())


def test_more_rewards_are_paid_beside_the_tasks_own() -> None:
    env = make("copy", difficulty="tiny", rewards={"length": {"max": 1, "weight": 0.5}})
    env.reset()
    for token in env.unwrapped.task.prompt_for(0).ids:
        info = env.step(token)[4]
    assert info["rewards"] == {"task": pytest.approx(1.0), "length": -0.5}
    assert env.unwrapped.facts() == task_facts("copy", "tiny")
    with pytest.raises(UserError, match="Two reward sources are called 'task'"):
        make("copy", difficulty="tiny", rewards={"task": {"use": "length", "max": 1}})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            {"difficulty": "smal"},
            "difficulty is 'smal'; choose one of tiny, small, medium. Did you mean 'small'?",
        ),
        ({"lenght": 3}, "TextRL/Copy-v0: unknown argument 'lenght'. Did you mean 'length'?"),
        ({"length": "3"}, "TextRL/Copy-v0: 'length' must be a whole number (int), not '3'."),
        ({"length": 0}, "TextRL/Copy-v0: 'length': length is 0; give at least 1."),
        ({"letters": 27}, "TextRL/Copy-v0: 'letters': letters is 27; give 2 to 26."),
        ({"seed": -1}, "seed is -1; give a number from 0 upwards."),
        ({"masks": True}, "TextRL/Copy-v0 has no rules that close tokens; leave masks out."),
    ],
)
def test_wrong_arguments_are_one_sentence(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        make("copy", **{"difficulty": "tiny", **arguments})
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "sizes", "words"),
    [
        ("brackets", {"length": 4}, "length is 4, with the prompt 7 brackets; make them even"),
        ("brackets", {"kinds": 5}, "kinds is 5; give 1 to 4"),
        ("arithmetic", {"largest": 0}, "largest is 0; give 1 to 499"),
        ("arithmetic", {"operations": "*"}, "operations"),
        ("keyword", {"beta": 0.0}, "beta is 0.0; it must be above 0"),
        ("keyword", {"adjectives": 1}, "adjectives is 1; give 2 to 5"),
        ("word_bandit", {"contexts": 9}, "contexts is 9; give 1 to the number of words, 4"),
        ("dialogue", {"orders": 5}, "orders is 5; give 1 to 4"),
        ("sentiment", {"length": 0}, "length is 0; give at least 1"),
        ("length", {"longest": 17}, "longest is 17; give 1 to 16"),
    ],
)
def test_sizes_that_cannot_be_are_one_sentence(name: str, sizes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        make_text_task(name, "tiny", **sizes)
    assert words in str(caught.value)
    assert TASKS[name].env_id in str(caught.value)


def test_an_unknown_task_gets_the_nearest_name() -> None:
    with pytest.raises(UserError, match=r"There is no text task 'revers'\. Did you mean 'reverse'\?"):
        task_facts("revers")


def test_the_listing_shows_a_task_with_its_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["envs", "TextRL/Copy-v0"]) == 0
    shown = capsys.readouterr().out
    for words in ("difficulty: ", "= small", "letters: ", "the benchmark's", "Keys the order of the prompts"):
        assert words in shown


def test_the_hooks_import_nothing_heavy() -> None:
    code = (
        "import sys, textrl_text; list(textrl_text.textrl_envs()); list(textrl_text.textrl_models()); "
        "import textrl_text.settings; "
        "print(*{'torch', 'transformers', 'gymnasium', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_sentiment_takes_another_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TEXTRL_CACHE", str(tmp_path))
    env = make("sentiment", model="tiny-gpt2", length=4)
    facts = env.unwrapped.facts()
    assert (facts.optimum, facts.how, facts.prior, facts.beta) == (None, None, "tiny-gpt2", 0.05)
    with pytest.raises(UserError, match="The optimum of this task is not known"):
        facts.normalised(0.0)
    task = env.unwrapped.task
    assert len(task.prompts) == 16
    assert task.max_new_tokens == 4
    assert env.unwrapped.policy() == task_policy("sentiment", "small", model="tiny-gpt2")


@pytest.mark.skipif(
    not list((cache_dir() / "models").glob("smollm2-135m-instruct-*")), reason="SmolLM2 is not in the cache"
)
def test_sentiment_writes_with_smollm2_where_it_is_there() -> None:
    env = make("sentiment")
    task = env.unwrapped.task
    assert task.vocab_size > 40_000
    env.reset(seed=0)
    for token in task.tokenizer(" wonderful")["input_ids"]:
        env.step(token)
    _, reward, ended, _, info = env.step(task.tokenizer.eos_token_id)
    assert ended
    assert reward == info["rewards"]["task"] > 0.5
    assert env.unwrapped.facts().prior == "smollm2-135m"
