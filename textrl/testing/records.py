"""Conformance of every kind of record, so that each entry of a registry has a case.

Rewards are checked by `textrl.testing.rewards`; what the other kinds must do stands here.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textrl.errors import UserError
from textrl.settings import build
from textrl.specs import EnvSpec, FeedbackSpec, Spec
from textrl.testing.plugins import check_light_import, conformance_settings, hook_module
from textrl.testing.results import Case, CheckResult, Violation, demand
from textrl.testing.rewards import reward_cases
from textrl.testing.subject import check_settings_class, temporary_folder

if TYPE_CHECKING:
    from textrl.registry import Registry

#: How Stable-Baselines3's callbacks and `evaluate_policy` call a learner: method -> arguments.
LEARNER_SURFACE: dict[str, tuple[tuple[object, ...], dict[str, object]]] = {
    "learn": ((1,), {"callback": None, "progress_bar": False}),
    "predict": ((None,), {"state": None, "episode_start": None, "deterministic": False}),
    "save": (("folder",), {}),
    "load": (("folder", None), {}),
    "set_logger": ((None,), {}),
    "get_env": ((), {}),
    "get_vec_normalize_env": ((), {}),
}


class Entry:
    """One record under test, with what its plugin says it can be built from."""

    def __init__(
        self,
        kind: str,
        name: str,
        registry: Registry,
        settings: Mapping[str, Any] | None,
        folder: Path | None,
    ) -> None:
        self.kind, self.name, self.registry = kind, name, registry
        self._given, self._folder = settings, folder

    @functools.cached_property
    def spec(self) -> Spec:
        """The record."""
        return self.registry.find(self.kind, self.name)

    @functools.cached_property
    def plugin(self) -> str:
        """The name of the hook module."""
        return hook_module(self.spec, self.registry)

    @functools.cached_property
    def settings(self) -> dict[str, Any]:
        """What to build the target from, as given or as its plugin states."""
        if self._given is not None:
            return dict(self._given)
        folder = self._folder or temporary_folder(self)
        return dict(conformance_settings(self.plugin, folder).get(self.name, {}))

    def build_settings(self, data: Mapping[str, Any]) -> Any:
        """Build the record's settings class."""
        cls = self.spec.load_settings()
        return None if cls is None else build(cls, data, where=lambda key: f"The settings of '{self.name}'")


def check_record(
    kind: str,
    name: str,
    *,
    registry: Registry | None = None,
    settings: Mapping[str, Any] | None = None,
    folder: Path | None = None,
) -> list[CheckResult]:
    """Run every check of a registered record.

    Args:
        kind: ``reward``, ``env``, ``learner``, ``feedback``, ``model`` or ``command``.
        name: The record's name.
        registry: Where it is looked up; the installed plugins by default.
        settings: What to build it from; by default what its plugin's `conformance_settings` say, or
            nothing. For an environment, the arguments of its constructor.
        folder: Where `conformance_settings` may write; a temporary folder by default.

    Raises:
        UserError: When there is no such record.
    """
    return [case.result() for case in record_cases(kind, name, registry, settings, folder)]


def check_plugin(
    plugin: str, *, registry: Registry | None = None, folder: Path | None = None
) -> dict[str, list[CheckResult]]:
    """Check everything that a plugin offers.

    Args:
        plugin: The plugin's name, as ``textrl plugins`` lists it.
        registry: As `check_record`.
        folder: As `check_record`.

    Returns:
        ``"<kind> <name>"`` -> results; under ``"plugin"`` what is wrong with a broken plugin.

    Raises:
        UserError: When there is no such plugin.
    """
    known = _registry(registry)
    found = known.plugin(plugin)
    if found.status != "ok":
        return {"plugin": [CheckResult("loads", False, found.error or f"it is {found.status}")]}
    return {
        f"{kind} {spec.name}": check_record(kind, spec.name, registry=known, folder=folder)
        for kind, spec in found.offers
    }


