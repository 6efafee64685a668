"""What the conformance kit builds the feedback from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from textrl.tamer.log import EventLog


def conformance_settings(folder: Path) -> dict[str, Mapping[str, Any]]:
    """Return settings for ``replay``, which needs a log; writes a short one into `folder`."""
    log = EventLog(folder / "conformance_session.jsonl")
    for number in range(5):
        log.add("shown", 0.4 * number, observation=[0.1 * number, 0.0], action=number % 3)
        log.add("press", 0.4 * number + 0.3, value=1.0 if number % 2 else -1.0)
    log.add("end_episode", 2.0)
    log.flush()
    return {"replay": {"path": str(log.path)}}
