"""Settings are plain frozen dataclasses: built from a mapping with strict types, and described for listings.

Every plugin's settings come through `build`, so an unknown key, a wrong type or a value out of range is
one sentence that names the file, the line and the key.
"""

from __future__ import annotations

import math
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin

from textrl.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

D = TypeVar("D", bound="DataclassInstance")
Where = Callable[[str], str]

#: A float that YAML 1.1 reads as text: it wants a dot and a sign in the exponent ("5e-4" has no dot).
_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")
_WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number (int)",
    float: "a number (float)",
    str: "text (str)",
    Path: "a path",
    type(None): "null",
}
_SEQUENCES: dict[Any, Callable[[Sequence[Any]], Any]] = {
    list: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    Sequence: tuple,
    Set: frozenset,
}


class _Mismatch(Exception):
    """Internal: a value has another type than its field; carries nothing."""


def build(cls: type[D], data: Mapping[str, Any], *, where: Where, prefix: str = "") -> D:
    """Build a frozen dataclass from a mapping.

    Whole numbers are accepted for floats, and lists for tuples and sets; nothing else is converted.
    A class checks its values in ``__post_init__`` by raising ``ValueError("field must be ...")``.

    Args:
        cls: A dataclass; fields may be bool, int, float, str, Path, Literal, optional, unions, lists,
            tuples, sets, mappings and other dataclasses.
        data: The values by field name.
        where: Gives the place of a dotted key, for example ``"quickstart.yaml, line 12"``.
        prefix: The dotted key of `data` itself.

    Raises:
        UserError: On an unknown or missing key, a wrong type or a refused value.
    """
    if not isinstance(data, Mapping):
        raise UserError(f"{where(prefix)}: '{prefix}' must be {_describe(cls)}, not {_shown(data)}.")
    known = {item.name: item for item in fields(cls) if item.init}
    hints = type_hints(cls)
    for key in data:
        if key not in known:
            full = _join(prefix, str(key))
            raise UserError(f"{where(full)}: unknown key '{full}'.{did_you_mean(str(key), known)}")
    values: dict[str, Any] = {}
    for name, item in known.items():
        full = _join(prefix, name)
        if name in data:
            values[name] = _convert(hints[name], data[name], where, full)
        elif _is_required(item):
            raise UserError(f"{where(prefix)}: '{full}' is missing; set it to {_describe(hints[name])}.")
    try:
        return cls(**values)
    except ValueError as error:
        # By convention a message begins with the field's name, which gives the line.
        first = re.match(r"\W*(\w+)", str(error))
        full = _join(prefix, first[1]) if first and first[1] in known else prefix
        raise UserError(f"{where(full)}: '{full or cls.__name__}': {str(error).rstrip('.')}.") from error


def to_plain(settings: Any) -> Any:
    """Return settings as dicts, lists and scalars that YAML and JSON can hold; `build` reads them back."""
    if is_dataclass(settings) and not isinstance(settings, type):
        return {item.name: to_plain(getattr(settings, item.name)) for item in fields(settings) if item.init}
    if isinstance(settings, Mapping):
        return {str(key): to_plain(value) for key, value in settings.items()}
    if isinstance(settings, (list, tuple)):
        return [to_plain(value) for value in settings]
    if isinstance(settings, (set, frozenset)):
        return [to_plain(value) for value in sorted(settings, key=str)]
    return str(settings) if isinstance(settings, Path) else settings


def changed(settings: Any) -> dict[str, Any]:
    """Return the plain values that are not the defaults, of a class that has one for every field."""
    defaults = to_plain(type(settings)())
    return {name: value for name, value in to_plain(settings).items() if value != defaults[name]}


@dataclass(frozen=True)
class FieldHelp:
    """One field of a settings class, for listings and documentation.

    Attributes:
        name: The field's name.
        type: Its type as a reader would write it.
        default: The default in plain form, None where `required`.
        required: Whether there is no default.
        help: From ``field(metadata={"help": ...})``, else from the class docstring's ``Attributes:``.
    """

    name: str
    type: str
    default: Any
    required: bool
    help: str


def describe(cls: type) -> list[FieldHelp]:
    """Return name, type, default and help of every field of a settings class.

    Raises:
        UserError: When `cls` is not a dataclass, or an annotation cannot be resolved.
    """
    if not is_dataclass(cls):
        raise UserError(
            f"The settings class {cls.__module__}:{cls.__qualname__} is no dataclass; decorate it."
        )
    hints = type_hints(cls)
    documented: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        documented.update(_attributes(base.__doc__ or ""))
    found = []
    for item in fields(cls):
        if not item.init:
            continue
        required = _is_required(item)
        default = None if required else to_plain(item.default if item.default is not MISSING else _made(item))
        text = str(item.metadata.get("help", "")) or documented.get(item.name, "")
        found.append(FieldHelp(item.name, type_name(hints[item.name]), default, required, text))
    return found


def type_hints(cls: type) -> dict[str, Any]:
    """Return the resolved annotations of a settings class.

    Raises:
        UserError: When an annotation names something that its module does not import at run time.
    """
    try:
        return typing.get_type_hints(cls)
    except NameError as error:
        raise UserError(
            f"The settings class {cls.__module__}:{cls.__qualname__} has an annotation that cannot be "
            f"resolved ({error}); import the name outside TYPE_CHECKING."
        ) from error


