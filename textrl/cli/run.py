"""``textrl run CONFIG [--a.b value]``: a pipeline or a learner, into a run folder."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Group, Parameter

from textrl.config import load_config
from textrl.errors import UserError, did_you_mean
from textrl.registry import get_registry
from textrl.settings import describe
from textrl.specs import Spec

_OPTIONS = ("--resume", "--name", "--runs-dir", "--plugin", "--disable", "--strict", "--help")


def add_to(app: App, group: Group, command_line: list[str]) -> None:
    """Add ``run`` to the app.

    Args:
        app: The app.
        group: Where its help stands.
        command_line: What the user typed, which the run folder records.
    """

    def run(
        config: str,
        /,
        *overrides: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)],
        resume: Annotated[bool, Parameter(negative="")] = False,
        name: str | None = None,
        runs_dir: Path = Path("runs"),
    ) -> int:
        """Run a config: a pipeline or a single learner.

        Every key of the config can be set on the command line: `--ppo.steps 10` or `--ppo.steps=10`.
        Values are read as YAML, so `[1, 2]`, `null` and `5e-4` mean what they mean in the file.
        `textrl run CONFIG --help` lists the keys of that config.

        Args:
            config: A YAML file, or the name of one that came with textrl, for example quickstart.
            resume: Continue an interrupted run of the same name.
            name: Name of the run folder; the config's name by default.
            runs_dir: Where run folders go.
        """
        return start(config, overrides, resume, name, runs_dir, command_line)

    examples = (
        "Examples: `textrl run configs/quickstart.yaml`, `textrl run quickstart --seed 3 --name seed3`, "
        "`textrl run quickstart --resume`"
    )
    app.command(run, group=group, help_epilogue=examples)


def start(
    config: str,
    tokens: Sequence[str],
    resume: bool,
    name: str | None,
    runs_dir: Path,
    command_line: list[str],
) -> int:
    """Read the config and hand it to `textrl.pipelines`.

    Raises:
        UserError: On a wrong config, or where the run folder does not fit `resume`.
    """
    path = find_config(config)
    node = load_config(path, overrides_from(tokens))
    run_dir = runs_dir / _run_name(name or path.stem)
    started = _holds_run(run_dir)
    if resume and not started:
        raise UserError(f"There is no run in '{run_dir}' to resume; leave out --resume or check --name.")
    if started and not resume:
        raise UserError(f"'{run_dir}' holds a run already; add --resume to continue it, or another --name.")
    registry = get_registry()
    for problem in registry.problems:
        print(f"textrl: warning: plugin '{problem.plugin}' is broken: {problem.error}", file=sys.stderr)

    from textrl.pipelines import run_config  # here: it imports torch, and most errors need none

    try:
        code = run_config(node, registry=registry, run_dir=run_dir, resume=resume, command=command_line)
    except KeyboardInterrupt:
        again = shlex.join([*command_line, *([] if resume else ["--resume"])])
        kept = f"continue with: {again}" if _holds_run(run_dir) else "nothing was written yet"
        print(f"\ntextrl: interrupted; {kept}", file=sys.stderr)
        return 130
    return int(code)


def _holds_run(folder: Path) -> bool:
    # A hidden file is the lock of a run that wrote nothing.
    return folder.is_dir() and any(not file.name.startswith(".") for file in folder.iterdir())


def keys_help(config: str) -> str:
    """Return what ``textrl run CONFIG --help`` says about a config: its keys, and those it leaves to plugins.

    Raises:
        UserError: On a wrong config, or an unknown reward or learner in it.
    """
    node = load_config(find_config(config))
    lines = [f"  --{key} {_plain(value)}" for key, value in _leaves(node.data)]
    registry = get_registry()
    chosen: list[tuple[str, Spec, Mapping[str, Any]]] = []
    for name, given in node.section("sources").items():
        given = given if isinstance(given, dict) else {}
        chosen.append((f"sources.{name}", registry.find("reward", str(given.get("use", name))), given))
    if "learner" in node.data:
        learner = registry.find("learner", str(node.data["learner"]))
        chosen.append(("settings", learner, node.section("settings")))
    more = []
    for prefix, spec, given in chosen:
        cls = spec.load_settings()
        for item in describe(cls) if cls is not None else []:
            if item.name not in given:
                default = "(required)" if item.required else _plain(item.default)
                more.append(f"  --{prefix}.{item.name} {default}\n      {item.type}. {item.help}".rstrip())
    text = [f"Keys of {node.name}, and their values:\n", *lines]
    return "\n".join([*text, "\nKeys it leaves to the defaults of its plugins:\n", *more] if more else text)


def _leaves(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _plain(value: Any) -> str:
    """Return a value as it would be typed after its option."""
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def overrides_from(tokens: Sequence[str]) -> list[str]:
    """Turn ``--a.b value`` and ``--a.b=value`` into ``a.b=value``.

    Raises:
        UserError: When a token is no override, or its value is missing.
    """
    found: list[str] = []
    rest = list(tokens)
    while rest:
        token = rest.pop(0)
        key, sign, value = token.partition("=")
        if not re.fullmatch(r"--[A-Za-z_][\w.\-/]*", key):
            hint = did_you_mean(token, _OPTIONS)
            raise UserError(f"'{token}' is not an override; write --section.key value.{hint}")
        if not sign:
            if not rest or re.match(r"--[A-Za-z]", rest[0]):
                hint = "" if "." in key else did_you_mean(key, _OPTIONS)
                raise UserError(f"{key} needs a value, as in {key} 1.{hint}")
            value = rest.pop(0)
        found.append(f"{key[2:]}={value}")
    return found


def find_config(name: str) -> Path:
    """Return the config file `name`: a path, or the name of one in configs/ or of those installed.

    A path that does not exist is returned as it is, for `load_config` to explain.
    """
    path = Path(name)
    if path.exists() or path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        return path
    places = [Path("configs"), Path(sys.prefix) / "share" / "textrl" / "configs"]
    for folder in places:
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    known = sorted({file.stem for folder in places if folder.is_dir() for file in folder.glob("*.yaml")})
    hint = did_you_mean(name, known)
    raise UserError(f"There is no config file '{name}' and no config of that name.{hint if known else ''}")


def _run_name(name: str) -> str:
    if not re.fullmatch(r"[\w][\w.\-]*", name):
        raise UserError(f"'{name}' cannot be the name of a run; use letters, digits, '.', '-' and '_'.")
    return name
