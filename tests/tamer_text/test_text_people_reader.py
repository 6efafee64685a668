"""Simulated readers: what they like, when they press, how often they err."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binom
from text_people_world import EXACT, encode, read, reader, tiny, values
from textrl_human.settings import Preset
from textrl_human.text_lexicon import built_in
from textrl_human.text_settings import LATE_READING, READING, SimulatedTextSettings
from textrl_human.text_simulated import SimulatedReader
from textrl_human.trainers import PRESETS, ReactionSettings
from textrl_judges.tfidf import TfidfModel

from textrl.errors import UserError
from textrl.registry import get_registry
from textrl.settings import build, to_plain
from textrl.tamer.text.reading import TextShown, WholeWord

TASTE = {"good": 1.0, "wonderful": 2.0, "bad": -1.0}
MANY = 2000


def judged(count: int = MANY, value: float = 1.0, **settings: Any) -> list[float]:
    """Show so many words of a value; returns what was pressed."""
    person = reader(lambda prompt, record, before, word: value, **settings)
    for place in range(count):
        person.watch(TextShown("", (0,), "x", (WholeWord("x", ""),)), 0, 0.25 * place)
    return values(person)


def likely(hits: int, count: int, probability: float) -> bool:
    """Whether a count is within the 99.99 % interval of a binomial distribution."""
    low, high = binom.interval(0.9999, count, probability)
    return bool(low <= hits <= high)


class TestPresses:
    def test_a_word_is_rated_once_and_after_its_last_token(self) -> None:
        person = reader(preset="oracle", lexicon=TASTE, delay=EXACT)
        text = " A wonderful day, but a bad end."
        pieces = [tiny()[1].decode([token]) for token in encode(text)]
        assert pieces[-6:-2] == [" a", " b", "a", "d"]
        read(person, text, begin_s=10.0)
        assert [(s.value, s.time_s) for s in person.poll(math.inf)] == [
            (1.0, pytest.approx(10.5 + 0.25 * pieces.index(" wonderful"))),
            (-1.0, pytest.approx(10.5 + 0.25 * pieces.index("d"))),
        ]
        assert person.steps == 7

    def test_case_and_punctuation_do_not_matter(self) -> None:
        person = reader(preset="oracle", lexicon=TASTE | {"don't": -1.0})
        read(person, '"GOOD," he said. Good! (bad) Bad\'s goodness? Don’t.')
        assert person.presses == 5
        assert sorted(values(person)) == [-1.0, -1.0, -1.0, 1.0, 1.0]

    def test_words_without_a_value_are_passed_over_unless_the_reader_is_strict(self) -> None:
        for strictness, expected in ((0.0, []), (0.5, [-1.0, -1.0])):
            person = reader(preset="oracle", lexicon=TASTE, strictness=strictness)
            read(person, " some words")
            assert values(person) == expected

    @pytest.mark.parametrize(
        ("preset", "pressed", "right"),
        [
            ("reference", 0.6, 1.0),
            ("oracle", 1.0, 1.0),
            ("stoc", 1.0, 1 / (1 + math.exp(-1))),
            ("mistake10", 1.0, 0.9),
            ("skip10", 0.9, 1.0),
            ("equal", 1.0, 1.0),
            ("myopic", 1.0, 1.0),
            ("late", 0.6, 1.0),
            ("adversarial", 1.0, 0.0),
            ("loop_maze_human", 0.79, 1.0),
        ],
    )
    def test_rates_and_errors_of_every_preset(self, preset: Preset, pressed: float, right: float) -> None:
        given = judged(preset=preset, seed=3, truth="math:cos")
        assert likely(len(given), MANY, pressed)
        assert likely(sum(value > 0 for value in given), len(given), right)

    def test_the_presets_are_those_of_simulated(self) -> None:
        assert set(Preset.__args__) == set(PRESETS)  # type: ignore[attr-defined]
        rated = {"preset": "oracle", "truth": "m:f", "dead_zone": 0.1}
        assert not judged(9, 0.1, preset="equal", truth="m:f")
        assert not judged(9, 0.1, **rated)
        assert len(judged(9, 0.11, **rated)) == 9

    @pytest.mark.parametrize(("value", "scale"), [(2.0, 1.0), (-1.0, 2.0)])
    def test_who_is_half_rational_errs_less_about_clear_cases(self, value: float, scale: float) -> None:
        given = judged(value=value, preset="stoc", scale=scale)
        assert likely(sum(one * value < 0 for one in given), MANY, 1 / (1 + math.exp(2)))

    def test_the_reader_leaves_after_so_many_presses(self) -> None:
        assert len(judged(1000, preset="stoc", stop_after=300, multi_press=0.2)) == 300

    def test_knobs_are_those_of_simulated(self) -> None:
        assert not judged(50, preset="oracle", silence_means="good")
        assert likely(sum(one > 0 for one in judged(preset="oracle", lapse=1.0, dead_zone=9.0)), MANY, 0.5)
        assert likely(len(judged(preset="oracle", p_press=0.3)), MANY, 0.3)
        assert likely(sum(one < 0 for one in judged(preset="oracle", p_error=0.2)), MANY, 0.2)

    def test_a_restored_reader_goes_on_alike(self) -> None:
        settings: dict[str, Any] = {"preset": "loop_maze_human", "multi_press": 0.3, "lexicon": TASTE}
        old, new = reader(**settings), reader(**settings)
        end_s = read(old, " good bad good wonderful bad")
        old.poll(0.6)
        new.load_state_dict(json.loads(json.dumps(old.state_dict())))
        for person in (old, new):
            read(person, " bad bad good", end_s)
        assert old.poll(math.inf) == new.poll(math.inf)
        assert old.presses == new.presses > 4

    def test_what_is_no_text_is_refused(self) -> None:
        with pytest.raises(UserError, match="reads words, not observations of the kind tuple"):
            reader().watch((0.0, 0.1), 1, 0.0)


class TestDelays:
    def test_readers_take_longer_than_drivers_and_credit_can_be_told(self) -> None:
        delays = {name: SimulatedTextSettings(preset=name, truth="m:f").reactions().delay for name in PRESETS}
        assert delays.pop("late") == LATE_READING
        assert delays.pop("loop_maze_human") == PRESETS["loop_maze_human"].delay
        assert set(delays.values()) == {READING}
        assert (READING.matched().low, READING.matched().high) == (0.2, 2.0)

    def test_a_reader_s_own_delay_is_a_setting(self) -> None:
        own = ReactionSettings(kind="gamma", scale=0.4)
        assert SimulatedTextSettings(preset="late", delay=own).reactions().delay == own


class TestTruths:
    def test_the_built_in_lexicon(self) -> None:
        words = built_in()
        assert (words["wonderful"], words["nice"], words["dull"], words["awful"]) == (3, 2, -1, -3)
        assert set(words.values()) == {-3, -2, -1, 1, 2, 3}
        assert reader().score("A wonderful film, and not a dull one!") == 2.0

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("mine.json", '{"Good": 1, "bad": -1.5, ":)": 2, "well done": 1}'),
            ("mine.tsv", "# my taste\nGood\t1\t0.9\t[1, 2]\n\nbad\t-1.5\n:)\t2\nwell done\t1\n"),
        ],
    )
    def test_a_lexicon_in_a_file(self, tmp_path: Path, name: str, content: str) -> None:
        (tmp_path / name).write_text(content)
        person = reader(lexicon=str(tmp_path / name), scale=2.0)
        assert person.score("Good, good; bad. Well done :)") == 1.0

    def test_a_rule_sees_prompt_record_and_what_came_before(self, tmp_path: Path) -> None:
        file = tmp_path / "rules.py"
        file.write_text(
            "def no_repeats(prompt, record, before, word):\n"
            "    seen = (prompt + before).lower().split()\n"
            "    return record['weight'] * (-1.0 if word.lower() in seen else 0.5)\n"
        )
        person = reader(truth=f"{file}:no_repeats")
        assert person.score(" a b a c The", "the start", {"weight": 2}) == 2 * (3 * 0.5 - 2)
        oracle = reader(preset="oracle", truth=f"{file}:no_repeats", delay=EXACT)
        read(oracle, " so it is it", record={"weight": 1})
        assert values(oracle) == [1.0, 1.0, 1.0, -1.0]

    def test_a_classifier_s_word_is_worth_the_change_of_the_score(self) -> None:
        person = reader(truth="classifier", classifier={"use": "sentiment"})
        rate = get_registry().find("reward", "sentiment").load()
        analyse = rate(get_registry().find("reward", "sentiment").load_settings()()).analyser.polarity_scores
        text = " A good film, not a good end"
        assert person.score(text) == pytest.approx(analyse(text)["compound"], abs=1e-6)
        changed = [analyse(a)["compound"] - analyse(b)["compound"] for a, b in [
            (" A good", " A "), (" A good film, not a good", " A good film, not a ")
        ]]  # fmt: skip
        assert changed[0] > 0 > changed[1]  # the second "good" is negated
        oracle = reader(preset="oracle", truth="classifier", classifier={"use": "sentiment"}, dead_zone=0.1)
        read(oracle, text)
        assert values(oracle) == [1.0, -1.0]

    def test_a_fitted_judge_as_classifier(self, tmp_path: Path) -> None:
        texts = ["sunny warm joy", "rain cold gloom", "warm joy", "cold gloom rain"] * 3
        model = TfidfModel.fit(texts, ["up", "down"] * 6)
        model.save(tmp_path / "judge")
        section = {"use": "classifier", "model": str(tmp_path / "judge"), "label": "up", "value": "log_odds"}
        person = reader(preset="oracle", truth="classifier", classifier=section, dead_zone=0.2)
        logits = model.logits(["", " warm gloom"])
        expected = (logits[1, 1] - logits[1, 0]) - (logits[0, 1] - logits[0, 0])
        assert person.score(" warm gloom") == pytest.approx(expected, abs=1e-5)
        read(person, " warm gloom")
        assert sorted(values(person)) == [-1.0, 1.0]

    def test_the_short_of_memory(self) -> None:
        told: list[str] = []

        def rule(prompt: str, record: Any, before: str, word: str) -> float:
            told.append(before)
            return 1.0

        person = SimulatedReader(SimulatedTextSettings(truth="m:f", myopia=0.5), rule)
        person.score("one two, three (four")
        assert told == ["", "one ", "one two, ", "three ("]
        assert SimulatedTextSettings(preset="myopic", truth="m:f").memory == 10
        assert SimulatedTextSettings().memory is None


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"preset": "orakel"}, "'oracle'"),
        ({"p_error": 1.5}, "p_error is 1.5; it must be between 0 and 1"),
        ({"scale": 0.0}, "scale is 0.0; it must be above 0"),
        ({"truth": "classifier"}, "classifier is missing, but truth is 'classifier'"),
        ({"truth": "m:f", "lexicon": {"a": 1.0}}, "lexicon is given, but truth is 'm:f'"),
        ({"classifier": {"use": "sentiment"}}, "classifier is given, but truth is 'lexicon'"),
        ({"myopia": 0.1}, "myopia is 0.1 .preset 'reference'., but truth is 'lexicon'"),
        ({"preset": "myopic"}, "which looks at one word alone and has nothing to forget"),
        ({"myopia": 1.0, "truth": "m:f"}, "myopia is 1.0"),
        ({"lexicon": {"a": "much"}}, "lexicon.a"),
        ({"delay": {"low": 3.0}}, "low is 3.0 and high 0.8"),
    ],
)
def test_settings_that_cannot_work_are_refused(section: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(SimulatedTextSettings, section, where=lambda key: f"run.yaml, line 3 ({key})")


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"lexicon": {}}, "lexicon is empty"),
        ({"lexicon": {"well done": 1.0}}, "holds 'well done', which is no single word"),
        ({"lexicon": {"A": 1.0, "a": -1.0}}, "'a' is there twice, with the values 1 and -1"),
        ({"lexicon": {"a": math.inf}}, "'a': the value is inf; give a finite number"),
        ({"lexicon": "nowhere.tsv"}, "nowhere.tsv cannot be read .No such file"),
        ({"truth": "lexikon"}, "write lexicon, classifier, .*Did you mean 'lexicon'"),
        ({"truth": "no_such_module:f"}, "cannot be imported"),
        (
            {"truth": "textrl_human.text_lexicon:plain"},
            r"cannot be called with \(prompt, record, text before, ",
        ),
        ({"truth": "classifier", "classifier": {"model": "x"}}, "has use: None; name a registered reward"),
        ({"truth": "classifier", "classifier": {"use": "sentimnt"}}, "Did you mean 'sentiment'"),
        (
            {"truth": "classifier", "classifier": {"use": "kl"}},
            "is 'kl', which does not rate a text as a whole",
        ),
        ({"truth": "classifier", "classifier": {"use": "sentiment", "mesure": "pos"}}, "'mesure'"),
    ],
)
def test_truths_that_do_not_exist_are_refused(section: dict[str, Any], message: str) -> None:
    settings = build(SimulatedTextSettings, section, where=lambda key: key)
    assert build(SimulatedTextSettings, to_plain(settings), where=lambda key: key) == settings
    with pytest.raises(UserError, match=message):
        SimulatedReader(settings)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("l.json", "{", "is not JSON"),
        ("l.json", "[1]", "is no JSON object"),
        ("l.json", '{"a": "b"}', "l.json, 'a': the value is 'b'"),
        ("l.json", '{"a b": 1}', "holds no words"),
        ("l.tsv", "a\t1\nb 2\n", "line 2: there is no tab in 'b 2'"),
        ("l.tsv", "a\tone\n", "line 1: the value 'one' is no number"),
        ("l.tsv", "a\tnan\n", "line 1: the value is nan"),
        ("l.tsv", "a\t1\nA\t2\n", "line 2: 'a' is there twice"),
    ],
)
def test_a_wrong_lexicon_file_is_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        reader(lexicon=str(tmp_path / name))


@pytest.mark.parametrize(("value", "said"), [(math.nan, "nan"), (None, "None"), ("x", "'x'")])
def test_a_truth_must_give_numbers(value: Any, said: str) -> None:
    with pytest.raises(UserError, match=f"truth gave {said} for the word 'x'; return finite numbers"):
        judged(1, value, preset="oracle")
