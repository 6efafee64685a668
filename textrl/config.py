"""Reads a YAML file plus dotted overrides, and remembers on which line every key stands.

Scalars follow YAML 1.2, not the 1.1 of PyYAML: ``5e-4`` is a number, ``no`` and ``on`` are words, dates
stay text. Sections are turned into settings by `textrl.settings.build`, which is re-exported here.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from textrl.errors import UserError
from textrl.settings import build, to_plain

__all__ = ["ConfigNode", "build", "load_config", "to_plain"]

#: More nodes than this after aliases are followed is no config but an attack or an accident.
_MAX_NODES = 100_000
_SCALARS: tuple[tuple[str, str, str], ...] = (
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9][0-9_]*|0x[0-9a-fA-F]+|0o[0-7]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
)
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True)
class ConfigNode:
    """A config: plain values, and where each of them was written.

    Attributes:
        data: Sections as dicts, lists, and scalars.
        name: The file's name as the user gave it.
        places: Dotted key -> ``"quickstart.yaml, line 12"`` or ``"command line"``.
    """

    data: dict[str, Any]
    name: str
    places: Mapping[str, str] = field(default_factory=dict, repr=False)

    def where(self, key: str = "") -> str:
        """Return the place of a dotted key; of a missing one, the place of the section it belongs to."""
        while key:
            if key in self.places:
                return self.places[key]
            key = key.rpartition(".")[0]
        return self.name

    def section(self, key: str) -> dict[str, Any]:
        """Return the section under a top-level key, empty where it is absent or null.

        Raises:
            UserError: When the key holds something else than a section.
        """
        value = self.data.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise UserError(f"{self.where(key)}: '{key}' must be a section, not {value!r}.")
        return value


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> ConfigNode:
    """Read a YAML file and apply overrides.

    Args:
        path: The file.
        overrides: ``"a.b=value"``; the value is read as YAML, so ``[1, 2]``, ``null`` and ``5e-4`` work.

    Returns:
        The config with the place of every key.

    Raises:
        UserError: When the file is missing, empty, not UTF-8 or not a YAML mapping, a key stands there
            twice, or an override does not fit.
    """
    name = str(path)
    places: dict[str, str] = {}
    root = _compose(_read(Path(path)), name)
    if root is None:
        raise UserError(f"{name} is empty; a config needs at least one 'key: value' line.")
    if not isinstance(root, yaml.MappingNode):
        raise UserError(f"{name}, line {_line(root)}: a config is made of 'key: value' lines.")
    data = _Reader(name, places).value(root, "")
    for override in overrides:
        _override(data, places, override)
    return ConfigNode(data, name, places)


def parse_value(text: str, what: str) -> Any:
    """Read one value as YAML, as overrides are read.

    Raises:
        UserError: When `text` is not valid YAML; `what` names it.
    """
    node = _compose(text, what)
    return None if node is None else _Reader(what, {}).value(node, "")


def _read(path: Path) -> str:
    """Return a file's text."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"There is no config file '{path}'.{_nearest(path)}") from None
    except OSError as error:
        raise UserError(f"The config file '{path}' cannot be read: {error.strerror}.") from error
    if b"\0" in raw:
        line = raw[: raw.index(b"\0")].count(b"\n") + 1
        raise UserError(f"{path}, line {line}: there is a NUL byte; save the file as plain UTF-8 text.")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        byte = raw[error.start]
        raise UserError(
            f"{path}, line {line}: the byte 0x{byte:02x} is not valid UTF-8; save the file as UTF-8."
        ) from error


def _nearest(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f" There is no folder '{folder}' either."
    names = sorted(p.name for p in folder.iterdir() if p.suffix in (".yaml", ".yml"))
    close = difflib.get_close_matches(path.name, names, n=1, cutoff=0.5)
    if close:
        return f" Did you mean '{folder / close[0]}'?"
    return f" In '{folder}' there are: {', '.join(names[:12])}." if names else ""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalars of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012


for _name, _pattern, _first in _SCALARS:
    _starts = [*_first, ""] if _name == "null" else list(_first)
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(rf"^(?:{_pattern})$"), _starts)


