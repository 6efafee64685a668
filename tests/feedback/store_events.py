"""Sessions and events for tests of the store."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from textrl.feedback.events import NewEvent
from textrl.feedback.store import SessionInfo


def made_session(name: str = "s", mode: str = "control", **config: Any) -> SessionInfo:
    return SessionInfo(session=name, mode=mode, created=1.5, config=config, versions={"textrl": "0"})


def made_event(session: str = "s", **fields: Any) -> NewEvent:
    given: dict[str, Any] = {
        "uuid": str(uuid4()),
        "session": session,
        "annotator": "ada",
        "kind": "press",
        "t_client": 12.25,
        "t_server": 1_700_000_000.0,
        "frame_id": 3,
        "payload": {"value": 1},
    }
    return NewEvent(**{**given, **fields})