def record_cases(
    kind: str,
    name: str,
    registry: Registry | None = None,
    settings: Mapping[str, Any] | None = None,
    folder: Path | None = None,
) -> list[Case]:
    """Return the checks of a record as cases for ``pytest.mark.parametrize``; arguments as `check_record`."""
    known = _registry(registry)
    known.find(kind, name)
    if kind == "reward":
        return reward_cases(name, settings, registry=known, folder=folder)
    entry = Entry(kind, name, known, settings, folder)
    checks = {**COMMON, **CHECKS[kind]}
    return [Case(title, functools.partial(check, entry)) for title, check in checks.items()]


def check_target(entry: Entry) -> str:
    """The target imports and can be called."""
    target = entry.spec.load()
    demand(callable(target), f"the target {entry.spec.target} is a {type(target).__name__}; name a callable.")
    return f"{entry.spec.target} can be called"


def check_settings(entry: Entry) -> str:
    """The settings class is a frozen dataclass that explains its fields and refuses unknown ones."""
    seen = check_settings_class(entry.spec)
    if entry.spec.settings is None:
        return seen
    try:
        entry.build_settings({**_own(entry), "no_such_setting": 1})
    except UserError as error:
        demand("no_such_setting" in str(error), f"the message does not name the unknown key: {error}")
        return f"{seen}; an unknown one is refused by name"
    raise Violation("a setting that does not exist was accepted; use a frozen dataclass for the settings.")


def check_light(entry: Entry) -> str:
    """The plugin's hook module imports nothing heavy."""
    return check_light_import(entry.plugin)


def check_gymnasium(entry: Entry) -> str:
    """Gymnasium's checker passes without a warning."""
    import gymnasium
    from gymnasium.utils.env_checker import check_env

    entry.registry.register_envs()
    env = gymnasium.make(entry.name, disable_env_checker=True, **entry.settings)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(env.unwrapped)
    env.close()
    _no_warnings("Gymnasium's check_env", caught)
    return "Gymnasium's check_env passes without a warning"


def check_vector(entry: Entry) -> str:
    """The vector environment has batched spaces, says how it resets, and its answers are in its spaces."""
    import gymnasium

    assert isinstance(entry.spec, EnvSpec)  # the registry keeps records by kind
    if entry.spec.vector_target is None:
        return "none declared"
    entry.registry.register_envs()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        env = gymnasium.make_vec(
            entry.name, num_envs=2, vectorization_mode="vector_entry_point", **entry.settings
        )
    try:
        demand(
            "autoreset_mode" in env.metadata, "metadata has no 'autoreset_mode'; name how episodes restart."
        )
        _no_warnings("gymnasium.make_vec", caught)
        observation, _ = env.reset(seed=0)
        demand(observation in env.observation_space, "reset() gave an observation outside observation_space.")
        env.action_space.seed(0)
        for _ in range(3):
            observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            demand(
                observation in env.observation_space, "step() gave an observation outside observation_space."
            )
            shapes = {part.shape for part in (reward, terminated, truncated)}
            demand(
                shapes == {(2,)}, f"step() gave rewards and flags of the shapes {shapes}; return (num_envs,)."
            )
    finally:
        env.close()
    return "two environments reset and step together"


def check_surface(entry: Entry) -> str:
    """The learner has Stable-Baselines3's surface."""
    cls = entry.spec.load()
    for name, (positional, named) in LEARNER_SURFACE.items():
        method = inspect.getattr_static(cls, name, None)
        demand(
            method is not None, f"{entry.spec.target} has no {name}(); give it Stable-Baselines3's surface."
        )
        bound = isinstance(method, classmethod | staticmethod)
        arguments = positional if bound else (None, *positional)
        try:
            inspect.signature(getattr(cls, name)).bind(*arguments, **named)
        except TypeError as error:
            shown = ", ".join([*map(repr, positional), *(f"{key}=..." for key in named)])
            raise Violation(f"{name}({shown}) cannot be called: {error}.") from error
    counted = hasattr(cls, "num_timesteps") or any(
        "num_timesteps" in getattr(base, "__annotations__", {}) for base in cls.__mro__
    )
    made = "num_timesteps" in getattr(getattr(cls.__init__, "__code__", None), "co_names", ())
    demand(counted or made, f"{entry.spec.target} has no num_timesteps; count its steps there.")
    return "has Stable-Baselines3's surface"


