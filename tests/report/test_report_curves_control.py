"""What a chart is called depends on whether the run wrote text."""

from __future__ import annotations

import pytest

from textrl.report.curves import charts_of
from textrl.report.reading import Series, Stage

COMMON = ("rollout/ep_rew_mean", "rollout/ep_len_mean", "time/fps")


def stage(*keys: str) -> Stage:
    series = {key: Series((1.0, 2.0), (3.0, 4.0)) for key in keys}
    return Stage("sarsa", series, last_step=2.0, end_s=None)


@pytest.mark.parametrize(
    ("more", "titles"),
    [
        ((), ["Episode reward", "Episode length", "Speed"]),
        (("advice/beta",), ["Episode reward", "Episode length", "Weight of the advice (beta)", "Speed"]),
        (("train/kl_ref",), ["Episode reward", "KL to the reference", "Response length", "Speed"]),
    ],
)
def test_control_counts_steps_and_text_counts_tokens(more: tuple[str, ...], titles: list[str]) -> None:
    main, further = charts_of(stage(*COMMON, *more))
    assert [chart.title for chart in main] == titles
    assert further == []
    units = {chart.title: chart.unit for chart in main}
    assert units["Speed"] == ("tokens/s" if "train/kl_ref" in more else "steps/s")
