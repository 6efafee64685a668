"""The byte-level BPE that the project trains, and the tokenizer of plain bytes."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from textrl.data.tokenizers import EOS, PAD, SMALLEST_VOCAB, byte_tokenizer, load_tokenizer, train_byte_bpe
from textrl.errors import UserError

TEXTS = ["the cat sat on the mat", "the dog sat on the log", "naïve café – 東京"] * 20


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[PreTrainedTokenizerBase, Path]:
    folder = tmp_path_factory.mktemp("bpe") / "deep" / "tokenizer"
    return train_byte_bpe(TEXTS, 300, folder), folder


def test_it_learns_merges_within_the_bound(trained: tuple[PreTrainedTokenizerBase, Path]) -> None:
    tokenizer, _ = trained
    assert SMALLEST_VOCAB < len(tokenizer) <= 300
    assert len(tokenizer("the cat sat")["input_ids"]) < len("the cat sat")
    assert len(byte_tokenizer()("the cat sat")["input_ids"]) == len("the cat sat")


def test_eos_and_pad_are_different_tokens(trained: tuple[PreTrainedTokenizerBase, Path]) -> None:
    for tokenizer in (trained[0], byte_tokenizer()):
        assert (tokenizer.eos_token, tokenizer.pad_token) == (EOS, PAD)
        assert tokenizer.eos_token_id != tokenizer.pad_token_id
        assert tokenizer.padding_side == "left"


def test_transformers_alone_loads_the_folder(trained: tuple[PreTrainedTokenizerBase, Path]) -> None:
    tokenizer, folder = trained
    for loaded in (AutoTokenizer.from_pretrained(folder), load_tokenizer(str(folder))):
        assert loaded.get_vocab() == tokenizer.get_vocab()
        text = f"naïve {EOS} 東京"
        assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"]
        assert loaded.eos_token_id == tokenizer.eos_token_id
    assert not [p for p in folder.parent.iterdir() if p != folder]  # nothing temporary stays


def test_training_twice_gives_the_same_tokens(
    trained: tuple[PreTrainedTokenizerBase, Path], tmp_path: Path
) -> None:
    assert train_byte_bpe(TEXTS, 300, tmp_path / "again").get_vocab() == trained[0].get_vocab()


UNICODE = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
TRICKY = st.lists(
    st.sampled_from([EOS, PAD, " ", "\n", "\x00", "é", "😀", "▁", "Ġ", " .", " n't", "<|"])
).map("".join)


@settings(max_examples=300, deadline=None)
@given(text=UNICODE | TRICKY)
def test_any_text_survives_the_round_trip(trained: tuple[PreTrainedTokenizerBase, Path], text: str) -> None:
    for tokenizer in (trained[0], byte_tokenizer()):
        ids = tokenizer(text)["input_ids"]
        # Text never turns into a special token, or a prompt could end its own episode.
        assert not {tokenizer.eos_token_id, tokenizer.pad_token_id} & set(ids)
        assert tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False) == text
        assert len(ids) <= len(text.encode("utf-8"))


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"vocab_size is 100; .* at least 258"):
        train_byte_bpe(TEXTS, 100, tmp_path / "small")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep me")
    with pytest.raises(UserError, match="full already exists and is not an empty folder"):
        train_byte_bpe(TEXTS, 300, tmp_path / "full")
    assert (tmp_path / "full" / "mine.txt").read_text() == "keep me"
    (tmp_path / "empty").mkdir()
    train_byte_bpe(TEXTS, 300, tmp_path / "empty")
    assert (tmp_path / "empty" / "tokenizer.json").is_file()


def test_training_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def texts() -> object:
        yield "the cat"
        raise RuntimeError("the disk is gone")

    with pytest.raises(Exception, match="the disk is gone"):
        train_byte_bpe(texts(), 300, tmp_path / "tokenizer")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_leaves_nothing(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))  # a tokenizer.json is larger
    try:
        with pytest.raises(UserError, match=r"tokenizer: the tokenizer could not be written \(.*too large"):
            train_byte_bpe(TEXTS, 300, tmp_path / "tokenizer")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="the tokenizer could not be written"):
        train_byte_bpe(TEXTS, 300, tmp_path / "file" / "tokenizer")


def test_a_tokenizer_that_is_nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "no-tokenizer").mkdir()
    with pytest.raises(UserError, match=r"^The tokenizer 'no-tokenizer' is neither a folder") as caught:
        load_tokenizer("no-tokenizer")
    assert "\n" not in str(caught.value)
