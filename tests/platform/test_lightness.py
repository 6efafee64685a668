"""Budgets: importing textrl and listing plugins costs milliseconds, and imports nothing heavy."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "gymnasium", "stable_baselines3", "datasets", "numpy", "cyclopts", "rich")
PROBE = """
import json, sys
{code}
print(json.dumps(sorted(set({heavy}) & set(sys.modules))), file=sys.stderr)
"""


def imported(code: str, heavy: tuple[str, ...]) -> list[str]:
    """Run code in a fresh interpreter and return which of the heavy modules it imported."""
    probe = PROBE.format(code=code, heavy=heavy)
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    found: list[str] = json.loads(done.stderr.splitlines()[-1])
    return found


@pytest.mark.parametrize(
    "code",
    [
        "import textrl",
        "import textrl.specs, textrl.protocols, textrl.errors, textrl.settings, textrl.config",
        "from textrl.registry import get_registry; get_registry()",
        *(
            f"from textrl.cli import main; main(['{listing}'])"
            for listing in ("plugins", "rewards", "envs", "learners", "models", "feedback")
        ),
        "from textrl.cli import main; main(['plugins', 'rules', '--json'])",
    ],
)
def test_nothing_heavy_is_imported(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(code=code, heavy=HEAVY)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stderr.splitlines()[-1]) == []


def test_even_the_cyclopts_commands_do_not_import_torch() -> None:
    code = "from textrl.cli import main; main(['--help']); main(['run', 'nope.yaml'])"
    assert imported(code, ("torch", "transformers", "gymnasium")) == []


def test_importing_textrl_stays_within_20_ms() -> None:
    code = "import time; t = time.process_time(); import textrl; print(time.process_time() - t)"
    seconds = [float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(3)]
    assert min(seconds) <= 0.020


def test_listing_plugins_stays_within_150_ms() -> None:
    """CPU time of the whole process, which is what it takes on an idle machine; best of up to ten."""
    seconds = []
    for _ in range(10):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "textrl.cli", "plugins"], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        if seconds[-1] <= 0.150:
            break
    assert min(seconds) <= 0.150


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = [sys.executable, "-m", "textrl.cli", "rewards", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()  # as `| head -0` would
    message = process.stderr.read().decode()
    assert process.wait(timeout=60) == 0
    assert message == ""
    process.stderr.close()


def test_worker_processes_see_the_same_switches() -> None:
    code = (
        "import subprocess, sys\n"
        "from textrl.registry import switches\n"
        "with switches([], ['kl'], False):\n"
        "    subprocess.run([sys.executable, '-m', 'textrl.cli', 'plugins', 'kl', '--json'], check=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert json.loads(done.stdout)["status"] == "disabled"
