from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
# Where an editable installation is older than these plugins, it does not map them.
sys.path.append(str(HERE.parent.parent / "plugins"))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Tiny models gain nothing from a second thread and lose much to its waiting."""
    torch.set_num_threads(1)
