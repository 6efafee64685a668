"""The figures of an iteration from which one can tell what goes wrong.

``B`` sequences, ``T`` response tokens, ``N`` real decisions. All figures are over all processes.
"""

from __future__ import annotations

import math

import torch
from accelerate import Accelerator
from torch import Tensor

from textrl.distributed import sum_metrics
from textrl.mdp.kl import k1, k2, k3
from textrl.mdp.task import TokenTask
from textrl.rewards import RewardBreakdown
from textrl.rollout import Rollout


class Spread:
    """Count, mean, standard deviation and extremes of numbers near 1 that come in parts."""

    def __init__(self) -> None:
        # Sums are of x - 1: the ratios of a first minibatch differ from 1 in the seventh digit.
        self.count, self.sum, self.squares, self.low, self.high = 0.0, 0.0, 0.0, math.inf, -math.inf

    def add(self, x: Tensor) -> None:
        """Take in a tensor of any shape."""
        if x.numel():
            off = x.detach().double() - 1
            low, high = off.aminmax()
            figures = torch.stack([off.sum(), (off * off).sum(), low, high]).tolist()
            self.merge(torch.tensor([float(x.numel()), *figures], dtype=torch.float64))

    def merge(self, packed: Tensor) -> None:
        """Take in what another spread's `packed` gives."""
        count, total, squares, low, high = packed.tolist()
        self.count, self.sum, self.squares = self.count + count, self.sum + total, self.squares + squares
        self.low, self.high = min(self.low, low), max(self.high, high)

    def packed(self) -> Tensor:
        """Return (5,) float64: count, sum, squares, lowest and highest of x - 1."""
        figures = [self.count, self.sum, self.squares, self.low, self.high]
        return torch.tensor(figures, dtype=torch.float64)

    def figures(self, prefix: str) -> dict[str, float]:
        """Return mean, std, min and max under a prefix; nothing where nothing came in."""
        if not self.count:
            return {}
        mean = self.sum / self.count
        variance = max(self.squares / self.count - mean * mean, 0.0)
        return {
            f"{prefix}_mean": 1 + mean,
            f"{prefix}_std": math.sqrt(variance),
            f"{prefix}_min": 1 + self.low,
            f"{prefix}_max": 1 + self.high,
        }


class Ratios:
    """PPO's ratios over an update: on its first minibatch, where all must be 1, and on the later ones."""

    def __init__(self) -> None:
        self.first, self.later, self.current = Spread(), Spread(), Spread()

    def add(self, log_ratios: Tensor) -> None:
        """Take in the (N,) log-ratios of a micro-batch."""
        self.current.add(log_ratios.detach().exp())

    def undo(self) -> None:
        """Forget the minibatch that is being worked on; it will be done again."""
        self.current = Spread()

    def end_minibatch(self) -> None:
        """Book the minibatch that was worked on."""
        (self.later if self.first.count else self.first).merge(self.current.packed())
        self.current = Spread()

    def figures(self, accelerator: Accelerator) -> dict[str, float]:
        """Return ``train/ratio_first_*`` and ``train/ratio_later_*``; a collective operation."""
        found: dict[str, float] = {}
        for name, spread in (("first", self.first), ("later", self.later)):
            total = spread
            if accelerator.num_processes > 1:
                total = Spread()
                gathered: Tensor = accelerator.gather(spread.packed()[None].to(accelerator.device))
                for row in gathered.cpu():
                    total.merge(row)
            found |= total.figures(f"train/ratio_{name}")
        return found


def describe(
    rollout: Rollout,
    scored: dict[str, Tensor],
    breakdown: RewardBreakdown,
    paid: Tensor,
    returns: Tensor,
    task: TokenTask,
    accelerator: Accelerator,
) -> dict[str, float]:
    """Return the figures of an iteration, averaged over the episodes of all processes."""
    width = rollout.prompt_ids.shape[1]
    mask = rollout.response_mask
    new, ref, values, entropy = (
        scored[name][:, width:][mask].double() for name in ("logprobs", "ref_logprobs", "values", "entropy")
    )
    gap = (rollout.logprobs[mask].double() - new).abs()
    eos = torch.isin(rollout.response_ids, torch.tensor(sorted(task.eos_ids), device=mask.device)) & mask
    per_episode = {
        "rollout/ep_rew_mean": paid.double().sum(),
        "reward/total": breakdown.total.double().sum(),
        "rollout/ep_len_mean": mask.sum(),
        "rollout/eos_rate": eos.any(1).sum(),
        "train/kl_ref": k1(new, ref).sum(),
        "train/kl_ref_k2": k2(new, ref).sum(),
        "train/kl_ref_k3": k3(new, ref).sum(),
    } | {f"reward/{name}": part.double().sum() for name, part in breakdown.components.items()}
    per_token = {"train/entropy": entropy.sum(), "train/logprob_gap_mean": gap.sum()}
    sums = per_episode | per_token | {"episodes": torch.tensor(len(mask))}
    figures = sum_metrics(accelerator, {name: float(value) for name, value in sums.items()})
    episodes, tokens = figures["episodes"], figures["rollout/ep_len_mean"]
    out = {name: figures[name] / episodes for name in per_episode}
    out |= {name: figures[name] / tokens for name in per_token}
    out["rollout/ep_len_max"] = _largest(accelerator, float(mask.sum(1).max()))
    out["train/logprob_gap"] = _largest(accelerator, float(gap.max()))
    return out | _critic(values, returns[mask].double(), accelerator)


def kl_offset(rollout: Rollout, scored: dict[str, Tensor], accelerator: Accelerator) -> dict[str, float]:
    """Return what the KL is before anything was learnt: 0, unless the reference is stored differently.

    Returns:
        ``train/kl_offset`` (k1, nats per sequence) and ``train/kl_offset_max`` (largest difference of a
        token's log-probability, nats).
    """
    width = rollout.prompt_ids.shape[1]
    mask = rollout.response_mask
    new, ref = (scored[name][:, width:][mask].double() for name in ("logprobs", "ref_logprobs"))
    sums = sum_metrics(accelerator, {"kl": float(k1(new, ref).sum()), "episodes": float(len(mask))})
    largest = _largest(accelerator, float((new - ref).abs().max()))
    return {"train/kl_offset": sums["kl"] / sums["episodes"], "train/kl_offset_max": largest}


def _critic(values: Tensor, returns: Tensor, accelerator: Accelerator) -> dict[str, float]:
    """Return the explained variance 1 - Var[returns - values] / Var[returns]; nothing where it has none."""
    errors = returns - values
    sums = sum_metrics(
        accelerator,
        {
            "n": float(len(returns)),
            "r": float(returns.sum()),
            "rr": float((returns * returns).sum()),
            "e": float(errors.sum()),
            "ee": float((errors * errors).sum()),
        },
    )
    count = sums["n"]
    variance = sums["rr"] / count - (sums["r"] / count) ** 2
    left = sums["ee"] / count - (sums["e"] / count) ** 2
    # Equal returns leave rounding, not variance.
    if variance <= 1e-12 * max(sums["rr"] / count, 1e-300):
        return {}
    return {"train/explained_variance": 1 - left / variance}


def _largest(accelerator: Accelerator, local: float) -> float:
    if accelerator.num_processes == 1:
        return local
    gathered: Tensor = accelerator.gather(torch.tensor([local], device=accelerator.device))
    return float(gathered.max())
