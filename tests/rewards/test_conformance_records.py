"""Conformance of environments, learners, models, commands and feedback, each also broken on purpose."""

import textwrap

import pytest

from textrl.registry import get_registry
from textrl.testing import check_record
from textrl.testing.records import CHECKS

HOOKS = """
from textrl.hookspecs import hookimpl
from textrl.specs import CommandSpec, EnvSpec, FeedbackSpec, LearnerSpec, ModelSpec


@hookimpl
def textrl_{hook}():
    yield {record}
"""


@pytest.fixture
def offer(tmp_path, monkeypatch, request):
    """Load a plugin that offers one record, with its implementation in a module of its own."""
    monkeypatch.syspath_prepend(tmp_path)
    stem = "case_" + "".join(c if c.isalnum() else "_" for c in request.node.name)

    def load(hook, record, implementation):
        (tmp_path / f"{stem}_target.py").write_text(textwrap.dedent(implementation))
        file = tmp_path / f"{stem}.py"
        file.write_text(HOOKS.format(hook=hook, record=record.replace("TARGET", f"{stem}_target")))
        return get_registry(plugins=[str(file)])

    return load


def failures(results):
    return {result.name: result.detail for result in results if not result.ok}


LEARNER = """
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Settings:
        '''Settings.

        Attributes:
            rate: How fast.
        '''

        rate: float = 1.0

    class Good:
        def __init__(self, env, settings):
            self.num_timesteps = 0
        def learn(self, total_timesteps, callback=None, progress_bar=False): ...
        def predict(self, observation, state=None, episode_start=None, deterministic=False): ...
        def save(self, path): ...
        @classmethod
        def load(cls, path, env=None): ...
        def set_logger(self, logger): ...
        def get_env(self): ...
        def get_vec_normalize_env(self): ...

    class NoSave(Good):
        save = None
        def __init_subclass__(cls): ...

    class Countless(Good):
        def __init__(self, env, settings):
            pass

    class ShortPredict(Good):
        def predict(self, observation): ...
"""


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("Good", None),
        ("NoSave", "save"),
        ("Countless", "num_timesteps"),
        ("ShortPredict", "predict(None, state=..."),
    ],
)
def test_learner_surface(offer, target, message):
    record = (
        f"LearnerSpec(name='pupil', target='TARGET:{target}', settings='TARGET:Settings', summary='learns', "
        "accepts=frozenset({'reward'}))"
    )
    broken = failures(check_record("learner", "pupil", registry=offer("learners", record, LEARNER)))
    if message is None:
        assert broken == {}
    else:
        assert set(broken) == {"surface"}
        assert message in broken["surface"]


def test_a_learner_may_take_no_advice(offer):
    record = "LearnerSpec(name='pupil', target='TARGET:Good', settings='TARGET:Settings', summary='learns')"
    assert failures(check_record("learner", "pupil", registry=offer("learners", record, LEARNER))) == {}


ENV = """
    import numpy as np
    import gymnasium

    class Good(gymnasium.Env):
        metadata = {"render_modes": [], "autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP}
        observation_space = gymnasium.spaces.Box(0, 1, (2,), np.float32)
        action_space = gymnasium.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return np.zeros(2, dtype=np.float32), {}

        def step(self, action):
            return np.ones(2, dtype=np.float32), 1.0, False, False, {}

    class OutOfSpace(Good):
        def step(self, action):
            return np.full(2, 3.0, dtype=np.float32), 1.0, False, False, {}

    class Warns(Good):
        observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)

    class Vector(gymnasium.vector.VectorEnv):
        metadata = Good.metadata

        def __init__(self, num_envs=1):
            self.num_envs = num_envs
            self.single_observation_space = Good.observation_space
            self.single_action_space = Good.action_space
            self.observation_space = gymnasium.vector.utils.batch_space(Good.observation_space, num_envs)
            self.action_space = gymnasium.vector.utils.batch_space(Good.action_space, num_envs)

        def reset(self, *, seed=None, options=None):
            return np.zeros((self.num_envs, 2), dtype=np.float32), {}

        def step(self, actions):
            flags = np.zeros(self.num_envs, dtype=bool)
            return np.ones((self.num_envs, 2), dtype=np.float32), np.ones(self.num_envs), flags, flags, {}

    class SilentVector(Vector):
        metadata = {}

    class ResetsOutside(Vector):
        def reset(self, *, seed=None, options=None):
            return np.full((self.num_envs, 2), 3.0, dtype=np.float32), {}

    class StepsOutside(Vector):
        def step(self, actions):
            return np.full((self.num_envs, 2), 3.0, dtype=np.float32), *super().step(actions)[1:]

    class OneReward(Vector):
        def step(self, actions):
            observation, _, terminated, truncated, info = super().step(actions)
            return observation, np.ones(1), terminated, truncated, info
"""


