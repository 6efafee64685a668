"""``textrl eval reward | overopt``: is a reward model right, and what happens when it is optimised."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Group, Parameter

from textrl.evaluation.overopt.command import overopt

_Names = Annotated[tuple[str, ...], Parameter(negative="", show_default=False)]
_Flag = Annotated[bool, Parameter(negative="", show_default=False)]


def add_to(app: App, group: Group, command_line: list[str]) -> None:
    """Add ``eval`` and its sub-commands to the app.

    Args:
        app: The app.
        group: Where its help stands.
        command_line: What the user typed, which the page shows.
    """
    evaluation = App(
        name="eval",
        help="Evaluate reward models: agreement with people, and over-optimisation.",
        help_epilogue="Example: `textrl eval reward sentiment ratings:movie --margin 1`",
        group=group,
    )

    def reward(
        model: str,
        data: str,
        /,
        *,
        judge: _Names = (),
        split: str | None = None,
        by: _Names = (),
        annotator_groups: Path | None = None,
        margin: float = 0.0,
        pairs: int = 50_000,
        combine: Literal["mean", "min", "pessimistic"] = "mean",
        pessimism: float = 1.0,
        eos: bool | None = None,
        resamples: int = 1000,
        seed: int = 0,
        out: Path | None = None,
        json: _Flag = False,
    ) -> int:
        """Hold a reward model's scores against what people said.

        Writes report.html and results.json, and prints the figures.

        Args:
            model: A model's folder or hub id, a registered reward, or an ensemble: several of them joined by
                commas, or a folder of model folders. Settings follow in braces:
                `'keyword {words: [good]}'`, `'owner/model {chat: true}'`.
            data: Pairs, rankings or ratings: a .jsonl, .jsonl.gz or .parquet file, a dataset's id, or
                ratings:movie, ratings:amazon, ratings:nyt, ratings:tweets.
            judge: Another scorer to compare with, named like the model, or minilm or tfidf, which are
                fitted to other movie snippets; may be repeated.
            split: Of a dataset; of a file, the records whose column `split` it is.
            by: A column of the records (annotator, source, ...) whose values get an accuracy each; may be
                repeated.
            annotator_groups: YAML or JSON with lists of annotators by group, which get an accuracy each.
            margin: Pairs whose ratings, or whose margin, differ by less count as ties.
            pairs: Of more pairs than this, a random part is used.
            combine: How an ensemble's scores become one: their mean, the lowest (min), or their mean minus
                `--pessimism` standard deviations (pessimistic).
            pessimism: Standard deviations that `--combine pessimistic` subtracts.
            eos: Completions end with EOS for a model that reads ids; by default as its config says.
            resamples: Bootstrap resamples behind every interval.
            seed: Of resamples and random parts.
            out: The folder to write to, runs/eval-reward-MODEL-DATA by default.
            json: Print JSON.
        """
        from textrl.evaluation.reward_models.command import Arguments, run  # here: it imports numpy

        arguments = Arguments(
            model=model, data=data, judges=judge, split=split, by=by, annotator_groups=annotator_groups,
            margin=margin, pairs=pairs, combine=combine, pessimism=pessimism, eos=eos, resamples=resamples,
            seed=seed, out=out, json=json,
        )  # fmt: skip
        run(arguments, shlex.join(command_line))
        return 0

    examples = (
        "Examples: `textrl eval reward runs/quickstart/reward_model pairs.jsonl --by annotator`, "
        "`textrl eval reward sentiment ratings:movie --margin 1 --judge tfidf`"
    )
    evaluation.command(reward, help_epilogue=examples)
    evaluation.command(
        overopt, help_epilogue="Examples: `textrl eval overopt --quick`, `textrl eval overopt --seeds 5`"
    )
    app.command(evaluation)
