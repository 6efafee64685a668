"""A neural network as H, the model of Deep TAMER (Warnell, Waytowich, Lawhern and Stone 2018).

Each sample is learnt at once, together with samples drawn from a buffer of earlier ones, by one step of
Adam on the weighted squared error. The last layer begins at 0, so that H is 0 before any feedback.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from textrl import streams
from textrl.errors import UserError
from textrl.tamer.models import Array, Encoder
from textrl.training_state import pack_optimizer, unpack_optimizer

if TYPE_CHECKING:
    from textrl.tamer.settings import TamerSettings


class NetworkH:
    """H(s, .) = a multilayer perceptron of the features, on the CPU in float32."""

    def __init__(self, encoder: Encoder, n_actions: int, settings: TamerSettings) -> None:
        """Draw the initial weights.

        Args:
            encoder: The network's input.
            n_actions: A.
            settings: `hidden`, `learning_rate`, `replay`, `capacity` and `model_seed` count.
        """
        self.encoder, self.settings = encoder, settings
        self.net = _perceptron(encoder.size, settings.hidden, n_actions, settings.model_seed)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=settings.learning_rate)
        self.rng = streams.stream(settings.model_seed, streams.H_REPLAY)
        # One row per sample: its features, its label, its weight, its action.
        self._buffer = np.zeros((0, encoder.size + 3), np.float32)
        self._count = 0
        self._branched = False

    def predict(self, observation: Any) -> Array:
        """Return H(s, .), (A,) float64."""
        return self._numbers(self.encoder(observation))

    def predict_batch(self, observations: Any) -> Array:
        """Return (B, A) float64."""
        return self._numbers(self.encoder.features.batch(observations))

    def learn(self, observation: Any, action: int, label: float, weight: float = 1.0) -> None:
        """Take one step on the sample and on `replay` earlier ones."""
        row = np.append(self.encoder(observation), (label, weight, action)).astype(np.float32)[None]
        rows = row
        if not self._branched:
            rows = np.concatenate([row, self._drawn()])
            self._store(row[0])
        batch = torch.from_numpy(rows)
        features, labels, weights, actions = batch[:, :-3], batch[:, -3], batch[:, -2], batch[:, -1].long()
        rated = self.net(features).gather(1, actions[:, None])[:, 0]
        self._step((weights * (labels - rated) ** 2).mean() / 2)

    def learn_window(
        self, observations: Sequence[Any], actions: Sequence[int], credits: Sequence[float], label: float
    ) -> None:
        """Take one step on the weighted sum over several steps; nothing is replayed."""
        features = torch.from_numpy(np.stack([self.encoder(o) for o in observations]).astype(np.float32))
        rated = self.net(features).gather(1, torch.tensor(list(actions))[:, None])[:, 0]
        self._step((label - (torch.tensor(list(credits)) * rated).sum()) ** 2 / 2)

    def branch(self) -> NetworkH:
        """Return a copy with weights and moments of its own, and without a buffer."""
        twin = object.__new__(NetworkH)
        twin.__dict__.update(self.__dict__)
        twin.net = copy.deepcopy(self.net)
        twin.optimizer = torch.optim.Adam(twin.net.parameters(), lr=self.settings.learning_rate)
        twin.optimizer.load_state_dict(copy.deepcopy(self.optimizer.state_dict()))
        twin._branched = True
        return twin

    def state_dict(self) -> dict[str, Any]:
        """Return weights, moments, buffer and random generator."""
        tensors, optimizer = pack_optimizer(self.optimizer)
        return {
            "net": {name: _array(value) for name, value in self.net.state_dict().items()},
            "moments": {name: _array(value) for name, value in tensors.items()},
            "optimizer": optimizer,
            "buffer": self._buffer.copy(),
            "count": self._count,
            "rng": dict(self.rng.bit_generator.state),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`.

        Raises:
            UserError: When the state belongs to another network.
        """
        try:
            self.net.load_state_dict({name: torch.tensor(value) for name, value in state["net"].items()})
        except RuntimeError as error:
            raise UserError(
                "The network in the checkpoint has other layers; resume with the same."
            ) from error
        moments = {name: torch.tensor(value) for name, value in state["moments"].items()}
        unpack_optimizer(self.optimizer, moments, state["optimizer"])
        self._buffer, self._count = np.array(state["buffer"], np.float32), int(state["count"])
        self.rng.bit_generator.state = dict(state["rng"])

    @torch.no_grad()
    def _numbers(self, features: Array) -> Array:
        rated: Array = self.net(torch.from_numpy(features.astype(np.float32))).double().numpy()
        return rated

    def _step(self, loss: Tensor) -> None:
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()

    def _store(self, row: NDArray[np.float32]) -> None:
        capacity = self.settings.capacity
        if self._count == len(self._buffer) < capacity:
            grown = np.zeros((min(max(2 * self._count, 64), capacity), self._buffer.shape[1]), np.float32)
            grown[: self._count] = self._buffer
            self._buffer = grown
        self._buffer[self._count % capacity] = row
        self._count += 1

    def _drawn(self) -> NDArray[np.float32]:
        """Return up to `replay` earlier samples, drawn with replacement."""
        known = min(self._count, self.settings.capacity)
        count = min(known, self.settings.replay)
        drawn: NDArray[np.float32] = (
            self._buffer[self.rng.integers(known, size=count)] if count else self._buffer[:0]
        )
        return drawn


def _perceptron(inputs: int, hidden: Sequence[int], outputs: int, seed: int) -> nn.Sequential:
    """Return a ReLU network with He's initialisation, drawn from its own generator."""
    generator = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    for width in hidden:
        layer = nn.Linear(inputs, width, device="meta").to_empty(
            device="cpu"
        )  # leaves torch's global generator alone
        nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu", generator=generator)
        nn.init.zeros_(layer.bias)
        layers += [layer, nn.ReLU()]
        inputs = width
    last = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)


def _array(value: Tensor) -> Any:
    return value.detach().cpu().numpy().copy()
