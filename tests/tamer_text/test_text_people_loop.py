"""The reader's loop: what is on screen when, which word a press is credited to, schedule, logs, resume."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from text_people_world import (
    EXACT,
    TASTE,
    TEXTS,
    Notes,
    Scripted,
    batch,
    encode,
    hidden_states,
    reader,
    source,
    tiny,
)
from textrl_human.settings import SimulatedSettings
from textrl_human.simulated import SimulatedTrainer

from textrl.errors import UserError
from textrl.protocols import Feedback, Signal
from textrl.settings import build
from textrl.tamer.settings import DelaySettings
from textrl.tamer.text.human import TextHuman, TextHumanSettings

ZERO = np.zeros((99, 1))


class TestScreen:
    def test_prompt_tokens_and_pause_take_their_time(self) -> None:
        notes, person = Notes(tiny()[1]), Scripted(Signal(value=1.0, time_s=2.6))
        human = TextHuman(person, notes, TextHumanSettings(step_s=0.5, read_s=2.0, pause_s=3.0))
        ids = encode(" bad day")
        assert len(ids) == 6
        assert human.show("So", {"a": 1}, ids, ZERO[:6]) == 1
        assert notes.of("show") == [("show", token, 2.0 + 0.5 * place) for place, token in enumerate(ids)]
        assert notes.of("end") == [("end", 7.5)]
        assert human.clock.now_s == 7.5
        # A press reaches the source before it is told a later time.
        told = [event[-1] for event in notes.of("press", "tick")]
        assert told == sorted(told)
        assert 2.6 in told
        observation, token, shown_s = person.watched[2]
        assert (observation.prompt, observation.record, observation.ids) == ("So", {"a": 1}, tuple(ids[:3]))
        assert (observation.text, observation.words[0].text, token, shown_s) == (" bad", "bad", ids[2], 3.0)
        assert isinstance(person, Feedback)

    def test_the_first_responses_of_a_batch_are_shown_without_padding(self) -> None:
        notes = Notes(tiny()[1])
        human = TextHuman(Scripted(), notes, TextHumanSettings(shown_per_iteration=2))
        prompts, ids, mask, hidden = batch()
        assert human.show_batch(prompts, ids, mask, hidden.to(torch.bfloat16)) == 0
        assert [token for _, token, _ in notes.of("show")] == encode(TEXTS[0]) + encode(TEXTS[1])
        assert len(notes.of("end")) == human.texts == 2
        # 1 s to read, a quarter of a second for each token but the last, which stays for 1 s.
        tokens = len(encode(TEXTS[0])) + len(encode(TEXTS[1]))
        assert human.clock.now_s == pytest.approx(4.0 + 0.25 * (tokens - 2))

    def test_a_response_of_nothing_is_not_shown(self) -> None:
        human = TextHuman(Scripted(), Notes(tiny()[1]))
        assert human.show("So", {}, [], ZERO[:0]) == 0
        assert human.clock.now_s == human.texts == 0

    def test_hidden_states_must_be_as_many_as_tokens(self) -> None:
        with pytest.raises(ValueError, match="shorter"):
            TextHuman(Scripted(), Notes(tiny()[1])).show("", {}, encode(" bad"), ZERO[:2])


class TestCredit:
    """Every word has its key half a second after its last token; the source assumes .45 to .55 s."""

    def taught(self, text: str, assumed: DelaySettings, **settings: Any) -> dict[int, list[float]]:
        """Return token number -> labels weighted by credit, of an oracle's presses."""
        learnt: dict[int, list[float]] = {}
        made = source(delay=assumed, replay=0)
        ids, states = encode(text), hidden_states("The film", encode(text))

        def learn(state: Any, token: int, label: float, weight: float = 1.0) -> None:
            place = next(i for i, one in enumerate(made.teaching.tokens) if one.state is state)
            learnt.setdefault(place, []).append(label * weight)

        made.head.learn = learn  # type: ignore[method-assign]
        human = TextHuman(reader(preset="oracle", lexicon=TASTE, delay=EXACT, **settings), made)
        human.show("The film", {}, ids, states)
        return learnt

    def test_the_word_that_was_judged_gets_all_the_credit(self) -> None:
        # " b", "a", "d" appear at 1, 1.25 and 1.5 s; the press at 2 s speaks of 1.45 to 1.55 s.
        learnt = self.taught(" bad end.", DelaySettings(low=0.45, high=0.55))
        assert learnt == {place: [pytest.approx(-1.0)] for place in range(3)}

    def test_a_press_between_two_words_is_shared(self) -> None:
        # " good" in three tokens until 1.75 s, then " end": the press at 2 s speaks of 1.6 to 1.8 s.
        learnt = self.taught(" good end.", DelaySettings(low=0.2, high=0.4))
        shares = {0: 0.75, 1: 0.75, 2: 0.75, 3: 0.25}
        assert learnt == {place: [pytest.approx(share)] for place, share in shares.items()}

    def test_with_a_wrong_delay_the_credit_goes_to_a_neighbour(self) -> None:
        learnt = self.taught(" good end.", DelaySettings(low=0.1, high=0.15))
        assert learnt == {3: [pytest.approx(1.0)]}

    def test_the_last_word_can_be_rated_in_the_pause(self) -> None:
        learnt = self.taught(" a bad", DelaySettings(low=0.45, high=0.55))
        assert learnt == {place: [pytest.approx(-1.0)] for place in (1, 2, 3)}

    def test_an_adversary_turns_every_label(self) -> None:
        assert self.taught(" bad end.", DelaySettings(low=0.45, high=0.55), p_error=1.0)[0] == [
            pytest.approx(1.0)
        ]