def _compose(text: str, name: str) -> yaml.Node | None:
    try:
        node: yaml.Node | None = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        if "\\t" in str(error.problem):
            raise UserError(f"{name}, line {line}: there is a tab; indent with spaces.") from error
        problem = " ".join(str(error.problem or error.context).split())
        raise UserError(f"{name}, line {line}: this is not valid YAML: {problem}.") from error
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise UserError(
            f"{name}, line {line}: the character {_code(error.character)} is not allowed; remove it."
        ) from error
    except RecursionError as error:
        raise UserError(f"{name}: the sections are nested too deeply.") from error
    return node


def _code(character: object) -> str:
    return f"U+{character if isinstance(character, int) else ord(str(character)):04X}"


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


class _Reader:
    """Turns YAML nodes into values and notes the line of each."""

    def __init__(self, name: str, places: dict[str, str]) -> None:
        self.name = name
        self.places = places
        self.count = 0
        self.open: set[int] = set()

    def value(self, node: yaml.Node, key: str) -> Any:
        """Return the value of `node`, which stands under the dotted `key`."""
        self.count += 1
        if self.count > _MAX_NODES or id(node) in self.open:
            raise UserError(f"{self.name}, line {_line(node)}: an alias repeats itself without end.")
        if key:
            self.places.setdefault(key, f"{self.name}, line {_line(node)}")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if node.tag not in (f"{_TAG}seq", f"{_TAG}map"):
            raise UserError(f"{self.name}, line {_line(node)}: the tag '{node.tag}' is not read; remove it.")
        self.open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode):
                return [self.value(item, f"{key}.{i}") for i, item in enumerate(node.value)]
            return dict(self._items(node, key))
        finally:
            self.open.discard(id(node))

    def _items(self, node: yaml.Node, key: str) -> Iterator[tuple[str, Any]]:
        first: dict[str, int] = {}
        for name_node, value_node in node.value:
            place = f"{self.name}, line {_line(name_node)}"
            if name_node.value == "<<" and name_node.style is None:
                raise UserError(f"{place}: merge keys (<<) are not read; write the keys out.")
            name = name_node.value if isinstance(name_node, yaml.ScalarNode) else None
            if not name:
                raise UserError(f"{place}: a key must be a word.")
            if name in first:
                raise UserError(
                    f"{place}: the key '{name}' already stands on line {first[name]}; remove one."
                )
            first[name] = _line(name_node)
            full = f"{key}.{name}" if key else name
            self.places[full] = place
            yield name, self.value(value_node, full)

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        text = str(node.value)
        tag = node.tag.removeprefix(_TAG)
        if tag == "str":
            return text
        if tag == "null":
            return None
        if tag == "bool":
            return text.lower() == "true"
        digits = text.replace("_", "")
        try:
            if tag == "int":
                return int(digits, 0) if digits[:2] in ("0x", "0o") else int(digits)
            if tag == "float":
                # float() reads "inf" and "nan", YAML writes them with a dot.
                return float(re.sub(r"\.(?=inf|nan)", "", digits.lower()))
        except ValueError as error:
            raise UserError(f"{self.name}, line {_line(node)}: '{text}' is not a {tag}.") from error
        raise UserError(f"{self.name}, line {_line(node)}: the tag '{node.tag}' is not read; remove it.")


def _override(data: dict[str, Any], places: dict[str, str], override: str) -> None:
    """Set one ``"a.b=value"`` in place."""
    key, sign, text = override.partition("=")
    key = key.strip()
    if not sign or not key or "" in key.split("."):
        raise UserError(f"The override '{override}' must look like section.key=value.")
    place = f"command line (--{key})"
    *parents, last = key.split(".")
    here: Any = data
    for depth, part in enumerate(parents):
        upper = ".".join(parents[: depth + 1])
        below = _child(here, part, upper, place)
        if below is None:
            below = here[part] = {}
            places[upper] = place
        if not isinstance(below, (dict, list)):
            raise UserError(f"{place}: '{upper}' is {below!r} ({places.get(upper, place)}), not a section.")
        here = below
    _child(here, last, key, place)
    value = parse_value(text, place)
    here[int(last) if isinstance(here, list) else last] = value
    for old in [name for name in places if name == key or name.startswith(f"{key}.")]:
        del places[old]
    places[key] = place


def _child(here: Any, part: str, key: str, place: str) -> Any:
    """Return what stands under `part`, None where a section does not have it yet."""
    if isinstance(here, dict):
        return here.get(part)
    if not part.isdigit() or int(part) >= len(here):
        raise UserError(f"{place}: '{key}' is not in the list, which has the items 0 to {len(here) - 1}.")
    return here[int(part)]
