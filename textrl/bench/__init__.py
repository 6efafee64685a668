"""Benchmarks: figures that the README and the pages under docs/ state, and the commands that give them.

``startup`` times processes; ``classic-control``, ``text``, ``tamer``, ``text-feedback``, ``optimum`` and
``ppo-core`` run grids of trials (`textrl.bench.jobs`) and write tables, JSON, pictures and a page;
``rollout``, ``ppo``, ``data`` and ``sessions`` time one thing after another. Importing this is light: what a
benchmark needs is imported when it starts.
"""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from textrl.errors import UserError

_Names = Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="", show_default=False)]
_Flag = Annotated[bool, Parameter(negative="", show_default=False)]
_Files = Annotated[tuple[Path, Path] | None, Parameter(negative="")]


def bench(
    what: Literal[
        "startup",
        "classic-control",
        "text",
        "tamer",
        "text-feedback",
        "optimum",
        "ppo-core",
        "rollout",
        "ppo",
        "data",
        "sessions",
    ] = "startup",
    *,
    seeds: int | None = None,
    quick: _Flag = False,
    jobs: int | None = None,
    out: Path | None = None,
    learners: _Names = (),
    envs: _Names = (),
    difficulty: str | None = None,
    only: _Names = (),
    h_models: _Files = None,
    sizes: _Names = (),
    no_baseline: _Flag = False,
    kills: int | None = None,
    cuts: int | None = None,
    minutes: float | None = None,
    runs: int = 15,
    json: _Flag = False,
) -> int:
    """Measure what the README and the pages under docs/ claim.

    A benchmark that was interrupted goes on where it was: repeat the command.

    Args:
        what: ``startup`` times whole processes: the interpreter, the import, the listings.
            ``classic-control`` trains learners on Mountain Car, Cart Pole and Acrobot, ``text`` on tasks
            of tokens whose optimum is known. ``tamer`` repeats the papers on TAMER and TAMER+RL with
            simulated trainers. ``text-feedback`` lets simulated readers teach PPO-ptx by presses on words.
            ``optimum`` holds PPO-ptx, RLOO and GRPO against optima that are known exactly. ``ppo-core``
            trains its core on Cart Pole beside Stable-Baselines3's PPO. ``rollout`` times generation beside
            transformers' generate, ``ppo`` an iteration beside TRL's, on an otherwise idle machine. ``data``
            splits and deduplicates a million records. ``sessions`` times feedback sessions, kills their
            server and cuts their sockets.
        seeds: Seeds for each figure, 0, 1, ...; by default each figure's own number.
        quick: Two or three minutes on two cores: small budgets, one seed or two.
        jobs: Processes at the same time; by default one for each core.
        out: Where results go, runs/bench-WHAT by default.
        learners: classic-control and text: only these rows, or all rows of these registered learners.
            optimum: of ppo_ptx (alone by default), rloo, grpo and grpo_k3, whose KL is in the loss.
        envs: classic-control and text: only these environments.
        difficulty: text: tiny or small (by default, but with --quick tiny).
        only: tamer: only these parts: h-models, sequential, simultaneous, cart-pole. text-feedback:
            techniques, presses, rewards, delays, readers, credit; sentiment, which is run only where it is
            named, is SmolLM2, an hour. optimum: only these
            kinds of rewards: episode, token.
        h_models: tamer: two JSON lists of weights, H as people trained it, instead of simulated trainers.
        sizes: rollout and ppo: only these models: tiny, tiny-50k, gpt2, smollm2.
        no_baseline: ppo: do not measure TRL, which is installed into the cache folder on first use.
        kills: sessions: how often the server is killed, 100 by default.
        cuts: sessions: how often a socket is torn off, 200 by default.
        minutes: sessions: length of the long session, 20 by default.
        runs: startup: processes per figure; the median, the fastest and the slowest are shown.
        json: Print JSON instead of tables.
    """
    _refuse_strangers(
        what,
        {"--learners": learners, "--envs": envs, "--difficulty": difficulty, "--only": only,
         "--h-models": h_models, "--seeds": seeds, "--quick": quick, "--jobs": jobs, "--out": out,
         "--sizes": sizes, "--no-baseline": no_baseline,
         "--kills": kills, "--cuts": cuts, "--minutes": minutes},
    )  # fmt: skip
    if what == "startup":
        return _startup(runs, json)
    from textrl.bench.running import Options

    options = Options(what, seeds, quick, jobs, out, json)
    if what == "classic-control":
        from textrl.bench import classic_control

        return classic_control.bench(options, learners, envs)
    if what == "text":
        from textrl.bench import text

        return text.bench(options, learners, envs, difficulty)
    if what == "optimum":
        from textrl.bench import optimum

        return optimum.bench(options, only, learners)
    if what == "ppo-core":
        from textrl.bench import ppo_core

        return ppo_core.bench(options)
    if what == "rollout":
        from textrl.bench import rollout

        return rollout.bench(options, sizes)
    if what == "data":
        from textrl.bench import data

        return data.bench(options)
    if what == "sessions":
        from textrl.bench import sessions

        return sessions.bench(options, kills, cuts, minutes)
    if what == "ppo":
        from textrl.bench import ppo

        return ppo.bench(options, sizes, baseline=not no_baseline)
    if what == "text-feedback":
        from textrl.bench import text_feedback

        return text_feedback.bench(options, only)
    from textrl.bench import tamer

    return tamer.bench(options, only, h_models)


def _startup(runs: int, json: bool) -> int:
    from textrl.bench import startup

    if runs < 1:
        raise UserError(f"--runs is {runs}; it must be at least 1.")
    rows = startup.figures(runs)
    if json:
        print(  # noqa: T201
            json_module.dumps({"what": "startup", "unit": "ms", "runs": runs, "figures": rows})
        )
    else:
        print(startup.table(rows))  # noqa: T201
    return 0


_GRIDS = ("classic-control", "text", "tamer", "text-feedback", "optimum", "ppo-core")
#: Options that not every benchmark has.
_OF = {
    "--learners": ("classic-control", "text", "optimum"),
    "--envs": ("classic-control", "text"),
    "--difficulty": ("text",),
    "--only": ("tamer", "text-feedback", "optimum"),
    "--h-models": ("tamer",),
    "--seeds": _GRIDS,
    "--jobs": _GRIDS,
    "--sizes": ("rollout", "ppo"),
    "--no-baseline": ("ppo",),
    "--kills": ("sessions",),
    "--cuts": ("sessions",),
    "--minutes": ("sessions",),
}


def _refuse_strangers(what: str, given: dict[str, object]) -> None:
    """Refuse options that would do nothing.

    Raises:
        UserError: Names the option and where it belongs.
    """
    for option, value in given.items():
        belongs = _OF.get(option, (*_GRIDS, "rollout", "ppo", "data", "sessions"))
        if value not in (None, False, ()) and what not in belongs:
            names = " and ".join(f"'textrl bench {name}'" for name in belongs)
            raise UserError(f"{option} does nothing in 'textrl bench {what}'; it belongs to {names}.")
