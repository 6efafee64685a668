"""The rules, with values counted by hand."""

import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from textrl_rules.content import normalise
from textrl_rules.settings import ExactAnswerSettings
from textrl_rules.shape import repeat_rate

from textrl.errors import PluginError, UserError
from textrl.protocols import Batch
from textrl.registry import get_registry
from textrl.rewards import RewardSum, Source, build_reward


def batch(texts, records=None, prompts=None, ids=None):
    rows = ids or [list(range(1, len(text.split()) + 2)) for text in texts]
    width = max(map(len, rows))
    response = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    mask = torch.arange(width) < torch.tensor([[len(row)] for row in rows])
    return Batch(
        prompt_ids=torch.ones(len(rows), 1, dtype=torch.int64),
        prompt_mask=torch.ones(len(rows), 1, dtype=torch.bool),
        response_ids=response,
        response_mask=mask,
        prompt_text=prompts or [""] * len(rows),
        text=texts,
        records=records or [{}] * len(rows),
    )


def pay(name, settings, *args, **fields):
    reward = build_reward(get_registry().find("reward", name), settings)
    return [round(value, 6) for value in reward(batch(*args, **fields)).tolist()]


class TestLength:
    @pytest.mark.parametrize(
        ("settings", "expected"),
        [
            ({"target": 4}, [-0.75, -0.25, 0.0, -0.5]),  # lengths 1, 3, 4 and 6
            ({"target": 4, "scale": 1.0}, [-3.0, -1.0, 0.0, -2.0]),
            ({"min": 2, "max": 4}, [-0.25, 0.0, 0.0, -0.5]),
            ({"min": 2}, [-0.5, 0.0, 0.0, 0.0]),
            ({"max": 2}, [0.0, -0.5, -1.0, -2.0]),
            ({"max": 0, "scale": 2.0}, [-0.5, -1.5, -2.0, -3.0]),
            ({"target": 0}, [-1.0, -3.0, -4.0, -6.0]),
        ],
    )
    def test_words(self, settings, expected):
        texts = ["one", "one two  three", " one two three four ", "a b c d e f"]
        assert pay("length", {"unit": "words", **settings}, texts) == expected

    def test_tokens_count_the_eos_action_and_no_padding(self):
        ids = [[5, 6, 1], [5, 1], [7, 8, 9, 7]]
        assert pay("length", {"target": 3, "scale": 1.0}, ["", "", ""], ids=ids) == [0.0, -1.0, -1.0]

    def test_characters(self):
        assert pay("length", {"unit": "characters", "max": 4}, ["", "abcd", "äöüßx€"]) == [0.0, 0.0, -0.5]

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({}, "give target, or min, max or both"),
            ({"target": 3, "max": 4}, "target is given together with min or max"),
            ({"min": 5, "max": 4}, "min is 5, above max, which is 4"),
            ({"min": -1}, "min is -1"),
            ({"target": 3, "scale": 0.0}, "scale is 0.0"),
            ({"target": 3, "unit": "letters"}, "'characters'"),
        ],
    )
    def test_contradictory_settings_are_refused(self, settings, message):
        with pytest.raises(UserError, match=message):
            pay("length", settings, [""])


class TestRepetition:
    def test_by_hand(self):
        texts = ["a b c d", "a b a b a b", "so so so", "so", ""]
        # Trigrams: 2 of 2 new; aba, bab, aba, bab: 2 of 4 new; 1 of 1; none.
        assert pay("repetition", {}, texts) == [0.0, -0.5, 0.0, 0.0, 0.0]
        # Bigrams: ab, ba, ab, ba, ab: 2 of 5 new; so-so twice: 1 of 2.
        assert pay("repetition", {"n": 2}, texts) == [0.0, -0.6, -0.5, 0.0, 0.0]

    def test_tokens_and_characters(self):
        ids = [[3, 3, 3, 1], [3, 4, 1]]
        assert pay("repetition", {"n": 1, "unit": "tokens"}, ["", ""], ids=ids) == [-0.5, 0.0]
        assert pay("repetition", {"n": 1, "unit": "characters"}, ["abab", "ab"]) == [-0.5, 0.0]

    @given(st.lists(st.integers(0, 3), max_size=12), st.integers(1, 4))
    def test_the_rate_is_a_share_and_a_text_said_three_times_repeats(self, parts, n):
        assert 0 <= repeat_rate(parts, n) < 1
        length = len(parts)
        if length >= n:
            # A text of period `length` has at most that many different n-grams.
            assert repeat_rate(parts * 3, n) >= 1 - length / (3 * length - n + 1) - 1e-12

    def test_an_n_gram_has_an_element(self):
        with pytest.raises(UserError, match="n is 0"):
            pay("repetition", {"n": 0}, [""])


