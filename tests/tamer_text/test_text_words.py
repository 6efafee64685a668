"""Which tokens make up a word: letters of several tokens, and tokens that show nothing."""

from __future__ import annotations

import functools
from itertools import accumulate
from typing import Any

import numpy as np
import pytest
import tamer_text_world as world
from hypothesis import given, settings
from hypothesis import strategies as st
from text_people_world import Scripted, encode, hidden_states, source, tiny
from textrl_tamer.text_source import TamerText

from textrl.protocols import Signal
from textrl.tamer.settings import DelaySettings
from textrl.tamer.text.human import TextHuman, TextHumanSettings
from textrl.tamer.text.reading import pieces_of
from textrl.tamer.text.words import HALF, Pieces, Words, is_silent

EOS = "<|eos|>"
#: Half the letters of these texts have several tokens each.
LETTERS = "aé жи🙂良ñ' -b,"


def shown(ids: list[int], *, last: bool = True, **more: Any) -> TamerText:
    """A source that was shown tokens, one every quarter of a second."""
    made = source(replay=0, **more)
    rows = np.random.default_rng(0).standard_normal((len(ids), made.head.width)).astype(np.float32)
    for place, token in enumerate(ids):
        made.show(rows[place], token, 0.25 * place, last=last and place == len(ids) - 1)
    return made


def words(made: TamerText) -> list[list[int]]:
    """The tokens of each word that presses may reach, by their places among those that are taught."""
    state = made.teaching.state_dict()
    return [one["step"] for one in state["credit"]["pending"]]


@functools.cache
def byte_fallback() -> Any:
    """A tokenizer like Llama's: pieces of a vocabulary, and bytes where it has none."""
    from tokenizers import Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    letters = [*"▁acefiklmos,", "▁film", "▁ca", "f"]
    vocabulary = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    vocabulary += [letter for letter in dict.fromkeys(letters) if letter not in vocabulary]
    model = models.Unigram(
        [(piece, -float(place > 2) - (len(piece) < 2)) for place, piece in enumerate(vocabulary)], unk_id=0,
        byte_fallback=True,
    )  # fmt: skip
    made = Tokenizer(model)
    made.normalizer = normalizers.Replace(" ", "▁")
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


def grouped(tokenizer: Any, ids: list[int], *, last: bool = True) -> list[int]:
    """How many tokens each word has, as `Words` says."""
    found, waiting, seen = list[int](), 0, Words(tokenizer)
    for place, token in enumerate(ids):
        new = seen.add(token, last=last and place == len(ids) - 1)
        waiting += new.own
        if new.piece and waiting:
            found = [*found[:-1], found[-1] + waiting] if new.joins and found else [*found, waiting]
            waiting = 0
    return found


