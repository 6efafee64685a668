"""The command line: ``textrl plugins | rewards | run | new | check | ...``; see `textrl.cli.app`."""

from textrl.cli.app import main

__all__ = ["main"]