class TestKeyword:
    TEXTS = ("Good, good movie.", "goodness!", "not bad", "")

    @pytest.mark.parametrize(
        ("settings", "expected"),
        [
            ({"words": ["good"]}, [1, 0, 0, 0]),
            ({"words": ["good"], "mode": "count"}, [2, 0, 0, 0]),
            ({"words": ["good"], "mode": "count", "most": 1}, [1, 0, 0, 0]),
            ({"words": ["good"], "mode": "count", "case_sensitive": True}, [1, 0, 0, 0]),
            ({"words": ["good"], "mode": "count", "whole_words": False}, [2, 1, 0, 0]),
            ({"words": ["bad", "good movie"], "mode": "count"}, [1, 0, 1, 0]),
            ({"words": ["good", "good movie"], "mode": "count"}, [2, 0, 0, 0]),
            ({"pattern": r"\bgood\w*", "mode": "count"}, [2, 1, 0, 0]),
            ({"pattern": r"^$"}, [0, 0, 0, 1]),
        ],
    )
    def test_by_hand(self, settings, expected):
        assert pay("keyword", settings, list(self.TEXTS)) == expected

    def test_of_words_that_begin_alike_the_longest_counts(self):
        settings = {"words": ["new", "york", "new york"], "mode": "count"}
        assert pay("keyword", settings, ["New York", "york new"]) == [1, 2]

    def test_words_are_taken_literally_and_may_end_in_punctuation(self):
        assert pay("keyword", {"words": ["C++", "a.b"]}, ["I like C++.", "axb", "a.b"]) == [1, 0, 1]

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({}, "give exactly one of the two"),
            ({"words": ["a"], "pattern": "b"}, "give exactly one of the two"),
            ({"words": ["a", " "]}, "empty entry"),
            ({"pattern": "("}, "not a regular expression"),
            ({"words": ["a"], "most": 0}, "most is 0"),
        ],
    )
    def test_contradictory_settings_are_refused(self, settings, message):
        with pytest.raises(UserError, match=message):
            pay("keyword", settings, [""])


class TestExactAnswer:
    @pytest.mark.parametrize(
        ("response", "answer", "settings", "right"),
        [
            ("Paris", "Paris", {}, True),
            ("  paris \n", "Paris", {}, True),
            ("paris", "Paris", {"ignore_case": False}, False),
            ("New   York", "new york", {}, True),
            ("New   York", "New York", {"ignore_space": False}, False),
            ("Paris.", "Paris", {}, False),
            ("Paris.", "Paris", {"ignore_punctuation": True}, True),
            ("U.S.A.", "u s a", {"ignore_punctuation": True}, True),
            ("1,000.0", 1000, {}, True),
            ("1,000.0", "1000", {"numbers": False}, False),
            ("1,00", "100", {}, False),
            ("-3.50", -3.5, {}, True),
            ("42.", "42", {"ignore_punctuation": True}, True),
            ("0.1", "0.10000000000000001", {}, False),
            ("nan", "nan", {}, True),
            ("1_000", "1000", {}, False),
            ("the answer is 42", "42", {}, False),
            ("first 7, then the answer is 42", "42", {"extract": r"\d+"}, True),
            ("the answer is 42", "42", {"extract": r"answer is (\S+)"}, True),
            ("no idea", "42", {"extract": r"answer is (\S+)"}, False),
            ("x or y: y", "y", {"extract": r"(x)|y"}, False),
            ("London", ["Paris", "London"], {}, True),
            ("Rome", ["Paris", "London"], {}, False),
            ("", "", {}, True),
            ("True", True, {}, True),
        ],
    )
    def test_by_hand(self, response, answer, settings, right):
        assert pay("exact_answer", settings, [response], [{"answer": answer}]) == [float(right)]

    def test_the_payments_can_be_set(self):
        settings = {"correct": 2.0, "wrong": -0.5, "column": "gold"}
        assert pay("exact_answer", settings, ["a", "b"], [{"gold": "a"}] * 2) == [2.0, -0.5]

    @pytest.mark.parametrize(
        ("record", "message"),
        [
            ({"anwser": "a"}, "no column 'answer'. Did you mean 'anwser'"),
            ({}, "no column 'answer'"),
            ({"answer": None}, "the column 'answer' holds None"),
            ({"answer": []}, r"the column 'answer' holds \[\]"),
            ({"answer": {"text": "a"}}, "it must hold a text, a number or a list of them"),
        ],
    )
    def test_a_record_without_an_answer_is_refused(self, record, message):
        with pytest.raises(UserError, match=message):
            pay("exact_answer", {}, ["a"], [record])

    def test_a_wrong_expression_is_refused(self):
        with pytest.raises(UserError, match="not a regular expression"):
            pay("exact_answer", {"extract": "["}, ["a"], [{"answer": "a"}])

    @given(st.text(max_size=20), st.booleans(), st.booleans(), st.booleans())
    def test_normalising_again_changes_nothing(self, text, case, space, punctuation):
        settings = ExactAnswerSettings(
            ignore_case=case, ignore_space=space, ignore_punctuation=punctuation, numbers=False
        )
        once = normalise(text, settings)
        assert normalise(str(once), settings) == once


