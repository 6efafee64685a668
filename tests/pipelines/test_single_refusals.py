"""Configs of one learner on text that cannot work: one sentence with line and key, and no run folder."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from textrl.cli import main
from textrl.models.loading import load_causal_lm
from textrl.tamer.text.head import TokenHead, unit
from textrl.tamer.text.saved import save_head

TOKENS: dict[str, Any] = {
    "id": "TextRL/Tokens-v0", "prompts": ["The film was", "The end"], "tokenizer": "tiny-gpt2",
    "max_new_tokens": 4,
}  # fmt: skip
SMALL: dict[str, Any] = {"policy": "tiny-gpt2", "precision": "fp32", "episodes_per_iteration": 8}
PPO: dict[str, Any] = {
    "learner": "ppo_ptx", "env": TOKENS, "total_timesteps": 20,
    "settings": {**SMALL, "minibatches": 2, "ema_decay": 0.0},
}  # fmt: skip
TAUGHT: dict[str, Any] = {
    **PPO,
    "sources": {"h": {"use": "tamer_text", "rank": 8}, "kl": {"use": "kl"}},
    "rewards": {"kl": 0.05},
    "advice": {"technique": "action_biasing", "source": "h", "beta": 4.0},
    "human": {"source": "h", "feedback": {"use": "simulated_text", "lexicon": {"the": 1.0}}},
}
GROUPS: dict[str, Any] = {
    "learner": "rloo", "env": TOKENS, "total_timesteps": 20, "settings": {**SMALL, "group_size": 4},
}  # fmt: skip


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTRL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def changed(config: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a config with other values under dotted keys (``__`` for the dot); None removes a key."""
    made = copy.deepcopy(config)
    for key, value in changes.items():
        *sections, last = key.split("__")
        here = made
        for name in sections:
            here = here.setdefault(name, {})
        here.pop(last, None)
        if value is not None:
            here[last] = value
    return made


