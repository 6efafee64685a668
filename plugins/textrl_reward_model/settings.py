"""Settings of ``reward_model``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

PLAIN = "{prompt}{response}"


@dataclass(frozen=True, kw_only=True)
class RewardModelRewardSettings:
    """Which model scores, and what it reads.

    Attributes:
        model: Folder or hub id that transformers' AutoModelForSequenceClassification loads; one output. Or a
            folder that holds an ensemble (``member-1``, ``member-2`` ...), as textrl writes it.
        members: More folders or hub ids, asked together with `model`.
        ensemble: What several models say together: "mean"; "minimum", the lowest score; "pessimistic", the
            mean minus `pessimism` standard deviations.
        pessimism: Standard deviations that "pessimistic" subtracts.
        ids: "shared" scores the policy's own token ids, never tokenised again; "retokenise" decodes
            them and uses the reward model's tokenizer; "auto" is "shared" where the two tokenizers are
            the same, the model is a decoder and the template is the plain one.
        policy_tokenizer: Name, folder or hub id of the policy's tokenizer, which "auto" compares; pipelines
            fill it in.
        template: What the model reads when text is tokenised again; "{prompt}" and "{response}" stand
            for the two texts. A model that was trained on another template than the plain one says so in
            its config (`textrl_template`), and that is read unless one is given here.
        chat: Use the reward model's own chat template (a user and an assistant turn) instead.
        use_offset: Subtract `textrl_reward_offset` of the model's config, which makes demonstrations
            score 0 on average; 0 where the config has none.
        micro_batch_size: Sequences scored in one forward pass.
        precision: How the weights are stored: "same" as they were loaded (fp32), "bf16" or "fp16"; what is
            computed with them is not. Blocks shared with the policy stay as the policy has them.
        device: "same" as the batch's; "cpu" keeps the blocks in main memory and copies each layer to the
            GPU when it is needed; "disk" keeps them in a file, and memory holds them only while they score.
        max_tokens: Longest input; by default what the model and its tokenizer say.
        too_long: "refuse" stops on a longer input; "truncate" drops its beginning and logs the share
            of such inputs as source/<name>/truncated. Shared ids are always refused.
    """

    model: str
    members: tuple[str, ...] = ()
    ensemble: Literal["mean", "minimum", "pessimistic"] = "mean"
    pessimism: float = 1.0
    ids: Literal["auto", "shared", "retokenise"] = "auto"
    policy_tokenizer: str | None = None
    template: str = PLAIN
    chat: bool = False
    use_offset: bool = True
    micro_batch_size: int = 32
    precision: Literal["same", "bf16", "fp16"] = "same"
    device: Literal["same", "cpu", "disk"] = "same"
    max_tokens: int | None = None
    too_long: Literal["refuse", "truncate"] = "refuse"

    def __post_init__(self) -> None:
        if not self.model:
            raise ValueError("model is empty; give a folder or a hub id")
        if not all(self.members):
            raise ValueError("members has an empty name; give folders or hub ids")
        if not 0 <= self.pessimism < math.inf:
            raise ValueError(f"pessimism is {self.pessimism}; it must not be negative")
        if "{response}" not in self.template:
            raise ValueError(f"template is {self.template!r}; it must contain '{{response}}'")
        if self.chat and self.template != PLAIN:
            raise ValueError("chat is on and there is a template too; give one of them")
        if self.ids == "shared" and (self.chat or self.template != PLAIN):
            raise ValueError(
                "ids is 'shared', which reads the policy's ids as they are; drop template and chat"
            )
        if self.micro_batch_size < 1:
            raise ValueError(f"micro_batch_size is {self.micro_batch_size}; it must be at least 1")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"max_tokens is {self.max_tokens}; it must be at least 1")
