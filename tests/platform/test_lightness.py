"""Budgets: importing textrl and listing plugins costs milliseconds, and imports nothing heavy."""

from __future__ import annotations

import json
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
            for listing in ("plugins", "rewards", "envs", "learners", "models", "trainers")
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


def strangers(code: str) -> set[str]:
    """Return the top-level modules that are imported and are neither Python's nor textrl's."""
    show = (
        "import sys, json; names = {name.partition('.')[0] for name in sys.modules};"
        "print(json.dumps(sorted(names - sys.stdlib_module_names)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{show}"], capture_output=True, text=True, check=True
    )
    found = set(json.loads(done.stderr.splitlines()[-1]))
    # What an editable installation puts into every process of the environment.
    return {name for name in found if not name.startswith(("textrl", "_", "editables", "sitecustomize"))}


def test_importing_textrl_imports_nothing_else() -> None:
    """What costs milliseconds; `textrl bench startup` measures them (budgets: 20 and 150 ms)."""
    assert strangers("import textrl") <= strangers("pass")


def test_listing_plugins_imports_pluggy_alone() -> None:
    assert strangers("from textrl.cli import main; main(['plugins'])") - strangers("pass") == {"pluggy"}
