"""The PPO-ptx learner: what an iteration of `TokenLearner` collects, learns from and keeps.

One timestep is one token. The recipe is InstructGPT's (arXiv 2203.02155, section 3.5 and appendix C.4);
what a correct learner must satisfy is tested in ``tests/ppo``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from textrl import checkpoint
from textrl.advice.text import TextAdvice, TextGuidance
from textrl.distributed import broadcast_parameters
from textrl.errors import UserError, at_setting
from textrl.learners.next_token import next_tokens
from textrl.learners.ppo_ptx.beside import Beside
from textrl.learners.ppo_ptx.experience import Experience, collect
from textrl.learners.ppo_ptx.fitting import fit
from textrl.learners.ppo_ptx.networks import Networks
from textrl.learners.ppo_ptx.ptx import PretrainingStream
from textrl.learners.ppo_ptx.settings import PPOPTXSettings
from textrl.learners.ppo_ptx.update import Updater
from textrl.learners.surface import check_same_settings
from textrl.learners.token_learner import TokenLearner
from textrl.models.stack import final_hidden
from textrl.rewards import RewardSum, join_tensors, split_tensors
from textrl.settings import describe, to_plain
from textrl.training_state import capture_rng, pack_optimizer, restore_rng, unpack_optimizer

if TYPE_CHECKING:
    from textrl.tamer.text.human import TextHuman


class PPOPTX(TokenLearner):
    """PPO with a pretraining term, over a token environment.

    Attributes:
        networks: Policy, reference and value network.
        settings: As given.
        beside: A person and advice, where there are any.
        updater: The optimizers and what they do.
    """

    label: ClassVar[str] = "PPO-ptx"
    advised_on_text: ClassVar[bool] = True  # guidance and human are those on text
    settings_class = PPOPTXSettings
    settings: PPOPTXSettings
    updater: Updater

    def __init__(
        self,
        env: Any,
        settings: PPOPTXSettings,
        *,
        rewards: RewardSum | None = None,
        networks: Networks | None = None,
        guidance: TextGuidance | None = None,
        human: TextHuman | None = None,
        checkpoint_dir: Path | None = None,
    ) -> None:
        """Load the networks and the pretraining stream.

        Args:
            env: A token environment, scalar or vector: anything with a `task`.
            settings: Every knob.
            rewards: Learner-side sources, such as the KL penalty.
            networks: Built elsewhere; by default loaded as the settings say.
            guidance: Somebody who rates tokens, and how that is combined with the policy.
            human: A person who sees some of what is written, and teaches.
            checkpoint_dir: Where checkpoints go; None keeps none.

        Raises:
            UserError: When the environment has no token task, or one with an action mask: scoring would
                not see the mask, and the logged KL would be wrong. When the task's tokens are not the
                policy's, or a source rates those of another model.
        """
        super().__init__(env, settings, rewards, checkpoint_dir)
        self.networks = networks or Networks.load(settings, self.accelerator.device)
        fit(self.networks, env, self.task, rewards, settings.policy)
        self.beside = Beside(guidance, human, self.networks, self.accelerator.num_processes)
        self.stream = None
        if settings.ptx_coef > 0 and settings.ptx_data:
            if self.networks.tokenizer is None:
                raise UserError("A pretraining stream needs the policy's tokenizer.", key="settings.ptx_data")
            with at_setting("settings.ptx_data"):
                self.stream = PretrainingStream.read(
                    settings.ptx_data, self.networks.tokenizer, length=settings.ptx_length, seed=settings.seed
                )
        self.updater = Updater(self.networks, settings, self.accelerator, self.stream)
        for params in (self.updater.policy_params, self.updater.value_params):
            broadcast_parameters(self.accelerator, params)

    def collect(self) -> Experience:
        """Sample texts, score them by all networks and rewards, and estimate advantages."""
        return collect(
            self.networks,
            self.task,
            self.rewards,
            self.settings,
            self.accelerator,
            self.iteration * self.settings.episodes_per_iteration,
            self.updater.sizes,
            advice=self.beside.advice(),
            keep_hidden=self.beside.wants_hidden,
        )

    def policy_weights(self) -> Mapping[str, Tensor]:
        """Return the policy's trained weights by name."""
        return self.networks.trained()["policy"]

    def after(self, experience: Experience) -> dict[str, float]:
        """Let a person read and teach."""
        return self.beside.after(experience, self.task)

    def predict(
        self,
        observation: Mapping[str, Any],
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
        *,
        episodes: Any = None,
        positions: Any = None,
        advised: bool = True,
    ) -> tuple[Any, Any]:
        """Choose the next token for one observation or a batch of them.

        Args:
            observation: ``input_ids`` and ``attention_mask``, (L,) or (B, L).
            state: Unused; text has no hidden state outside the observation.
            episode_start: Unused.
            deterministic: Take the most probable token.
            episodes: Episode numbers, which key the sampling noise; 0 where not given.
            positions: Index of the token in its response; 0 where not given.
            advised: Let advice have its say where it acts, as in training; False asks the policy alone.

        Returns:
            (actions, None): () or (B,) int64.
        """
        advice = self.beside.advice() if advised else None
        chosen = next_tokens(
            self.networks.policy,
            observation,
            temperature=self.settings.temperature,
            seed=self.settings.seed,
            deterministic=deterministic,
            episodes=episodes,
            positions=positions,
            context=self.networks.autocast(),
            advised=None if advice is None or not advice.acts else partial(self._advised, advice),
        )
        return chosen, None

    def _advised(self, advice: TextAdvice, logits: Tensor, ids: Tensor, mask: Tensor, last: Tensor) -> Tensor:
        """Return the (B, V) logits of what acts, the policy with its adviser."""
        states = final_hidden(self.networks.reference, ids, mask)
        return advice.acting(logits, states[torch.arange(len(ids)), last])

    def save(self, path: str | Path) -> None:
        """Write a checkpoint folder from which `load` continues bit for bit.

        It holds what changes during training. Frozen blocks and the reference are those of the folder
        that `settings.policy` names.
        """
        trained = self.networks.trained()
        tensors: dict[str, dict[str, Tensor]] = {
            name: {key: p.detach() for key, p in params.items()} for name, params in trained.items()
        }
        if self.updater.ema:
            tensors["ema"] = self.updater.ema
        if self.kl_limit.kept:
            tensors["kl_kept"] = self.kl_limit.kept
        state: dict[str, Any] = {
            "num_timesteps": self.num_timesteps,
            "iteration": self.iteration,
            "ptx_seen": self.updater.ptx_seen,
            "sizes": self.updater.sizes.state_dict(),
            "kl_halvings": self.kl_limit.halvings,
            "kl_offset": self.kl_offset,
        }
        tensors["rng"], state["rng"] = capture_rng()
        for name, optimizer in self._optimizers().items():
            tensors[name], state[name] = pack_optimizer(optimizer)
        for name, part in self._parts().items():
            tensors[name], state[name] = split_tensors(part.state_dict())
        checkpoint.save(path, config=to_plain(self.settings), tensors=tensors, state=state)

    def restore(self, path: str | Path) -> PPOPTX:
        """Continue from a checkpoint that `save` wrote.

        Raises:
            UserError: When the folder is damaged or belongs to other settings.
        """
        loaded = checkpoint.load(path)
        # A setting that did not exist yet was at what is now its default.
        defaults = {field.name: field.default for field in describe(PPOPTXSettings) if not field.required}
        check_same_settings(path, defaults | loaded.config, self.settings)
        targets: dict[str, Mapping[str, Tensor]] = {**self.networks.trained(), "ema": self.updater.ema}
        with torch.no_grad():
            for group, named in targets.items():
                for name, tensor in loaded.tensors.get(group, {}).items():
                    named[name].copy_(tensor)
        for name, optimizer in self._optimizers().items():
            unpack_optimizer(optimizer, loaded.tensors[name], loaded.state[name])
        for name, part in self._parts().items():
            part.load_state_dict(join_tensors(loaded.tensors.get(name, {}), loaded.state[name]))
        restore_rng(loaded.tensors["rng"], loaded.state["rng"])
        self.num_timesteps = loaded.state["num_timesteps"]
        self.iteration = loaded.state["iteration"]
        self.updater.ptx_seen = loaded.state["ptx_seen"]
        if "sizes" in loaded.state:
            self.updater.sizes.load_state_dict(loaded.state["sizes"])
        self.kl_limit.halvings = loaded.state.get("kl_halvings", 0)
        kept, device = loaded.tensors.get("kl_kept", {}), self.accelerator.device
        self.kl_limit.kept = {name: tensor.to(device, copy=True) for name, tensor in kept.items()}
        self.kl_offset = loaded.state.get("kl_offset", {})
        return self

    def export(self, path: str | Path, *, averaged: bool = False) -> None:
        """Write the policy as a folder that transformers alone can load.

        Args:
            path: The folder.
            averaged: Export the averaged weights instead of the last ones.
        """
        from textrl.learners.ppo_ptx.export import export_policy

        export_policy(self.networks, path, self.updater.ema if averaged else {})

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        updater = self.updater
        return {"policy_optimizer": updater.policy_optimizer, "value_optimizer": updater.value_optimizer}

    def _parts(self) -> dict[str, RewardSum | Beside]:
        """Return whatever has a state of its own, by name."""
        parts = {"env_rewards": self.task.rewards, "learner_rewards": self.rewards}
        beside = {"beside": self.beside} if self.beside.wants_hidden else {}
        return {name: rewards for name, rewards in parts.items() if rewards is not None} | beside