class TestLettersOfSeveralTokens:
    def test_they_belong_to_the_word_that_they_complete(self) -> None:
        assert words(shown(encode(" café"))) == [[1, 2, 3, 4, 5]]
        # A space that is a token by itself stands alone; five letters of two bytes each follow.
        assert words(shown(encode(" жизнь"))) == [[1], list(range(2, 12))]
        assert [len(one) for one in words(shown(encode("é é")))] == [2, 1, 2]

    def test_half_a_letter_appears_with_the_other_half(self) -> None:
        """An e is on screen from 0 s; the parts of é come at .25 and .5 s, of the dash at .75, 1 and 1.25."""
        ids = encode("eé—")
        assert len(ids) == 1 + 2 + 3
        made = shown(ids[:2], last=False)
        assert words(made) == [[1]]
        made.observe([Signal(value=1.0, time_s=0.3)])
        assert made.head.b[ids[1]] == 0.0, "what nobody has seen is not taught"
        pending = shown(ids).teaching.state_dict()["credit"]["pending"]
        times = [(one["step"], one["shown_s"], one["hidden_s"]) for one in pending]
        assert times == [([1, 2, 3], 0.0, 1.25), ([4, 5, 6], 1.25, None)]

    def test_a_text_that_breaks_off_inside_a_letter(self) -> None:
        ids = encode(" café")
        # With the whole of it on screen, half a letter belongs to the word that it follows,
        assert words(shown(ids[:-1])) == [[1, 2, 3, 4]]
        assert words(shown([*ids[:-1], tiny()[1].eos_token_id])) == [[1, 2, 3, 4]]
        # after a space it is a word,
        assert words(shown(encode(" é")[:-1])) == [[1], [2]]
        # and where nobody says that the text is over, it never appears.
        made = shown(ids[:-1], last=False)
        assert words(made) == [[1, 2, 3]]
        made.end(9.0)
        assert made.teaching.waiting == []
        made.show(np.ones(made.head.width), ids[0], 20.0)
        assert words(made)[-1] == [4]

    @pytest.mark.parametrize("cut", range(1, 8))
    def test_a_state_that_is_saved_inside_a_letter_goes_on(self, cut: int) -> None:
        ids = encode("eé—é")
        whole, part = shown(ids, last=False), shown(ids[:cut], last=False)
        again = source(replay=0)
        again.load_state_dict(world.through_files(part.state_dict()))
        rows = np.random.default_rng(0).standard_normal((len(ids), whole.head.width)).astype(np.float32)
        for place in range(cut, len(ids)):
            again.show(rows[place], ids[place], 0.25 * place)
        for made in (whole, again):
            made.observe([Signal(value=1.0, time_s=2.2)])
        assert np.array_equal(again.head.w, whole.head.w)
        assert np.array_equal(again.head.b, whole.head.b)
        assert whole.head.learnt == len(ids)

    def test_an_older_state_knows_of_no_token_that_waits(self) -> None:
        state = shown(encode("eé")[:2], last=False).state_dict()
        del state["teaching"]["waiting"]
        made = source(replay=0)
        made.load_state_dict(state)
        made.show(np.ones(made.head.width), encode("eé")[2], 0.5)
        assert words(made) == [[1, 2]], "the half that was dropped is not counted"

    @settings(max_examples=60, deadline=None)
    @given(st.text(LETTERS, max_size=24))
    def test_the_words_are_those_of_whole_letters(self, text: str) -> None:
        """Splitting at bytes changes how many tokens a word has, and never how many words there are."""
        ids = encode(text) if text else []
        whole = grouped(tiny()[1], ids)
        assert sum(whole) == len(ids)
        ends = "".join(" " if letter in " 🙂," else "a" for letter in text)
        pieces = [piece for piece in pieces_of(tiny()[1], ids) if piece]
        begins = [0, *accumulate(len(piece) for piece in pieces)][:-1]
        assert len(whole) == sum(not begin or " " in ends[begin - 1 : begin + 1] for begin in begins)


class TestBytesThatAVocabularyFallsBackTo:
    def test_letters_of_bytes_belong_to_their_word(self) -> None:
        tokenizer = byte_fallback()
        ids = tokenizer("film café жизнь, film", add_special_tokens=False)["input_ids"]
        names = tokenizer.convert_ids_to_tokens(ids)
        assert names[:4] == [*"film"]
        assert names.count("<0xC3>") == 1
        found = grouped(tokenizer, ids)
        assert "".join(pieces_of(tokenizer, ids)) == "film café жизнь, film"
        # film | ▁ca f 2 bytes | ▁ | 5 letters of 2 bytes | , | ▁film
        assert found == [4, 4, 1, 10, 1, 1]

    def test_a_long_row_of_bytes_stays_legible(self) -> None:
        """Forty bytes on end: a window that began inside a letter would read them all as no characters."""
        tokenizer, text = byte_fallback(), "фильм" * 4
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert len(ids) == 40
        pieces = Pieces(tokenizer)
        assert "".join(pieces.add(token) for token in ids) == text
        assert HALF not in pieces.text
        assert grouped(tokenizer, ids) == [40]

    def test_half_a_letter_at_the_end(self) -> None:
        tokenizer = byte_fallback()
        ids = tokenizer("caé", add_special_tokens=False)["input_ids"]
        assert grouped(tokenizer, ids[:-1]) == [3]
        assert grouped(tokenizer, ids[:-1], last=False) == [2]
        assert grouped(tokenizer, [*ids[:-1], tokenizer.eos_token_id]) == [3]


