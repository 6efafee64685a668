"""Steps of one shape, which a CUDA device replays as a graph: the same rollouts, whoever leaves."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable
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
from textrl.models.captured import CapturedDecoder, Replayed, borrow, capturable
from textrl.models.layers import freeze_below
from textrl.models.packed import composable
from textrl.models.parking import park
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


def test_the_last_decoder_is_found_again_while_it_fits() -> None:
    model = tiny_llama()
    with borrow(model, 8, 20, ()) as first:
        pass
    with borrow(model, 2, 64, ()) as again:
        assert again is first, "fewer rows, and the capacity that was rounded up to"
        with borrow(model, 5, 30, ()) as other:
            assert other is not first, "somebody uses that one"
    for change in ({"rows": 9}, {"capacity": 65}, {"depths": (1,)}, {"first": 1}):
        captured.release()
        with borrow(model, 8, 20, ()) as before:
            pass
        with borrow(model, **({"rows": 8, "capacity": 20, "depths": ()} | change)) as after:  # type: ignore[arg-type]
            assert after is not before, change
    captured.release()
    with borrow(model, 2, 20, ()) as again:
        assert again is not after


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft asks for it
@pytest.mark.parametrize("change", ["weights", "buffers", "adapters", "inference mode"])
def test_a_graph_is_not_used_where_it_would_read_something_else(change: str) -> None:
    model: Any = tiny_llama()
    if change == "adapters":
        peft = pytest.importorskip("peft")
        model = peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj"])).base_model.model
    with borrow(model, 8, 20, ()) as before:
        pass
    with borrow(model, 8, 20, ()) as again:
        assert again is before
    if change == "weights":
        model.lm_head.weight.data = model.lm_head.weight.data.clone()
    elif change == "buffers":
        model.model.rotary_emb.inv_freq = model.model.rotary_emb.inv_freq.clone()
    elif change == "adapters":
        for part in model.modules():
            if hasattr(part, "disable_adapters") and hasattr(part, "merged"):
                part.enable_adapters(False)
    with torch.inference_mode(change == "inference mode"), borrow(model, 8, 20, ()) as after:
        assert after is not before


def test_models_that_do_not_always_do_the_same_keep_transformers_cache() -> None:
    model: Any = tiny_llama()
    assert capturable(model)
    handle = model.model.layers[0].mlp.register_forward_hook(lambda *_: None)
    assert not capturable(model)
    handle.remove()
    for name, value in (
        ("rope_parameters", {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}),
        ("_attn_implementation", "my_own_kernel"),
    ):
        other: Any = tiny_llama()
        object.__setattr__(other.config, name, value)
        assert not capturable(other), name
    parked: Any = tiny_llama()
    park(parked.requires_grad_(False), precision="same", device="disk")
    assert not capturable(parked), "on the disk"
    model.is_quantized = True
    assert not capturable(model)
    spread: Any = tiny_llama()
    spread.model.layers[1]._hf_hook = object()  # accelerate moves its inputs to another device
    assert not composable(spread)


def test_a_decoder_that_is_replaced_is_gone_at_once() -> None:
    """Its store and graphs fill a GPU, and nothing there waits for the garbage collector."""
    model = tiny_gpt2()
    gc.collect()
    gc.disable()
    try:
        with borrow(model, 4, 20, ()) as decoder, torch.no_grad():
            decoder.prefill(*prompts([3] * 4, 0))
            decoder.step(torch.full((4,), 3))
        gone = weakref.ref(decoder)
        del decoder
        assert gone() is not None
        with borrow(model, 5, 20, ()):
            assert gone() is None
    finally:
        gc.enable()


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


gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.gpu
@gpu
@pytest.mark.parametrize("name", MODELS)
def test_graphs_write_the_same_texts_as_the_cpu(name: str) -> None:
    cpu, model = MODELS[name](), MODELS[name]().to("cuda")
    for one in (cpu, model):
        freeze_below(one, 1)
    for seed in range(4):
        lengths = [1 + (row * 7 + seed) % 6 for row in range(16)]
        assert_same(sampled(cpu, lengths, seed), sampled(model, lengths, seed))
    _, decoder = captured._KEPT[model]
    assert isinstance(decoder, CapturedDecoder)
    assert decoder.steps[16].captured


@pytest.mark.gpu
@gpu
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("bf16", [False, True])
def test_a_replay_is_the_step_without_a_graph(name: str, bf16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six steps, as an empty graph, or one that was captured elsewhere, would repeat the second."""
    model = MODELS[name]().to("cuda")
    ids, mask = prompts([2, 4, 3], 3, "cuda")
    tokens = torch.randint(2, VOCAB, (6, 3), generator=torch.Generator().manual_seed(0)).cuda()
    states = []
    for graphs in (True, False):
        captured.release()
        if not graphs:
            monkeypatch.setattr(Replayed, "_capture", lambda *_: None)
        with torch.no_grad(), torch.autocast("cuda", torch.bfloat16, enabled=bf16):
            with borrow(model, 3, 20, ()) as decoder:
                decoder.prefill(ids, mask)
                states.append([decoder.step(some).clone() for some in tokens])
            assert decoder.steps[3].captured == graphs
    for one, other in zip(*states, strict=True):
        torch.testing.assert_close(one, other)
