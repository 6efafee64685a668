"""What must never change a result: how the same decisions are cut, padded, ordered and kept company.

In float64 to 1e-6 relative; `test_ppo_two_processes` adds the number of processes and
``tests/mdp/test_logprobs.py`` the chunks of the log-probabilities.
"""

from __future__ import annotations

import dataclasses
import math
from functools import cache

import pytest
import torch
from exact_world import RELATIVE, assert_same, exact, experience, gradients, move
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny_world import VOCAB
from torch import Tensor

from textrl.learners.ppo_ptx import PPOPTX
from textrl.learners.ppo_ptx.experience import Experience

EPISODES = 24
#: All blocks learn; one is frozen and computed once; or transformers' own forward pass over padded rows
#: takes the gradients (it is what recomputes blocks), where the others compute on real tokens alone.
VARIANTS: dict[str, dict[str, object]] = {
    "learning": {},
    "frozen": {"first_trainable": 1},
    "padded": {"gradient_checkpointing": True},
}
EVERY_WAY = pytest.mark.parametrize("way", VARIANTS)


def made_of(**changes: object) -> tuple[PPOPTX, Experience]:
    """A learner and its experience; the policy has then moved, so that some ratios are clipped."""
    made = exact(ptx=0.7, moved=0.02, episodes_per_iteration=EPISODES, minibatches=1, **changes)
    collected = experience(made)
    move(made, 0.02, seed=4)
    return made, collected


@cache
def whole(way: str) -> tuple[PPOPTX, Experience, dict[str, Tensor]]:
    """The plain case that all others are compared with: one micro-batch of all rows, in order."""
    made, collected = made_of(**VARIANTS[way], micro_batch_size=EPISODES)
    return made, collected, gradients(made, collected, torch.arange(EPISODES))


def scores(made: PPOPTX, collected: Experience) -> dict[str, Tensor]:
    """Everything that the networks say about the real decisions, (N,) each, row by row."""
    networks = made.networks
    where = (collected.ids, collected.mask, collected.actions, collected.trunk)
    with torch.no_grad():
        logprobs, entropy = networks.logprobs_and_entropy(networks.policy, *where)
        reference = networks.logprobs(networks.reference, *where)
        return {
            "logprobs": logprobs, "entropy": entropy, "ref_logprobs": reference,
            "values": networks.values(*where),
        }  # fmt: skip


def lay_out(made: PPOPTX, collected: Experience, rows: Tensor, offsets: list[int], extra: int) -> Experience:
    """Write some rows into a new batch, each from the column `offsets` says, among garbage and NaN.

    Every (B, L) tensor of the experience is moved, whatever it is called.
    """
    lengths = collected.mask[rows].sum(1).tolist()
    width = max(offset + length for offset, length in zip(offsets, lengths, strict=True)) + extra
    generator = torch.Generator().manual_seed(width)
    shape = (len(rows), width)
    moved: dict[str, Tensor] = {}
    for field in dataclasses.fields(collected):
        old = getattr(collected, field.name)
        if not isinstance(old, Tensor):
            continue
        if old.shape != collected.ids.shape:
            moved[field.name] = old[rows]
            continue
        if old.dtype == torch.bool:
            new = torch.zeros(shape, dtype=torch.bool)
        elif old.is_floating_point():
            new = torch.full(shape, math.nan, dtype=old.dtype)
        else:
            new = torch.randint(VOCAB, shape, generator=generator)
        for index, (row, offset) in enumerate(zip(rows.tolist(), offsets, strict=True)):
            real = old[row][collected.mask[row]]
            new[index, offset : offset + len(real)] = real
        moved[field.name] = new
    trunk = made.networks.trunk(moved["ids"], moved["mask"])
    return dataclasses.replace(collected, **moved, trunk=trunk)


def right_padded(made: PPOPTX, collected: Experience, rows: Tensor) -> Experience:
    """Rows with nothing on their left, cut to the longest of them."""
    return lay_out(made, collected, rows, [0] * len(rows), 0)


def test_computing_on_padding_or_on_real_tokens_alone() -> None:
    assert_same(whole("padded")[2], whole("learning")[2])


