"""Models of H: gradient steps by hand, optima by least squares, copies and checkpoints."""

import json

import gymnasium
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tamer_world import ONE_HOT, Corridor, corridor_tamer

from textrl.errors import UserError
from textrl.features import FeatureSettings, make_features
from textrl.rewards.state import join_tensors, split_tensors
from textrl.settings import build
from textrl.tamer import Tamer, TamerSettings
from textrl.tamer.models import KNNH, Encoder, LinearH, TableH, make_model

PLANE = gymnasium.spaces.Box(-1.0, 1.0, (2,))
IDENTITY = FeatureSettings(kind="identity", bias=1.0)


def model(kind="linear", space=PLANE, actions=2, **settings):
    given = {"features": IDENTITY, "alpha": 0.1, **settings}
    return make_model(TamerSettings(model=kind, **given), space, actions)


def plain(state):
    """Through what a checkpoint does to a state."""

    def tensors(value):
        if isinstance(value, np.ndarray):
            return torch.from_numpy(value)
        if isinstance(value, dict):
            return {key: tensors(item) for key, item in value.items()}
        return [tensors(item) for item in value] if isinstance(value, list | tuple) else value

    def arrays(value):
        if isinstance(value, torch.Tensor):
            return value.numpy()
        if isinstance(value, dict):
            return {key: arrays(item) for key, item in value.items()}
        return [arrays(item) for item in value] if isinstance(value, list) else value

    parts, rest = split_tensors(tensors(state))
    return arrays(join_tensors(parts, json.loads(json.dumps(rest, allow_nan=False))))


MODELS = [("linear", {}), ("knn", {"neighbours": 3}), ("network", {"hidden": (8,), "replay": 3})]


@pytest.mark.parametrize(("kind", "settings"), MODELS)
class TestEveryModel:
    def test_without_feedback_there_is_no_influence(self, kind, settings):
        h = model(kind, **settings)
        np.testing.assert_array_equal(h.predict(np.array([0.3, -0.7])), [0.0, 0.0])
        np.testing.assert_array_equal(h.predict_batch(np.ones((3, 2))), np.zeros((3, 2)))

    def test_a_sample_moves_its_action_towards_its_label(self, kind, settings):
        h = model(kind, **settings)
        here = np.array([0.3, -0.7])
        for _ in range(3):
            h.learn(here, 1, 2.0)
        rated = h.predict(here)
        assert 0 < rated[1] <= 2
        if kind != "network":  # whose hidden layer the actions share
            assert rated[0] == 0

    def test_one_and_several_observations_are_rated_alike(self, kind, settings):
        h = model(kind, **settings)
        rng = np.random.default_rng(0)
        for _ in range(20):
            h.learn(rng.uniform(-1, 1, 2), int(rng.integers(2)), rng.normal())
        batch = rng.uniform(-1, 1, (5, 2))
        single = np.stack([h.predict(one) for one in batch])
        np.testing.assert_allclose(h.predict_batch(batch), single, atol=1e-6)

    def test_a_branch_learns_by_itself(self, kind, settings):
        h = model(kind, **settings)
        here = np.array([0.3, -0.7])
        h.learn(here, 0, 1.0)
        before = h.predict(here)
        branch = h.branch()
        np.testing.assert_array_equal(branch.predict(here), before)
        branch.learn(here, 0, -5.0)
        assert branch.predict(here)[0] < before[0]
        np.testing.assert_array_equal(h.predict(here), before)
        h.learn(here, 0, 1.0)
        assert h.branch().predict(here)[0] == h.predict(here)[0]

    def test_a_restored_model_goes_on_alike(self, kind, settings):
        rng = np.random.default_rng(1)
        samples = [(rng.uniform(-1, 1, 2), int(rng.integers(2)), rng.normal()) for _ in range(40)]
        old, new = model(kind, **settings), model(kind, **settings)
        for sample in samples[:20]:
            old.learn(*sample)
        new.load_state_dict(plain(old.state_dict()))
        for sample in samples[20:]:
            old.learn(*sample)
            new.learn(*sample)
        points = rng.uniform(-1, 1, (7, 2))
        np.testing.assert_array_equal(old.predict_batch(points), new.predict_batch(points))

    def test_a_state_of_other_features_is_refused(self, kind, settings):
        state = model(kind, **settings).state_dict()
        if kind == "knn":
            state["samples"] = [np.zeros((1, 9)), np.zeros((1, 9))]
        with pytest.raises(UserError, match="checkpoint"):
            model(kind, actions=3, **settings).load_state_dict(state)

    def test_the_global_random_numbers_are_left_alone(self, kind, settings):
        torch.manual_seed(0)
        expected = torch.rand(3)
        torch.manual_seed(0)
        model(kind, **settings).learn(np.zeros(2), 0, 1.0)
        assert torch.equal(torch.rand(3), expected)


