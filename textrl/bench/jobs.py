"""A grid of jobs over processes that can be stopped at any time and goes on where it was.

A job is a function's name and plain data. Its result is one JSON file, named after the job and a digest of
its data, written at once. So a finished job is never repeated, other settings never overwrite it, and a
file that is damaged or belongs to something else counts as absent. Workers are fresh processes (spawn)
with one thread each; they leave by themselves when their parent is gone. Importing this is light, since
every worker does it before it knows what it needs.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import re
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import connection, get_context
from pathlib import Path
from typing import Any

from textrl.bench.display import Display
from textrl.errors import UserError

#: Called by a job now and then with the share of it that is done, in [0, 1].
Tell = Callable[[float], None]
#: Libraries read these when they are imported; a second thread would only take from the next worker.
_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_TELL_EVERY_S = 0.5
_LOOK_EVERY_S = 1.0


@dataclass(frozen=True)
class Job:
    """One piece of work with a result of plain data.

    Attributes:
        name: Unique in its grid; it begins the file's name.
        target: ``module:function``, called as ``function(spec, local, tell)``; returns JSON data.
        spec: Everything that the result depends on, JSON data.
        local: What the function needs besides, and the result does not depend on: where a file lies.
        cost: Expected seconds of CPU, for the order of the work and the time left.
    """

    name: str
    target: str
    spec: Mapping[str, Any]
    local: Mapping[str, Any] = field(default_factory=dict)
    cost: float = 1.0

    @property
    def key(self) -> str:
        """A digest of what the result depends on."""
        return _digest([self.target, self.spec])[:12]

    def file(self, folder: Path) -> Path:
        """Return where the result stands."""
        return folder / f"{re.sub(r'[^0-9A-Za-z.+_-]+', '_', self.name)}.{self.key}.json"


@dataclass
class Outcome:
    """What came of a grid.

    Attributes:
        results: Job name -> result, in the order of the grid.
        failures: Job name -> one sentence.
        reused: Jobs that were finished before.
    """

    results: dict[str, Any] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    reused: int = 0


def run_jobs(jobs: Sequence[Job], folder: Path, *, workers: int, title: str = "jobs") -> Outcome:
    """Carry out what is not finished yet.

    A job that fails leaves no result; the others go on, and the next call tries it again.

    Args:
        jobs: The grid; names are unique.
        folder: Where the results stand; made with its parents.
        workers: Processes at the same time.
        title: Beside the progress bar.

    Raises:
        UserError: When the folder cannot be written to.
        KeyboardInterrupt: As pressed; what is finished stays, what is under way is lost.
    """
    if len({job.name for job in jobs}) < len(jobs):
        raise ValueError("two jobs of a grid have one name")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"The folder {folder} cannot be made ({error.strerror}); choose another --out."
        ) from error
    outcome = Outcome()
    found = {job.name: read_result(job, folder) for job in jobs}
    missing = [job for job in jobs if found[job.name] is None]
    outcome.reused = len(jobs) - len(missing)
    if missing:
        _carry_out_all(missing, folder, workers, title, found, outcome)
    outcome.results = {job.name: found[job.name] for job in jobs if found[job.name] is not None}
    return outcome


def _carry_out_all(
    missing: list[Job],
    folder: Path,
    workers: int,
    title: str,
    found: dict[str, Any],
    outcome: Outcome,
) -> None:
    """Spread the jobs over workers until none is left; fills `found` and the outcome's failures."""
    # The longest first, so that no core is idle while the last long one runs.
    waiting = deque(sorted(missing, key=lambda job: -job.cost))
    idle: list[_Worker] = []
    busy: list[_Worker] = []
    count = max(1, min(workers, len(waiting)))
    display = Display(title, {job.name: job.cost for job in missing}, done=outcome.reused)
    try:
        with display:
            while waiting or busy:
                while waiting and len(busy) < count:
                    worker = idle.pop() if idle else _Worker()
                    worker.begin(waiting.popleft(), folder)
                    busy.append(worker)
                ready = connection.wait([worker.line for worker in busy], timeout=_LOOK_EVERY_S)
                for worker in [worker for worker in busy if worker.line in ready]:
                    state, said = worker.hear()
                    job = worker.job
                    if state == "at":
                        display.at(job.name, said)
                        continue
                    busy.remove(worker)
                    if state != "died":
                        idle.append(worker)
                    if state == "done":
                        found[job.name] = read_result(job, folder)
                    if found[job.name] is None:
                        outcome.failures[job.name] = said or "its result could not be read back"
                    display.finished(job.name)
                display.tick()
    finally:
        for worker in [*idle, *busy]:
            worker.stop()


