"""Less memory, the same training: LoRA, value head, recomputed blocks, parked weights, smaller batches."""

from __future__ import annotations

import copy
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from exact_world import gradients
from tiny_world import Env, kl_source, networks, small, tiny_gpt2, tiny_llama, tiny_task
from torch import Tensor, nn
from transformers import PreTrainedModel

from textrl.errors import UserError
from textrl.learners.ppo_ptx import PPOPTX
from textrl.learners.ppo_ptx.experience import Experience, collect
from textrl.learners.ppo_ptx.generation import sample
from textrl.learners.ppo_ptx.memory import MicroBatches, is_out_of_memory
from textrl.models.parking import park
from textrl.rewards import RewardSum

MODELS = {"gpt2": tiny_gpt2, "llama": tiny_llama}
ROWS = torch.arange(48)
IDS = torch.tensor([[2, 3, 4, 5], [4, 2, 2, 3]])


def learner(model: PreTrainedModel | None = None, **changes: Any) -> PPOPTX:
    chosen = small(**changes)
    rewards = RewardSum([kl_source(0.5)])
    return PPOPTX(Env(tiny_task()), chosen, rewards=rewards, networks=networks(chosen, model))


def experience(made: PPOPTX) -> Experience:
    return collect(made.networks, made.task, made.rewards, made.settings, made.accelerator, 0)


def stored(*models: nn.Module) -> int:
    """Bytes of the distinct parameters."""
    tensors = {p.data_ptr(): p for model in models for p in model.parameters()}
    return sum(p.numel() * p.element_size() for p in tensors.values())


@torch.no_grad()
def logits(model: PreTrainedModel) -> Tensor:
    out: Tensor = model(input_ids=IDS).logits
    return out


@pytest.mark.parametrize("kind", MODELS)
def test_with_lora_the_reference_is_the_policy_without_its_adapters(kind: str) -> None:
    pytest.importorskip("peft")
    original = MODELS[kind]()
    alone = stored(original)
    made = learner(original, lora_rank=2, first_trainable=1, learning_rate=1e-2)
    policy, reference = made.networks.policy, made.networks.reference
    adapters = sum(p.numel() * 4 for p in made.updater.policy_params)
    assert 0 < adapters < alone / 3
    assert stored(policy, reference) == alone + adapters
    made.learn(iterations=2)
    assert made.metrics["train/kl_ref"] > 0
    assert not torch.equal(logits(policy), logits(reference))
    layers = [module for module in policy.modules() if hasattr(module, "get_delta_weight")]
    for layer in layers:
        layer.enable_adapters(False)
    assert layers
    assert torch.equal(logits(policy), logits(reference))
    assert torch.equal(logits(reference), logits(MODELS[kind]()))


@pytest.mark.parametrize("kind", MODELS)
def test_a_value_head_reads_the_policy_and_stores_nothing_else(kind: str) -> None:
    made = learner(MODELS[kind](), value_network="head")
    own = made.networks.trained()["value"]
    assert {name: tuple(p.shape) for name, p in own.items()} == {"score.weight": (1, 16)}
    assert stored(made.networks.policy, made.networks.value) == stored(made.networks.policy) + 64
    with torch.no_grad():
        own["score.weight"].normal_(generator=torch.Generator().manual_seed(0))
    collected = experience(made)
    hidden = made.networks.policy(input_ids=IDS, output_hidden_states=True).hidden_states[-1]
    mask = torch.ones_like(IDS, dtype=torch.bool)
    actions = mask.clone()
    actions[:, 0] = False
    wanted = hidden[:, :-1] @ own["score.weight"][0]
    logprobs, entropy, values = made.networks.logprobs_entropy_and_values(IDS, mask, actions, None)
    assert torch.allclose(values, wanted.reshape(-1), atol=1e-5)
    assert torch.allclose(values, made.networks.values(IDS, mask, actions, None), atol=1e-6)
    alone = made.networks.logprobs_and_entropy(made.networks.policy, IDS, mask, actions, None)
    assert torch.allclose(logprobs, alone[0], atol=1e-6)
    assert torch.allclose(entropy, alone[1], atol=1e-6)
    assert bool((collected.values[collected.actions] != 0).any())


def test_the_trunk_gets_its_share_of_the_value_gradient_and_the_head_all() -> None:
    found = {}
    separate = learner()
    collected = experience(separate)
    for coefficient in (0.0, 0.5, 1.0):
        made = learner(value_network="head", value_coef=coefficient)
        with torch.no_grad():
            made.networks.trained()["value"]["score.weight"].fill_(0.1)
        found[coefficient] = gradients(made, collected, ROWS)
    plain = {name: g for name, g in gradients(separate, collected, ROWS).items() if name.startswith("policy")}
    for name, wanted in plain.items():
        # Attached at 0 the trunk learns from PPO alone; from there the value's part grows in proportion.
        assert torch.allclose(found[0.0][name], wanted, atol=1e-6)
        half, whole = (found[c][name] - found[0.0][name] for c in (0.5, 1.0))
        assert torch.allclose(2 * half, whole, atol=1e-5)
    assert any(not torch.allclose(found[1.0][name], wanted, atol=1e-3) for name, wanted in plain.items())
    heads = [found[c]["value.score.weight"] for c in found]
    assert heads[0].abs().max() > 0
    assert torch.allclose(heads[0], heads[2], atol=1e-6)


