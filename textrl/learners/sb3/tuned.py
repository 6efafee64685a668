"""Hyper-parameters that RL Baselines3 Zoo publishes for three classic-control environments.

The numbers are those of ``hyperparams/{ppo,a2c,dqn,qrdqn,trpo,ars,ppo_lstm}.yml`` in
DLR-RM/rl-baselines3-zoo, under the names of our settings: ``lin_x`` there is x with a linear schedule
here, ``normalize`` is VecNormalize with the algorithm's gamma (for ARS observations only), and
``n_timesteps`` is `timesteps`. They are used where the settings leave a value open and the environment's
id is one of these. A recurrent PPO is tuned for Acrobot alone (the two others only without velocities),
and PPO with masks for none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from textrl.learners.sb3.settings import OnPolicySettings, SB3Settings

S = TypeVar("S", bound=SB3Settings)

_TIMESTEPS = "timesteps"
_PPO_SIXTEEN: dict[str, Any] = {
    _TIMESTEPS: 1_000_000, "normalize": True, "n_envs": 16, "gamma": 0.99, "n_epochs": 4,
}  # fmt: skip
_DQN_CART_POLE: dict[str, Any] = {
    _TIMESTEPS: 50_000, "learning_rate": 2.3e-3, "batch_size": 64, "buffer_size": 100_000,
    "learning_starts": 1000, "gamma": 0.99, "target_update_interval": 10, "train_freq": 256,
    "gradient_steps": 128, "exploration_fraction": 0.16, "exploration_final_eps": 0.04,
    "net_arch": (256, 256),
}  # fmt: skip
_DQN_MOUNTAIN_CAR: dict[str, Any] = {
    _TIMESTEPS: 120_000, "learning_rate": 4e-3, "batch_size": 128, "buffer_size": 10_000,
    "learning_starts": 1000, "gamma": 0.98, "target_update_interval": 600, "train_freq": 16,
    "gradient_steps": 8, "exploration_fraction": 0.2, "exploration_final_eps": 0.07,
    "net_arch": (256, 256),
}  # fmt: skip
_DQN_ACROBOT: dict[str, Any] = {
    _TIMESTEPS: 100_000, "learning_rate": 6.3e-4, "batch_size": 128, "buffer_size": 50_000,
    "learning_starts": 0, "gamma": 0.99, "target_update_interval": 250, "train_freq": 4,
    "gradient_steps": -1, "exploration_fraction": 0.12, "exploration_final_eps": 0.1,
    "net_arch": (256, 256),
}  # fmt: skip
_ARS_MLP: dict[str, Any] = {
    _TIMESTEPS: 500_000, "policy": "MlpPolicy", "normalize": True, "n_envs": 1, "learning_rate": 0.018,
    "n_top": 1, "delta_std": 0.1, "zero_policy": False, "net_arch": (16,),
}  # fmt: skip

#: Learner -> environment id -> settings, and the length of the training.
TUNED: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "sb3/ppo": {
        "CartPole-v1": {
            _TIMESTEPS: 100_000, "n_envs": 8, "n_steps": 32, "batch_size": 256, "gae_lambda": 0.8,
            "gamma": 0.98, "n_epochs": 20, "learning_rate": 1e-3, "learning_rate_schedule": "linear",
            "clip_range": 0.2, "clip_range_schedule": "linear",
        },
        "MountainCar-v0": {**_PPO_SIXTEEN, "n_steps": 16, "gae_lambda": 0.98},
        "Acrobot-v1": {**_PPO_SIXTEEN, "n_steps": 256, "gae_lambda": 0.94},
    },
    "sb3/a2c": {
        "CartPole-v1": {_TIMESTEPS: 500_000, "n_envs": 8},
        "MountainCar-v0": {_TIMESTEPS: 1_000_000, "normalize": True, "n_envs": 16},
        "Acrobot-v1": {_TIMESTEPS: 500_000, "normalize": True, "n_envs": 16},
    },
    "sb3/dqn": {
        "CartPole-v1": _DQN_CART_POLE,
        "MountainCar-v0": _DQN_MOUNTAIN_CAR,
        "Acrobot-v1": _DQN_ACROBOT,
    },
    "contrib/qrdqn": {
        "CartPole-v1": {**_DQN_CART_POLE, "n_quantiles": 10},
        "MountainCar-v0": {**_DQN_MOUNTAIN_CAR, "n_quantiles": 25},
        "Acrobot-v1": {**_DQN_ACROBOT, "n_quantiles": 25},
    },
    "contrib/trpo": {
        "CartPole-v1": {
            _TIMESTEPS: 100_000, "n_envs": 2, "n_steps": 512, "batch_size": 512, "cg_damping": 1e-3,
            "gae_lambda": 0.98, "gamma": 0.99, "learning_rate": 1e-3, "n_critic_updates": 20,
        },
        "MountainCar-v0": {
            _TIMESTEPS: 100_000, "normalize": True, "n_envs": 2, "n_steps": 1024, "n_critic_updates": 20,
        },
        "Acrobot-v1": {_TIMESTEPS: 100_000, "normalize": True, "n_envs": 2, "n_steps": 1024},
    },
    "contrib/recurrent_ppo": {
        "Acrobot-v1": {**_PPO_SIXTEEN, "n_steps": 256, "gae_lambda": 0.94},
    },
    "contrib/ars": {
        "CartPole-v1": {_TIMESTEPS: 50_000, "policy": "LinearPolicy", "n_envs": 1, "n_delta": 2},
        "MountainCar-v0": {**_ARS_MLP, "n_delta": 8},
        "Acrobot-v1": {**_ARS_MLP, "n_delta": 4},
    },
}  # fmt: skip

#: What stays open where neither the Zoo nor the algorithm's constructor has a default.
_ELSE: Mapping[str, Any] = {
    "n_envs": 1,
    "normalize": False,
    "learning_rate_schedule": "constant",
    "clip_range_schedule": "constant",
    "policy": "LinearPolicy",
    "n_quantiles": 200,
}


def timesteps(learner: str, env_id: str) -> int | None:
    """Return the length of training that the Zoo publishes with its settings, or None."""
    found: int | None = TUNED.get(learner, {}).get(env_id, {}).get(_TIMESTEPS)
    return found


def filled(settings: S, learner: str, env_id: str | None, own: Mapping[str, Any]) -> S:
    """Return settings without open values.

    Args:
        settings: As the user gave them.
        learner: Registered name.
        env_id: The environment's Gymnasium id, if it has one.
        own: The algorithm's own defaults by name; None there means that the algorithm knows.
    """
    zoo = TUNED.get(learner, {}).get(env_id or "", {}) if settings.tuned else {}
    found = {}
    for item in fields(settings):
        if getattr(settings, item.name) is None:
            for table in (zoo, _ELSE, own):
                if table.get(item.name) is not None:
                    found[item.name] = table[item.name]
                    break
    if "batch_size" in found and isinstance(settings, OnPolicySettings):
        # With fewer copies than the Zoo's there are fewer steps than its minibatch has.
        steps, copies = (found.get(name) or getattr(settings, name) for name in ("n_steps", "n_envs"))
        found["batch_size"] = min(found["batch_size"], steps * copies)
    return replace(settings, **found)
