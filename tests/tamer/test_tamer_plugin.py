"""The plugins `tamer` and `human`: conformance, lightness, both roles of the source."""

import json

import numpy as np
import pytest
import torch
from tamer_world import plugin_registry
from textrl_tamer.settings import TamerSourceSettings
from textrl_tamer.source import TAMER

from textrl.errors import UserError
from textrl.protocols import Advice, AdviceState, Batch, Reward, Signal
from textrl.rewards import join_tensors, split_tensors
from textrl.settings import build
from textrl.testing import check_record, check_reward
from textrl.testing.records import record_cases

ENTRIES = [
    ("textrl_tamer", "reward", "tamer"),
    ("textrl_human", "feedback", "simulated"),
    ("textrl_human", "feedback", "replay"),
    ("textrl_human", "feedback", "realtime"),
]
CASES = [
    pytest.param(case, id=f"{name}-{case}")
    for module, kind, name in ENTRIES
    for case in record_cases(kind, name, plugin_registry(module))
]
SMALL = {"kind": "rbf", "per_dimension": 5, "width": 0.5}


@pytest.mark.parametrize("case", CASES)
def test_entry_conforms(case):
    case()


@pytest.mark.parametrize(
    "settings",
    [
        {"environment": "MountainCar-v0"},
        {"loss": "importance"},
        {"loss": "window", "delay": {"kind": "gamma"}},
        {"environment": "CartPole-v1", "features": {"kind": "identity"}, "model": "network", "hidden": [4]},
        {"environment": "MountainCar-v0", "features": SMALL, "model": "knn"},
    ],
)
def test_variant_conforms(settings):
    results = check_reward("tamer", settings, registry=plugin_registry("textrl_tamer"))
    assert [result for result in results if not result.ok] == []


@pytest.mark.parametrize("preset", ["stoc", "loop_maze_human", "myopic"])
def test_simulated_variant_conforms(preset):
    registry = plugin_registry("textrl_human")
    results = check_record("feedback", "simulated", registry=registry, settings={"preset": preset})
    assert [result for result in results if not result.ok] == []


def source(**settings):
    return TAMER(build(TamerSourceSettings, settings, where=lambda key: key))


def mountain_car(**settings):
    return source(environment="MountainCar-v0", features=SMALL, **settings)


def taught(h, seed=0):
    """Show ten steps on the screen and press after each."""
    rng = np.random.default_rng(seed)
    for i in range(10):
        observation = rng.uniform([-1.2, -0.07], [0.6, 0.07]).astype(np.float32)
        payload = {"observation": observation, "action": int(rng.integers(3))}
        h.observe(
            [
                Signal(kind="shown", value=0.0, time_s=0.2 * i, payload=payload),
                Signal(value=float(rng.choice([-1.0, 1.0])), time_s=0.2 * i + 0.15),
            ]
        )
    h.observe([Signal(kind="end_episode", value=0.0, time_s=2.0), Signal(kind="tick", value=0.0, time_s=3.0)])
    return h


STATES = torch.tensor([[-0.5, 0.0], [0.3, 0.02], [-1.0, -0.05]])