@pytest.mark.parametrize("kind", ["separate", "head"])
def test_two_networks_never_hold_their_gradients_together(kind: Any) -> None:
    made = learner(value_network=kind)
    collected = experience(made)
    held = []

    def before(*_: Any) -> None:
        trained = made.networks.trained().items()
        held.append({name for name, params in trained if any(p.grad is not None for p in params.values())})

    for optimizer in (made.updater.policy_optimizer, made.updater.value_optimizer):
        optimizer.register_step_pre_hook(before)
    made.updater.step(collected, ROWS)
    first = {"policy"} if kind == "separate" else {"policy", "value"}
    assert held == [first, {"value"}]
    made.updater.step(collected, ROWS)
    assert held[2:] == held[:2]


def test_lora_and_a_value_head_train_and_resume_on_one_model(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    options = {"lora_rank": 2, "value_network": "head", "learning_rate": 1e-2, "gradient_checkpointing": True}
    made = learner(tiny_llama(), **options).learn(iterations=2)
    made.save(tmp_path / "saved")
    again = learner(tiny_llama(), **options).restore(tmp_path / "saved")
    made.learn(iterations=3)
    again.learn(iterations=3)
    for mine, theirs in zip(made.updater.policy_params, again.updater.policy_params, strict=True):
        assert torch.equal(mine, theirs)
    assert again.metrics["reward/total"] == made.metrics["reward/total"]
    made.export(tmp_path / "policy")
    merged = type(made.networks.policy).from_pretrained(tmp_path / "policy").eval()
    assert torch.allclose(logits(merged), logits(made.networks.policy), atol=1e-5)


class Kept:
    """Bytes that a graph keeps for its backward pass."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.bytes = 0
        self.known = {p.data_ptr() for p in parameters}

    def pack(self, tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in self.known:
            self.bytes += tensor.numel() * tensor.element_size()
            self.known.add(tensor.data_ptr())
        return tensor


@pytest.mark.parametrize("kind", MODELS)
def test_recomputing_blocks_gives_the_same_gradients_and_keeps_less(kind: str) -> None:
    found, kept = [], []
    for recompute in (False, True):
        made = learner(MODELS[kind](), gradient_checkpointing=recompute)
        collected = experience(made)
        seen = Kept(list(made.networks.policy.parameters()))
        with torch.autograd.graph.saved_tensors_hooks(seen.pack, lambda tensor: tensor):
            made.networks.logprobs(
                made.networks.policy, collected.ids, collected.mask, collected.actions, collected.trunk
            )
        kept.append(seen.bytes)
        found.append((gradients(made, collected, ROWS), collected))
    (plain, first), (again, second) = found
    assert torch.equal(first.ids, second.ids)  # generation, with its cache, is what it was
    assert plain.keys() == again.keys()
    for name, gradient in plain.items():
        assert torch.allclose(gradient, again[name], rtol=1e-4, atol=1e-6), name
    assert kept[1] < 0.5 * kept[0]


def rounded(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """A copy whose weight matrices went through a smaller type."""
    twin = copy.deepcopy(model)
    for param in twin.parameters():
        if param.ndim >= 2:
            param.data = param.data.to(dtype).float()
    return twin


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize(("name", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_a_parked_reference_is_small_and_computes_from_rounded_weights(
    kind: str, name: str, dtype: torch.dtype
) -> None:
    original = MODELS[kind]()
    whole = stored(original)
    made = learner(copy.deepcopy(original), reference_precision=name)
    reference = made.networks.reference
    assert stored(reference) < 0.55 * whole
    assert made.networks.parked_bytes == whole - stored(reference)
    assert reference.get_input_embeddings().weight.dtype == torch.float32
    assert torch.equal(logits(reference), logits(rounded(original, dtype)))
    assert torch.equal(logits(made.networks.policy), logits(original))


def test_the_offset_of_the_kl_is_measured_once_and_logged(tmp_path: Path) -> None:
    offsets = {}
    for name in ("same", "fp16", "bf16"):
        made = learner(reference_precision=name).learn(iterations=1)
        offsets[name] = made.metrics["train/kl_offset_max"]
        assert made.metrics["train/kl_offset"] == pytest.approx(made.metrics["train/kl_ref"], abs=1e-12)
    assert offsets["same"] == 0.0
    assert 0 < offsets["fp16"] < 0.5 * offsets["bf16"]
    start = made.metrics["train/kl_offset"]
    made.save(tmp_path / "saved")
    again = learner(reference_precision="bf16").restore(tmp_path / "saved").learn(iterations=2)
    assert again.metrics["train/kl_offset"] == start != 0
    assert again.metrics["train/kl_ref"] != start


def test_what_the_reference_shares_with_the_policy_is_not_parked() -> None:
    made = learner(tiny_llama(), first_trainable=2, reference_precision="bf16")
    policy, reference = made.networks.policy.model, made.networks.reference.model
    first = reference.layers[0].mlp.up_proj.weight
    assert first.data_ptr() == policy.layers[0].mlp.up_proj.weight.data_ptr()
    assert reference.embed_tokens.weight.data_ptr() == policy.embed_tokens.weight.data_ptr()
    assert reference.layers[2].mlp.up_proj.parametrizations.weight.original.dtype == torch.bfloat16
    made.learn(iterations=2)
    assert math.isfinite(made.metrics["train/kl_ref"])


def test_a_reference_in_main_memory_changes_nothing() -> None:
    plain = learner(tiny_llama()).learn(iterations=2)
    parked = learner(tiny_llama(), reference_device="cpu").learn(iterations=2)
    layer = parked.networks.reference.model.layers[0].mlp.up_proj
    assert hasattr(layer, "parametrizations")
    assert not hasattr(parked.networks.reference.model.embed_tokens, "parametrizations")
    assert parked.metrics["train/kl_ref"] == plain.metrics["train/kl_ref"]
    for mine, theirs in zip(plain.updater.policy_params, parked.updater.policy_params, strict=True):
        assert torch.equal(mine, theirs)


def test_a_reference_on_the_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTRL_CACHE", str(tmp_path))
    plain = learner(tiny_llama()).learn(iterations=2)
    parked = learner(tiny_llama(), reference_device="disk").learn(iterations=2)
    assert parked.networks.parked_bytes > 0.9 * stored(plain.networks.reference)
    assert parked.metrics["train/kl_ref"] == plain.metrics["train/kl_ref"]
    for mine, theirs in zip(plain.updater.policy_params, parked.updater.policy_params, strict=True):
        assert torch.equal(mine, theirs)


def test_a_weight_too_large_for_fp16_is_refused() -> None:
    model = tiny_gpt2().requires_grad_(False)
    model.transformer.h[0].mlp.c_fc.weight[0, 0] = 1e5
    with pytest.raises(UserError, match=r"weight of 1e\+05 does not fit into fp16"):
        park(model, precision="fp16", device="same")


@pytest.mark.parametrize("first_trainable", [0, 2])
def test_generating_in_parts_gives_the_same_responses(first_trainable: int) -> None:
    whole, parts = (
        learner(tiny_llama(), first_trainable=first_trainable, rollout_batch_size=size) for size in (None, 7)
    )
    prompts = [whole.task.prompt_for(i) for i in range(24)]
    episodes = torch.arange(24)
    one, many = (
        sample(made.networks, made.task, prompts, episodes, made.settings) for made in (whole, parts)
    )
    assert torch.equal(one.response_ids, many.response_ids)
    assert torch.equal(one.response_mask, many.response_mask)
    assert torch.allclose(one.logprobs, many.logprobs, atol=1e-5)
    assert (one.trunk is None) == (many.trunk is None) == (first_trainable == 0)
    if one.trunk is not None and many.trunk is not None:
        assert torch.equal(one.trunk.ids, many.trunk.ids)
        for depth, hidden in one.trunk.hidden.items():
            difference = (hidden - many.trunk.hidden[depth])[one.mask].abs().max()
            assert difference <= 1e-5 * hidden.abs().max()


def test_running_out_of_memory_halves_the_batch_and_undoes_the_half_done() -> None:
    sizes, tried, undone = MicroBatches(64, "micro_batch_size"), [], []

    def work(size: int) -> int:
        tried.append(size)
        if size > 5:
            # A real failure of the allocator: four exabytes.
            torch.empty(2**60)
        return size

    assert sizes.run(work, rows=20, undo=lambda: undone.append(len(tried))) == 5
    assert tried == [64, 10, 5]  # 64 did all 20 rows at once, so that half is 10
    assert undone == [1, 2]
    assert sizes.size == 5
    with pytest.raises(UserError, match="Memory does not suffice for one row at a time"):
        MicroBatches(4, "micro_batch_size").run(lambda size: torch.empty(2**60), rows=4)
    with pytest.raises(RuntimeError, match="shape"):
        sizes.run(lambda size: torch.zeros(2) @ torch.zeros(3, 3), rows=4)
    assert sizes.size == 5


def test_errors_of_allocators_are_told_from_others() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."))
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"))
    assert is_out_of_memory(RuntimeError("could not create a primitive"))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))


def limited(megabytes: int) -> tuple[dict[str, Any], str]:
    script = Path(__file__).parent / "limited_memory_job.py"
    done = subprocess.run(
        [sys.executable, str(script), str(megabytes)],
        capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found, done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS is Linux's")
def test_a_process_with_too_little_memory_ends_with_the_same_weights() -> None:
    found, told = limited(60)
    tight, free = found["limited"], found["free"]
    assert free["train/micro_batch_size"] == 64
    assert 1 <= tight["train/micro_batch_size"] < 64
    assert "micro_batch_size is now 32" in told
    for name in ("train/policy_loss", "train/value_loss", "train/grad_norm", "reward/total"):
        assert tight[name] == pytest.approx(free[name], rel=1e-4, abs=1e-6), name
    assert tight["weights"] == pytest.approx(free["weights"], rel=1e-6)
