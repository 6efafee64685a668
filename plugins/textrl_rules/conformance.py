"""What the conformance kit builds the rules from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_FUNCTION = '''"""Written by textrl's conformance kit."""


def score(prompt: str, response: str, record: dict) -> float:
    return len(response.split()) / (1 + len(prompt))
'''


def conformance_settings(folder: Path) -> dict[str, Mapping[str, Any]]:
    """Return settings for the rules that cannot do without; writes a Python file into `folder`."""
    file = folder / "conformance_function.py"
    file.write_text(_FUNCTION, encoding="utf-8")
    return {
        "length": {"min": 2, "max": 4},
        "keyword": {"words": ["good", "great"], "mode": "count"},
        "callable": {"function": f"{file}:score"},
    }
