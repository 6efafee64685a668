"""Plain arguments, settings and the plugin's record describe the same environment."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import textrl_text
from textrl_text.scalar import TokenEnv
from textrl_text.settings import TokenEnvSettings
from textrl_text.tasks import DEFAULT_PROMPTS, TaskArguments, make_task
from textrl_text.vector import TokenVectorEnv
from token_rewards import count

from textrl.data.tokenizers import train_byte_bpe
from textrl.errors import UserError
from textrl.rewards import RewardSum

ID = "textrl.envs:TextRL/Tokens-v0"


def test_the_record_names_what_exists() -> None:
    spec = {spec.name: spec for spec in textrl_text.textrl_envs()}["TextRL/Tokens-v0"]
    assert spec.load() is TokenEnv
    assert spec.load_settings() is TokenEnvSettings
    assert spec.vector_target == f"{TokenVectorEnv.__module__}:{TokenVectorEnv.__name__}"
    assert gymnasium.make(ID).unwrapped.spec.vector_entry_point == spec.vector_target


def test_settings_are_arguments_with_the_same_defaults() -> None:
    arguments = inspect.signature(make_task).parameters
    for field in dataclasses.fields(TokenEnvSettings):
        assert arguments[field.name].default == field.default
    # The environments take what make_task takes, and pass it on.
    assert list(arguments) == list(TaskArguments.__annotations__)
    env = TokenEnv(**dataclasses.asdict(TokenEnvSettings()))
    assert [prompt.text for prompt in env.task.prompts] == list(DEFAULT_PROMPTS)


def test_arguments_reach_the_task(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"q": "a cat"}\n{"q": "a dog"}\n')
    train_byte_bpe(["a cat and a dog"] * 3, 262, tmp_path / "tokenizer")
    made: list[Any] = [
        gymnasium.make(
            ID,
            prompts=str(tmp_path / "p.jsonl"),
            column="q",
            tokenizer=str(tmp_path / "tokenizer"),
            max_new_tokens=3,
            seed=9,
        ).unwrapped,
        TokenVectorEnv(
            prompts=tmp_path / "p.jsonl",
            column="q",
            tokenizer=str(tmp_path / "tokenizer"),
            max_new_tokens=3,
            seed=9,
        ),
    ]
    for env in made:
        task = env.task
        assert [prompt.text for prompt in task.prompts] == ["a cat", "a dog"]
        assert task.vocab_size == len(task.tokenizer) > 258
        assert (task.max_new_tokens, task.seed) == (3, 9)
        assert task.eos_ids == {task.tokenizer.eos_token_id}
        assert task.pad_id == task.tokenizer.pad_token_id
        with pytest.raises(
            UserError, match=r"p.jsonl, line 1: the prompt has \d tokens, more than the 1 allowed"
        ):
            make_task(prompts=tmp_path / "p.jsonl", column="q", max_prompt_tokens=1)


def test_rewards_by_name() -> None:
    task = make_task(
        prompts=[{"prompt": "2 + 2 =", "answer": "4"}],
        rewards={"exact_answer": {"weight": 2.0}, "short": {"use": "length", "max": 2, "unit": "characters"}},
    )
    assert task.rewards is not None
    assert task.rewards.weights == {"exact_answer": 2.0, "short": 1.0}
    own = RewardSum([count()])
    assert make_task(rewards=own).rewards is own
    assert make_task().rewards is None


@pytest.mark.parametrize(
    ("rewards", "words"),
    [
        ({"exact_anser": {}}, "There is no reward 'exact_anser'. Did you mean 'exact_answer'?"),
        ({"length": {"targt": 3}}, "The rewards argument, sources.length.targt: unknown key"),
        (
            {"length": 1.0},
            "The rewards argument has 1.0 for 'length'; give a mapping of its settings and weight.",
        ),
        ({"length": {"target": 3, "weight": "much"}}, "The rewards argument, rewards.length: the weight"),
    ],
)
def test_wrong_rewards_by_name(rewards: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        make_task(rewards=rewards)
    assert words in str(caught.value)


def test_kl_is_refused_by_name() -> None:
    with pytest.raises(
        UserError, match=r"The reward 'kl' \(kl\) needs .*logprobs, which an environment does not have"
    ):
        gymnasium.make(ID, rewards={"kl": {"weight": 0.1}})


def test_the_class_docstring_has_gymnasiums_headings() -> None:
    headings = [
        line.strip()[3:] for line in (TokenEnv.__doc__ or "").splitlines() if line.strip().startswith("## ")
    ]
    assert headings == [
        "Description",
        "Action Space",
        "Observation Space",
        "Rewards",
        "Starting State",
        "Episode End",
        "Arguments",
        "Vectorized environment",
        "Version History",
    ]


def test_the_hooks_import_nothing_heavy() -> None:
    code = (
        "import sys, textrl_text; list(textrl_text.textrl_envs()); import textrl_text.settings; "
        "print(*{'torch', 'transformers', 'gymnasium', 'numpy', 'stable_baselines3'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