class TestLinear:
    def test_a_step_by_hand(self):
        h = model()
        # phi = (2, -1, 1), |phi|^2 = 6: w = .1 * 3 * phi, H = 1.8; then .1 * .5 * (3 - 1.8) * phi more.
        phi = np.array([2.0, -1.0])
        h.learn(phi, 1, 3.0)
        np.testing.assert_allclose(h.weights, [[0, 0, 0], [0.6, -0.3, 0.3]])
        h.learn(phi, 1, 3.0, weight=0.5)
        np.testing.assert_allclose(h.weights[1], [0.72, -0.36, 0.36])

    def test_a_window_by_hand(self):
        h = model()
        h.weights[:] = [[1, 0, 0], [0, 1, 0]]
        first, second = np.array([1.0, 0.0]), np.array([0.0, 2.0])
        # .25 * 1 + .75 * 2 = 1.75, so the error is -.75.
        h.learn_window([first, second], [0, 1], [0.25, 0.75], 1.0)
        np.testing.assert_allclose(h.weights[0], [1 - 0.1 * 0.75 * 0.25, 0, -0.1 * 0.75 * 0.25])
        np.testing.assert_allclose(h.weights[1], [0, 1 - 0.1 * 0.75 * 0.75 * 2, -0.1 * 0.75 * 0.75])

    @given(st.integers(0, 2**32 - 1))
    def test_a_window_step_is_the_gradient(self, seed):
        rng = np.random.default_rng(seed)
        h = model()
        h.weights[:] = rng.normal(size=h.weights.shape)
        observations, actions = rng.uniform(-1, 1, (4, 2)), rng.integers(2, size=4)
        credits, label = rng.dirichlet(np.ones(4)), rng.normal()
        w = torch.tensor(h.weights, requires_grad=True)
        phi = torch.tensor(h.encoder.features.batch(observations))
        total = (torch.tensor(credits) * (w[torch.tensor(actions)] * phi).sum(1)).sum()
        (grad,) = torch.autograd.grad((label - total) ** 2 / 2, w)
        expected = h.weights - 0.1 * grad.numpy()
        h.learn_window(list(observations), actions.tolist(), credits.tolist(), label)
        np.testing.assert_allclose(h.weights, expected, atol=1e-12)

    def test_noiseless_labels_lead_to_least_squares(self):
        rng = np.random.default_rng(0)
        truth = rng.normal(size=(2, 3))
        h = model(alpha=0.3)
        for _ in range(1500):
            s, a = rng.uniform(-1, 1, 2), int(rng.integers(2))
            h.learn(s, a, float(truth[a] @ [*s, 1.0]))
        np.testing.assert_allclose(h.weights, truth, atol=1e-8)


class TestNeighbours:
    def test_the_nearest_by_hand(self):
        h = model("knn", neighbours=2)
        for x, label in ((0.0, 1.0), (0.1, 3.0), (0.9, 100.0)):
            h.learn(np.array([x, 0.0]), 0, label)
        assert h.predict(np.array([0.04, 0.0]))[0] == 2.0
        assert h.predict(np.array([0.8, 0.0]))[0] == 51.5

    def test_weights_count(self):
        h = model("knn", neighbours=2)
        h.learn(np.zeros(2), 1, 1.0, weight=0.25)
        h.learn(np.zeros(2), 1, -1.0, weight=0.75)
        assert h.predict(np.zeros(2))[1] == pytest.approx(-0.5)

    def test_the_oldest_samples_are_forgotten(self):
        h = model("knn", neighbours=8, capacity=3)
        for label in range(5):
            h.learn(np.zeros(2), 0, float(label))
        assert h.predict(np.zeros(2))[0] == 3.0  # of 2, 3 and 4

    def test_a_window_cannot_be_learnt(self):
        encoder = Encoder(make_features(IDENTITY, PLANE))
        with pytest.raises(UserError, match="knn cannot learn the loss window"):
            KNNH(encoder, 2, 1, 10).learn_window([], [], [], 1.0)


