"""The run's networks without memory: built, frozen, shared and adapted by the code that builds the real ones.

Where that code asks for numbers, which are not there, it is told what holds in the case that is planned:
every token is real, every check passes, and weights are equal where one network lends them to another.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, PreTrainedModel

from textrl.errors import UserError
from textrl.learners.ppo_ptx.networks import Networks
from textrl.mdp import logprobs
from textrl.models import packed, stack
from textrl.models.layers import base, blocks
from textrl.models.loading import scorer_from_causal_lm
from textrl.models.sources import one_line, quiet_transformers
from textrl.models.stack import frozen_depth
from textrl.plan.job import Scorer, Workload
from textrl.plan.meter import shapes_only

_aten = torch.ops.aten


@dataclass(frozen=True)
class Shadow:
    """Networks whose tensors have shapes only, for use inside `shadow_of`.

    Attributes:
        networks: As the learner would hold them.
        reward_models: The frozen scorers, with their places in `Workload.reward_models`.
        answers: To be told how many entries of a mask are True.
    """

    networks: Networks
    reward_models: tuple[PreTrainedModel, ...]
    answers: Answers


class Answers(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Answers what cannot be known without numbers: how many entries of a mask are True, and checks."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._whole: Tensor | None = None
        self._actions = 0

    def declare(self, mask: Tensor, actions: int) -> None:
        """Say that `mask` is all True, and how many entries of every other mask are."""
        self._whole, self._actions = mask, actions

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is _aten._local_scalar_dense.default:
            return 1.0 if args[0].is_floating_point() else 1
        if func is _aten.nonzero.default:
            return args[0].new_empty((self._count(args[0]), args[0].ndim), dtype=torch.int64)
        masks = _masks(args[1]) if func in _INDEXING else None
        if masks is None:
            return func(*args, **(kwargs or {}))
        if func in (_aten.index_put_.default, _aten._index_put_impl_.default):
            return args[0]
        if func is _aten.index_put.default:
            return args[0].clone()
        return args[0].new_empty((self._count(masks), *args[0].shape[masks.ndim :]))

    def _count(self, mask: Tensor) -> int:
        whole = self._whole is not None and _memory(mask) == _memory(self._whole)
        return mask.numel() if whole else self._actions


_INDEXING = (
    _aten.index.Tensor,
    _aten.index_put.default,
    _aten.index_put_.default,
    _aten._index_put_impl_.default,
)


def _masks(indices: Any) -> Tensor | None:
    """Return the mask of ``x[mask]``, or None for any other way of indexing."""
    given = [index for index in indices if index is not None]
    return given[0] if len(given) == 1 and len(indices) == 1 and given[0].dtype == torch.bool else None


def _memory(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


@contextmanager
def shadow_of(work: Workload, *, gpu: bool = False) -> Iterator[Shadow]:
    """Build the networks of a workload without memory, for as long as the block lasts.

    Args:
        work: See `textrl.plan.job.read_workload`.
        gpu: Take the paths that the code takes on a GPU; the tensors still say that they are on the CPU.

    Raises:
        UserError: When the model's code cannot run without numbers.
    """
    with ExitStack() as stay:
        stay.enter_context(warnings.catch_warnings())
        # Copying a module asks every parameter for its address, which these have not.
        warnings.filterwarnings("ignore", message="Accessing the data pointer of FakeTensor")
        warnings.filterwarnings("ignore", message="fan_in_fan_out")  # peft corrects it by itself
        stay.enter_context(mock.patch.object(stack, "share_frozen", _same_blocks))
        stay.enter_context(mock.patch.object(packed.Packing, "of", staticmethod(_all_real)))
        if gpu:
            # Whole sequences only: decoding has fixed shapes there as here.
            stay.enter_context(mock.patch.object(stack, "packable", return_value=False))
            # Cutting the vocabulary's work to the size of a cache is for CPUs.
            stay.enter_context(mock.patch.object(logprobs, "_CPU_ROWS", 2**30))
        stay.enter_context(shapes_only())
        answers = stay.enter_context(Answers())
        try:
            # All is where it belongs, and parameters without memory cannot be moved.
            with mock.patch.object(nn.Module, "to", lambda module, *args, **kwargs: module):
                shadow = _build(work, answers)
            yield shadow
        except (RuntimeError, NotImplementedError, ValueError) as error:
            raise UserError(
                f"The model '{work.model}' cannot be planned ({one_line(error)}): its code looks at the "
                "numbers it computes; run one iteration and read train/memory in its log instead."
            ) from error


def _build(work: Workload, answers: Answers) -> Shadow:
    settings = work.settings
    with quiet_transformers():
        policy = AutoModelForCausalLM.from_config(
            work.policy, dtype=torch.float32, attn_implementation="sdpa"
        ).eval()
        value = None if work.value is None else _scorer(work.value, work, policy)
        scorers = [_scorer(scorer, work, policy) for scorer in work.reward_models]
    depth, first = len(blocks(policy)), settings.first_trainable
    if not 0 <= first <= depth:
        raise UserError(f"first_trainable is {first}, but the policy has {depth} blocks; use 0 to {depth}.")
    if value is not None and work.value is not None:
        own = settings.value_first_trainable
        own = min(first, len(blocks(value))) if own is None else own
        _lend(policy, value, min(first, own, work.value.equal))
    # Processors of the generation config do not change what is needed, and weights without numbers cannot be
    # written to the disk.
    device = "same" if settings.reference_device == "disk" else settings.reference_device
    chosen = replace(settings, sampling_processors="drop", reference_device=device)
    networks = Networks(policy, value, None, chosen)
    for scorer, model in zip(work.reward_models, scorers, strict=True):
        model.requires_grad_(False)
        _lend(policy, model, min(frozen_depth(policy), scorer.equal, len(blocks(model))))
    return Shadow(networks, tuple(scorers), answers)


def _scorer(scorer: Scorer, work: Workload, policy: PreTrainedModel) -> PreTrainedModel:
    """Make a scorer as the reward model's training makes it: the blocks of a language model, and a head."""
    source = policy
    if scorer.config is not work.policy:
        source = AutoModelForCausalLM.from_config(
            scorer.config, dtype=torch.float32, attn_implementation="sdpa"
        ).eval()
    return scorer_from_causal_lm(source, layers=scorer.blocks)


