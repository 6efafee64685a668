"""`textrl eval overopt`: the study on the command line. Importing this is light."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from textrl.errors import UserError

_Flag = Annotated[bool, Parameter(negative="", show_default=False)]
FOLDER = "runs/overopt"


def overopt(
    *,
    out: Path | None = None,
    quick: _Flag = False,
    seeds: int | None = None,
    jobs: int | None = None,
    json: _Flag = False,
) -> int:
    """Show how a policy that climbs a proxy leaves the gold judge behind (Gao et al. 2022).

    A gold judge that is known exactly labels pairs of texts; proxies of several sizes and amounts of data
    learn from the labels; best-of-n sampling and PPO then optimise each proxy. One figure shows both scores
    against the KL from the initial policy. A study that was interrupted goes on where it was: repeat the
    command.

    Args:
        out: Where results go, runs/overopt by default.
        quick: A minute or two: two proxies, two seeds, short training.
        seeds: Worlds for each proxy, 0, 1, ...
        jobs: Processes at the same time; by default one for each core.
        json: Print JSON instead of tables.

    Raises:
        UserError: When an option cannot work, or the folder cannot be written.
    """
    from textrl.bench.running import Options
    from textrl.evaluation.overopt.study import run_study

    folder = out or Path(FOLDER + ("-quick" if quick else ""))
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out is {folder}, which is a file; give the name of a folder.")
    return run_study(Options("overopt", seeds, quick, jobs, folder, json))
