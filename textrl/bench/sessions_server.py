"""A server of sessions as people start it, in a process that can be stopped, killed and started again."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from textrl.errors import UserError

#: Seconds in which a server must answer.
START_S = 180.0


class Served:
    """``textrl feedback MODE ...`` on a store of its own; ends it on exit.

    Attributes:
        store: The SQLite file.
        session: The session's name.
        owner: The link of the owner.
        share: The link of everybody else.
    """

    def __init__(self, folder: Path, mode: str, arguments: Sequence[str], *, session: str = "bench") -> None:
        """Start it and wait until it answers.

        Raises:
            UserError: When it does not start; says what it said last.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.store, self.session = folder / "sessions.sqlite", session
        self.owner = self.share = ""
        self._port = free_port()
        self._mode, self._arguments = mode, list(arguments)
        self._process: subprocess.Popen[str] | None = None
        self._said: deque[str] = deque(maxlen=20)
        self.start()

    def __enter__(self) -> Served:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the process, on the same port each time."""
        command = [sys.executable, "-m", "textrl.cli", "feedback", self._mode]
        command += ["--store", str(self.store), "--session", self.session, "--port", str(self._port)]
        # What makes a session is said once: afterwards its name is enough.
        if not self.store.exists():
            command += self._arguments
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        watch = threading.Timer(START_S, self._process.kill)
        watch.start()
        try:
            self._await_links()
        finally:
            watch.cancel()
        threading.Thread(target=self._drain, args=(self._process,), daemon=True).start()

    def stop(self) -> int:
        """Ask it to stop, as Ctrl-C does; return its exit code."""
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            code = self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._process = None
        return code

    def kill(self) -> None:
        """End it as a crash of the machine's software does: without a chance to do anything."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _await_links(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        found: dict[str, str] = {}
        for line in self._process.stdout:
            self._said.append(line.strip())
            match = re.match(r"(Open|Share):\s+(\S+)", line)
            if match:
                found[match[1]] = match[2]
            if len(found) == 2:
                self.owner, self.share = found["Open"], found["Share"]
                return
        self._process.wait()
        raise UserError(f"The server did not start: {' '.join(list(self._said)[-1:]) or 'it said nothing'}")

    def _drain(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self._said.append(line.strip())


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
