"""Every knob of PPO on vectors, under the names and with the defaults of Stable-Baselines3's PPO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Schedule = Literal["constant", "linear"]


@dataclass(frozen=True, kw_only=True)
class PPOSettings:
    """Settings of the learner.

    Attributes:
        learning_rate: Step size of Adam.
        learning_rate_schedule: ``linear`` falls to 0 over `total_timesteps`.
        n_envs: Copies of the environment that are stepped side by side.
        n_steps: Steps of each copy between two updates; a segment may end in the middle of an episode.
        batch_size: Steps in a minibatch; the last one of an epoch may be smaller.
        n_epochs: Passes over the collected steps in an update.
        gamma: Discount.
        gae_lambda: lambda of generalised advantage estimation: 1 trusts returns, 0 the value network.
        clip_range: Half-width of the interval around 1 that the probability ratio is clipped to.
        clip_range_schedule: ``linear`` falls to 0 over `total_timesteps`.
        clip_range_vf: Half-width of the interval that value predictions may move in; null does not clip.
            Ours, as PPO-ptx's, is the worse of the plain and the clipped error; SB3's is the clipped one.
        normalize_advantage: Shift and scale the advantages of a minibatch.
        ent_coef: Weight of the policy's entropy in the objective, against early certainty.
        vf_coef: Weight of the mean squared error of the values.
        max_grad_norm: Clip the gradient to this norm; the norm before it is logged.
        target_kl: End an update when the approximate KL of a minibatch, in nats per step, exceeds 1.5 times
            this; null never does.
        net_arch: Widths of the hidden layers, of each of the two networks.
        checkpoint_every: Updates between checkpoints.
        keep_checkpoints: How many of them to keep.
        seed: Keys start states, actions, initialisation and the order of the data.
    """

    learning_rate: float = 3e-4
    learning_rate_schedule: Schedule = "constant"
    n_envs: int = 1
    n_steps: int = 2048
    batch_size: int = 64
    n_epochs: int = 10
    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip_range: float = 0.2
    clip_range_schedule: Schedule = "constant"
    clip_range_vf: float | None = None
    normalize_advantage: bool = True
    ent_coef: float = 0.0
    vf_coef: float = 0.5
    max_grad_norm: float = 0.5
    target_kl: float | None = None
    net_arch: tuple[int, ...] = (64, 64)
    checkpoint_every: int = 100
    keep_checkpoints: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values that cannot work.

        Raises:
            ValueError: Names the setting, its value and the fix.
        """
        least = dict.fromkeys(("n_envs", "n_steps", "n_epochs", "checkpoint_every", "keep_checkpoints"), 1)
        # One advantage has no variance to be scaled by.
        least |= {"batch_size": 2 if self.normalize_advantage else 1, "seed": 0}
        for name, lowest in least.items():
            if getattr(self, name) < lowest:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {lowest}")
        for name in ("learning_rate", "clip_range", "clip_range_vf", "max_grad_norm", "target_kl"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} is {value}; it must be above 0")
        for name in ("gamma", "gae_lambda"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be between 0 and 1")
        for name in ("ent_coef", "vf_coef"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        if any(width < 1 for width in self.net_arch):
            raise ValueError(f"net_arch is {list(self.net_arch)}; every width must be at least 1")
        steps = self.n_envs * self.n_steps
        if self.normalize_advantage and steps % self.batch_size == 1:
            raise ValueError(
                f"batch_size is {self.batch_size}, which leaves one of the {steps} steps (n_envs * n_steps) "
                "for the last minibatch, where nothing can be scaled; choose a divisor"
            )
