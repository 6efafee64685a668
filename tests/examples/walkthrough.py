"""Follows a page of docs/examples as a reader would: writes its files, types its commands, compares.

The grammar of a page, all of which a reader sees too:

- A fenced block right below a line that ends with ``` `path`: ``` is that file.
- In a block of the language ``console`` a line that begins with ``$ `` is typed (one that ends with ``\\``
  goes on in the next); what follows, up to the next one, is what it must print. Without any, the command
  need only succeed.
- ``...`` stands for anything: alone in its line for any number of lines, else within its line.
- Times (``4.2 s``, ``30 ms``) may differ, and so may the white space between words. Other numbers must be
  the same, except where a comment stands before the block: ``<!-- numbers within 20 % -->`` or
  ``<!-- numbers differ -->``.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
_FILE = re.compile(r"`([^`\s]+)`:\s*\Z")
_RULE = re.compile(r"<!-- numbers (?:within (\d+) %|(differ)) -->\s*\Z")
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
_TIME = re.compile(r"\d[\d,.]*(?= ?(?:ms|s|min|seconds)\b)")


@dataclass(frozen=True)
class File:
    """A file that the page shows."""

    path: str
    text: str


@dataclass(frozen=True)
class Command:
    """A command that the page shows.

    Attributes:
        line: What is typed.
        printed: What the page says that it prints; empty where it does not say.
        within: How far its numbers may be off, relative; infinite where any will do.
    """

    line: str
    printed: str
    within: float = 0.0


def steps_of(page: str) -> list[File | Command]:
    """Return what a page tells its reader to do, in order."""
    steps: list[File | Command] = []
    for block in _FENCE.finditer(page):
        language, text, before = block[1], block[2], page[: block.start()]
        rule = _RULE.search(before)
        before = before[: rule.start()] if rule else before
        within = 0.0 if rule is None else float("inf") if rule[2] else int(rule[1]) / 100
        if language == "console":
            steps += commands_of(text, within)
        elif named := _FILE.search(before):
            steps.append(File(named[1], text))
    return steps


def commands_of(text: str, within: float = 0.0) -> list[Command]:
    """Return the commands of a console block."""
    commands: list[Command] = []
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith("$ "):
            typed = line[2:]
            while typed.endswith("\\"):
                typed += "\n" + next(lines)
            commands.append(Command(typed, "", within))
        else:
            last = commands.pop()  # a block that begins with output is a mistake of the page
            commands.append(Command(last.line, f"{last.printed}{line}\n", within))
    return commands


def agrees(expected: str, found: str, within: float = 0.0) -> bool:
    """Tell whether a command printed what the page says, by the rules above."""
    parts, numbers = [], []
    for line in expected.strip().splitlines():
        if line.strip() == "...":
            parts.append(r"(?:[^\n]*\n)*?")
            continue
        parts.append(_line_pattern(line, numbers if within else None) + "\n")
    text = "".join(f"{' '.join(line.split())}\n" for line in found.strip().splitlines())
    match = re.fullmatch("".join(parts), text)
    if match is None:
        return False
    if within == float("inf"):
        return True
    pairs = zip(numbers, (float(number.replace(",", "")) for number in match.groups()), strict=True)
    return all(abs(shown - seen) <= within * abs(shown) + 1e-12 for shown, seen in pairs)


def _line_pattern(line: str, numbers: list[float] | None) -> str:
    """Return a regular expression for a line; where numbers may differ they are groups, and noted."""
    pattern, rest = "", " ".join(line.split())
    while rest:
        number = _NUMBER.match(rest)
        if rest.startswith("..."):
            pattern, rest = pattern + ".*?", rest[3:]
        elif time := _TIME.match(rest):
            pattern, rest = pattern + r"[\d,.]+", rest[time.end() :]
        elif numbers is not None and number:
            numbers.append(float(number[0].replace(",", "")))
            pattern, rest = pattern + f"({_NUMBER.pattern})", rest[number.end() :]
        elif number:
            pattern, rest = pattern + re.escape(number[0]), rest[number.end() :]
        else:
            pattern, rest = pattern + re.escape(rest[0]), rest[1:]
    return pattern


def follow(page: Path, folder: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Follow a page in an empty folder; return what each command printed.

    Raises:
        AssertionError: When a command fails or prints something else; shows both.
    """
    printed: dict[str, str] = {}
    here = folder
    for step in steps_of(page.read_text(encoding="utf-8")):
        if isinstance(step, File):
            path = here / step.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(step.text, encoding="utf-8")
            continue
        # The shell says where it ended, so that a `cd` lasts.
        script = f"{step.line}\nstatus=$?\npwd > {folder}/.here\nexit $status"
        done = subprocess.run(
            ["bash", "-c", script], cwd=here, env=dict(environment), stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=600, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{page.name}: $ {step.line}\n{done.stdout}"
        here = Path((folder / ".here").read_text().strip())
        printed[step.line] = done.stdout
        if step.printed.strip():
            assert agrees(step.printed, done.stdout, step.within), (
                f"{page.name}: $ {step.line}\n--- on the page\n{step.printed}--- printed\n{done.stdout}"
            )
    return printed