def run(config: dict[str, Any], name: str = "one") -> int:
    Path("one.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return main(["run", "one.yaml", "--name", name])


def refused(config: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> str:
    """Return the sentence with which a config is refused, less the file, having seen that nothing is left."""
    capsys.readouterr()
    assert run(config) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1, error
    assert not Path("runs", "one").exists(), "nothing half-written, and the name is free"
    return error.removeprefix("textrl: error: ")


def line_of(config: dict[str, Any], key: str) -> int:
    """Return the line of a dotted key in the file that `run` writes."""
    from textrl.config import load_config

    Path("lines.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return int(load_config("lines.yaml").where(key).rpartition(" ")[2])


def head_of(model: str, folder: str = "head", rank: int = 8, *, taught: bool = True) -> str:
    """Write a head that likes all tokens of a model, by a bias of each, and return its folder."""
    embeddings = load_causal_lm(model)[0].get_input_embeddings().weight.detach().numpy()
    head = TokenHead(embeddings, rank=rank, alpha=0.3, seed=0)
    if taught:
        head.learn(unit(np.ones(head.width)), 0, 1.0)
        head.b[:] = 2.0
    return str(save_head(head, folder))


@pytest.mark.parametrize("config", [PPO, GROUPS], ids=["ppo_ptx", "rloo"])
@pytest.mark.parametrize("precision", ["same", "fp16"])
def test_a_taught_head_pays_where_it_is_a_reward_alone(config: dict[str, Any], precision: str) -> None:
    """Without advice and a person nobody told it the model, and it paid 0; fp16 hid that it was the same."""
    paid = changed(config, sources={"h": {"use": "tamer_text", "rank": 8, "weights": head_of("tiny-gpt2")}})
    paid = changed(paid, rewards={"h": 1.0}, settings__reference_precision=precision)
    assert run(paid) == 0
    first = json.loads(Path("runs/one/metrics.jsonl").read_text().splitlines()[0])
    tokens_per_episode = first["time/total_timesteps"] / SMALL["episodes_per_iteration"]
    # Beside the bias each token has a little of the one lesson.
    assert first["reward/h"] == pytest.approx(2.0 * tokens_per_episode, rel=0.2)


@pytest.mark.parametrize("config", [PPO, GROUPS], ids=["ppo_ptx", "rloo"])
def test_a_reward_of_another_models_head_is_refused(
    config: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    source = {"use": "tamer_text", "rank": 8, "weights": head_of("task-copy-tiny")}
    paid = changed(config, sources={"h": source}, rewards={"h": 1.0})
    place = f"one.yaml, line {line_of(paid, 'sources.h.weights')}: 'sources.h.weights': "
    assert refused(paid, capsys).startswith(f"{place}The head head was learnt on another model")
    own = changed(paid, sources__h__model="task-copy-tiny")
    place = f"one.yaml, line {line_of(own, 'sources.h.model')}: 'sources.h.model': "
    assert refused(own, capsys).startswith(f"{place}The source 'tamer_text' rates the tokens of another")


def test_an_environment_cannot_pay_a_head(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(changed(PPO, env__rewards={"h": {"use": "tamer_text"}}), capsys)
    assert "needs ref_hidden, which an environment does not have" in said


@pytest.mark.parametrize("learner", ["sarsa", "tamer"])
def test_learners_of_control_take_no_tokens_ratings(learner: str, capsys: pytest.CaptureFixture[str]) -> None:
    env = {"id": "TextRL/Copy-v0", "difficulty": "tiny"}
    config = changed(TAUGHT, learner=learner, env=env, settings={}, total_timesteps=None, episodes=2)
    config = changed(config, rewards=None, sources={"h": {"use": "tamer_text", "model": "task-copy-tiny"}})
    place = f"one.yaml, line {line_of(config, 'advice')}: "
    said = (
        f"{place}The learner '{learner}' takes advice in control environments only, through a source such as "
    )
    assert refused(config, capsys).startswith(said + "'tamer'; on text use 'ppo_ptx'")
    said = refused(changed(config, advice=None), capsys)
    assert f"'{learner}' takes a person beside it in control environments only" in said


def test_a_learner_without_rewards_of_its_own_side(capsys: pytest.CaptureFixture[str]) -> None:
    env = {"id": "TextRL/Copy-v0", "difficulty": "tiny"}
    config = {"learner": "sarsa", "env": env, "episodes": 2, "settings": {"features": {"kind": "tokens"}}}
    long = changed(config, sources={"long": {"use": "length", "target": 3}}, rewards={"long": 1.0})
    said = refused(changed(long, sources__kl={"use": "kl"}, rewards__kl=0.1), capsys)
    assert "'sarsa' takes rewards from the environment only, and 'kl' (kl) is paid by a learner" in said
    said = refused(changed(long, env={"id": "MountainCar-v0"}, settings={}), capsys)
    assert "the environment 'MountainCar-v0' pays its own reward and takes no others" in said
    assert run(long) == 0


@pytest.mark.parametrize("config", [PPO, GROUPS], ids=["ppo_ptx", "rloo"])
@pytest.mark.parametrize(
    ("policy", "env", "said"),
    [
        (
            "task-brackets-tiny",
            {"id": "TextRL/Brackets-v0", "difficulty": "small"},
            "knows 4 tokens, but the task has 6; set policy to 'task-brackets-small', which",
        ),
        (
            "task-brackets-small",
            {"id": "TextRL/Brackets-v0", "difficulty": "tiny"},
            "has 6 tokens, such as '[', which is none of the task's 4; set policy to 'task-brackets-tiny'",
        ),
        ("tiny-gpt2", {"id": "TextRL/Sentiment-v0", "difficulty": "tiny"}, "to 'task-sentiment-tiny', which"),
        ("tiny-gpt2", {**TOKENS, "tokenizer": None}, "set the environment's tokenizer to 'tiny-gpt2'"),
    ],
    ids=["smaller", "larger", "other", "bytes"],
)
def test_a_policy_of_other_tokens_is_refused(
    config: dict[str, Any], policy: str, env: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other = changed(config, env=env, settings__policy=policy)
    error = refused(other, capsys)
    place = f"one.yaml, line {line_of(other, 'settings.policy')}: 'settings.policy': The policy '{policy}' "
    assert error.startswith(place)
    assert said in error


@pytest.mark.parametrize(
    ("changes", "key", "said"),
    [
        ({"human": None, "advice__eligibility": {}}, "advice.eligibility", "so it would never act"),
        ({"human": None}, "advice.source", "nobody teaches the source 'h' and it has no 'weights'"),
        (
            {"sources__g": {"use": "tamer_text"}, "human__source": "g"},
            "advice.source",
            "nobody teaches the source 'h'",
        ),
        (
            {"advice__technique": "control_sharing", "advice__cap_nats": 1.0},
            "advice.cap_nats",
            "cap_nats is 1.0, which is of action_biasing, not of control_sharing; leave it out",
        ),
        ({"advice__top_k": 5}, "advice.top_k", "top_k is 5, which is of control_sharing, not of action_b"),
        ({"human__feedback": {"use": "simulated"}}, "human.feedback.use", "cannot read texts; use 'simulat"),
        ({"human__feedback__lexicon": {}}, "human.feedback.lexicon", "The reader's lexicon is empty"),
        ({"human__feedback__lexicon": "no.txt"}, "human.feedback.lexicon", "no.txt cannot be read"),
        (
            {"human__feedback": {"use": "simulated_text", "truth": "nonsense"}},
            "human.feedback.truth",
            "truth is 'nonsense'",
        ),
        ({"human__feedback__use": "nobody"}, "human.feedback.use", "nobody"),
        ({"sources__h__model": "tinny-gpt2"}, "sources.h.model", "There is no model 'tinny-gpt2'"),
        ({"sources__h__weights": "nowhere"}, "sources.h.weights", "There is no head of tamer_text in"),
        ({"settings__policy": "tinny-gpt2"}, "settings.policy", "There is no model 'tinny-gpt2'"),
        ({"sources__h__use": "tamer_txt"}, "sources.h.use", "Did you mean 'tamer_text'?"),
        ({"learner": "ppo_ptxx"}, "learner", "Did you mean 'ppo_ptx'?"),
        (
            {"learner": "rloo", "settings": GROUPS["settings"]},
            "advice.technique",
            "The learner 'rloo' cannot take advice by action_biasing: it takes no advice",
        ),
        (
            {"learner": "rloo", "settings": GROUPS["settings"], "advice": None},
            "human",
            "The learner 'rloo' has no person beside it",
        ),
        (
            {"env": {"id": "TextRL/Brackets-v0", "difficulty": "tinny"}},
            "env.difficulty",
            "difficulty is 'tinny'",
        ),
        (
            {"env__rewards": {"long": {"use": "length", "target": 3}}},
            "env.rewards",
            "'env.rewards' and the section 'rewards' both say what is paid",
        ),
    ],
)
def test_what_cannot_work_is_blamed_on_its_own_line(
    changes: dict[str, Any], key: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = changed(TAUGHT, **changes)
    error = refused(config, capsys)
    assert error.startswith(f"one.yaml, line {line_of(config, key)}: ")
    assert said in error


def test_a_head_that_does_not_fit_is_blamed_on_its_setting(capsys: pytest.CaptureFixture[str]) -> None:
    config = changed(TAUGHT, sources__h__weights=head_of("tiny-gpt2", rank=16))
    place = f"one.yaml, line {line_of(config, 'sources.h.rank')}: 'sources.h.rank': "
    assert refused(
        config, capsys
    ) == f"{place}The head head was learnt with rank 16, but rank is 8 here; set " + ("rank: 16.")
    state = Path("head", "state.json")
    state.write_text(state.read_text() + " ")
    place = f"one.yaml, line {line_of(config, 'sources.h.weights')}: 'sources.h.weights': "
    said = refused(config, capsys)
    assert said.startswith(f"{place}The head of tamer_text head is damaged: state.json has")
    assert said.endswith("copy it again from where it was written, or teach it anew.")


def log_of(*events: dict[str, Any]) -> dict[str, Any]:
    """Write a session's log; returns the section of a person who does it again."""
    Path("log.jsonl").write_text("".join(f"{json.dumps(event)}\n" for event in events))
    return {"use": "replay", "path": "log.jsonl"}


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ((), "The log log.jsonl is empty: it records no session"),
        (
            ({"kind": "shown", "time_s": 0.2, "observation": [0.1, 0.2], "action": 1},),
            "The log log.jsonl records an environment, but this session shows a text",
        ),
        (
            (
                {"kind": "tick", "time_s": 0.0, "model": "708ddff987f5", "prompt": "The film was"},
                {"kind": "shown", "time_s": 1.0, "observation": None, "action": 5},
            ),
            "The log log.jsonl was recorded with another model (fingerprint 708ddff987f5...",
        ),
    ],
    ids=["empty", "control", "other model"],
)
def test_a_log_that_does_not_fit_is_refused_before_anything_begins(
    events: tuple[dict[str, Any], ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = changed(TAUGHT, human__feedback=log_of(*events))
    error = refused(config, capsys)
    place = f"one.yaml, line {line_of(config, 'human.feedback.path')}: 'human.feedback.path': "
    assert error.startswith(place + said)


def test_a_log_of_other_tokens_leaves_no_folder(capsys: pytest.CaptureFixture[str]) -> None:
    """Which tokens are written is known only as they are; the first round is not over then."""
    embeddings = load_causal_lm("tiny-gpt2")[0].get_input_embeddings().weight.detach().numpy()
    model = TokenHead(embeddings, rank=1, alpha=0.1, seed=0).fingerprint
    events = [{"kind": "tick", "time_s": 0.0, "model": model, "prompt": "The film was"}]
    shown = [{"kind": "shown", "time_s": 1.0 + i / 4, "observation": None, "action": 0} for i in range(40)]
    assert "The log log.jsonl has token 0 at 1 s" in refused(
        changed(TAUGHT, human__feedback=log_of(*events, *shown)), capsys
    )


def test_words_cannot_be_read_off_a_car(capsys: pytest.CaptureFixture[str]) -> None:
    car = {
        "learner": "tamer", "env": {"id": "MountainCar-v0"}, "episodes": 1,
        "sources": {"h": {"use": "tamer"}},
        "human": {"source": "h", "feedback": {"use": "simulated_text"}},
    }  # fmt: skip
    assert "reads words and cannot watch the steps" in refused(car, capsys)
    text = log_of({"kind": "tick", "time_s": 0.0, "model": "708ddff987f5", "prompt": "The film was"})
    assert "records a text, but this session shows an environment" in refused(
        changed(car, human__feedback=text), capsys
    )
    advised = changed(car, learner="sarsa", human=None)
    advised["advice"] = {"technique": "action_biasing", "source": "h", "beta": 1.0}
    assert "nobody teaches the source 'h'" in refused(advised, capsys)
    advised["advice"]["eligibility"] = {}
    assert "so it would never act" in refused(advised, capsys)


def test_a_head_that_nobody_taught_advises_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    empty = head_of("tiny-gpt2", taught=False)
    alone = changed(TAUGHT, human=None, sources__h__weights=empty)
    assert "The head head holds nothing that was taught" in refused(alone, capsys)
    known = changed(alone, sources__h__model="tiny-gpt2")
    assert "its 'weights' hold nothing that was taught" in refused(known, capsys)


def test_settings_that_a_network_refuses_have_their_own_line(capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("no folder")
    config = changed(PPO, settings__policy=str(Path("model")), settings__sampling_processors="refuse")
    model, tokenizer = load_causal_lm("tiny-gpt2")
    model.generation_config.top_k, model.generation_config.do_sample = 5, True
    model.save_pretrained("model")
    tokenizer.save_pretrained("model")
    line = line_of(config, "settings.sampling_processors")
    assert refused(config, capsys).startswith(f"one.yaml, line {line}: 'settings.sampling_processors': ")


def test_what_went_wrong_in_training_leaves_its_folder(capsys: pytest.CaptureFixture[str]) -> None:
    """A loss that is not finite in the first round is no mistake of the config: its log may say why."""
    paid = changed(PPO, sources={"length": {"target": 1}}, rewards={"length": 1.0})
    config = changed(paid, settings__value_learning_rate=1e30, settings__warmup_iterations=0)
    assert run(config) == 2
    assert "The value loss of a minibatch is inf" in capsys.readouterr().err
    assert Path("runs", "one", "config.yaml").exists()
