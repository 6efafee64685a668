"""Every knob of PPO-ptx, with its place in the InstructGPT paper where it has one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

_COUNTS = (
    "episodes_per_iteration",
    "minibatches",
    "epochs",
    "micro_batch_size",
    "rollout_batch_size",
    "checkpoint_every",
)
_POSITIVE = (
    "temperature",
    "learning_rate",
    "value_learning_rate",
    "max_grad_norm",
    "clip",
    "kl_limit",
    "target_kl",
)


@dataclass(frozen=True)
class PPOPTXSettings:
    """Settings of the learner.

    Attributes:
        policy: Registered model, folder, GGUF file or hub id of the initial policy (the SFT model).
        value: Folder of the reward model that the value network starts from, or None for the policy's
            blocks under a zero head.
        value_network: ``separate`` is the paper's own network; ``head`` is one linear output on the
            policy's trunk, so that no second network is stored or computed. Not in the paper.
        value_coef: Under ``head``: how much of the value's gradient the trunk gets; 0 lets the head read
            it without changing it. lm-human-preferences has 0.1.
        first_trainable: Blocks below this one are frozen, stored once and computed once; 0 trains all
            blocks. Embeddings and head are frozen where this is above 0.
        value_first_trainable: The same for the value network; None takes `first_trainable`, or the depth
            of the value network if that is smaller.
        lora_rank: Rank of LoRA adapters on the trainable blocks (needs the extra ``lora``); 0 trains the
            blocks themselves. The reference is then the policy without its adapters: one set of weights.
        gradient_checkpointing: Keep only the input of each trainable block and compute the block again
            in the backward pass: less memory, about a third more time.
        reference_precision: How the reference's own weights are stored; what it shares with the policy
            stays as it is, and it computes as the policy does. ``fp16`` rounds weights eight times finer
            than ``bf16``. The KL at step 0 is then no longer 0: it is logged as ``train/kl_offset``.
        reference_device: ``cpu`` keeps the reference's own weights in main memory and copies each layer
            to the GPU when it is needed; ``disk`` keeps them in a file, and main memory holds them only
            while an iteration is scored.
        sampling_processors: What to do with a policy whose own ``generation_config`` asks for top-k,
            top-p, penalties and the like, which scoring would not see: ``refuse`` it, or ``drop`` them
            (rollouts and the exported policy then sample from the plain distribution).
        precision: ``auto`` is bf16 autocast where the hardware computes it natively; weights stay fp32.
        episodes_per_iteration: Sequences sampled between two updates (paper: 512).
        minibatches: Optimizer steps per epoch (paper: 8).
        epochs: Inner epochs (paper: 1).
        micro_batch_size: Sequences per forward and backward pass; never changes the result, and is
            halved by itself where memory does not suffice.
        rollout_batch_size: Sequences generated together, which bounds the key-value cache; None is all
            of an iteration's. Halved by itself like `micro_batch_size`.
        temperature: Of sampling, and of every log-probability (paper: 1).
        learning_rate: Of the policy, at its peak. Not in the paper for the released models.
        value_learning_rate: Paper: 9e-6.
        warmup_iterations: Both rates rise from a tenth of their peaks over these (paper: 10).
        decay_iterations: Both rates fall in a straight line to zero at the end of this many iterations, as
            in lm-human-preferences, and stay at the last one's after it; 0 keeps them constant (paper).
        adam_beta1: Paper: 0.9.
        adam_beta2: Paper: 0.95.
        weight_decay: Not in the paper.
        clip: Half-width of the ratio's interval (paper: 0.2).
        value_clip: Half-width of the value's interval, or None. Not in the paper.
        gamma: Discount (paper: 1).
        lam: GAE's lambda. Not in the paper; lm-human-preferences has 0.95.
        whiten_advantages: Shift and scale the advantages of an iteration. Not in the paper.
        whiten_rewards: Scale the rewards of an iteration, without a shift. Not in the paper.
        reward_clip: Clip each token's reward to this absolute value, or None. Not in the paper.
        max_grad_norm: Clip each network's gradient to this norm; the norm before it is logged.
        ptx_coef: Weight of the pretraining loss, gamma_ptx. The paper's 27.8 means something only with its
            unstated reduction; ours is the mean over the tokens of a minibatch. 0 is plain PPO.
        ptx_data: JSONL file with a ``text`` column for the pretraining stream.
        ptx_length: Tokens of one pretraining example.
        ptx_per_episode: Pretraining examples per sampled sequence (paper: 8).
        ema_decay: Of the averaged policy weights, per optimizer step (paper: 0.992); 0 keeps none.
        kl_limit: Largest KL to the reference, in nats per sequence.
        kl_limit_action: Above `kl_limit`, ``stop`` with an error before the update, or ``back_off``: put the
            policy back to where it was last within the limit, leave the update out, and halve the policy's
            learning rate, which each iteration within the limit doubles again. Costs a copy of the policy's
            trainable weights.
        target_kl: End an iteration's update before the first step whose minibatch is further than 1.5 times
            this from the policy that acted (nats per token, as in SB3); None takes all steps.
        checkpoint_every: Iterations between checkpoints.
        keep_checkpoints: How many of them to keep.
        seed: Keys sampling noise, data order and initialisation.
    """

    policy: str
    value: str | None = None
    value_network: Literal["separate", "head"] = "separate"
    value_coef: float = 0.1
    first_trainable: int = 0
    value_first_trainable: int | None = None
    lora_rank: int = 0
    gradient_checkpointing: bool = False
    reference_precision: Literal["same", "bf16", "fp16"] = "same"
    reference_device: Literal["same", "cpu", "disk"] = "same"
    sampling_processors: Literal["refuse", "drop"] = "refuse"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    episodes_per_iteration: int = 512
    minibatches: int = 8
    epochs: int = 1
    micro_batch_size: int = 16
    rollout_batch_size: int | None = None
    temperature: float = 1.0
    learning_rate: float = 1e-5
    value_learning_rate: float = 9e-6
    warmup_iterations: int = 10
    decay_iterations: int = 0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.95
    weight_decay: float = 0.0
    clip: float = 0.2
    value_clip: float | None = 0.2
    gamma: float = 1.0
    lam: float = 0.95
    whiten_advantages: bool = True
    whiten_rewards: bool = False
    reward_clip: float | None = None
    max_grad_norm: float = 1.0
    ptx_coef: float = 0.0
    ptx_data: str | None = None
    ptx_length: int = 64
    ptx_per_episode: float = 1.0
    ema_decay: float = 0.992
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
        for name in _COUNTS:
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in _POSITIVE:
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        for name in ("gamma", "lam", "ema_decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be between 0 and 1")
        for name in ("ptx_coef", "value_coef", "lora_rank", "warmup_iterations", "decay_iterations"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        if self.episodes_per_iteration % self.minibatches:
            raise ValueError(
                f"episodes_per_iteration is {self.episodes_per_iteration}, which {self.minibatches} "
                "minibatches do not divide; choose a multiple"
            )
        if self.ptx_coef > 0 and not self.ptx_data:
            raise ValueError(f"ptx_coef is {self.ptx_coef} but ptx_data names no text; give a JSONL file")
        self._check_networks()

    def _check_networks(self) -> None:
        """Refuse settings of networks that contradict each other."""
        if self.value_network == "head":
            for name in ("value", "value_first_trainable"):
                if getattr(self, name) is not None:
                    raise ValueError(
                        f"{name} is {getattr(self, name)!r} but value_network is 'head', which has no blocks "
                        f"of its own; leave {name} out or set value_network to 'separate'"
                    )
        if self.lora_rank:
            for name in ("reference_precision", "reference_device"):
                if getattr(self, name) != "same":
                    raise ValueError(
                        f"{name} is {getattr(self, name)!r} but lora_rank is {self.lora_rank}: the reference "
                        f"is then the policy without its adapters and has no weights of its own; leave "
                        f"{name} out"
                    )
