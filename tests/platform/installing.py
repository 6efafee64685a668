"""What an installed plugin looks like on disk."""

from __future__ import annotations

from pathlib import Path

HEADER = """
from textrl.hookspecs import hookimpl
from textrl.specs import *
"""

#: Source of an environment that plugins under test bring: heads pays 1.
COIN = """
class Coin(gymnasium.Env):
    observation_space = gymnasium.spaces.Discrete(1)
    def __init__(self, sides):
        self.action_space = gymnasium.spaces.Discrete(sides)
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return 0, {}
    def step(self, action):
        return 0, float(action == 1), True, False, {}
"""


def write_distribution(
    folder: Path, name: str, code: str, *, version: str = "1.0", entry: str | None = None
) -> None:
    """Write what pip leaves behind for a package of one module with one entry point."""
    module = name.replace("-", "_")
    (folder / f"{module}.py").write_text(HEADER + code, encoding="utf-8")
    info = folder / f"{module}-{version}.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[textrl]\n{entry or module} = {module}\n")