FUNCTIONS = """
import torch
import numpy as np

def words(prompt, response, record):
    return len(response.split()) - len(prompt.split()) + record["bonus"]

def as_tensor(prompt, response, record): return torch.tensor(2.5)
def as_numpy(prompt, response, record): return np.float32(2.5)
def as_bool(prompt, response, record): return response == "yes"
def nothing(prompt, response, record): ...
def text(prompt, response, record): return "1.0"
def several(prompt, response, record): return torch.zeros(2)
def fails(prompt, response, record): return 1 / 0
def nan(prompt, response, record): return float("nan")
async def later(prompt, response, record): return 1.0
NUMBER = 3

class Judge:
    @staticmethod
    def score(prompt, response, record): return 7
"""


class TestCallable:
    @pytest.fixture
    def file(self, tmp_path):
        path = tmp_path / "my functions.py"
        path.write_text(FUNCTIONS)
        return path

    def test_a_function_in_a_file(self, file):
        paid = pay(
            "callable",
            {"function": f"{file}:words"},
            ["one two", "one"],
            [{"bonus": 10}, {"bonus": 20}],
            ["a", "a b c"],
        )
        assert paid == [11.0, 18.0]

    @pytest.mark.parametrize(("name", "value"), [("as_tensor", 2.5), ("as_numpy", 2.5), ("Judge.score", 7.0)])
    def test_other_numbers_and_methods(self, file, name, value):
        assert pay("callable", {"function": f"{file}:{name}"}, ["x"]) == [value]

    def test_truth_is_one(self, file):
        assert pay("callable", {"function": f"{file}:as_bool"}, ["yes", "no"]) == [1.0, 0.0]

    def test_a_function_in_a_module(self, tmp_path, monkeypatch):
        (tmp_path / "callable_module_for_test.py").write_text("def score(p, r, rec): return len(r)\n")
        monkeypatch.syspath_prepend(tmp_path)
        assert pay("callable", {"function": "callable_module_for_test:score"}, ["abc"]) == [3.0]

    def test_two_files_of_one_name_do_not_mix(self, tmp_path):
        for number in (1, 2):
            (tmp_path / str(number)).mkdir()
            (tmp_path / str(number) / "score.py").write_text(f"def score(p, r, rec): return {number}\n")
        paid = [pay("callable", {"function": f"{tmp_path}/{n}/score.py:score"}, ["x"]) for n in (1, 2)]
        assert paid == [[1.0], [2.0]]

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("nothing", "returned a NoneType for row 0; return a number"),
            ("text", "returned a str for row 0"),
            ("several", "returned a Tensor for row 0 that is not one number"),
            ("fails", "raised ZeroDivisionError: division by zero for row 0"),
        ],
    )
    def test_what_is_not_a_number_stops_with_the_functions_name(self, file, name, message):
        with pytest.raises(PluginError, match=f"{name} {message}"):
            pay("callable", {"function": f"{file}:{name}"}, ["x"])

    def test_nan_stops_with_source_and_plugin(self, file):
        spec = get_registry().find("reward", "callable")
        reward = build_reward(spec, {"function": f"{file}:nan"})
        with pytest.raises(
            PluginError, match=r"'mine' \(callable\) of plugin 'textrl_rules' returned nan for row 0"
        ):
            RewardSum([Source("mine", spec, reward, 1.0)])(batch(["x"]))

    @pytest.mark.filterwarnings("ignore:coroutine")
    def test_a_coroutine_is_no_number(self, file):
        with pytest.raises(PluginError, match="returned a coroutine"):
            pay("callable", {"function": f"{file}:later"}, ["x"])

    @pytest.mark.parametrize(
        ("function", "message"),
        [
            ("nowhere", "function is 'nowhere'; write 'module:function'"),
            (":score", "write 'module:function'"),
            ("module:", "write 'module:function'"),
            ("no_such_module_here:score", "'no_such_module_here' cannot be imported"),
            ("/no/such/file.py:score", "file /no/such/file.py does not exist"),
            ("{file}:word", "has no function 'word'. Did you mean 'words'"),
            ("{file}:NUMBER", "is a int; name a function"),
        ],
    )
    def test_a_function_that_cannot_be_had_is_refused(self, file, function, message):
        with pytest.raises(UserError, match=message):
            pay("callable", {"function": function.replace("{file}", str(file))}, ["x"])

    def test_a_file_that_fails_is_refused_and_can_be_repaired(self, tmp_path):
        path = tmp_path / "score.py"
        path.write_text("import a_module_that_is_not_there\n")
        before = set(sys.modules)
        with pytest.raises(UserError, match=r"cannot be imported \(ModuleNotFoundError"):
            pay("callable", {"function": f"{path}:score"}, ["x"])
        assert [name for name in set(sys.modules) - before if name.startswith("_textrl_callable")] == []
        path.write_text("def score(prompt, response, record): return math.pi\nimport math  # now it loads\n")
        assert pay("callable", {"function": f"{path}:score"}, ["x"]) == [round(math.pi, 6)]


def test_settings_of_the_rules_need_no_torch():
    program = "import textrl_rules.settings, textrl_kl.settings, textrl_sentiment.settings, sys\n"
    program += "import textrl_reward_model.settings\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
