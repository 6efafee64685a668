"""The adapter for Stable-Baselines3, and MaskablePPO learning through it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.evaluation import evaluate_policy
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3 import PPO
from stable_baselines3.common.monitor import Monitor
from textrl_text.sb3 import OneHotTokens, TokenVecEnv
from textrl_text.vector import TokenVectorEnv
from token_rewards import EOS, VOCAB, all_sources, count, echo, letters_only, number_task, prompt

from textrl.mdp.task import TokenTask


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two threads are slower than one on matrices this small
    yield
    torch.set_num_threads(threads)


def test_it_steps_like_the_vector_env() -> None:
    ours, vector = (
        TokenVecEnv(number_task(all_sources()), 3),
        TokenVectorEnv(number_task(all_sources()), num_envs=3),
    )
    ours.seed(5)
    np.testing.assert_equal(ours.reset(), vector.reset(seed=5)[0])
    returns = np.zeros(3)
    for chosen in np.random.default_rng(0).integers(0, VOCAB, size=(60, 3)):
        observation, rewards, dones, infos = ours.step(chosen)
        expected = vector.step(chosen)
        np.testing.assert_equal(observation, expected[0])
        np.testing.assert_allclose(rewards, expected[1], rtol=1e-6)
        assert rewards.dtype == np.float32
        np.testing.assert_equal(dones, expected[2])
        returns += expected[1]
        for row, info in enumerate(infos):
            assert info["TimeLimit.truncated"] is False
            assert ("terminal_observation" in info) == bool(dones[row])
            if dones[row]:
                np.testing.assert_equal(info["terminal_observation"], expected[4]["final_obs"][row])
                assert info["finish_reason"] == expected[4]["final_info"]["finish_reason"][row]
                assert info["episode_index"] == expected[4]["final_info"]["episode_index"][row]
                assert ours.reset_infos[row]["episode_index"] == expected[4]["episode_index"][row]
                assert info["episode"]["r"] == pytest.approx(returns[row])
                assert info["episode"]["l"] == info["terminal_observation"]["attention_mask"][3:].sum()
                assert info["episode"]["t"] >= 0
                returns[row] = 0


def test_seeds_and_options_count_once() -> None:
    env = TokenVecEnv(number_task(), 2)
    env.seed(1)
    env.set_options({"episode": 10})
    env.reset()
    assert [info["episode_index"] for info in env.reset_infos] == [10, 11]
    env.reset()
    assert [info["episode_index"] for info in env.reset_infos] == [12, 13]


def test_it_offers_masks_and_attributes_as_sb3_expects() -> None:
    env = TokenVecEnv(number_task(allowed=letters_only), 2, render_mode="ansi")
    env.reset()
    env.step(np.array([3, EOS]))
    assert is_masking_supported(env)
    assert get_action_masks(env).tolist() == [[False] + [True] * 7, [False, False] + [True] * 6]
    assert env.get_attr("num_envs", [0]) == [2]
    assert not env.has_attr("no_such_thing")
    env.set_attr("mark", 1)
    assert env.get_attr("mark") == [1, 1]
    assert env.env_is_wrapped(Monitor) == [True, True]
    assert env.env_is_wrapped(TokenVecEnv) == [False, False]
    assert env.render()[0].endswith("|3")
    env.close()


def test_one_hot_features_are_zero_where_no_token_stands() -> None:
    env = TokenVecEnv(number_task(prompts=[prompt(2), prompt(7, 3)], max_new_tokens=1), 2)
    observation = {key: torch.from_numpy(value) for key, value in env.reset().items()}
    features = OneHotTokens(env.observation_space)(observation).reshape(2, 3, VOCAB)
    assert features.sum(-1).tolist() == observation["attention_mask"].float().tolist()
    real = observation["attention_mask"].bool()
    assert features.argmax(-1)[real].tolist() == observation["input_ids"][real].tolist()


def test_plain_ppo_runs_through_it() -> None:
    model = PPO(
        "MultiInputPolicy", TokenVecEnv(number_task([count(3)]), 2), n_steps=8, batch_size=8, device="cpu"
    )
    model.learn(32)
    assert model.num_timesteps == 32
    assert len(model.ep_info_buffer) > 0


def mean_return_of_random_legal_tokens(task: TokenTask, episodes: int) -> float:
    rng = np.random.default_rng(0)
    env = TokenVecEnv(task, 8)
    env.reset()
    returns: list[float] = []
    while len(returns) < episodes:
        tokens = [rng.choice(np.flatnonzero(mask)) for mask in get_action_masks(env)]
        returns += [info["episode"]["r"] for info in env.step(np.array(tokens))[3] if "episode" in info]
    return float(np.mean(returns))


def test_maskable_ppo_learns_to_echo_the_prompt(one_thread: None) -> None:
    """Six prompts of one token, which the policy must write four times: blind, it gets 1/6 at best."""
    prompts = [prompt(token) for token in range(2, VOCAB)]
    task = number_task([echo(0.25)], prompts=prompts, max_new_tokens=4, allowed=letters_only)
    model = MaskablePPO(
        "MultiInputPolicy",
        TokenVecEnv(task, 16),
        n_steps=64,
        batch_size=256,
        n_epochs=6,
        learning_rate=5e-3,
        gamma=1.0,
        ent_coef=0.01,
        seed=0,
        device="cpu",
        policy_kwargs={"net_arch": [32], "features_extractor_class": OneHotTokens},
    )
    before, _ = evaluate_policy(model, TokenVecEnv(task, 8), n_eval_episodes=200, deterministic=False)
    model.learn(13_312)
    after, _ = evaluate_policy(model, TokenVecEnv(task, 8), n_eval_episodes=200, deterministic=False)
    assert before < 0.25
    assert mean_return_of_random_legal_tokens(task, 200) < 0.25
    assert after > 0.9  # four seeds gave 0.97 to 1.00
