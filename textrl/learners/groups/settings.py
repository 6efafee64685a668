"""The knobs that all learners on groups of responses have."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from textrl.learners.ppo_ptx.settings import PPOPTXSettings


@dataclass(frozen=True, kw_only=True)
class GroupSettings:
    """Settings of a learner on groups.

    Attributes:
        policy: Registered model, folder, GGUF file or hub id of the initial policy; the KL reference.
        group_size: Responses to one prompt that are compared with each other.
        episodes_per_iteration: Responses sampled between two updates.
        minibatches: Optimizer steps per epoch; a group is never divided.
        epochs: Passes over the responses of an iteration.
        micro_batch_size: Sequences per forward and backward pass; never changes the result, and is
            halved by itself where memory does not suffice.
        rollout_batch_size: Sequences generated together; null is all of an iteration's.
        clip: Half-width of the interval around 1 that each token's probability ratio is clipped to; null
            does not clip. It does nothing where an iteration has a single step.
        temperature: Of sampling, and of every log-probability.
        learning_rate: At its peak.
        warmup_iterations: The rate rises from a tenth of its peak over these.
        decay_iterations: The rate falls in a straight line to zero at the end of this many iterations, and
            stays at the last one's after it; 0 keeps it constant.
        adam_beta1: Of AdamW.
        adam_beta2: Of AdamW.
        weight_decay: Of AdamW.
        max_grad_norm: Clip the gradient to this norm; the norm before it is logged.
        ema_decay: Of averaged policy weights, per optimizer step; 0 keeps none.
        first_trainable: Blocks below this one are frozen, stored once and computed once; 0 trains all
            blocks. Embeddings and head are frozen where this is above 0.
        lora_rank: Rank of LoRA adapters on the trainable blocks (needs the extra ``lora``); 0 trains the
            blocks themselves.
        gradient_checkpointing: Keep only the input of each trainable block and compute it again in the
            backward pass: less memory, about a third more time.
        reference_precision: How the reference's own weights are stored.
        reference_device: ``cpu`` keeps the reference's own weights in main memory, ``disk`` in a file.
        sampling_processors: What to do with a policy whose ``generation_config`` asks for top-k, top-p,
            penalties and the like, which scoring would not see: ``refuse`` it, or ``drop`` them.
        precision: ``auto`` is bf16 autocast where the hardware computes it natively; weights stay fp32.
        kl_limit: Largest KL to the reference, in nats per sequence.
        kl_limit_action: Above `kl_limit`, ``stop`` with an error before the update, or ``back_off``: put the
            policy back to where it was last within the limit and halve its learning rate.
        target_kl: End an iteration's update before the first step whose minibatch is further than 1.5 times
            this from the policy that acted (nats per token); null takes all steps.
        checkpoint_every: Iterations between checkpoints.
        keep_checkpoints: How many of them to keep.
        seed: Keys sampling noise, data order and initialisation.
    """

    policy: str
    group_size: int = 4
    episodes_per_iteration: int = 256
    minibatches: int = 1
    epochs: int = 1
    micro_batch_size: int = 16
    rollout_batch_size: int | None = None
    clip: float | None = 0.2
    temperature: float = 1.0
    learning_rate: float = 1e-5
    warmup_iterations: int = 10
    decay_iterations: int = 0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.95
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    ema_decay: float = 0.0
    first_trainable: int = 0
    lora_rank: int = 0
    gradient_checkpointing: bool = False
    reference_precision: Literal["same", "bf16", "fp16"] = "same"
    reference_device: Literal["same", "cpu", "disk"] = "same"
    sampling_processors: Literal["refuse", "drop"] = "refuse"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    kl_limit: float | None = None
    kl_limit_action: Literal["stop", "back_off"] = "stop"
    target_kl: float | None = None
    checkpoint_every: int = 10
    keep_checkpoints: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values that cannot work.

        Raises:
            ValueError: Names the setting, its value and the fix.
        """
        if self.group_size < 2:
            raise ValueError(f"group_size is {self.group_size}; one response has none to be compared with")
        for name in ("keep_checkpoints", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; it must be 0 or more")
        self.engine()
        share = self.group_size * self.minibatches
        if self.episodes_per_iteration % share:
            raise ValueError(
                f"episodes_per_iteration is {self.episodes_per_iteration}; {self.minibatches} minibatches of "
                f"groups of {self.group_size} need a multiple of {share}"
            )

    @property
    def groups_per_iteration(self) -> int:
        """Prompts of an iteration, over all processes."""
        return self.episodes_per_iteration // self.group_size

    def engine(self) -> PPOPTXSettings:
        """Return the same settings as the networks and the rollout of PPO-ptx read them.

        Its value network is one linear output on the policy's trunk, which nothing trains.

        Raises:
            ValueError: As `PPOPTXSettings`, about settings of the same names.
        """
        own = {field.name for field in fields(self)}
        shared = {f.name: getattr(self, f.name) for f in fields(PPOPTXSettings) if f.name in own}
        if self.clip is None:
            del shared["clip"]
        return PPOPTXSettings(**shared, value_network="head")
