"""What stops a run before it does harm, and says which component was at fault."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from textrl.errors import TrainingError, UserError

#: Settings of transformers' generation that change the distribution, and the values that do not.
_PROCESSORS: dict[str, tuple[Any, ...]] = {
    "top_k": (0,),
    "top_p": (1.0,),
    "min_p": (0.0,),
    "top_h": (),
    "typical_p": (1.0,),
    "epsilon_cutoff": (0.0,),
    "eta_cutoff": (0.0,),
    "repetition_penalty": (1.0,),
    "encoder_repetition_penalty": (1.0,),
    "no_repeat_ngram_size": (0,),
    "encoder_no_repeat_ngram_size": (0,),
    "bad_words_ids": ([],),
    "suppress_tokens": ([],),
    "begin_suppress_tokens": ([],),
    "sequence_bias": ({}, []),
    "exponential_decay_length_penalty": (),
    "guidance_scale": (1, 1.0),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "watermarking_config": (),
}


def require_finite(component: str, tensor: Tensor, fix: str) -> None:
    """Refuse NaN and infinity.

    Args:
        component: What the tensor is, as it reads after "the".
        tensor: Any shape; its first two axes are rows and tokens.
        fix: What to do, as it reads after a semicolon.

    Raises:
        UserError: Naming the component, how much of it is broken, and where first.
    """
    broken = ~torch.isfinite(tensor)
    count = int(broken.sum())
    if count:
        first = broken.nonzero()[0].tolist()
        where = ", ".join(f"{axis} {at}" for axis, at in zip(("row", "token"), first, strict=False))
        raise TrainingError(
            f"The {component} are not finite ({count} of {tensor.numel()} values"
            f"{f', first in {where}' if where else ''}), so no step was taken; {fix}."
        )


def require_finite_losses(losses: Mapping[str, float]) -> None:
    """Refuse a loss that is NaN or infinite, by name; call it before the optimizer steps.

    Raises:
        UserError: Naming the first such loss.
    """
    for name, value in losses.items():
        if not math.isfinite(value):
            raise TrainingError(
                f"The {name} of a minibatch is {value}, so no step was taken on it; lower the learning rate, "
                "set precision to fp32, or look at the rewards of this iteration in metrics.jsonl."
            )


def require_finite_gradient(network: str, norm: float, params: Iterable[tuple[str, nn.Parameter]]) -> None:
    """Refuse a gradient with a NaN or infinite norm, by the parameter where it begins.

    Raises:
        UserError: Naming the network and the parameter.
    """
    if math.isfinite(norm):
        return
    broken = [n for n, p in params if p.grad is not None and not bool(torch.isfinite(p.grad).all())]
    where = f" (in {broken[0]} and {len(broken) - 1} more)" if broken else " (its norm overflows)"
    raise TrainingError(
        f"The {network} gradient is not finite{where}, so no step was taken on it; lower the learning rate, "
        "set precision to fp32, or look at the rewards of this iteration in metrics.jsonl."
    )


def sampling_processors(model: PreTrainedModel) -> dict[str, Any]:
    """Return what the model's generation config does to the distribution, by setting."""
    config = getattr(model, "generation_config", None)
    found = {name: getattr(config, name, None) for name in _PROCESSORS} if config is not None else {}
    return {
        name: value for name, value in found.items() if value is not None and value not in _PROCESSORS[name]
    }


def check_processors(model: PreTrainedModel, name: str, action: Literal["refuse", "drop"]) -> None:
    """Refuse a policy whose generation config would sample what scoring does not see, or clean it.

    Args:
        model: The policy.
        name: What the settings call it.
        action: ``refuse``, or ``drop`` what the config asks for.

    Raises:
        UserError: Naming the processors.
    """
    active = sampling_processors(model)
    if not active:
        return
    if action == "refuse":
        shown = ", ".join(f"{key} {value!r}" for key, value in list(active.items())[:4])
        raise UserError(
            f"The generation config of the policy '{name}' asks for {shown}, which the scoring of its "
            "log-probabilities would not see, so that the KL would be wrong; set sampling_processors to "
            "'drop' to train the plain distribution.",
            key="settings.sampling_processors",
        )
    for key in active:
        setattr(model.generation_config, key, None)
