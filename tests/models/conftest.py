from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models that are made, fetched or converted go to a folder of the test's."""
    monkeypatch.setenv("TEXTRL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def gpt2(tmp_path: Path, own_cache: None) -> Path:
    """A tiny GPT-2."""
    from textrl.models.loading import tiny_gpt2

    return tiny_gpt2(folder=tmp_path / "gpt2", width=16, layers=2, heads=2, context=32, vocab_size=300)
