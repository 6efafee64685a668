"""The token environments: public checkers, episode ends, numbering, rewards, and agreement of all three."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env as gymnasium_check
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import RecordEpisodeStatistics
from gymnasium.wrappers.vector import RecordEpisodeStatistics as RecordVectorStatistics
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.env_checker import check_env as sb3_check
from textrl_text.scalar import TokenEnv
from textrl_text.vector import TokenVectorEnv
from token_rewards import (
    EOS,
    PAD,
    VOCAB,
    all_sources,
    ascending,
    count,
    letters_only,
    number_task,
    prompt,
    source,
    text_length,
    to_go,
)

from textrl.errors import PluginError, UserError
from textrl.mdp.task import TokenTask
from textrl.rewards import RewardSum

ID = "textrl.envs:TextRL/Tokens-v0"


def play(env: TokenEnv, actions: list[int], **reset: Any) -> tuple[list[float], dict[str, Any]]:
    """Step until the episode ends; return its rewards and its last info."""
    env.reset(**reset)
    rewards = []
    for action in actions:
        _, reward, terminated, _, info = env.step(action)
        rewards.append(reward)
        if terminated:
            return rewards, info
    raise AssertionError("the actions did not end the episode")


@pytest.mark.parametrize(
    "arguments", [{}, {"task": number_task(all_sources())}, {"task": number_task(allowed=letters_only)}]
)
def test_both_public_checkers_pass_without_a_warning(arguments: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make(ID, render_mode="ansi", **arguments)
        gymnasium_check(env.unwrapped)
        sb3_check(env.unwrapped, warn=True, skip_render_check=False)
        sb3_check(env, warn=True)
        wrapped = gymnasium.make(ID, max_episode_steps=2, **arguments)
        wrapped.reset(seed=1)
        wrapped.step(3)
        assert wrapped.step(3)[2:4] == (False, True)  # an outer limit truncates


def test_make_and_make_vec_find_the_environment() -> None:
    env = gymnasium.make(ID, prompts=["Hi"], max_new_tokens=2)
    assert isinstance(env.unwrapped, TokenEnv)
    assert env.action_space == gymnasium.spaces.Discrete(258)
    envs = gymnasium.make_vec(ID, num_envs=3, prompts=["Hi"], max_new_tokens=2)
    assert isinstance(envs, TokenVectorEnv)
    assert envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert envs.single_action_space == env.action_space
    assert envs.single_observation_space == env.observation_space
    observation, _ = envs.reset(seed=0)
    assert observation in envs.observation_space
    assert envs.num_envs == 3


def test_the_observation_holds_prompt_and_response_at_fixed_places() -> None:
    env = TokenEnv(number_task(prompts=[prompt(2), prompt(4, 5, 6)], max_new_tokens=2))
    observation, info = env.reset(options={"episode": 0})
    start = env.task.prompt_for(info["episode_index"])
    left = [PAD] * (3 - len(start.ids))
    assert observation["input_ids"].tolist() == [*left, *start.ids, PAD, PAD]
    observation = env.step(PAD)[0]  # padding is a token like any other: the mask tells them apart
    assert observation["input_ids"].tolist() == [*left, *start.ids, PAD, PAD]
    assert observation["attention_mask"].tolist() == [0] * len(left) + [1] * len(start.ids) + [1, 0]


def test_eos_and_the_limit_terminate() -> None:
    env = TokenEnv(number_task(max_new_tokens=3))
    for actions, length, reason in [([EOS], 1, "eos"), ([4, EOS], 2, "eos"), ([4, 4, 4], 3, "length")]:
        rewards, info = play(env, actions)
        assert (len(rewards), info["finish_reason"]) == (length, reason)
    assert play(env, [4, 4, EOS])[1]["finish_reason"] == "eos"
    with pytest.raises(UserError, match=r"call reset\(\) before step"):
        env.step(4)
    with pytest.raises(UserError, match=r"call reset\(\) before step"):
        TokenEnv(number_task()).step(4)


@pytest.mark.parametrize("action", [-1, VOCAB, 2.0, "3", None, [1, 2], np.array([3.0]), True])
def test_what_is_no_token_is_refused_and_changes_nothing(action: Any) -> None:
    env = TokenEnv(number_task())
    before, _ = env.reset(seed=0)
    with pytest.raises(UserError, match=r"from 0 to 7"):
        env.step(action)
    after = env.step(3)[0]
    assert after["attention_mask"].sum() == before["attention_mask"].sum() + 1


@pytest.mark.parametrize("action", [3, np.int64(3), np.array(3), np.array([3]), torch.tensor(3), np.uint8(3)])
def test_what_is_a_token_is_accepted(action: Any) -> None:
    env = TokenEnv(number_task([count(3)], max_new_tokens=1))
    env.reset()
    assert env.step(action)[1] == 1.0


def test_a_token_outside_the_mask_is_written_and_reported() -> None:
    env = TokenEnv(number_task([count(3)], allowed=letters_only, max_new_tokens=2))
    env.reset()
    assert env.action_masks().tolist() == [False, False] + [True] * 6
    *_, terminated, _, info = env.step(PAD)
    assert (terminated, info["illegal_action"]) == (False, True)
    assert env.action_masks().tolist() == [False] + [True] * 7
    *_, terminated, _, info = env.step(3)
    assert (terminated, info["illegal_action"], info["rewards"]) == (True, False, {"count": 1.0})
    assert "illegal_action" not in play(TokenEnv(number_task()), [EOS])[1]


def test_masks_handed_out_are_copies() -> None:
    env = TokenEnv(number_task(allowed=letters_only))
    env.reset()
    env.action_masks()[:] = False
    assert env.action_masks().sum() == 6


def test_the_mask_follows_a_reset_in_the_middle_of_an_episode() -> None:
    env = TokenEnv(number_task(allowed=letters_only))
    env.reset()
    env.step(3)
    assert env.action_masks()[EOS]
    env.reset()
    assert not env.action_masks()[EOS]


def test_render_shows_the_text() -> None:
    env = gymnasium.make(ID, prompts=["Hi"], render_mode="ansi")
    env.reset()
    for token in env.unwrapped.task.tokenizer(" yo")["input_ids"]:  # type: ignore[attr-defined]
        env.step(token)
    assert env.render() == "Hi| yo"
    assert TokenVectorEnv(number_task(prompts=[prompt(2)]), num_envs=2, render_mode="ansi").render() == (
        "2|",
        "2|",
    )


def test_render_without_a_mode_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gymnasium.logger, "min_level", gymnasium.logger.WARN)
    for env in (TokenEnv(number_task()), TokenVectorEnv(number_task())):
        env.reset()
        with pytest.warns(UserWarning, match="render_mode='ansi'"):
            assert env.render() is None


def test_scalar_numbering() -> None:
    env = TokenEnv(number_task())
    numbers = [env.reset()[1]["episode_index"] for _ in range(3)]
    numbers += [env.reset(seed=5)[1]["episode_index"], env.reset()[1]["episode_index"]]
    numbers += [env.reset(options={"episode": 40})[1]["episode_index"], env.reset()[1]["episode_index"]]
    assert numbers == [0, 1, 2, 0, 1, 40, 41]
    sides = [TokenEnv(number_task(), first_episode=i, episode_stride=3) for i in range(3)]
    assert [[env.reset()[1]["episode_index"] for env in sides] for _ in range(2)] == [[0, 1, 2], [3, 4, 5]]
    assert sides[2].reset(seed=1)[1]["episode_index"] == 2


def test_the_seed_of_reset_draws_the_prompts() -> None:
    prompts = [prompt(2 + i % 6, 2 + i // 6) for i in range(30)]
    env = TokenEnv(number_task(prompts=prompts, seed=4))

    def run(**reset: Any) -> list[list[int]]:
        first = env.reset(**reset)[0]["input_ids"].tolist()
        return [first] + [env.reset()[0]["input_ids"].tolist() for _ in range(9)]

    own = run()
    assert run(seed=4) == own
    assert run(seed=5) != own
    assert run(seed=4) == own


def test_vector_numbering_leaves_no_gap() -> None:
    envs = TokenVectorEnv(number_task(max_new_tokens=2), num_envs=3)
    assert envs.reset(seed=0)[1]["episode_index"].tolist() == [0, 1, 2]
    for actions, numbers in [
        ([EOS, 4, EOS], [3, 1, 4]),
        ([4, EOS, 4], [3, 5, 4]),
        ([4, 4, 4], [6, 5, 7]),
    ]:
        assert envs.step(np.array(actions))[4]["episode_index"].tolist() == numbers
    mask = np.array([False, True, False])
    _, infos = envs.reset(options={"reset_mask": mask})
    assert infos["episode_index"][1] == 8
    assert infos["_episode_index"].tolist() == mask.tolist()
    assert envs.reset()[1]["episode_index"].tolist() == [9, 10, 11]
    assert envs.reset(options={"episode": 3})[1]["episode_index"].tolist() == [3, 4, 5]
    assert envs.reset(seed=0)[1]["episode_index"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("env", "options", "words"),
    [
        ("scalar", {"episode": -1}, r"options\['episode'\] is -1"),
        ("scalar", {"episode": 1.0}, "whole number"),
        ("scalar", {"reset_mask": np.ones(1, dtype=bool)}, "no option 'reset_mask'; it takes episode"),
        ("vector", {"reset_mask": np.ones(3, dtype=bool)}, r"bool array of shape \(2,\)"),
        ("vector", {"reset_mask": np.ones(2)}, "bool array"),
        ("vector", {"reset_mask": np.zeros(2, dtype=bool)}, "all False"),
    ],
)
def test_wrong_options(env: str, options: dict[str, Any], words: str) -> None:
    made = TokenEnv(number_task()) if env == "scalar" else TokenVectorEnv(number_task(), num_envs=2)
    with pytest.raises(UserError, match=words):
        made.reset(options=options)


def test_wrong_arguments() -> None:
    with pytest.raises(UserError, match="either a task or prompts, seed, not both"):
        TokenEnv(number_task(), prompts=["x"], seed=1)
    with pytest.raises(UserError, match="num_envs is 0"):
        TokenVectorEnv(number_task(), num_envs=0)
    with pytest.raises(UserError, match="first_episode is -1"):
        TokenEnv(number_task(), first_episode=-1)
    with pytest.raises(UserError, match="episode_stride 0"):
        TokenEnv(number_task(), episode_stride=0)


def test_causal_rewards_are_paid_as_they_fall_due_and_others_at_the_end() -> None:
    env = TokenEnv(
        number_task([ascending(2.0), count(4, 10.0), to_go(0.5)], prompts=[prompt(2)], max_new_tokens=4)
    )
    rewards, info = play(env, [3, 4, 2, 3])
    # ascending pays 2 for 3, 4 and the last 3; one 4 pays 10; to_go pays (3 + 2 + 1) / 2.
    assert rewards == [2.0, 2.0, 0.0, 2.0 + 10.0 + 3.0]
    assert info["rewards"] == {"ascending": 6.0, "count": 10.0, "to_go": 3.0}


EPISODES = st.lists(st.lists(st.integers(0, VOCAB - 1), min_size=6, max_size=6), min_size=1, max_size=5)


def whole_episode(task: TokenTask, start: tuple[int, ...], tokens: list[int]) -> Any:
    ids = torch.tensor([tokens])
    batch = task.batch([prompt(*start)], ids, torch.ones_like(ids, dtype=torch.bool))
    return task.score(batch)


@settings(max_examples=40, deadline=None)
@given(EPISODES, st.lists(st.floats(-3, 3, width=32), min_size=5, max_size=5))
def test_an_episode_pays_what_its_reward_sum_says(episodes: list[list[int]], weights: list[float]) -> None:
    rewards = [source(s.name, s.reward, w, **_record(s)) for s, w in zip(all_sources(), weights, strict=True)]
    env = TokenEnv(number_task(rewards))
    for actions in episodes:
        env.reset()
        start = env.rows.prompts[0]
        paid: list[float] = []
        info: dict[str, Any] = {}
        while "finish_reason" not in info:
            _, reward, _, _, info = env.step(actions[len(paid)])
            paid.append(reward)
        scored = whole_episode(env.task, start.ids, actions[: len(paid)])
        assert sum(paid) == pytest.approx(float(scored.total.double().sum()), rel=1e-5, abs=1e-5)
        due = scored.components["ascending"][0].tolist()
        assert paid[:-1] == pytest.approx(due[:-1], abs=1e-6)
        for name, component in scored.components.items():
            assert info["rewards"][name] == pytest.approx(float(component.sum()), rel=1e-5, abs=1e-5)


def _record(s: Any) -> dict[str, Any]:
    return {"granularity": s.spec.granularity, "causal": s.spec.causal, "needs": s.spec.needs}


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.lists(st.integers(0, VOCAB - 1), min_size=40, max_size=40), st.integers(0, 9))
def test_vector_rows_are_scalar_episodes(rows: int, actions: list[int], seed: int) -> None:
    envs = TokenVectorEnv(number_task(all_sources()), num_envs=rows)
    observation, infos = envs.reset(seed=seed)
    singles = [TokenEnv(number_task(all_sources())) for _ in range(rows)]
    for row, single in enumerate(singles):
        single.reset(seed=seed)
        first = single.reset(options={"episode": int(infos["episode_index"][row])})[0]
        assert {k: v[row].tolist() for k, v in observation.items()} == {
            k: v.tolist() for k, v in first.items()
        }
    for t in range(len(actions) // rows):
        chosen = np.array(actions[t * rows : (t + 1) * rows])
        observation, rewards, terminated, truncated, infos = envs.step(chosen)
        assert rewards.dtype == np.float64
        assert not truncated.any()
        assert ("final_obs" in infos) == terminated.any()
        for row, single in enumerate(singles):
            seen, reward, ended, _, info = single.step(chosen[row])
            assert rewards[row] == pytest.approx(reward, rel=1e-5, abs=1e-5)
            assert terminated[row] == ended
            if ended:
                assert infos["_final_obs"][row]
                assert infos["_final_info"][row]
                np.testing.assert_equal(infos["final_obs"][row], seen)
                assert infos["final_info"]["finish_reason"][row] == info["finish_reason"]
                assert infos["final_info"]["episode_index"][row] == info["episode_index"]
                paid = {name: infos["final_info"]["rewards"][name][row] for name in info["rewards"]}
                assert paid == pytest.approx(info["rewards"], rel=1e-5, abs=1e-5)
                seen = single.reset(options={"episode": int(infos["episode_index"][row])})[0]
            elif terminated.any():
                assert not infos["_final_obs"][row]
            np.testing.assert_equal({k: v[row] for k, v in observation.items()}, seen)


def test_equal_to_gymnasiums_own_vector_env_where_episodes_have_one_length() -> None:
    def single(index: int) -> TokenEnv:
        return TokenEnv(number_task(all_sources(), max_new_tokens=3), first_episode=index, episode_stride=4)

    theirs = SyncVectorEnv(
        [lambda i=i: single(i) for i in range(4)],  # type: ignore[misc]
        autoreset_mode=AutoresetMode.SAME_STEP,
    )
    ours = TokenVectorEnv(number_task(all_sources(), max_new_tokens=3), num_envs=4)
    np.testing.assert_equal(ours.reset(seed=0), theirs.reset(seed=[0, 0, 0, 0]))
    actions = np.random.default_rng(0).integers(2, VOCAB, size=(9, 4))
    for chosen in actions:
        mine, other = ours.step(chosen), theirs.step(chosen)
        np.testing.assert_allclose(mine[1], other[1], rtol=1e-6)
        np.testing.assert_equal(mine[0], other[0])
        np.testing.assert_equal(mine[2:4], other[2:4])
        assert mine[4].keys() == other[4].keys()
        np.testing.assert_equal(mine[4]["episode_index"], other[4]["episode_index"])
        if "final_info" in mine[4]:
            assert mine[4]["final_info"].keys() == other[4]["final_info"].keys()
            np.testing.assert_equal(mine[4]["final_obs"].tolist(), other[4]["final_obs"].tolist())


def test_rows_that_end_together_are_scored_in_one_call() -> None:
    sources = [count(3), ascending()]
    envs = TokenVectorEnv(number_task(sources, max_new_tokens=2), num_envs=4)
    envs.reset(seed=0)
    envs.step(np.array([EOS, 3, EOS, 3]))
    envs.step(np.array([3, 3, 3, 3]))
    assert sources[0].reward.calls == [2, 2]  # type: ignore[attr-defined]
    # The running rows ask for their newest token, the ended ones for the whole episode.
    assert sources[1].reward.calls == [2, 2, 2, 2]  # type: ignore[attr-defined]


def test_a_source_that_is_not_causal_as_declared_is_named() -> None:
    env = TokenEnv(number_task([to_go(causal=True)]))
    env.reset()
    env.step(3)
    with pytest.raises(
        PluginError, match=r"'to_go' declares itself causal but paid 0 for token 0 and gives 1 now"
    ):
        env.step(EOS)


def test_weights_are_read_while_the_episode_runs() -> None:
    class Doubling:
        def __call__(self, batch: Any) -> torch.Tensor:
            return batch.response_mask.float()

        def adapt_weight(self, weight: float, stats: Any) -> float:
            return 2 * weight

    rewards = RewardSum([source("steps", Doubling(), 1.0, granularity="token", causal=True)])
    task = number_task(max_new_tokens=3)
    env = TokenEnv(TokenTask(task.prompts, None, VOCAB, {EOS}, PAD, 3, rewards))
    env.reset()
    paid = []
    for _ in range(3):
        paid.append(env.step(4)[1])
        rewards.adapt_weights({})
    assert paid == [1.0, 2.0, 4.0]


def test_gymnasiums_statistics_wrappers_work_around_both() -> None:
    env = RecordEpisodeStatistics(TokenEnv(number_task([text_length()], prompts=[prompt(2)])))
    env.reset()
    env.step(3)
    info = env.step(EOS)[4]
    assert (info["episode"]["l"], info["episode"]["r"]) == (2, pytest.approx(101.0))
    envs = RecordVectorStatistics(TokenVectorEnv(number_task([count(3)]), num_envs=2))
    envs.reset(seed=0)
    envs.step(np.array([3, 3]))
    infos = envs.step(np.array([EOS, 4]))[4]
    assert infos["episode"]["r"].tolist() == [1.0, 0.0]
    assert infos["_episode"].tolist() == [True, False]


def test_what_was_returned_is_never_written_again() -> None:
    envs = TokenVectorEnv(number_task([count(3)]), num_envs=2)
    kept = [envs.reset(seed=0)[0]]
    copies = [{k: v.copy() for k, v in kept[0].items()}]
    for chosen in np.random.default_rng(1).integers(0, VOCAB, size=(12, 2)):
        observation, rewards, terminated, _, _ = envs.step(chosen)
        kept.append({**observation, "rewards": rewards, "terminated": terminated})
        copies.append({k: v.copy() for k, v in kept[-1].items()})
    np.testing.assert_equal(kept, copies)
