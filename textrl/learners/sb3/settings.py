"""Every knob of the algorithms of Stable-Baselines3 and sb3-contrib that can be set here.

A setting whose default is None is filled in when the learner is built: with the value that RL Baselines3
Zoo publishes for the environment (`textrl.learners.sb3.tuned`), where it has one and `tuned` is on, else
with the algorithm's own default, which stands in brackets. The checkpoint keeps what was filled in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Schedule = Literal["constant", "linear"]


@dataclass(frozen=True, kw_only=True)
class SB3Settings:
    """What all algorithms have in common.

    Attributes:
        learning_rate: Step size of the optimizer.
        net_arch: Widths of the hidden layers, of each network [64, 64; none after a CNN].
        n_envs: Copies of the environment that are stepped side by side [1].
        normalize: Shift and scale observations, and scale rewards, by running statistics [false].
        token_width: Width of the vector that each token becomes, where observations are tokens.
        tuned: Fill in the values that RL Baselines3 Zoo tuned for the environment.
        device: ``cpu``, ``cuda`` or ``auto``. Networks as small as these run fastest on a CPU.
        seed: Keys start states, exploration, initialisation and the order of the data.
        checkpoint_every: Environment steps between checkpoints, which are taken at the next update.
        keep_checkpoints: How many of them to keep.
    """

    learning_rate: float | None = None
    net_arch: tuple[int, ...] | None = None
    n_envs: int | None = None
    normalize: bool | None = None
    token_width: int = 32
    tuned: bool = True
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    seed: int = 0
    checkpoint_every: int = 20_000
    keep_checkpoints: int = 2

    def __post_init__(self) -> None:
        """Refuse values that cannot work.

        Raises:
            ValueError: Names the setting, its value and the fix.
        """
        self._at_least(1, "n_envs", "token_width", "checkpoint_every", "keep_checkpoints")
        self._at_least(0, "seed")
        self._positive("learning_rate")
        if self.net_arch is not None and any(width < 1 for width in self.net_arch):
            raise ValueError(f"net_arch is {list(self.net_arch)}; every width must be at least 1")

    def _at_least(self, lowest: int, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if value is not None and value < lowest:
                raise ValueError(f"{name} is {value}; it must be at least {lowest}")

    def _positive(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} is {value}; it must be above 0")

    def _fraction(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}; it must be between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class OnPolicySettings(SB3Settings):
    """What the algorithms share that learn from their newest steps only.

    Attributes:
        learning_rate_schedule: ``linear`` falls to 0 over `total_timesteps` [constant].
        n_steps: Steps of each copy of the environment between two updates.
        gamma: Discount [0.99].
        gae_lambda: lambda of generalised advantage estimation: 1 trusts returns, 0 the value network.
    """

    learning_rate_schedule: Schedule | None = None
    n_steps: int | None = None
    gamma: float | None = None
    gae_lambda: float | None = None

    def __post_init__(self) -> None:
        """Refuse values that cannot work; see `SB3Settings`."""
        super().__post_init__()
        self._at_least(1, "n_steps")
        self._fraction("gamma", "gae_lambda")


@dataclass(frozen=True, kw_only=True)
class PPOSettings(OnPolicySettings):
    """Settings of PPO.

    Attributes:
        learning_rate: Step size of Adam [3e-4].
        n_steps: Steps of each copy of the environment between two updates [2048].
        gae_lambda: lambda of generalised advantage estimation: 1 trusts returns, 0 the value network
            [0.95].
        batch_size: Steps in a minibatch [64].
        n_epochs: Passes over the collected steps in an update [10].
        clip_range: Half-width of the interval that the probability ratio is clipped to [0.2].
        clip_range_schedule: ``linear`` falls to 0 over `total_timesteps` [constant].
        clip_range_vf: Half-width of the interval that value predictions may move in; null does not clip.
        normalize_advantage: Shift and scale the advantages of a minibatch.
        ent_coef: Weight of the policy's entropy in the objective, against early certainty.
        vf_coef: Weight of the value loss.
        max_grad_norm: Clip the gradient to this norm.
        target_kl: End an update when the approximate KL in nats exceeds 1.5 times this; null never does.
    """

    batch_size: int | None = None
    n_epochs: int | None = None
    clip_range: float | None = None
    clip_range_schedule: Schedule | None = None
    clip_range_vf: float | None = None
    normalize_advantage: bool = True
    ent_coef: float = 0.0
    vf_coef: float = 0.5
    max_grad_norm: float = 0.5
    target_kl: float | None = None

    def __post_init__(self) -> None:
        """Refuse values that cannot work; see `SB3Settings`."""
        super().__post_init__()
        self._at_least(1, "n_epochs")
        self._at_least(2 if self.normalize_advantage else 1, "batch_size")
        self._positive("clip_range", "clip_range_vf", "max_grad_norm", "target_kl")


@dataclass(frozen=True, kw_only=True)
class MaskablePPOSettings(PPOSettings):
    """Settings of PPO with action masks; RL Baselines3 Zoo publishes none of its own."""


@dataclass(frozen=True, kw_only=True)
class RecurrentPPOSettings(PPOSettings):
    """Settings of PPO with an LSTM.

    Attributes:
        n_steps: Steps of each copy of the environment between two updates [128].
        batch_size: Steps in a minibatch [128].
        lstm_hidden_size: Width of the LSTM.
        n_lstm_layers: Layers of the LSTM.
        shared_lstm: Policy and value network read one LSTM; needs enable_critic_lstm off.
        enable_critic_lstm: The value network has an LSTM of its own.
    """

    lstm_hidden_size: int = 256
    n_lstm_layers: int = 1
    shared_lstm: bool = False
    enable_critic_lstm: bool = True

    def __post_init__(self) -> None:
        """Refuse values that cannot work; see `SB3Settings`."""
        super().__post_init__()
        self._at_least(1, "lstm_hidden_size", "n_lstm_layers")
        if self.shared_lstm and self.enable_critic_lstm:
            raise ValueError("shared_lstm is true; set enable_critic_lstm to false with it")


@dataclass(frozen=True, kw_only=True)
class A2CSettings(OnPolicySettings):
    """Settings of A2C.

    Attributes:
        learning_rate: Step size of the optimizer [7e-4].
        n_steps: Steps of each copy of the environment between two updates [5].
        gae_lambda: lambda of generalised advantage estimation: 1 trusts returns, 0 the value network [1].
        normalize_advantage: Shift and scale the advantages of an update.
        ent_coef: Weight of the policy's entropy in the objective, against early certainty.
        vf_coef: Weight of the value loss.
        max_grad_norm: Clip the gradient to this norm.
        use_rms_prop: RMSProp, as the paper; else Adam.
        rms_prop_eps: Added to RMSProp's denominator.
    """

    normalize_advantage: bool = False
    ent_coef: float = 0.0
    vf_coef: float = 0.5
    max_grad_norm: float = 0.5
    use_rms_prop: bool = True
    rms_prop_eps: float = 1e-5

    def __post_init__(self) -> None:
        """Refuse values that cannot work; see `SB3Settings`."""
        super().__post_init__()
        self._positive("max_grad_norm", "rms_prop_eps")


@dataclass(frozen=True, kw_only=True)
class TRPOSettings(OnPolicySettings):
    """Settings of TRPO.

    Attributes:
        learning_rate: Step size of the value network's Adam [1e-3]; the policy's step follows from target_kl.
        n_steps: Steps of each copy of the environment between two updates [2048].
        gae_lambda: lambda of generalised advantage estimation: 1 trusts returns, 0 the value network
            [0.95].
        batch_size: Steps in a minibatch of the value network [128].
        n_critic_updates: Passes of the value network over the collected steps in an update [10].
        cg_max_steps: Iterations of the conjugate gradient that inverts the Fisher matrix.
        cg_damping: Added to the Fisher matrix's diagonal [0.1].
        line_search_shrinking_factor: What is left of the policy's step after each failed try.
        line_search_max_iter: Tries.
        target_kl: KL divergence in nats that a step of the policy may cost.
        normalize_advantage: Shift and scale the advantages of an update.
        sub_sampling_factor: Use every n-th step only for the policy's update.
    """

    batch_size: int | None = None
    n_critic_updates: int | None = None
    cg_max_steps: int = 15
    cg_damping: float | None = None
    line_search_shrinking_factor: float = 0.8
    line_search_max_iter: int = 10
    target_kl: float = 0.01
    normalize_advantage: bool = True
    sub_sampling_factor: int = 1

    def __post_init__(self) -> None:
        """Refuse values that cannot work; see `SB3Settings`."""
        super().__post_init__()
        self._at_least(1, "batch_size", "n_critic_updates", "cg_max_steps")
        self._at_least(1, "line_search_max_iter", "sub_sampling_factor")
        self._positive("target_kl")
        self._fraction("line_search_shrinking_factor")


@dataclass(frozen=True, kw_only=True)
class DQNSettings(SB3Settings):
    """Settings of DQN.

    Attributes:
        learning_rate: Step size of Adam [1e-4].
        learning_rate_schedule: ``linear`` falls to 0 over `total_timesteps` [constant].
        gamma: Discount [0.99].
        buffer_size: Transitions that the replay buffer holds [1,000,000].
        learning_starts: Environment steps with random actions before the first update [100].
        batch_size: Transitions in a minibatch [32].
        train_freq: Steps of each copy of the environment between two updates [4].
        gradient_steps: Minibatches in an update; -1 as many as there were steps since the last [1].
        n_steps: Rewards that a target adds up before it bootstraps.
        target_update_interval: Environment steps between two updates of the target network [10,000].
        tau: How far such an update moves it to the trained one; 1 copies.
        exploration_initial_eps: Probability of a random action at the beginning.
        exploration_fraction: Part of `total_timesteps` over which it falls [0.1].
        exploration_final_eps: Probability of a random action from then on [0.05].
        max_grad_norm: Clip the gradient to this norm.
    """

    learning_rate_schedule: Schedule | None = None
    gamma: float | None = None
    buffer_size: int | None = None
    learning_starts: int | None = None
    batch_size: int | None = None
    train_freq: int | None = None
    gradient_steps: int | None = None
    n_steps: int = 1
    target_update_interval: int | None = None
    tau: float = 1.0
    exploration_initial_eps: float = 1.0
    exploration_fraction: float | None = None
    exploration_final_eps: float | None = None
    max_grad_norm: float | None = 10.0

    def __post_init__(self) -> None:
        """Refuse values that cannot work; see `SB3Settings`."""
        super().__post_init__()
        self._at_least(1, "buffer_size", "batch_size", "train_freq", "n_steps", "target_update_interval")
        self._at_least(0, "learning_starts")
        self._at_least(-1, "gradient_steps")
        self._fraction("gamma", "tau", "exploration_initial_eps", "exploration_fraction")
        self._fraction("exploration_final_eps")
        self._positive("max_grad_norm")


@dataclass(frozen=True, kw_only=True)
class QRDQNSettings(DQNSettings):
    """Settings of QR-DQN.

    Attributes:
        learning_rate: Step size of Adam [5e-5].
        exploration_fraction: Part of `total_timesteps` over which it falls [0.005].
        exploration_final_eps: Probability of a random action from then on [0.01].
        max_grad_norm: Clip the gradient to this norm; null does not clip.
        n_quantiles: Quantiles of the return that are learnt for each action [200].
    """

    max_grad_norm: float | None = None
    n_quantiles: int | None = None

    def __post_init__(self) -> None:
        """Refuse values that cannot work; see `SB3Settings`."""
        super().__post_init__()
        self._at_least(1, "n_quantiles")


@dataclass(frozen=True, kw_only=True)
class ARSSettings(SB3Settings):
    """Settings of ARS.

    Attributes:
        learning_rate: Step size [0.02].
        normalize: Shift and scale observations by running statistics [false]; rewards stay as they are,
            since the search compares returns.
        policy: ``LinearPolicy`` or ``MlpPolicy`` [LinearPolicy]; only the second has a net_arch.
        n_delta: Directions that are tried in an update, each both ways [8].
        n_top: How many of the best directions count [all].
        delta_std: Standard deviation of the perturbations [0.05].
        zero_policy: Begin with all weights 0 [true].
        alive_bonus_offset: Added to the reward of each step in the returns that are compared.
        n_eval_episodes: Episodes that a perturbed policy is judged by.
    """

    policy: Literal["LinearPolicy", "MlpPolicy"] | None = None
    n_delta: int | None = None
    n_top: int | None = None
    delta_std: float | None = None
    zero_policy: bool | None = None
    alive_bonus_offset: float = 0.0
    n_eval_episodes: int = 1

    def __post_init__(self) -> None:
        """Refuse values that cannot work; see `SB3Settings`."""
        super().__post_init__()
        self._at_least(1, "n_delta", "n_top", "n_eval_episodes")
        self._positive("delta_std")
        if self.n_delta is not None and self.n_top is not None and self.n_top > self.n_delta:
            raise ValueError(f"n_top is {self.n_top}; it must be at most n_delta, {self.n_delta}")
