"""The server of feedback sessions: sockets on one side, the log and the machine on the other.

    sockets -> writer (log) -> syncer (disk) -> acknowledgement
                          \\-> engine (applies in order) -> hub -> outboxes -> sockets

The event loop's thread owns sockets and outboxes, the writer's the store; one waits for the disk, and each
session's engine has a thread of its own; `Bridge` is how the others reach the event loop.
"""

from __future__ import annotations
