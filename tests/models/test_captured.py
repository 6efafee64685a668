"""Steps of one shape, which a CUDA device replays as a graph: the same rollouts, whoever leaves."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel

sys.path.insert(0, str(Path(__file__).parents[1] / "ppo"))
from tiny_world import EOS, PAD, VOCAB, tiny_gpt2, tiny_llama

import textrl.rollout
from textrl.models import captured
from textrl.models.captured import CapturedDecoder, borrow
from textrl.models.layers import freeze_below
from textrl.models.static import StaticDecoder
from textrl.rollout import Rollout, generate

MODELS = {"gpt2": tiny_gpt2, "llama": tiny_llama}


@pytest.fixture
def fixed(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Let `generate` decode in fixed shapes, or as always."""

    def choose(on: bool) -> None:
        monkeypatch.undo()
        if on:
            monkeypatch.setattr(textrl.rollout, "open_decoder", borrow)

    return choose


def prompts(lengths: list[int], seed: int, device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
    """Return left-padded random prompts and their mask."""
    noise = torch.Generator().manual_seed(seed)
    ids = torch.randint(2, VOCAB, (len(lengths), max(lengths)), generator=noise)
    mask = torch.arange(max(lengths))[None] >= max(lengths) - torch.tensor(lengths)[:, None]
    return ids.masked_fill(~mask, PAD).to(device), mask.to(device)


def sampled(model: PreTrainedModel, lengths: list[int], seed: int, depths: tuple[int, ...] = (1,)) -> Rollout:
    ids, mask = prompts(lengths, seed, model.device.type)
    return generate(
        model, ids, mask, max_new_tokens=9, eos_ids={EOS}, pad_id=PAD, seed=seed, keep_depths=depths,
        episodes=torch.arange(len(lengths), device=model.device),
    )  # fmt: skip


def assert_same(one: Rollout, other: Rollout, error: float = 1e-4) -> None:
    assert torch.equal(one.response_ids.cpu(), other.response_ids.cpu())
    assert torch.equal(one.response_mask.cpu(), other.response_mask.cpu())
    torch.testing.assert_close(one.logprobs.cpu(), other.logprobs.cpu(), atol=error, rtol=0)
    assert (one.trunk is None) == (other.trunk is None)
    if one.trunk is not None and other.trunk is not None:
        for depth, hidden in one.trunk.hidden.items():
            real = one.mask.cpu()
            torch.testing.assert_close(
                hidden.cpu()[real], other.trunk.hidden[depth].cpu()[real], atol=error, rtol=error
            )


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=25, deadline=None)
@given(
    rounds=st.lists(
        st.tuples(st.lists(st.integers(1, 6), min_size=1, max_size=9), st.integers(0, 999)), max_size=3
    ).filter(bool)
)
def test_rollouts_one_after_another_are_those_of_the_growing_store(
    name: str, rounds: list[tuple[list[int], int]]
) -> None:
    """Prompts of many lengths, rows that leave, rollouts that find the last one's places."""
    model = MODELS[name]().double()
    freeze_below(model, 1)
    for lengths, seed in rounds:
        expected = sampled(model, lengths, seed)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(textrl.rollout, "open_decoder", borrow)
            assert_same(expected, sampled(model, lengths, seed), error=1e-6)


def test_the_last_decoder_is_found_again_until_the_weights_move(fixed: Callable[[bool], None]) -> None:
    model = tiny_llama()
    with borrow(model, 8, 20, ()) as first:
        pass
    with borrow(model, 5, 30, ()) as again:
        assert again is first, "half the rows and the same rounded capacity"
        with borrow(model, 5, 30, ()) as other:
            assert other is not first, "somebody uses that one"
    for change in ({"rows": 9}, {"rows": 2}, {"capacity": 65}, {"depths": (1,)}):
        with borrow(model, 8, 20, ()) as before:
            pass
        with borrow(model, **({"rows": 8, "capacity": 20, "depths": ()} | change)) as after:  # type: ignore[arg-type]
            assert after is not before, change
    with borrow(model, 8, 20, ()) as before:
        pass
    model.lm_head.weight.data = model.lm_head.weight.data.clone()
    with borrow(model, 8, 20, ()) as after:
        assert after is not before, "its graphs would read the old weights"


def test_weights_that_change_in_place_are_read_anew(fixed: Callable[[bool], None]) -> None:
    model = tiny_gpt2()
    fixed(True)
    before = sampled(model, [3, 4, 2], 1, ())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.3)
    now = sampled(model, [3, 4, 2], 1, ())
    fixed(False)
    assert_same(sampled(model, [3, 4, 2], 1, ()), now)
    assert not torch.equal(before.logprobs, now.logprobs)


def test_what_is_kept_for_a_model_does_not_keep_it(fixed: Callable[[bool], None]) -> None:
    model = tiny_llama()
    fixed(True)
    sampled(model, [2, 3], 0)
    assert len(captured._KEPT) >= 1
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_rows_that_left_shrink_the_shape_by_halves() -> None:
    model = tiny_llama()
    ids, mask = prompts([3] * 8, 0)
    with borrow(model, 8, 20, ()) as decoder, torch.no_grad():
        decoder.prefill(ids, mask)
        for count in (8, 7, 5, 4, 3, 1):
            kept = torch.arange(count)
            decoder.keep(kept, kept[:0], kept[:0])
            decoder.step(torch.full((count,), 3))
    assert sorted(decoder.steps) == [1, 4, 8]


def test_lent_blocks_are_not_run_again() -> None:
    """As a reference's decoder reads what the policy's gave."""
    model = tiny_llama()
    ids, mask = prompts([2, 4, 3], 3)
    tokens = torch.tensor([[3, 4, 2], [2, 2, 5]])
    with torch.no_grad():
        whole = StaticDecoder(model, 3, 12, (1,))
        with borrow(model, 3, 12, (), 1) as upper:
            expected = whole.prefill(ids, mask)
            torch.testing.assert_close(upper.prefill(ids, mask, whole.seen[1]), expected)
            for some in tokens:
                expected = whole.step(some)
                torch.testing.assert_close(upper.step(some, whole.seen[1]), expected)


@pytest.fixture
def on_gpu() -> Iterator[Any]:
    models = {name: make().to("cuda") for name, make in MODELS.items()}
    yield models
    captured._KEPT.clear()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", MODELS)
def test_graphs_write_the_same_texts_as_the_cpu(name: str, on_gpu: dict[str, PreTrainedModel]) -> None:
    for seed in range(4):
        lengths = [1 + (row * 7 + seed) % 6 for row in range(16)]
        cpu, model = MODELS[name](), on_gpu[name]
        for one in (cpu, model):
            freeze_below(one, 1)
        assert_same(sampled(cpu, lengths, seed), sampled(model, lengths, seed))
    _, decoder = captured._KEPT[model]
    assert isinstance(decoder, CapturedDecoder)
    assert decoder.steps[16].captured