def check_model(entry: Entry) -> str:
    """The target returns a folder that transformers loads, from safetensors and without remote code."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from textrl.models.sources import quiet_transformers

    folder = Path(entry.spec.load()())
    demand(folder.is_dir(), f"the target returned {folder}, which is not a folder.")
    unsafe = sorted(file.name for pattern in ("*.bin", "*.pt", "*.pkl") for file in folder.glob(pattern))
    demand(
        not unsafe,
        f"{folder} holds {(unsafe or [''])[0]}, which is unpickled on loading; save safetensors only.",
    )
    demand(list(folder.glob("*.safetensors")), f"{folder} holds no safetensors.")
    with quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False, use_safetensors=True)
    size = model.get_input_embeddings().num_embeddings
    demand(len(tokenizer) <= size, f"the tokenizer has {len(tokenizer)} tokens and the model only {size}.")
    demand(tokenizer.eos_token_id is not None, "the tokenizer has no EOS token, so no response can end.")
    return f"loads: {sum(p.numel() for p in model.parameters()):,} parameters"


def check_command(entry: Entry) -> str:
    """The command's function explains itself, and its parameters have types for the command line."""
    target = entry.spec.load()
    demand(inspect.getdoc(target), f"{entry.spec.target} has no docstring, which --help would show.")
    untyped = [
        parameter.name
        for parameter in inspect.signature(target).parameters.values()
        if parameter.annotation is inspect.Parameter.empty
    ]
    demand(not untyped, f"the parameter '{(untyped or [''])[0]}' of {entry.spec.target} has no type.")
    return "documented and typed"


def check_feedback(entry: Entry) -> str:
    """`poll` returns signals in order, none of them twice."""
    assert isinstance(entry.spec, FeedbackSpec)  # the registry keeps records by kind
    settings = entry.build_settings(entry.settings)
    feedback = entry.spec.load()(*(() if settings is None else (settings,)))
    polled = [signal for now_s in (0.0, 0.5, 0.5, 2.0) for signal in feedback.poll(now_s)]
    times = [signal.time_s for signal in polled]
    demand(times == sorted(times), f"poll() gave signals out of order, at {times[:8]} s.")
    demand(len({id(signal) for signal in polled}) == len(polled), "poll() gave the same signal twice.")
    late = [time_s for time_s in times if time_s > 2.0]
    demand(not late, f"poll(2.0) gave a signal of {(late or [0.0])[0]} s, which is not given yet.")
    return f"{len(polled)} signals in two seconds, in order"


Checks = dict[str, Callable[[Entry], str]]

#: Checks of every kind but reward, which has its own.
COMMON: Checks = {"target": check_target, "settings": check_settings, "light_import": check_light}
CHECKS: dict[str, Checks] = {
    "env": {"check_env": check_gymnasium, "vector": check_vector},
    "learner": {"surface": check_surface},
    "model": {"loads": check_model},
    "command": {"help": check_command},
    "feedback": {"poll": check_feedback},
}


def _own(entry: Entry) -> dict[str, Any]:
    """Return the settings to add an unknown key to; those of an environment are constructor arguments."""
    return {} if entry.kind == "env" else entry.settings


def _registry(registry: Registry | None) -> Registry:
    from textrl.registry import get_registry

    return registry if registry is not None else get_registry()


def _no_warnings(who: str, caught: list[warnings.WarningMessage]) -> None:
    messages = [" ".join(str(warning.message).split()) for warning in caught]
    demand(not messages, f"{who} warns: {(messages or [''])[0]}")
