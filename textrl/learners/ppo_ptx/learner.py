"""The PPO-ptx learner: collect, update, log, keep checkpoints, until the timesteps are used up.

One timestep is one token. The recipe is InstructGPT's (arXiv 2203.02155, section 3.5 and appendix C.4);
what a correct learner must satisfy is tested in ``tests/ppo``.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from textrl import checkpoint
from textrl.advice.text import TextGuidance
from textrl.distributed import broadcast_parameters, global_count, make_accelerator
from textrl.errors import UserError
from textrl.learners.callbacks import Callback, Callbacks
from textrl.learners.iteration_bar import IterationBar
from textrl.learners.ppo_ptx.beside import Beside
from textrl.learners.ppo_ptx.diagnostics import throughput
from textrl.learners.ppo_ptx.experience import collect
from textrl.learners.ppo_ptx.guards import KlLimit
from textrl.learners.ppo_ptx.memory import memory_figures
from textrl.learners.ppo_ptx.networks import Networks
from textrl.learners.ppo_ptx.ptx import PretrainingStream
from textrl.learners.ppo_ptx.settings import PPOPTXSettings
from textrl.learners.ppo_ptx.update import Updater
from textrl.learners.surface import LearnerSurface, check_same_settings
from textrl.mdp.logprobs import logits_of
from textrl.mdp.sampling import greedy, sample
from textrl.mdp.task import TokenTask
from textrl.models.stack import final_hidden
from textrl.rewards import RewardSum, join_tensors, split_tensors
from textrl.rollout import head_of
from textrl.settings import describe, to_plain
from textrl.training_state import capture_rng, pack_optimizer, restore_rng, unpack_optimizer

if TYPE_CHECKING:
    from textrl.tamer.text.human import TextHuman


class PPOPTX(LearnerSurface):
    """PPO with a pretraining term, over a token environment.

    Attributes:
        label: In progress bars.
        num_timesteps: Tokens sampled so far, over all processes.
        iteration: Iterations finished.
        networks: Policy, reference and value network.
        settings: As given.
        kl_offset: What the KL to the reference was before anything was learnt; empty until it is measured.
    """

    label: ClassVar[str] = "PPO-ptx"
    settings_class = PPOPTXSettings
    settings: PPOPTXSettings

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
                not see the mask, and the logged KL would be wrong.
        """
        super().__init__(env, settings, checkpoint_dir)
        self.rewards = rewards
        self.task = _task_of(env)
        self.accelerator = make_accelerator()
        torch.manual_seed(settings.seed)
        self.networks = networks or Networks.load(settings, self.accelerator.device)
        self.beside = Beside(guidance, human, self.networks, self.accelerator.num_processes)
        self.stream = None
        if settings.ptx_coef > 0 and settings.ptx_data:
            if self.networks.tokenizer is None:
                raise UserError("A pretraining stream needs the policy's tokenizer.")
            self.stream = PretrainingStream.read(
                settings.ptx_data, self.networks.tokenizer, length=settings.ptx_length, seed=settings.seed
            )
        self.updater = Updater(self.networks, settings, self.accelerator, self.stream)
        for params in (self.updater.policy_params, self.updater.value_params):
            broadcast_parameters(self.accelerator, params)
        self.kl_limit = KlLimit(settings.kl_limit, settings.kl_limit_action)
        self.kl_offset: dict[str, float] = {}
        self.iteration = 0

    @property
    def writes(self) -> bool:
        """Whether this process logs and keeps checkpoints: the main one does."""
        return bool(self.accelerator.is_main_process)

    def learn(
        self,
        total_timesteps: int | None = None,
        callback: Callback = None,
        progress_bar: bool = False,
        *,
        iterations: int | None = None,
    ) -> PPOPTX:
        """Train until `num_timesteps` reaches `total_timesteps`, or for a number of iterations in all.

        Args:
            total_timesteps: Tokens, counted from the beginning of the run.
            callback: SB3's callback objects, whose steps are our iterations, or a function of the learner
                that is called after each iteration; returning False stops.
            progress_bar: Show progress and the time left.
            iterations: Counted from the beginning of the run; resuming continues the count.

        Raises:
            UserError: When neither limit is given, or the KL exceeds its limit, or anything that is
                trained on is not finite; the newest checkpoint is intact.
        """
        if total_timesteps is None and iterations is None:
            raise UserError("learn() needs total_timesteps or iterations.")
        bar = IterationBar(progress_bar, self, total_timesteps, iterations)
        with bar as progress, Callbacks(callback, self) as callbacks:
            while not self._done(total_timesteps, iterations):
                callbacks.before_round()
                self._iterate()
                progress.show()
                if not callbacks.after_round():
                    break
                self.keep(self.iteration)
        return self

    def _done(self, total_timesteps: int | None, iterations: int | None) -> bool:
        tokens = total_timesteps is not None and self.num_timesteps >= total_timesteps
        return tokens or (iterations is not None and self.iteration >= iterations)

    def _iterate(self) -> None:
        """Collect, check the KL, update, let the controllers read the KL, log."""
        settings, started = self.settings, time.perf_counter()
        first = self.iteration * settings.episodes_per_iteration
        experience = collect(
            self.networks,
            self.task,
            self.rewards,
            settings,
            self.accelerator,
            first,
            self.updater.sizes,
            advice=self.beside.advice(),
            keep_hidden=self.beside.wants_hidden,
        )
        collected = time.perf_counter()
        metrics = dict(experience.metrics)
        if first == 0:
            self.kl_offset = {name: metrics[name] for name in metrics if name.startswith("train/kl_offset")}
        metrics |= self.kl_offset
        near = self.kl_limit.check(metrics["train/kl_ref"], self.networks.trained()["policy"])
        self.updater.policy_rate_factor = self.kl_limit.factor
        metrics |= self.updater.update(experience, self.iteration) if near else {"train/steps": 0.0}
        metrics |= self.kl_limit.figures()
        if self.rewards is not None:
            metrics |= {f"weight/{name}": weight for name, weight in self.rewards.weights.items()}
            self.rewards.adapt_weights(experience.stats)
        metrics |= self.beside.after(experience, self.task)
        tokens = global_count(self.accelerator, int(experience.actions.sum()))
        finished = time.perf_counter()
        self.num_timesteps += tokens
        self.iteration += 1
        metrics |= throughput(
            tokens,
            metrics["train/steps"] / settings.minibatches,
            rollout_s=metrics["time/rollout_s"],
            collect_s=collected - started,
            update_s=finished - collected,
        )
        metrics["time/total_timesteps"] = float(self.num_timesteps)
        self.log(metrics | memory_figures(), self.iteration)

    @torch.no_grad()
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
        ids = torch.as_tensor(np.asarray(observation["input_ids"]), dtype=torch.int64)
        mask = torch.as_tensor(np.asarray(observation["attention_mask"])).bool()
        single = ids.ndim == 1
        device = self.networks.policy.device
        ids, mask = (x[None].to(device) if single else x.to(device) for x in (ids, mask))
        last = torch.where(mask, torch.arange(ids.shape[1], device=device), -1).amax(1)
        with self.networks.autocast():
            hidden = final_hidden(self.networks.policy, ids, mask)
            weight, bias = head_of(self.networks.policy)
            logits = logits_of(hidden[torch.arange(len(ids)), last], weight, bias, self.settings.temperature)
            advice = self.beside.advice() if advised else None
            if advice is not None and advice.acts:
                states = final_hidden(self.networks.reference, ids, mask)
                logits = advice.acting(logits, states[torch.arange(len(ids)), last])
        if deterministic:
            actions = greedy(logits)
        else:
            keys = [_keys(given, len(ids), device) for given in (episodes, positions)]
            actions = sample(logits, self.settings.seed, *keys)
        out = actions.cpu().numpy()
        return (out[0] if single else out), None

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


def _task_of(env: Any) -> TokenTask:
    task = getattr(getattr(env, "unwrapped", env), "task", None)
    if not isinstance(task, TokenTask):
        raise UserError(
            f"PPO-ptx needs a token environment such as TextRL/Tokens-v0, not {type(env).__name__}."
        )
    if task.allowed is not None:
        raise UserError("PPO-ptx does not take a task with an action mask: scoring would not see the mask.")
    return task


def _keys(given: Any, count: int, device: torch.device) -> Tensor:
    numbers = (
        np.zeros(count, np.int64) if given is None else np.broadcast_to(np.asarray(given, np.int64), (count,))
    )
    return torch.from_numpy(numbers.copy()).to(device)
