"""``textrl plan CONFIG``: the memory and the arithmetic that PPO-ptx will need, before anything is trained.

`job` reads the config, `shadow` builds its networks without memory, `estimate` runs the learner's passes on
them and counts, `machine` measures how fast this machine is at such work, `table` prints.
"""

from __future__ import annotations

import json as json_module
from typing import Annotated, Any

from cyclopts import Parameter

from textrl.errors import UserError

_Flag = Annotated[bool, Parameter(negative="", show_default=False)]


def plan(
    config: str,
    /,
    *overrides: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)],
    gpus: int | None = None,
    gpu: str | None = None,
    prompt_tokens: int | None = None,
    response_tokens: int | None = None,
    json: _Flag = False,
) -> int:
    """Show the memory and the arithmetic that a config will need, part by part, and about how long it takes.

    Nothing is trained and no weights are loaded. Every key of the config can be set as in `textrl run`:
    `--ppo.micro_batch_size 8`. Responses are taken to have their full length.

    Args:
        config: A YAML file with PPO-ptx in it, or the name of one that came with textrl.
        gpus: Plan for this many GPUs, one process each, instead of for this machine.
        gpu: Which GPU, for a time and whether it fits: l4, rtx4090, a100-40gb, a100-80gb, h100 or h200. One
            of them where `gpus` is not given.
        prompt_tokens: Length of a prompt; by default the prompts themselves are looked at.
        response_tokens: Mean length of a response, where it is known to be shorter than its limit.
        json: Print JSON instead of tables.
    """
    given = {"gpus": gpus, "prompt-tokens": prompt_tokens, "response-tokens": response_tokens}
    for name, value in given.items():
        if value is not None and value < 1:
            raise UserError(f"--{name} is {value}; it must be at least 1.")
    from textrl.cli.run import find_config, overrides_from
    from textrl.config import load_config
    from textrl.plan.report import make_plan
    from textrl.plan.table import table
    from textrl.registry import get_registry

    node = load_config(find_config(config), overrides_from(overrides))
    found: dict[str, Any] = make_plan(
        node,
        get_registry(),
        gpus=gpus,
        gpu=gpu,
        prompt_tokens=prompt_tokens,
        response_tokens=response_tokens,
    )
    print(json_module.dumps(found, indent=2) if json else table(found))  # noqa: T201
    return 0
