"""What is demanded of every answer of a reward, checked at run time and by the conformance kit."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from textrl.errors import PluginError, UserError
from textrl.protocols import Batch
from textrl.rewards.breakdown import Source, spread
from textrl.specs import NEEDS, RewardSpec


def check_spec(spec: RewardSpec, label: str) -> None:
    """Refuse a record that contradicts itself.

    Raises:
        PluginError: Naming the record's owner and the field to correct.
    """
    unknown = sorted(spec.needs - NEEDS)
    if unknown:
        raise PluginError(
            f"{label} needs '{unknown[0]}', which no batch carries; use {', '.join(sorted(NEEDS))}."
        )
    if spec.granularity not in ("token", "episode"):
        raise PluginError(f"{label} has the granularity '{spec.granularity}'; use 'token' or 'episode'.")
    if spec.side not in ("env", "learner"):
        raise PluginError(f"{label} has the side '{spec.side}'; use 'env' or 'learner'.")
    if spec.causal and spec.granularity != "token":
        raise PluginError(
            f"{label} is declared causal but gives one value per episode; declare granularity='token'."
        )
    learners = sorted(spec.needs & {"logprobs", "ref_logprobs", "ref_hidden"})
    if learners and spec.side != "learner":
        raise PluginError(f"{label} needs '{learners[0]}', which only a learner has; declare side='learner'.")


def check_batch(source: Source, batch: Batch) -> None:
    """Refuse a batch that lacks what the source needs, or that has an episode without an action.

    Raises:
        UserError: Naming the source and what is missing.
    """
    for need in sorted(source.spec.needs):
        if getattr(batch, need, None) is None:
            raise UserError(f"{source.label} needs '{need}', and this batch carries none.")
    empty = (~batch.response_mask.any(dim=1)).nonzero()
    if len(empty):
        raise UserError(f"Row {int(empty[0])} of the batch has no action, so no reward can be paid to it.")


def token_values(source: Source, batch: Batch) -> Tensor:
    """Call the source, check its answer, and return it as (B, T) float32 on the batch's device.

    Raises:
        PluginError: When the source raises or its answer has a wrong type, shape or dtype, is not
            finite or is not zero on padding; names plugin, source and the offending row.
    """
    check_batch(source, batch)
    mask = batch.response_mask
    try:
        with torch.no_grad():
            value = source.reward(batch)
    except UserError as error:
        raise type(error)(f"{source.label} cannot score: {error}") from error
    except Exception as error:
        raise PluginError(f"{source.label} raised {type(error).__name__}: {one_line(error)}.") from error
    check_form(source, value, mask)
    value = value.detach().to(device=mask.device, dtype=torch.float32)
    check_finite(source, value, batch)
    if source.spec.granularity == "episode":
        return spread(value, mask)
    check_padding(source, value, batch)
    return value


def check_form(source: Source, value: Any, mask: Tensor) -> None:
    """Refuse anything but a floating tensor of the declared shape."""
    if not isinstance(value, Tensor):
        raise PluginError(f"{source.label} returned a {type(value).__name__}; return a torch.Tensor.")
    per_token = source.spec.granularity == "token"
    wanted = tuple(mask.shape) if per_token else (mask.shape[0],)
    if tuple(value.shape) != wanted:
        letters = "(B, T)" if per_token else "(B,)"
        raise PluginError(
            f"{source.label} returned the shape {tuple(value.shape)}; "
            f"granularity '{source.spec.granularity}' asks for {letters} = {wanted}."
        )
    if not value.dtype.is_floating_point:
        raise PluginError(f"{source.label} returned the dtype {value.dtype}; return a floating one.")


def check_finite(source: Source, value: Tensor, batch: Batch) -> None:
    """Refuse NaN and infinities, on padding too."""
    bad = (~torch.isfinite(value)).nonzero()
    if len(bad):
        number = float(value[tuple(bad[0].tolist())])
        raise PluginError(f"{source.label} returned {number} for {_place(bad[0].tolist(), batch)}.")


def check_padding(source: Source, value: Tensor, batch: Batch) -> None:
    """Refuse rewards for tokens that do not exist."""
    bad = ((value != 0) & ~batch.response_mask).nonzero()
    if len(bad):
        number = float(value[tuple(bad[0].tolist())])
        raise PluginError(
            f"{source.label} returned {number:.6g} on padding, for {_place(bad[0].tolist(), batch)}; "
            "return 0 where response_mask is False."
        )


def _place(index: list[int], batch: Batch) -> str:
    """Name a row (and token) of the batch and show its response."""
    row = index[0]
    token = f", token {index[1]}" if len(index) > 1 else ""
    if batch.text is not None:
        shown = repr(_shorten(batch.text[row]))
    else:
        real = batch.response_ids[row][batch.response_mask[row]].tolist()
        shown = f"ids {real[:12]}" + ("..." if len(real) > 12 else "")
    return f"row {row}{token} (response {shown})"


def _shorten(text: str, limit: int = 60) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."


def one_line(error: BaseException) -> str:
    """The first line of an error's message, without its final stop."""
    text = str(error).strip()
    return (text.splitlines()[0].rstrip(".:") if text else "no message") or "no message"
