"""Where events are kept: one protocol, SQLite for one server, PostgreSQL for several."""

from __future__ import annotations

from textrl.feedback.store.base import (
    FeedbackStore,
    SessionInfo,
    StoreError,
    StoreFull,
    open_store,
)
from textrl.feedback.store.writer import GroupWriter

__all__ = ["FeedbackStore", "GroupWriter", "SessionInfo", "StoreError", "StoreFull", "open_store"]