@EVERY_WAY
@settings(max_examples=4, deadline=None)
@given(micro=st.integers(2, EPISODES - 1))
@example(micro=1)
def test_micro_batch_size(way: str, micro: int) -> None:
    _, plain, wanted = whole(way)
    made, collected = made_of(**VARIANTS[way], micro_batch_size=micro)
    for name in ("logprobs", "values", "advantages", "returns"):
        assert torch.allclose(getattr(collected, name), getattr(plain, name), rtol=RELATIVE, atol=1e-9), name
    assert_same(gradients(made, collected, torch.arange(EPISODES)), wanted)


@EVERY_WAY
@settings(max_examples=6, deadline=None)
@given(
    offsets=st.lists(st.integers(0, 5), min_size=EPISODES, max_size=EPISODES),
    side=st.sampled_from(["left", "right", "both"]),
    extra=st.integers(0, 3),
)
def test_padding_side_and_what_stands_there(way: str, offsets: list[int], side: str, extra: int) -> None:
    made, collected, wanted = whole(way)
    rows = torch.arange(EPISODES)
    lengths = collected.mask.sum(1).tolist()
    places = {"left": [max(lengths) - n for n in lengths], "right": [0] * EPISODES, "both": offsets}
    other = lay_out(made, collected, rows, places[side], extra)
    for name, flat in scores(made, other).items():
        assert torch.allclose(flat, scores(made, collected)[name], rtol=RELATIVE, atol=1e-9), name
    assert_same(gradients(made, other, rows), wanted)


@EVERY_WAY
@settings(max_examples=3, deadline=None)
@given(order=st.permutations(range(EPISODES)), micro=st.integers(5, EPISODES))
def test_row_order(way: str, order: list[int], micro: int) -> None:
    _, _, wanted = whole(way)
    made, collected = made_of(**VARIANTS[way], micro_batch_size=micro)
    assert_same(gradients(made, collected, torch.tensor(order)), wanted)
    # The same rows, moved about in memory instead of in the index.
    turned = right_padded(made, collected, torch.tensor(order))
    assert_same(gradients(made, turned, torch.arange(EPISODES)), wanted)


@EVERY_WAY
@settings(max_examples=4, deadline=None)
@given(groups=st.lists(st.integers(0, 3), min_size=EPISODES, max_size=EPISODES))
def test_company_of_other_rows(way: str, groups: list[int]) -> None:
    """A minibatch's gradient is the mean of its rows' own over decisions, computed with whomever."""
    made, collected = made_of(**VARIANTS[way], micro_batch_size=EPISODES)
    made.updater.stream = None
    whole_batch = gradients(made, collected, torch.arange(EPISODES))
    together = {name: x * collected.actions.sum() for name, x in whole_batch.items()}
    parts = {name: torch.zeros_like(x) for name, x in together.items()}
    in_batch = scores(made, collected)
    for group in set(groups):
        rows = torch.tensor([row for row, own in enumerate(groups) if own == group])
        alone = right_padded(made, collected, rows)
        number = alone.actions.sum()
        for name, x in gradients(made, alone, torch.arange(len(rows))).items():
            parts[name] += x * number
        chosen = torch.isin(collected.actions.nonzero()[:, 0], rows)
        for name, flat in scores(made, alone).items():
            assert torch.allclose(flat, in_batch[name][chosen], rtol=RELATIVE, atol=1e-9), name
    assert_same(parts, together)


def test_an_episode_is_the_same_in_a_small_and_in_a_large_iteration() -> None:
    small, few = made_of(micro_batch_size=5)
    large = exact(moved=0.02, episodes_per_iteration=2 * EPISODES, minibatches=1, micro_batch_size=64)
    many = experience(large)
    assert small.settings.episodes_per_iteration == EPISODES
    for row in range(EPISODES):
        mine, theirs = few.actions[row], many.actions[row]
        assert torch.equal(few.ids[row][few.mask[row]], many.ids[row][many.mask[row]])
        for name in ("logprobs", "values", "returns"):
            a, b = getattr(few, name)[row][mine], getattr(many, name)[row][theirs]
            assert torch.allclose(a, b, rtol=RELATIVE, atol=1e-6), name