class TestTokensThatShowNothing:
    """A word of three tokens at 1, 1.25 and 1.5 s; the delay is U(.2, 2), so F(t) = (t - .2) / 1.8."""

    def heard(self, ids: list[int], at_s: float, **more: Any) -> TamerText:
        made = source(replay=0, delay=DelaySettings(low=0.2, high=2.0), **more)
        human = TextHuman(Scripted(Signal(value=1.0, time_s=at_s)), made, TextHumanSettings())
        human.show("The film", {}, ids, hidden_states("The film", ids))
        return made

    def credited(self, made: TamerText) -> list[list[float]]:
        return [list(one.shares) for one in made.teaching._lessons.kept]

    @pytest.mark.parametrize("loss", ["importance", "window"])
    def test_the_end_of_a_text_leaves_the_last_word_its_credit(self, loss: str) -> None:
        """At 2.4 s, .9 s after the last letter: F(1.4) - 0 = 1.2 / 1.8 = 2/3, with an end or without."""
        word, end = encode(" good"), tiny()[1].eos_token_id
        assert (len(word), is_silent(tiny()[1], end)) == (3, True)
        alone, ended = (self.heard(ids, 2.4, loss=loss) for ids in (word, [*word, end]))
        parts = 1 if loss == "importance" else 3
        step = 0.3 * (2 / 3) / parts
        assert alone.head.b[word[0]] == pytest.approx(step)
        assert np.array_equal(alone.head.b, ended.head.b)
        assert np.array_equal(alone.head.w, ended.head.w)
        assert ended.head.b[end] == 0.0

    def test_the_last_word_stays_until_the_text_leaves_the_screen(self) -> None:
        """With the end at 1.75 s and a second's pause it leaves at 2.75 s; a press at 3.5 s: 1 - F(.75)."""
        word = encode(" good")
        made = source(replay=0, delay=DelaySettings(low=0.2, high=2.0))
        human = TextHuman(Scripted(), made, TextHumanSettings())
        ids = [*word, tiny()[1].eos_token_id]
        human.show("The film", {}, ids, hidden_states("The film", ids))
        assert human.clock.now_s == 2.75
        made.observe([Signal(value=1.0, time_s=3.5)])
        assert made.head.b[word[0]] == pytest.approx(0.3 * (1 - 0.55 / 1.8))

    def test_a_response_of_its_end_alone_teaches_nothing(self) -> None:
        made = self.heard([tiny()[1].eos_token_id], 1.9)
        assert (made.presses, made.head.learnt, made.teaching.samples) == (1, 0, 0)
        assert words(made) == []

    def test_nor_where_each_token_has_its_own_time(self) -> None:
        word, end = encode(" good"), tiny()[1].eos_token_id
        alone, ended = (self.heard(ids, 2.4, share_words=False) for ids in (word, [*word, end]))
        assert np.array_equal(alone.head.b, ended.head.b)
        # " go" at 1 s: F(1.4) - F(1.15); it is taught first, so that no other token has moved its H.
        assert alone.head.b[word[0]] == pytest.approx(0.3 * 0.25 / 1.8)

    def test_one_in_the_middle_leaves_a_word_and_a_letter_whole(self) -> None:
        end = tiny()[1].eos_token_id
        ids = encode(" café")
        for place in range(1, len(ids)):
            made = shown([*ids[:place], end, *ids[place:]])
            assert words(made) == [[1, 2, 3, 4, 5]]
            assert [one.token for one in made.teaching.tokens] == ids