class TestAdvice:
    def test_it_is_reward_and_advice(self):
        assert isinstance(mountain_car(), Reward)
        assert isinstance(mountain_car(), Advice)

    def test_all_actions_are_rated_with_and_without_torch(self):
        h = taught(mountain_car())
        rated = h.advise(AdviceState(observation=STATES))
        assert rated.shape == (3, 3)
        assert rated.dtype == torch.float64
        assert rated.abs().sum() > 0
        for state, row in zip(STATES, rated, strict=True):
            np.testing.assert_allclose(h.rate(state.numpy()), row, atol=1e-15)

    def test_advice_without_feedback_is_0(self):
        assert not mountain_car().advise(AdviceState(observation=STATES)).any()

    def test_steps_that_are_rated_in_part_count(self):
        h = mountain_car()
        shown = {"observation": STATES[0].numpy(), "action": 1}
        h.observe([Signal(kind="shown", value=0.0, time_s=0.0, payload=shown)])
        h.observe([Signal(value=1.0, time_s=0.7), Signal(kind="tick", value=0.0, time_s=1.2)])
        assert h.rate(STATES[0].numpy())[1] > 0
        assert h.tamer.samples == 0

    def test_a_saved_source_comes_back(self):
        old, new = taught(mountain_car()), mountain_car()
        tensors, rest = split_tensors(old.state_dict())
        new.load_state_dict(join_tensors(tensors, json.loads(json.dumps(rest, allow_nan=False))))
        for h in (old, new):
            taught(h, seed=1)
        torch.testing.assert_close(
            old.advise(AdviceState(observation=STATES)),
            new.advise(AdviceState(observation=STATES)),
            rtol=0,
            atol=0,
        )

    def test_it_takes_a_person_s_h(self, tmp_path):
        weights = np.random.default_rng(0).normal(size=(3, 26))
        path = tmp_path / "h.json"
        path.write_text(json.dumps(weights.ravel().tolist()))
        h = mountain_car(weights=str(path))
        features = h.tamer.model.encoder(STATES[1].numpy())
        np.testing.assert_allclose(h.rate(STATES[1].numpy()), weights @ features)

    def test_the_environment_may_come_later(self):
        import gymnasium

        h = source(features=SMALL)
        for ask in (
            lambda: h.rate(STATES[0]),
            lambda: h.advise(AdviceState(observation=STATES)),
            lambda: taught(h),
        ):
            with pytest.raises(UserError, match="does not know whose actions to rate; set its 'environment'"):
                ask()
        tamer = h.bind(gymnasium.make("MountainCar-v0"))
        assert tamer is h.tamer is h.bind(gymnasium.make("MountainCar-v0"))
        assert h.rate(STATES[0].numpy()).shape == (3,)
        with pytest.raises(UserError, match=r"rates 3 actions, but .* has 2"):
            h.bind(gymnasium.make("CartPole-v1"))
        with pytest.raises(UserError, match="rates Discrete actions"):
            source().bind(gymnasium.make("Pendulum-v1"))

    def test_an_unknown_environment_is_refused(self):
        with pytest.raises(UserError, match="The source 'tamer' has the environment 'MountinCar-v0'"):
            source(environment="MountinCar-v0")


def batch(ids, mask=None):
    ids = torch.tensor(ids)
    return Batch(
        prompt_ids=torch.zeros(len(ids), 1, dtype=torch.int64),
        prompt_mask=torch.ones(len(ids), 1, dtype=torch.bool),
        response_ids=ids,
        response_mask=torch.ones_like(ids, dtype=torch.bool) if mask is None else torch.tensor(mask).bool(),
    )


class TestText:
    def shown(self, token, at):
        return Signal(kind="shown", value=0.0, time_s=at, payload={"token": token})

    def test_tokens_are_worth_nothing_at_first(self):
        assert source()(batch([[1, 2, 3]])).tolist() == [[0.0, 0.0, 0.0]]

    def test_a_press_makes_a_token_worth_something(self):
        h = source(alpha=1.0, delay={"low": 0.2, "high": 0.5})
        h.observe([self.shown(7, 0.0), self.shown(9, 1.0), Signal(value=-1.0, time_s=1.7)])
        h.observe([Signal(kind="end_episode", value=0.0, time_s=2.0), self.shown(7, 3.0)])
        paid = h(batch([[7, 9, 0], [9, 50_000, 9]], mask=[[1, 1, 1], [1, 1, 0]]))
        assert paid.tolist() == [[0.0, -1.0, 0.0], [-1.0, 0.0, 0.0]]
        assert paid.dtype == torch.float32

    def test_training_can_be_switched_off(self):
        h = source()
        h.observe([Signal(kind="training", value=0.0, time_s=0.0)])
        assert not h.tokens.is_training
        assert mountain_car().tamer.is_training

    def test_a_saved_table_goes_on_alike_with_steps_on_screen(self):
        def begin(h):
            h.observe([self.shown(t, 0.3 * t) for t in range(6)])
            h.observe([Signal(value=1.0, time_s=1.6)])

        def go_on(h):
            h.observe([Signal(value=-2.0, time_s=1.9), self.shown(2, 2.0), self.shown(0, 4.0)])
            return h(batch([[0, 1, 2, 3, 4, 5]]))

        old, new = source(), source()
        begin(old)
        tensors, rest = split_tensors(old.state_dict())
        new.load_state_dict(join_tensors(tensors, json.loads(json.dumps(rest, allow_nan=False))))
        assert torch.equal(old(batch([[0, 1, 2]])), new(batch([[0, 1, 2]])))
        paid = go_on(old)
        assert torch.equal(paid, go_on(new))
        assert paid.abs().sum() > 0


@pytest.mark.parametrize(
    "code",
    [
        "import textrl_tamer, textrl_human",
        "from textrl.tamer.settings import TamerSettings",
    ],
)
def test_importing_is_light(code):
    import subprocess
    import sys

    probe = (
        f"import sys; sys.path[:] = {sys.path!r}\n{code}\nprint(*(m in sys.modules for m in sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe, "torch", "numpy"], capture_output=True, text=True, check=True
    )
    # Settings are a matter of the core, which computes in numpy; the hooks need neither.
    assert done.stdout.split() == ["False", str("settings" in code)]
