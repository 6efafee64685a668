"""Orders that depend on their key alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from textrl.mdp.order import keyed_order, visit


@given(st.integers(0, 2**40), st.integers(1, 50), st.integers(0, 200))
def test_every_epoch_visits_everything_once(seed: int, count: int, epoch: int) -> None:
    start = epoch * count
    assert sorted(visit((seed,), start + i, count) for i in range(count)) == list(range(count))


def test_the_key_decides() -> None:
    assert keyed_order((1, 2), 20).tolist() == keyed_order((1, 2), 20).tolist()
    assert keyed_order((1, 2), 20).tolist() != keyed_order((1, 3), 20).tolist()