class _Worker:
    """The parent's end of a process.

    Attributes:
        line: Where it is heard.
        job: What it was given last.
    """

    job: Job

    def __init__(self) -> None:
        context = get_context("spawn")
        self.line, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs,), daemon=True)
        before = {name: os.environ.get(name) for name in _ONE_THREAD}
        try:  # the child inherits them, and has them before it imports anything
            os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
            self._process.start()
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
        theirs.close()

    def begin(self, job: Job, folder: Path) -> None:
        """Hand a job over."""
        self.job = job
        with contextlib.suppress(OSError):  # it died in the meantime, which `hear` will say
            self.line.send((job, folder))

    def hear(self) -> tuple[str, Any]:
        """Return ("at", share), ("done", None), ("failed", sentence) or ("died", sentence)."""
        try:
            said: tuple[str, Any] = self.line.recv()
        except (EOFError, OSError):
            self._process.join(timeout=5)
            return "died", f"its process ended with exit code {self._process.exitcode}; is there memory?"
        return said

    def stop(self) -> None:
        """End the process, whatever it does."""
        self.line.close()
        self._process.terminate()
        self._process.join(timeout=5)


def serve(line: Any) -> None:
    """Carry out jobs that come down the line; runs in a worker until the line closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent decides
    told_s = 0.0

    def tell(share: float) -> None:
        nonlocal told_s
        now_s = time.monotonic()
        if now_s - told_s >= _TELL_EVERY_S:
            told_s = now_s
            line.send(("at", min(max(float(share), 0.0), 1.0)))

    try:
        while True:
            job, folder = line.recv()
            line.send(carry_out(job, folder, tell))
    except (EOFError, OSError):  # the parent has gone
        return


def carry_out(job: Job, folder: Path, tell: Tell) -> tuple[str, str | None]:
    """Do one job and write its result; returns ("done", None) or ("failed", one sentence)."""
    try:
        module, _, name = job.target.partition(":")
        result = getattr(importlib.import_module(module), name)(job.spec, job.local, tell)
        write_result(job, folder, result)
    except UserError as error:
        return "failed", " ".join(str(error).split())
    except ConnectionError:  # from `tell`: nobody listens any more
        raise
    except Exception as error:
        place = job.file(folder).with_suffix(".error.txt")
        write_whole(place, traceback.format_exc())
        return "failed", f"{type(error).__name__}: {' '.join(str(error).split())} (see {place})"
    return "done", None


def write_result(job: Job, folder: Path, result: Any) -> None:
    """Write a job's result, with what it belongs to and a digest of it."""
    whole = {
        "job": job.name, "target": job.target, "spec": job.spec, "sha256": _digest(result), "result": result,
    }  # fmt: skip
    write_whole(job.file(folder), json.dumps(whole, allow_nan=False) + "\n")


def read_result(job: Job, folder: Path) -> Any:
    """Return a finished job's result, or None where there is none that can be trusted."""
    try:
        whole = json.loads(job.file(folder).read_text(encoding="utf-8"))
        if whole["target"] != job.target or whole["spec"] != _plain(job.spec):
            return None
        return whole["result"] if whole["sha256"] == _digest(whole["result"]) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that a reader, or a crash, meets the old text or the new one.

    Raises:
        UserError: When it cannot be written.
    """
    # Not textrl.files.replace_file: that module imports torch, which few of the callers need.
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        raise UserError(
            f"The file {path} could not be written ({error.strerror}); make room, then run the same command."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    """Return data as it comes back from JSON."""
    return json.loads(json.dumps(value))
