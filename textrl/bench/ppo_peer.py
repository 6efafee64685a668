"""The environment that TRL 1.12.0 runs in: a venv of its own in the cache folder, made on first use."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path

from textrl.bench.running import say
from textrl.data.cache import cache_dir
from textrl.errors import UserError

TRL = "1.12.0"


def peer_python() -> Path:
    """Return the interpreter of the environment with TRL; making it takes minutes and about 1.5 GB.

    torch and transformers are the versions that run here, so that the ratio compares the trainers.

    Raises:
        UserError: When pip cannot install it; says what pip said.
    """
    pins = {name: metadata.version(name).partition("+")[0] for name in ("torch", "transformers")}
    folder = cache_dir() / "peers" / f"trl-{TRL}-torch-{pins['torch']}-transformers-{pins['transformers']}"
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    done = folder / ".installed"
    if done.is_file():
        return python
    say(f"textrl: making an environment with TRL {TRL} in {folder}; this is done once")
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    wanted = [f"trl=={TRL}", *(f"{name}=={version}" for name, version in pins.items())]
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    if outcome.returncode:
        said = (outcome.stderr.strip() or outcome.stdout.strip()).splitlines()
        raise UserError(
            f"pip cannot install {' '.join(wanted)} into {folder} ({said[-1] if said else 'no message'}); "
            "look at the network, or measure without the baseline with --no-baseline."
        )
    done.touch()
    return python