class TestSchedule:
    def test_nobody_looks_outside_the_schedule(self) -> None:
        notes = Notes(tiny()[1])
        human = TextHuman(
            Scripted(), notes, TextHumanSettings(schedule=((1, 2), (3, 4)), shown_per_iteration=1)
        )
        there = []
        for _ in range(5):
            there.append((human.training, human.texts))
            human.show_batch(*batch(TEXTS[:1]))
        assert there == [(False, 0), (True, 0), (False, 1), (True, 1), (False, 2)]
        assert [value for _, value, _ in notes.of("training")] == [0.0, 1.0, 0.0]
        assert human.iterations == 5

    def test_an_empty_schedule_never(self) -> None:
        human = TextHuman(Scripted(), Notes(tiny()[1]), TextHumanSettings(schedule=()))
        assert human.show_batch(*batch()) == 0
        assert human.clock.now_s == 0

    def test_the_reader_s_own_switch(self) -> None:
        off = Signal(kind="training", value=0.0, time_s=1.1)
        person = Scripted(off, Signal(value=1.0, time_s=1.2), Signal(kind="training", value=1.0, time_s=4.0))
        notes = Notes(tiny()[1])
        human = TextHuman(person, notes)
        assert human.show_batch(*batch(TEXTS[:2])) == 0
        assert [event for event in notes.told if event[0] in ("training", "press")] == [
            ("training", 0.0, 1.1),
            ("training", 1.0, 4.0),
        ]
        assert all(not 1.1 < shown_s < 4.0 for _, _, shown_s in person.watched)

    def test_after_so_many_presses_the_reader_leaves(self) -> None:
        notes = Notes(tiny()[1])
        taste = {"preset": "oracle", "lexicon": TASTE, "delay": EXACT}
        human = TextHuman(reader(**taste), notes, TextHumanSettings(max_presses=3))
        assert human.show_batch(*batch()) == 3
        assert (human.presses, human.finished, human.training) == (3, True, False)
        assert len(notes.of("press")) == 3
        assert human.texts == 2  # two words are rated in the first response, one in the second
        assert human.show_batch(*batch()) == 0
        assert human.metrics()["human/training"] == 0.0

    def test_a_reader_who_stops_is_heard_exactly_so_often(self) -> None:
        human = TextHuman(reader(preset="oracle", lexicon=TASTE, stop_after=5), source())
        for _ in range(3):
            human.show_batch(*batch())
        assert human.presses == human.source.presses == 5  # type: ignore[attr-defined]

    def test_metrics(self) -> None:
        human = TextHuman(reader(preset="oracle", lexicon=TASTE, delay=EXACT), Notes(tiny()[1]))
        heard = human.show_batch(*batch())
        minutes = human.clock.now_s / 60
        assert heard == 6
        assert human.metrics() == {
            "human/presses": 6.0,
            "human/presses_per_min": pytest.approx(6 / minutes),
            "human/texts": 4.0,
            "human/seconds": 60 * minutes,
            "human/training": 1.0,
        }


def test_a_trainer_of_cars_reads_nothing() -> None:
    human = TextHuman(SimulatedTrainer(SimulatedSettings()), source())
    with pytest.raises(UserError, match="The truth 'rule' is for Mountain Car"):
        human.show_batch(*batch())


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"step_s": 0.0}, "step_s is 0.0"),
        ({"read_s": -1.0}, "read_s is -1.0"),
        ({"pause_s": -1.0}, "pause_s is -1.0"),
        ({"shown_per_iteration": 0}, "shown_per_iteration is 0"),
        ({"max_presses": -1}, "max_presses is -1"),
        ({"schedule": [[3, 3]]}, r"schedule holds \[3, 3\]"),
    ],
)
def test_settings_that_cannot_work_are_refused(section: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(TextHumanSettings, section, where=lambda key: f"here, {key}")