def _lend(policy: PreTrainedModel, other: PreTrainedModel, depth: int) -> None:
    """Let the first `depth` blocks of `other`, and its embeddings, be made of the policy's parameters."""
    if not depth:
        return
    pairs: list[tuple[nn.Module, nn.Module]] = [
        *zip(list(blocks(policy))[:depth], list(blocks(other))[:depth], strict=True)
    ]
    for name, module in base(policy).named_children():
        if isinstance(module, nn.Embedding):
            pairs.append((module, base(other).get_submodule(name)))
    for ours, theirs in pairs:
        for one, another in zip(ours.modules(), theirs.modules(), strict=True):
            for name, param in one.named_parameters(recurse=False):
                setattr(another, name, param)


def _same_blocks(first: PreTrainedModel, second: PreTrainedModel) -> int:
    """Stand for `textrl.models.stack.share_frozen`: what is equal is one parameter here."""
    depth = min(frozen_depth(first), frozen_depth(second))
    same = {id(p) for p in first.parameters()}
    for index, block in enumerate(list(blocks(second))[:depth]):
        if any(id(p) not in same for p in block.parameters()):
            return index
    return depth


def _all_real(mask: Tensor) -> packed.Packing:
    """Stand for `Packing.of`: no padding."""
    rows, width = mask.shape
    return packed.Packing(mask, torch.zeros(rows * width, dtype=torch.int64), rows, width, None)


def stored_bytes(tensors: Iterable[Tensor], known: set[int]) -> int:
    """Return the bytes of the tensors whose memory is not in `known` yet, and put it there."""
    total = 0
    for tensor in tensors:
        if _memory(tensor) not in known:
            known.add(_memory(tensor))
            total += tensor.untyped_storage().nbytes()
    return total
