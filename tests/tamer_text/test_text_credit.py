"""Credit on tokens by the time at which their word was on screen, by hand for each loss.

Delay U(.2, 1.2) s, so F(t) = t - .2 in between. On screen: the word of tokens 1 and 2 from 0 to .5 s, the
second from .25 s on; token 3 to 1 s; token 4 to 1.5 s; token 5 from 3 to 3.5 s. Presses: +1 at 1.2 s,
-1 at 1.6 s. Credits:

    at 1.2 s    F(1.2) - F(.7) = .5,    F(.7) - F(.2) = .5,    F(.2) = 0
    at 1.6 s    F(1.6) - F(1.1) = .1,   F(1.1) - F(.6) = .5,   F(.6) - F(.1) = .4

In contexts that have nothing in common a step moves H by 2 alpha = .5 of weight times error.
"""

from __future__ import annotations

import pytest
import tamer_text_world as world

from textrl.tamer.credit import Loss
from textrl.tamer.text.lessons import Replay
from textrl.tamer.text.teaching import Teaching


def play(teaching: Teaching, *, presses: bool = True, until_s: float = 8.0) -> Teaching:
    teaching.span("before", 5, 5, 1.0)  # H of token 5 is .5, so that silence shows
    teaching.show(1, 0.0, joins=False)
    teaching.show(2, 0.25, joins=True)
    teaching.show(3, 0.5, joins=False)
    teaching.show(4, 1.0, joins=False)
    if presses:
        assert teaching.press("first", 1.0, 1.2) == [1, 2, 3]
    teaching.end(1.5)
    if presses:
        assert teaching.press("second", -1.0, 1.6) == [1, 2, 3, 4]
    teaching.show(5, 3.0, joins=False)
    teaching.end(3.5)
    teaching.tick(until_s)
    return teaching


# importance: .5 [.5 (1 - 0)] = .25 after the first press; then 1: .25 + .5 [.1 (-1 - .25)],
#   3: .25 + .5 [.5 (-1 - .25)], 4: .5 [.4 (-1)].
# aggregate: labels .5 - .1 = .4, .5 - .5 = 0, -.4, and 0 for the silence about token 5.
# window: 1 and 2 divide their word's credit, .5 [.25 (1 - 0)] = .125, and 3 gets .25; then the sum is
#   .1 (.125 + .125) / 2 + .5 (.25) = .1375, the error -1.1375: 1: .125 - .5 (.05) 1.1375,
#   3: .25 - .5 (.5) 1.1375, 4: -.5 (.4) 1.1375.
@pytest.mark.parametrize(
    ("loss", "wanted", "samples"),
    [
        ("importance", [0.1875, 0.1875, -0.0625, -0.2, 0.5], 5),
        ("aggregate", [0.2, 0.2, 0.0, -0.2, 0.25], 4),
        ("aggregate_rewarded_only", [0.2, 0.2, 0.0, -0.2, 0.5], 3),
        ("window", [0.0965625, 0.0965625, -0.034375, -0.2275, 0.5], 2),
    ],
)
def test_words_are_credited_by_the_time_they_were_on_screen(
    loss: Loss, wanted: list[float], samples: int
) -> None:
    teaching = play(world.teaching(loss))
    assert world.values(teaching) == pytest.approx(wanted, abs=1e-6)
    assert teaching.samples == samples


@pytest.mark.parametrize("loss", ["importance", "aggregate", "aggregate_rewarded_only", "window"])
def test_silence_teaches_nothing_but_where_it_is_label_0(loss: Loss) -> None:
    teaching = play(world.teaching(loss), presses=False)
    wanted = 0.25 if loss == "aggregate" else 0.5
    assert world.values(teaching) == pytest.approx([0.0, 0.0, 0.0, 0.0, wanted], abs=1e-6)


def test_a_token_that_appears_after_the_press_is_not_taught_again_by_replay() -> None:
    teaching = world.teaching("importance", Replay(count=3))
    teaching.show(1, 0.0, joins=False)
    teaching.press("early", 1.0, 0.5)
    teaching.show(2, 0.6, joins=True)
    teaching.end(0.7)
    for place in range(3):
        teaching.show(3 + place, 3.0 + place, joins=False)
        teaching.press(f"late {place}", -1.0, 3.5 + place)
    assert world.values(teaching)[1] == 0.0
    assert world.values(teaching)[0] > 0.0
