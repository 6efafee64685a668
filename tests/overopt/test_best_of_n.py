"""Best-of-n: the estimator is the average over all subsets, and its KL is the exact one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textrl.evaluation.overopt.best_of_n import best_of_n, kl_of_best_of_n, sizes_up_to, subset_weights


def by_enumeration(proxy: Sequence[float], values: Sequence[float], n: int) -> float:
    """Average over all subsets of n; within one, ties for the best are broken at random."""
    found = []
    for subset in itertools.combinations(range(len(proxy)), n):
        best = max(proxy[i] for i in subset)
        tied = [values[i] for i in subset if proxy[i] == best]
        found.append(sum(tied) / len(tied))
    return sum(found) / len(found)


@settings(deadline=None)  # the first call imports, on a busy machine slowly
@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-9, 9)), min_size=1, max_size=8), st.data())
def test_it_is_the_mean_over_all_subsets(samples: list[tuple[int, int]], data: st.DataObject) -> None:
    proxy, values = ([float(pair[i]) for pair in samples] for i in range(2))
    n = data.draw(st.integers(1, len(samples)))
    assert best_of_n([proxy], [values], [n])[0, 0] == pytest.approx(
        by_enumeration(proxy, values, n), abs=1e-9
    )


def test_by_hand() -> None:
    # Of {1, 2, 3} the best of two is 2 once and 3 twice.
    assert best_of_n([[1, 2, 3]], [[10, 20, 30]], [1, 2, 3])[0].tolist() == pytest.approx([20, 80 / 3, 30])


@settings(deadline=None)  # the first call imports, on a busy machine slowly
@given(st.integers(1, 300), st.data())
def test_weights_are_the_binomial_ones_and_sum_to_one(count: int, data: st.DataObject) -> None:
    n = data.draw(st.integers(1, count))
    weights = subset_weights(count, n)
    exact = [math.comb(i - 1, n - 1) / math.comb(count, n) for i in range(1, count + 1)]
    assert weights.tolist() == pytest.approx(exact, rel=1e-9, abs=1e-300)
    assert weights.sum() == pytest.approx(1.0)


def test_the_proxy_itself_never_falls() -> None:
    proxy = np.random.default_rng(0).normal(size=(3, 200))
    means = best_of_n(proxy, proxy, sizes_up_to(200))
    assert (np.diff(means, axis=1) > 0).all()
    assert means[:, -1].tolist() == pytest.approx(proxy.max(1).tolist())


@pytest.mark.parametrize("n", [1, 2, 5, 64])
def test_kl_is_that_of_the_order_statistic(n: int) -> None:
    """In quantiles the best of n has density n u^(n - 1); its KL to the uniform one by quadrature."""
    u = (np.arange(200_000) + 0.5) / 200_000
    density = n * u ** (n - 1)
    by_quadrature = float(np.where(density > 0, density * np.log(np.maximum(density, 1e-300)), 0.0).mean())
    assert kl_of_best_of_n(n) == pytest.approx(by_quadrature, abs=1e-3)


@pytest.mark.parametrize(
    ("proxy", "values", "n"),
    [
        ([[1.0, 2.0]], [[1.0, 2.0]], 3),
        ([[1.0]], [[1.0, 2.0]], 1),
        ([[math.nan]], [[1.0]], 1),
        ([1.0], [1.0], 1),
    ],
)
def test_what_cannot_be_estimated_is_refused(proxy: list[float], values: list[float], n: int) -> None:
    with pytest.raises(ValueError, match=r"n is 3|shapes|finite"):
        best_of_n(proxy, values, [n])


def test_sizes_grow_and_end_where_asked() -> None:
    assert sizes_up_to(1) == [1]
    assert sizes_up_to(13) == [1, 2, 3, 4, 6, 8, 12, 13]
