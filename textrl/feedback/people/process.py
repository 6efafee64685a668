"""Simulated people as a process beside the server: their work must not slow the server's threads down."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

from textrl.errors import UserError

if TYPE_CHECKING:
    from textrl.feedback.server.serving import Server
    from textrl.feedback.server.starting import Crowd
    from textrl.feedback.store import SessionInfo


class People:
    """The process of a crowd, or of nobody.

    When it ends by itself (its time is over, the session is finished), the server is stopped: a pilot study
    is a command that comes back.
    """

    def __init__(self, crowd: Crowd | None, server: Server, info: SessionInfo) -> None:
        """Remember whom to start."""
        self._crowd, self._server, self._info = crowd, server, info
        self._process: subprocess.Popen[str] | None = None
        self._watching: threading.Thread | None = None
        self._output = ""
        self._sent_home = False

    @staticmethod
    def check(crowd: Crowd, info: SessionInfo) -> None:
        """Refuse people who cannot be, before there is a session.

        Raises:
            UserError: When there is no such preset, or they cannot know what the session is about.
        """
        if info.mode == "rank":
            from textrl.feedback.people.ranking import labeler

            labeler(crowd.preset)
            if crowd.truth is not None:
                raise UserError("--truth does nothing in a ranking session; leave it out.")
        else:
            from textrl.feedback.people.watching import trainer_for

            trainer_for(info.mode, str(info.config.get("env", "")), crowd.truth, {"preset": crowd.preset})

    def start(self) -> None:
        """Start the process, if there is a crowd."""
        crowd = self._crowd
        if crowd is None:
            return
        order = {
            "mode": self._info.mode,
            "link": self._server.link(owner=False, session=self._info.session),
            "preset": crowd.preset,
            "people": crowd.people,
            "rate": crowd.rate,
            "truth": crowd.truth,
            "seed": crowd.seed,
            "seconds": None if crowd.minutes is None else 60.0 * crowd.minutes,
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "textrl.feedback.people"],
            env=os.environ | {"TEXTRL_PEOPLE": json.dumps(order)},
            stdout=subprocess.PIPE,
            text=True,
            # Ctrl-C reaches the whole group; the people are told to stop by `close`, in their turn.
            start_new_session=True,
        )
        self._watching = threading.Thread(target=self._watch, name="people", daemon=True)
        self._watching.start()

    def close(self) -> None:
        """Send the people home."""
        if self._process is not None and self._process.poll() is None:
            self._sent_home = True
            self._process.terminate()
        if self._watching is not None:
            self._watching.join(15.0)
        if self._process is not None and self._process.poll() is None:
            self._process.kill()

    def report(self) -> int:
        """Print what each of them did; return the exit code."""
        if self._process is None:
            return 0
        lost = 0
        for one in self._summaries():
            acks, ages = one["ack_s"], one["frame_age_s"]
            line = f"{one['name']}: {one['did']} given, {one['acknowledged']} events stored"
            if acks:
                line += f", stored after {1e3 * acks['p50']:.1f} ms (p99 {1e3 * acks['p99']:.1f})"
            if ages:
                line += f", {one['frames']} frames, p99 {1e3 * ages['p99']:.0f} ms old, "
                line += f"at most {1e3 * ages['max']:.0f}"
            if one["waiting"]:
                line += f"; {one['waiting']} not stored"
            if one["refused"]:
                line += f"; refused: {one['refused'][0]}"
            print(line)  # noqa: T201
            lost += one["waiting"]
        # What was under way when the server was stopped is no loss: Ctrl-C is an ordinary end.
        return 0 if self._process.returncode == 0 and (self._sent_home or not lost) else 1

    def _summaries(self) -> list[dict[str, Any]]:
        lines = self._output.strip().splitlines()
        return list(json.loads(lines[-1])) if lines else []

    def _watch(self) -> None:
        assert self._process is not None
        self._output = self._process.communicate()[0]
        self._server.stop()