class TestNetwork:
    def test_it_fits_what_a_line_cannot(self):
        rng = np.random.default_rng(0)
        h = model("network", hidden=(32,), learning_rate=0.01, replay=31)
        for _ in range(600):
            s, a = rng.uniform(-1, 1, 2), int(rng.integers(2))
            h.learn(s, a, float(np.sign(s[0] * s[1]) * (1 if a else -1)))
        corners = np.array([[0.7, 0.7], [-0.7, 0.7], [0.7, -0.7], [-0.7, -0.7]])
        np.testing.assert_array_equal(np.sign(h.predict_batch(corners)[:, 1]), [1, -1, -1, 1])
        np.testing.assert_array_equal(h.predict_batch(corners).argmax(1), [1, 0, 0, 1])

    def test_a_window_moves_the_weighted_sum(self):
        h = model("network", hidden=(16,), learning_rate=0.01)
        states = [np.array([0.5, 0.5]), np.array([-0.5, 0.5])]
        for _ in range(200):
            h.learn_window(states, [0, 1], [0.25, 0.75], 1.0)
        rated = 0.25 * h.predict(states[0])[0] + 0.75 * h.predict(states[1])[1]
        assert rated == pytest.approx(1.0, abs=0.02)


class TestTable:
    def test_it_grows_with_what_is_rated(self):
        h = TableH(0.5)
        assert len(h.predict()) == 0
        h.learn(None, 3, 1.0)
        np.testing.assert_array_equal(h.predict(), [0, 0, 0, 0.5])
        h.learn(None, 3, 1.0, weight=0.5)
        assert h.predict()[3] == 0.625

    def test_a_window_by_hand(self):
        h = TableH(0.5)
        h.learn_window([None, None], [0, 1], [0.25, 0.75], 1.0)
        np.testing.assert_array_equal(h.predict(), [0.125, 0.375])


def test_the_encoder_remembers_by_contents_and_forgets_the_oldest():
    calls = []

    class Counting:
        size = 1

        def __call__(self, observation):
            calls.append(observation.copy())
            return observation.astype(float)

    encoder = Encoder(Counting())
    observation = np.array([1.0])
    first = encoder(observation)
    observation[0] = 2.0  # an environment that reuses its array
    assert (encoder(observation)[0], first[0]) == (2.0, 1.0)
    encoder(np.array([1.0]))
    assert len(calls) == 2
    for i in range(200):
        encoder(np.array([float(i)]))
    assert len(encoder._known) <= 64


class TestWeightsFiles:
    SETTINGS = TamerSettings(features=FeatureSettings(per_dimension=3, width=0.5))

    def load(self, path):
        return Tamer.from_weights(path, self.SETTINGS, PLANE, 2)

    def test_each_action_has_its_features_and_then_its_bias(self, tmp_path):
        # 3 x 3 bumps and a bias for each of two actions, numbered as in the author's files.
        path = tmp_path / "h.json"
        path.write_text(json.dumps(list(range(20))))
        tamer = self.load(path)
        np.testing.assert_array_equal(tamer.model.weights, np.arange(20.0).reshape(2, 10))
        # In the middle of the first row of bumps: (low position, middle velocity), and the bias .1.
        features = tamer.model.encoder(np.array([-1.0, 0.0]))
        assert features.argmax() == 1
        assert features[-1] == 0.1
        assert tamer.rate(np.array([-1.0, 0.0]))[1] == pytest.approx(features @ np.arange(10.0, 20.0))

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("[1, 2]", "are 2 numbers, but these features and actions need 20"),
            ('["a"]', "not a JSON list of numbers; give 20"),
            ("{}", "not a JSON list of numbers"),
            ("[1,", "are not JSON"),
            (json.dumps([1.0] * 19)[:-1] + ", NaN]", "hold nan"),
        ],
    )
    def test_a_wrong_file_is_refused(self, tmp_path, text, message):
        path = tmp_path / "h.json"
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            self.load(path)

    def test_a_missing_file_is_refused(self, tmp_path):
        with pytest.raises(UserError, match=r"none\.json cannot be read \(No such file"):
            self.load(tmp_path / "none.json")

    def test_only_a_linear_h_takes_weights(self, tmp_path):
        with pytest.raises(UserError, match="set model to linear"):
            corridor_tamer(model="knn").load_weights(tmp_path / "h.json")


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"alpha": 0.0}, "alpha is 0.0"),
        ({"neighbours": 0}, "neighbours is 0"),
        ({"hidden": [8, 0]}, "hidden is"),
        ({"replay": -1}, "replay is -1"),
        ({"model": "knn", "loss": "window"}, "loss is window, which knn cannot learn"),
        ({"model": "linnear"}, "'linear', 'knn', 'network'"),
        ({"loss": "mse"}, "'aggregate_rewarded_only'"),
    ],
)
def test_settings_that_cannot_work_are_refused(section, message):
    with pytest.raises(UserError, match=message):
        build(TamerSettings, section, where=lambda key: f"here, {key}")


def test_a_linear_h_takes_any_features():
    space = Corridor().observation_space
    h = make_model(TamerSettings(features=ONE_HOT), space, 2)
    assert isinstance(h, LinearH)
    h.learn(np.array(3), 1, 1.0)
    assert h.predict(3).tolist() == [0.0, 0.05]
