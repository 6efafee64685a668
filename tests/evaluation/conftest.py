from __future__ import annotations

from pathlib import Path

import pytest
from ratings_archive import made_tables, write_archive
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from textrl.data.ratings import extract_ratings

LETTERS = "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ.,'\"!?0123456789-_()\n"


@pytest.fixture(scope="session")
def made_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rating tables of the made archive."""
    root = tmp_path_factory.mktemp("ratings")
    archive = write_archive(root / "made.tar.gz", made_tables())
    extract_ratings(archive, root / "tables", sha256=None)
    return root / "tables"


@pytest.fixture(scope="session")
def letters() -> PreTrainedTokenizerFast:
    """A tokenizer with one token per letter and no BOS."""
    vocab = {letter: index for index, letter in enumerate(["<eos>", "<unk>", *LETTERS])}
    inner = Tokenizer(models.BPE(vocab, [], unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<eos>", unk_token="<unk>")