def type_name(hint: Any) -> str:
    """Return a type as a reader would write it: ``tuple[str, ...]``, ``int | None``, ``'a' | 'b'``."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is type(None):
        return "None"
    if hint is Ellipsis:
        return "..."
    if origin is Literal:
        return " | ".join(repr(value) for value in arguments)
    if origin in (Union, types.UnionType):
        return " | ".join(type_name(part) for part in arguments)
    name = getattr(origin or hint, "__name__", str(hint))
    return f"{name}[{', '.join(type_name(part) for part in arguments)}]" if arguments else name


def _convert(hint: Any, value: Any, where: Where, key: str) -> Any:
    try:
        return _matched(hint, value, where, key)
    except _Mismatch:
        fix = ""
        if hint is int and isinstance(value, float) and value.is_integer():
            fix = f"; write {int(value)}"
        elif hint is str and isinstance(value, (bool, int, float)):
            fix = "; put it in quotes"
        raise UserError(
            f"{where(key)}: '{key}' must be {_describe(hint)}, not {_shown(value)}{fix}."
        ) from None


def _matched(hint: Any, value: Any, where: Where, key: str) -> Any:
    """Return `value` as a `hint`.

    Raises:
        _Mismatch: When it is not one.
        UserError: When something inside it is wrong, naming the place inside.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any or hint is object:
        return value
    if origin is Literal:
        for choice in arguments:
            if type(choice) is type(value) and choice == value:
                return value
        raise _Mismatch
    if origin in (Union, types.UnionType):
        return _either(arguments, value, where, key)
    if isinstance(hint, type) and is_dataclass(hint):
        if isinstance(value, hint):
            return value
        if not isinstance(value, Mapping):
            raise _Mismatch
        return build(hint, value, where=where, prefix=key)
    kind = origin or hint
    if kind in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise _Mismatch
        inner = arguments[1] if len(arguments) == 2 else Any
        return {str(name): _convert(inner, item, where, f"{key}.{name}") for name, item in value.items()}
    if kind in _SEQUENCES:
        return _several(kind, arguments, value, where, key)
    return _scalar(hint, value)


def _either(arguments: tuple[Any, ...], value: Any, where: Where, key: str) -> Any:
    """Match a union; a member that can hold the value but not what is inside it reports that."""
    inside: UserError | None = None
    exact = [part for part in arguments if part is type(value)]  # 1 stays whole in int | float
    for part in [*exact, *arguments]:
        try:
            return _matched(part, value, where, key)
        except _Mismatch:
            continue
        except UserError as error:
            inside = inside or error
    raise inside or _Mismatch


def _several(kind: Any, arguments: tuple[Any, ...], value: Any, where: Where, key: str) -> Any:
    """Match a list, tuple or set, whose items have one type or, for tuples, one type each."""
    if not isinstance(value, (list, tuple, set, frozenset)):
        raise _Mismatch
    items = sorted(value, key=str) if isinstance(value, (set, frozenset)) else list(value)
    if kind is tuple and arguments and arguments[-1] is not Ellipsis:
        if len(items) != len(arguments):
            raise _Mismatch
        parts: Sequence[Any] = arguments
    else:
        parts = [arguments[0] if arguments else Any] * len(items)
    pairs = zip(parts, items, strict=True)
    return _SEQUENCES[kind]([_convert(p, v, where, f"{key}.{i}") for i, (p, v) in enumerate(pairs)])


def _scalar(hint: Any, value: Any) -> Any:
    if hint is float:
        if isinstance(value, str) and _EXPONENT.fullmatch(value):
            value = float(value)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
            raise _Mismatch
        return float(value)
    if hint is Path and isinstance(value, str) and value:
        return Path(value)
    if hint is int and isinstance(value, bool):
        raise _Mismatch
    if isinstance(hint, type) and isinstance(value, hint):
        return value
    raise _Mismatch


def _describe(hint: Any) -> str:
    """Return what a value should be, in words."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in _WORDS:
        return _WORDS[hint]
    if origin is Literal:
        return (
            f"one of {', '.join(repr(value) for value in arguments)}"
            if len(arguments) > 1
            else repr(arguments[0])
        )
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(part) for part in arguments)
    if isinstance(hint, type) and is_dataclass(hint):
        return f"a section ({', '.join(item.name for item in fields(hint) if item.init)})"
    return f"a {type_name(hint)}"


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a section"
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _is_required(item: Field[Any]) -> bool:
    return item.default is MISSING and item.default_factory is MISSING


def _made(item: Field[Any]) -> Any:
    return item.default_factory() if item.default_factory is not MISSING else None


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _attributes(docstring: str) -> dict[str, str]:
    """Return the entries of a Google docstring's ``Attributes:`` section."""
    section = re.search(r"^[ ]*Attributes:[ ]*\n(.*?)(?=^[ ]*\w[\w ]*:[ ]*\n|\Z)", docstring, re.S | re.M)
    if not section:
        return {}
    found: dict[str, str] = {}
    indent: int | None = None
    name = ""
    for line in section[1].splitlines():
        if not line.strip():
            continue
        depth = len(line) - len(line.lstrip())
        indent = depth if indent is None else indent
        entry = re.match(r"(\w+)(?: \([^)]*\))?:\s*(.*)", line.strip()) if depth == indent else None
        if entry:
            name, found[entry[1]] = entry[1], entry[2]
        elif name:
            found[name] = f"{found[name]} {line.strip()}".strip()
    return found
