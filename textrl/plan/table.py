"""A plan for reading."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_WIDTH = 52


def table(plan: Mapping[str, Any]) -> str:
    """Return the tables of a plan that `textrl.plan.report.make_plan` made."""
    return "\n".join([*_head(plan), "", *_memory(plan), "", *_work(plan), *_end(plan)])


def _head(plan: Mapping[str, Any]) -> list[str]:
    prompt, response = plan["prompt_tokens"], plan["response_tokens"]
    share = 100 * plan["trained_parameters"] / plan["parameters"]
    each = "" if plan["processes"] == 1 else f"; {plan['processes']} processes, figures are for each of them"
    return [
        f"{plan['config']}: PPO-ptx on {plan['model']}",
        f"  {_count(plan['parameters'])} parameters, {_count(plan['trained_parameters'])} trained in policy "
        f"and value network ({share:.0f} % of the policy's number), {plan['precision']}{each}",
        f"  {plan['iterations']} iterations of {plan['episodes_per_iteration']} episodes; prompts of up to "
        f"{prompt['most']} tokens, responses of {response['counted']}"
        + (f" (at most {response['most']})" if response["counted"] != response["most"] else ""),
    ]


def _memory(plan: Mapping[str, Any]) -> list[str]:
    memory = plan["memory_bytes"]
    lines = [_row("memory", "held throughout")]
    lines += [_row(f"  {name}", _bytes(size)) for name, size in memory["resident"].items()]
    lines.append(_row("  together", _bytes(sum(memory["resident"].values()))))
    lines.append(_row("", "at its time"))
    for phase, parts in memory["transient"].items():
        lines += [_row(f"  {phase}: {name}", _bytes(size)) for name, size in parts.items()]
    lines.append(_row("peak of all tensors", _bytes(memory["tensors_peak"])))
    lines.append(_row("Python, torch and other libraries", _bytes(memory["overhead"])))
    lines.append(_row("peak of a process", _bytes(memory["peak"])))
    if memory["offloaded"]:
        lines.append(_row("in main memory beside the GPU", _bytes(memory["offloaded"])))
    return lines


def _work(plan: Mapping[str, Any]) -> list[str]:
    times = plan.get("seconds_per_iteration", {})
    lines = [_row("one iteration", "operations", "time" if times else "")]
    for phase, parts in plan["flops_per_iteration"].items():
        lines.append(_row(f"  {phase}", _flops(sum(parts.values())), _time(times.get(phase))))
        lines += [_row(f"    {name}", _flops(count)) for name, count in parts.items()]
    if times:
        lines.append(_row("  optimizer steps", "", _time(times["optimizer"])))
    whole = sum(sum(parts.values()) for parts in plan["flops_per_iteration"].values())
    lines.append(_row("  together", _flops(whole), _time(sum(times.values()) if times else None)))
    lines.append(_row("all iterations", _flops(plan["flops"]), _time(plan.get("seconds"))))
    return lines


def _end(plan: Mapping[str, Any]) -> list[str]:
    lines = []
    machine = plan.get("machine")
    if machine is not None:
        speeds = machine["flops_per_second"]
        how = "measured now" if machine["measured"] else "from its data sheet, 40 % of the products' speed"
        lines += [
            "",
            f"{machine['name']}, {_bytes(machine['memory_bytes'])}, {how}: operations per second, "
            f"matrix product {_flops(speeds['matmul'])}, training {_flops(speeds['train'])}, scoring "
            f"{_flops(speeds['score'])}, vocabulary {_flops(speeds['head'])}, generating "
            f"{_flops(speeds['decode'])}",
            "It fits into memory."
            if plan["fits"]
            else "It does not fit into memory: lower micro_batch_size or rollout_batch_size, set "
            "gradient_checkpointing, raise first_trainable, or use lora_rank.",
        ]
    elif "machine" not in plan:
        lines += ["", "For a time, and whether it fits, name the GPU: --gpu h200."]
    return lines + [f"Note: {note}." for note in plan["notes"]]


def _row(name: str, *cells: str) -> str:
    return f"{name:<{_WIDTH}}" + "".join(f"{cell:>18}" for cell in cells)


def _count(number: float) -> str:
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.0f}"


def _bytes(size: float) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def _flops(count: float) -> str:
    for unit, size in (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if count >= size:
            return f"{count / size:.3g} {unit}FLOP"
    return f"{count:.0f} FLOP"


def _time(value: float | None) -> str:
    if value is None:
        return ""
    for unit, size in (("h", 5400.0), ("min", 90.0)):
        if value >= size:
            return f"{value / (3600 if unit == 'h' else 60):.1f} {unit}"
    return f"{value:.2g} s" if value < 10 else f"{value:.0f} s"
