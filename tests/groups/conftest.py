from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))
sys.path.append(str(Path(__file__).parents[1] / "ppo"))  # the tiny world


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Tiny models gain nothing from a second thread and lose much to its waiting."""
    torch.set_num_threads(1)