@pytest.mark.parametrize(
    ("target", "vector", "check", "message"),
    [
        ("Good", "Vector", None, None),
        ("OutOfSpace", "Vector", "check_env", "observation"),
        ("Warns", "Vector", "check_env", "warns"),
        ("Good", "SilentVector", "vector", "autoreset_mode"),
        ("Good", "ResetsOutside", "vector", "reset() gave an observation outside"),
        ("Good", "StepsOutside", "vector", "step() gave an observation outside"),
        ("Good", "OneReward", "vector", "num_envs"),
    ],
)
def test_environments(offer, target, vector, check, message):
    name = f"Conformance/{target}{vector}-v0"
    record = (
        f"EnvSpec(name='{name}', target='TARGET:{target}', vector_target='TARGET:{vector}', summary='an env')"
    )
    broken = failures(check_record("env", name, registry=offer("envs", record, ENV)))
    if check is None:
        assert broken == {}
    else:
        assert set(broken) == {check}
        assert message in broken[check]


MODEL = """
    from pathlib import Path
    from textrl.registry import get_registry

    FOLDER = Path({folder!r})

    def good():
        return get_registry().find("model", "tiny-gpt2").load()()

    def empty():
        FOLDER.mkdir(exist_ok=True)
        return FOLDER

    def nowhere():
        return FOLDER / "nowhere"

    def pickled():
        empty()
        (FOLDER / "pytorch_model.bin").touch()
        return FOLDER
"""


@pytest.mark.parametrize(
    ("target", "message"),
    [("good", None), ("empty", "no safetensors"), ("nowhere", "not a folder"), ("pickled", "unpickled")],
)
def test_models(offer, tmp_path, target, message):
    record = f"ModelSpec(name='tiny-copy', target='TARGET:{target}', summary='a model')"
    registry = offer("models", record, MODEL.format(folder=str(tmp_path / "model")))
    broken = failures(check_record("model", "tiny-copy", registry=registry))
    if message is None:
        assert broken == {}
    else:
        assert set(broken) == {"loads"}
        assert message in broken["loads"]


COMMAND = """
    def good(count: int = 1) -> None:
        '''Print something.'''

    def silent(count: int = 1) -> None: ...

    def untyped(count=1):
        '''Print something.'''
"""


@pytest.mark.parametrize(
    ("target", "message"), [("good", None), ("silent", "docstring"), ("untyped", "'count'")]
)
def test_commands(offer, target, message):
    record = f"CommandSpec(name='sing', target='TARGET:{target}', summary='sings')"
    broken = failures(check_record("command", "sing", registry=offer("commands", record, COMMAND)))
    assert (set(broken) == {"help"} and message in broken["help"]) if message else broken == {}


FEEDBACK = """
    from textrl.protocols import Signal

    class Good:
        def __init__(self):
            self.left = [Signal(value=1.0, time_s=t) for t in (0.2, 0.4, 1.0, 3.0)]
        def poll(self, now_s):
            given = [s for s in self.left if s.time_s <= now_s]
            self.left = self.left[len(given):]
            return given

    class Repeats(Good):
        def poll(self, now_s):
            return [s for s in self.left if s.time_s <= min(now_s, 0.2)]

    class Foresees(Good):
        def poll(self, now_s):
            return super().poll(now_s + 9.0)

    class Disorders(Good):
        def poll(self, now_s):
            return super().poll(now_s)[::-1]
"""


@pytest.mark.parametrize(
    ("target", "message"),
    [("Good", None), ("Repeats", "twice"), ("Foresees", "3.0 s"), ("Disorders", "out of order")],
)
def test_feedback(offer, target, message):
    record = f"FeedbackSpec(name='crowd', target='TARGET:{target}', summary='cheers')"
    broken = failures(check_record("feedback", "crowd", registry=offer("feedback", record, FEEDBACK)))
    assert (set(broken) == {"poll"} and message in broken["poll"]) if message else broken == {}


def test_a_target_that_is_no_callable(offer):
    record = "CommandSpec(name='sing', target='TARGET:song', summary='sings')"
    broken = failures(check_record("command", "sing", registry=offer("commands", record, "song = 'la'\n")))
    assert "is a str; name a callable" in broken["target"]


def test_every_kind_of_record_has_checks():
    from textrl.discovery import KINDS

    assert set(CHECKS) | {"reward"} == set(KINDS)
