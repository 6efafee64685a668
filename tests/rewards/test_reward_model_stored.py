"""A reward model whose weights are kept small, or in main memory: the scores of rounded weights."""

import copy

import pytest
import torch
from textrl_reward_model.conformance import tiny_scorer
from transformers import GPT2Config, GPT2LMHeadModel

from textrl.errors import UserError
from textrl.models.loading import load_scorer
from textrl.models.stack import Trunk
from textrl.registry import get_registry
from textrl.rewards import build_reward
from textrl.testing import make_batch, samples
from textrl.testing.batches import EOS, VOCAB_SIZE


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    return tiny_scorer(tmp_path_factory.mktemp("scorer") / "model", offset=0.25)


def build(model, **settings):
    spec = get_registry().find("reward", "reward_model")
    return build_reward(spec, {"model": str(model), "policy_tokenizer": str(model), **settings})


def batch():
    return make_batch(samples(), {"text"})


def bytes_of(model):
    return sum(p.numel() * p.element_size() for p in model.parameters())


@pytest.mark.parametrize(("name", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
@pytest.mark.parametrize("ids", ["auto", "retokenise"])
def test_scores_are_those_of_the_rounded_weights(scorer, name, dtype, ids):
    stored, by_hand = build(scorer, precision=name, ids=ids), build(scorer, ids=ids)
    whole = bytes_of(by_hand.model)
    for param in by_hand.model.parameters():
        if param.ndim >= 2:
            param.data = param.data.to(dtype).float()
    got, again, plain = stored(batch()), stored(batch()), build(scorer, ids=ids)(batch())
    assert torch.equal(got, by_hand(batch()))
    assert torch.equal(got, again)
    assert not torch.equal(got, plain)
    assert bytes_of(stored.model) < 0.55 * whole


def test_weights_in_main_memory_score_the_same(scorer):
    stored = build(scorer, device="cpu")
    assert torch.equal(stored(batch()), build(scorer)(batch()))
    assert hasattr(stored.model.transformer.h[0].mlp.c_fc, "parametrizations")
    assert not hasattr(stored.model.transformer.wte, "parametrizations")


def test_blocks_of_the_policy_are_used_and_not_parked(scorer):
    model, _ = load_scorer(str(scorer))
    config = GPT2Config(**{**model.config.to_dict(), "architectures": None, "n_layer": 2})
    policy = GPT2LMHeadModel(config).eval().requires_grad_(False)
    policy.transformer.load_state_dict(model.transformer.state_dict(), strict=False)
    reward, plain = build(scorer, precision="bf16"), build(scorer)
    given = batch()
    ids = torch.cat([given.prompt_ids, given.response_ids], dim=1)
    mask = torch.cat([given.prompt_mask, given.response_mask], dim=1)
    assert int(ids.max()) < VOCAB_SIZE
    assert EOS in ids
    lent = copy.copy(given.memo)
    given.memo["trunk"] = Trunk(policy, ids, mask, (1, 2))
    scores = reward(given)
    given.memo.clear()
    given.memo.update(lent)
    block = reward.model.transformer.h[0].mlp.c_fc
    assert not hasattr(block, "parametrizations")
    assert block.weight.data_ptr() == policy.transformer.h[0].mlp.c_fc.weight.data_ptr()
    assert reward.model.score.parametrizations.weight.original.dtype == torch.bfloat16
    assert torch.allclose(scores, plain(given), atol=0.02)


def test_an_unknown_precision_is_refused(scorer):
    with pytest.raises(UserError, match="'same', 'bf16', 'fp16'"):
        build(scorer, precision="int8")
