"""Registers every plugin's environments with Gymnasium on import.

Gymnasium reads no entry points, so one line does both: ``gymnasium.make("textrl.envs:TextRL/Tokens-v0")``.
"""

from __future__ import annotations

from textrl.registry import get_registry

get_registry().register_envs()
