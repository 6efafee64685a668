"""A real PostgreSQL of the tests' own, in a temporary folder, where Debian's package is installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


def programs() -> Path | None:
    """The folder of the newest `initdb` and `postgres`, or None."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]), reverse=True
    )
    if found:
        return found[0].parent
    named = shutil.which("initdb")
    return Path(named).resolve().parent if named else None


class Postgres:
    """A server that runs; it refuses to be root, so that root starts it as nobody."""

    def __init__(self, folder: Path, bin_: Path) -> None:
        self.folder, self._bin = folder, bin_
        self._data = folder / "data"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._as: list[str] = []
        if os.geteuid() == 0:
            shutil.chown(folder, "nobody")
            self._as = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
        self._run("initdb", "-D", str(self._data), "-U", "textrl", "-A", "trust", "--no-sync", "-E", "UTF8")
        # fsync off: nobody pulls the plug here, and the disk of a test machine is slow.
        settings = f"port={self.port}\nlisten_addresses='127.0.0.1'\nunix_socket_directories=''\nfsync=off\n"
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(f"{settings}shared_buffers='16MB'\nmax_connections=40\n")
        self.start()

    def start(self) -> None:
        self._run("pg_ctl", "-D", str(self._data), "-w", "-t", "60", "-l", str(self.folder / "log"), "start")

    def stop(self, mode: str = "fast") -> None:
        self._run("pg_ctl", "-D", str(self._data), "-w", "-m", mode, "stop")

    def database(self, name: str) -> str:
        """Make an empty database and return its address."""
        where = ("-h", "127.0.0.1", "-p", str(self.port), "-U", "textrl")
        self._run("createdb", *where, name)
        return f"postgresql://textrl:secret@127.0.0.1:{self.port}/{name}"

    def _run(self, program: str, *words: str) -> None:
        # Not through pipes: the server inherits them and would keep them open.
        with (self.folder / "commands").open("ab") as log:
            done = subprocess.run(
                [*self._as, str(self._bin / program), *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                timeout=120,
            )
        if done.returncode:
            raise RuntimeError(f"{program}: {(self.folder / 'commands').read_text()[-2000:]}")


def running() -> Iterator[Postgres]:
    """Yield a running server, or skip with the reason; for a fixture of the session's scope."""
    bin_ = programs()
    if bin_ is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    pytest.importorskip("sqlalchemy")
    pytest.importorskip("psycopg")
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("PostgreSQL does not run as root, and setpriv is not installed")
    # Not below pytest's own folder, which nobody else may enter.
    folder = Path(tempfile.mkdtemp(prefix="textrl-postgres-"))
    try:
        server = Postgres(folder, bin_)
        try:
            yield server
        finally:
            server.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
