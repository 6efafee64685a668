"""One seed, three ways to generate: the scalar env, the vector env, the whole batch at once."""

from __future__ import annotations

import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "ppo"))
from tiny_world import EOS, PAD, VOCAB, Env, networks, small, tiny_gpt2, tiny_llama, tiny_task

from textrl.learners.ppo_ptx import PPOPTX
from textrl.mdp.logprobs import token_logprobs
from textrl.models import decoding
from textrl.models.layers import freeze_below
from textrl.models.stack import final_hidden
from textrl.registry import get_registry
from textrl.rollout import _survivors, generate, head_of


@pytest.mark.parametrize("make", [tiny_gpt2, tiny_llama])
@pytest.mark.parametrize("keep", [(), (1,)])
def test_sampled_logprobs_are_those_of_the_scoring_pass(make: object, keep: tuple[int, ...]) -> None:
    model = make()  # type: ignore[operator]
    freeze_below(model, 1)
    task = tiny_task(max_new_tokens=6)
    prompts = [task.prompt_for(i) for i in range(40)]
    ids, mask = task.collate(prompts)
    out = generate(
        model, ids, mask, max_new_tokens=6, eos_ids={EOS}, pad_id=PAD, seed=5,
        episodes=torch.arange(40), temperature=0.7, keep_depths=keep,
    )  # fmt: skip
    lengths = out.response_mask.sum(1)
    assert lengths.min() < 6
    assert lengths.max() == 6
    ended = (out.response_ids == EOS) & out.response_mask
    assert bool((ended.sum(1) <= 1).all())
    assert bool((lengths[~ended.any(1)] == 6).all())
    assert bool((out.response_ids[~out.response_mask] == PAD).all())
    width = ids.shape[1]
    hidden = final_hidden(model, out.ids, out.mask, out.trunk)[:, width - 1 : -1][out.response_mask]
    weight, bias = head_of(model)
    again = token_logprobs(hidden, weight, out.response_ids[out.response_mask], bias=bias, temperature=0.7)
    assert torch.allclose(again, out.logprobs[out.response_mask], atol=1e-5)


def test_a_batch_of_one_is_a_row_of_many() -> None:
    model, task = tiny_llama(), tiny_task(max_new_tokens=5)
    ids, mask = task.collate([task.prompt_for(i) for i in range(12)])
    arguments = {"max_new_tokens": 5, "eos_ids": {EOS}, "pad_id": PAD, "seed": 1}
    many = generate(model, ids, mask, episodes=torch.arange(12), **arguments)
    for i in range(12):
        own, own_mask = task.collate([task.prompt_for(i)])
        one = generate(model, own, own_mask, episodes=torch.tensor([i]), **arguments)
        width = one.response_ids.shape[1]
        assert torch.equal(one.response_ids[0], many.response_ids[i, :width])
        assert not many.response_mask[i, width:].any()


def test_scalar_env_vector_env_and_batch_agree() -> None:
    task, chosen = tiny_task(max_new_tokens=4, seed=3), small(seed=3)
    nets = networks(chosen, tiny_llama())
    learner = PPOPTX(Env(task), chosen, networks=nets)
    count = 10
    prompts = [task.prompt_for(i) for i in range(count)]
    ids, mask = task.collate(prompts)
    batch = generate(
        nets.policy,
        ids,
        mask,
        max_new_tokens=4,
        eos_ids={EOS},
        pad_id=PAD,
        seed=3,
        episodes=torch.arange(count),
    )
    scored = task.score(task.batch(prompts, batch.response_ids, batch.response_mask)).total
    registry = get_registry()
    registry.register_envs()
    env = gymnasium.make("TextRL/Tokens-v0", task=task)
    for episode in range(count):
        observation, info = env.reset()
        assert info["episode_index"] == episode
        tokens, total, done = [], 0.0, False
        while not done:
            action, _ = learner.predict(observation, episodes=episode, positions=len(tokens))
            observation, reward, done, _, _ = env.step(action)
            tokens.append(int(action))
            total += float(reward)
        assert tokens == batch.response_ids[episode][batch.response_mask[episode]].tolist()
        assert total == pytest.approx(float(scored[episode].sum()), abs=1e-6)
    vector = gymnasium.make_vec("TextRL/Tokens-v0", num_envs=3, task=task)
    observation, info = vector.reset()
    episodes = np.array(info["episode_index"])
    written: dict[int, list[int]] = {}
    while episodes.min() < count:
        positions = np.array([len(written.get(int(e), [])) for e in episodes])
        actions, _ = learner.predict(observation, episodes=episodes, positions=positions)
        for episode, action in zip(episodes, actions, strict=True):
            written.setdefault(int(episode), []).append(int(action))
        observation, _, ended, _, info = vector.step(actions)
        # Rows that ended have started the next episode in the same step.
        episodes = np.where(ended, info.get("episode_index", episodes), episodes)
    for episode in range(count):
        assert written[episode] == batch.response_ids[episode][batch.response_mask[episode]].tolist()


def test_greedy_takes_the_most_probable_token() -> None:
    model, task = tiny_gpt2(), tiny_task()
    ids, mask = task.collate([task.prompts[0]])
    out = generate(
        model, ids, mask, max_new_tokens=1, eos_ids={EOS}, pad_id=PAD, seed=0,
        episodes=torch.tensor([0]), deterministic=True,
    )  # fmt: skip
    assert out.response_ids.item() == int(model(input_ids=ids).logits[0, -1].argmax())
    assert out.response_ids.item() < VOCAB


@pytest.mark.parametrize("make", [tiny_gpt2, tiny_llama])
@pytest.mark.parametrize("padded", [False, True])
def test_the_static_store_writes_what_transformers_cache_writes(
    make: object, padded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, task = make(), tiny_task(max_new_tokens=8)  # type: ignore[operator]
    prompts = [task.prompts[i % 2 if padded else 1] for i in range(24)]
    ids, mask = task.collate(prompts)
    assert bool(mask.all()) != padded
    arguments = {"max_new_tokens": 8, "eos_ids": {EOS}, "pad_id": PAD, "seed": 2}
    ours = generate(model, ids, mask, episodes=torch.arange(24), **arguments)
    monkeypatch.setattr(decoding, "composable", lambda _: False)
    theirs = generate(model, ids, mask, episodes=torch.arange(24), **arguments)
    assert len(ours.response_mask.sum(1).unique()) > 3  # rows left at different times
    assert torch.equal(ours.response_ids, theirs.response_ids)
    assert torch.allclose(ours.logprobs, theirs.logprobs, atol=1e-5)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_survivors_fill_the_gaps_and_few_rows_move(flags: list[bool]) -> None:
    going = torch.tensor(flags)
    kept, moved, holes = _survivors(going)
    assert sorted(kept.tolist()) == going.nonzero().squeeze(1).tolist()
    rows = torch.arange(len(flags))
    rows[holes] = rows[moved]
    assert torch.equal(rows[: len(kept)], kept)
    assert len(moved) <= int((~going).sum())


def test_a_task_without_an_end_token_fills_the_limit() -> None:
    model, task = tiny_gpt2(), tiny_task(max_new_tokens=5)
    ids, mask = task.collate([task.prompt_for(i) for i in range(6)])
    out = generate(
        model, ids, mask, max_new_tokens=5, eos_ids=(), pad_id=PAD, seed=0, episodes=torch.arange(6)
    )
    assert bool(out.response_mask.all())
