"""Which metric goes on which chart. Metrics that no chart claims are drawn too, on charts of their own."""

from __future__ import annotations

import math
from dataclasses import dataclass

from textrl.report.figures import Chart, Line, line_chart
from textrl.report.reading import Series, Stage
from textrl.report.text import esc, label

_TITLES = {
    "sft": "Supervised fine-tuning",
    "reward_model": "Reward model",
    "ppo": "PPO",
    "ppo_ptx": "PPO-ptx",
    "evaluate": "Evaluation",
    "evaluation": "Evaluation",
    "gather": "Data",
}
#: What the lines of a chart are called, where the key says it badly.
_NAMES = {
    "train/loss": "training",
    "eval/loss": "held out",
    "train/accuracy": "training",
    "eval/accuracy": "held out",
    "train/kl_ref": "k1",
    "train/kl_ref_k2": "k2",
    "train/kl_ref_k3": "k3",
    "train/logprob_gap": "largest",
    "train/logprob_gap_mean": "mean",
    "train/ratio_first_max": "largest",
    "train/ratio_first_mean": "mean",
    "train/ratio_first_min": "smallest",
    "train/ratio_first_std": "first minibatch",
    "train/ratio_later_max": "largest",
    "train/ratio_later_mean": "mean",
    "train/ratio_later_min": "smallest",
    "train/ratio_later_std": "later minibatches",
    "time/rollout_s": "rollout",
    "time/collect_s": "rollout and scoring",
    "time/update_s": "update",
    "time/rollout_tokens_per_s": "rollout",
    "time/update_tokens_per_s": "update",
    "train/clip_fraction": "policy",
    "train/value_clip_fraction": "value",
    "train/grad_norm": "policy",
    "train/value_grad_norm": "value",
}
#: Metrics beyond this many without a chart of their own are only named.
_MAX_OTHERS = 24
#: Stages beyond this many start folded.
_OPEN_STAGES = 4


@dataclass(frozen=True)
class Recipe:
    """A chart to draw when a stage has any of its keys; a key ending in ``*`` is a prefix."""

    title: str
    keys: tuple[str, ...]
    unit: str = ""
    note: str = ""
    include: tuple[float, ...] = ()
    log: bool = False


RECIPES = (
    Recipe(
        "Reward by source",
        ("reward/total", "reward/*"),
        "mean per episode",
        "Weighted parts; together they are the total the learner saw.",
        (0.0,),
    ),
    Recipe("Episode reward", ("rollout/ep_rew_mean",), "", "The total that PPO maximises.", ()),
    Recipe(
        "KL to the reference",
        ("train/kl_ref", "train/kl_ref_k2", "train/kl_ref_k3"),
        "nats per sequence",
        "Training pays for k1; k2 and k3 are for monitoring.",
        (0.0,),
    ),
    Recipe("Judges during training", ("judge/*", "eval/judge*"), "", "Judges do not take part in training."),
    Recipe(
        "Entropy",
        ("train/entropy",),
        "nats per token",
        "A fall towards 0 means that every text becomes the same.",
        (0.0,),
    ),
    Recipe(
        "Clip fraction",
        ("train/clip_fraction", "train/value_clip_fraction"),
        "",
        "Share of tokens whose step PPO cut short.",
        (0.0,),
    ),
    Recipe(
        "Step size",
        ("train/approx_kl",),
        "nats per token",
        "KL between the policy before and after one update.",
        (0.0,),
    ),
    Recipe(
        "Value explained variance",
        ("train/explained_variance",),
        "",
        "1 is a perfect critic; below 0 it is worse than a constant.",
        (0.0, 1.0),
    ),
    Recipe("Value loss", ("train/value_loss",), "", "", (0.0,), log=True),
    Recipe(
        "Pretraining loss (ptx)",
        ("train/ptx_loss",),
        "nats per token",
        "A rise means that ordinary text is forgotten.",
    ),
    Recipe(
        "Gradient norm",
        ("train/grad_norm", "train/value_grad_norm"),
        "before clipping",
        "Spikes are updates to distrust.",
        log=True,
    ),
    Recipe("Response length", ("rollout/ep_len_mean",), "tokens", "", (0.0,)),
    Recipe(
        "Ended by itself",
        ("rollout/eos_rate",),
        "share of episodes",
        "The rest was cut by the length limit.",
        (0.0, 1.0),
    ),
    Recipe("Speed", ("time/fps", "time/tokens_per_s"), "tokens/s", "", (0.0,)),
)
#: The same metrics where no text is written: a step is a step, and there may be a person.
CONTROL = (
    Recipe("Episode reward", ("rollout/ep_rew_mean",), "mean of the last 100", "Paid by the environment."),
    Recipe("Episode length", ("rollout/ep_len_mean",), "steps", "", (0.0,)),
    Recipe("Weight of the advice (beta)", ("advice/beta",), "", "Mean over the episode's steps.", (0.0,)),
    Recipe("Presses", ("human/signals_per_min",), "per minute", "", (0.0,)),
    Recipe("Exploration", ("rollout/epsilon", "rollout/exploration_rate"), "", "", (0.0,)),
    Recipe("Speed", ("time/fps",), "steps/s", "", (0.0,)),
)
#: Charts that are there for the curious, folded away.
FURTHER = (
    Recipe("Policy loss", ("train/policy_loss",), "", "Says little by itself: advantages are centred."),
    Recipe(
        "Rollout and training disagree",
        ("train/logprob_gap", "train/logprob_gap_mean"),
        "nats",
        "Difference of log-probs; 0 is ideal.",
    ),
    Recipe(
        "Ratio, first minibatch",
        ("train/ratio_first_max", "train/ratio_first_mean", "train/ratio_first_min"),
        "",
        "All must be 1: the policy is still the one that acted.",
        (1.0,),
    ),
    Recipe(
        "Ratio, later minibatches",
        ("train/ratio_later_max", "train/ratio_later_mean", "train/ratio_later_min"),
        "",
        "How far single tokens have moved within an update.",
        (1.0,),
        log=True,
    ),
    Recipe("Spread of the ratio", ("train/ratio_first_std", "train/ratio_later_std"), "", "", (0.0,)),
    Recipe("Memory", ("memory/*",), "GB", "", (0.0,)),
    Recipe("Time of an iteration", ("time/rollout_s", "time/collect_s", "time/update_s"), "s", "", (0.0,)),
    Recipe(
        "Speed by part", ("time/rollout_tokens_per_s", "time/update_tokens_per_s"), "tokens/s", "", (0.0,)
    ),
    Recipe("Longest response", ("rollout/ep_len_max",), "tokens", "", (0.0,)),
    Recipe("Back-off above kl_limit", ("train/kl_back_off",), "of the learning rate", "", (0.0, 1.0)),
    Recipe("Learning rate", ("train/learning_rate", "learning_rate", "lr")),
)


def stage_title(name: str) -> str:
    """Return a stage's name for reading."""
    return _TITLES.get(name, label(name))


def charts_of(stage: Stage) -> tuple[list[Chart], list[Chart]]:
    """Return (main charts, further charts) that together show every metric of the stage."""
    left = [key for key, series in stage.series.items() if series.values]
    total, episode = stage.series.get("reward/total"), stage.series.get("rollout/ep_rew_mean")
    if total is not None and episode is not None and _same(total, episode):
        left.remove("rollout/ep_rew_mean")  # two names for one curve
    losses = [key for key in left if _is_plain(key, "loss")]
    accuracies = [key for key in left if _is_plain(key, "accuracy")]
    trainer = stage.name in ("sft", "reward_model")
    own = (
        Recipe("Loss", tuple(losses), "nats" if trainer else ""),
        Recipe("Accuracy", tuple(accuracies), "share of pairs" if trainer else "", "", (1.0,)),
    )
    # Every text learner logs its reward by source, or its KL.
    text = trainer or any(key.startswith(("reward/", "train/kl_ref")) for key in stage.series)
    main = _draw(stage, (*own, *(() if text else CONTROL), *RECIPES), left)
    further = _draw(stage, FURTHER, left)
    return main, further + [_chart(stage, Recipe(label(key), (key,)), [key]) for key in left]


def _same(a: Series, b: Series) -> bool:
    return len(a.values) == len(b.values) and all(
        math.isclose(x, y, rel_tol=1e-6, abs_tol=1e-9) for x, y in zip(a.values, b.values, strict=True)
    )


def _draw(stage: Stage, recipes: tuple[Recipe, ...], left: list[str]) -> list[Chart]:
    """Return a chart for every recipe that finds a key, and remove those keys from `left`."""
    charts = []
    for recipe in recipes:
        keys = list(dict.fromkeys(key for wanted in recipe.keys for key in _matching(wanted, left)))
        if keys:
            charts.append(_chart(stage, recipe, keys))
            left[:] = [key for key in left if key not in keys]
    return charts


def curves(stages: tuple[Stage, ...]) -> str:
    """Return the charts of all stages, one folding block each."""
    blocks = []
    for index, stage in enumerate(stages):
        main, others = charts_of(stage)
        if not main and not others:
            continue
        if not main:
            main, others = others[:_MAX_OTHERS], others[_MAX_OTHERS:]
        body = f'<div class="charts">{"".join(line_chart(chart) for chart in main)}</div>'
        if others:
            shown, named = others[:_MAX_OTHERS], others[_MAX_OTHERS:]
            drawn = "".join(line_chart(chart) for chart in shown)
            rest = (
                f'<p class="note">Not drawn: {esc(", ".join(c.title for c in named))}.</p>' if named else ""
            )
            body += (
                f"<details><summary>{len(others)} further metric{'s' if len(others) != 1 else ''}</summary>"
                f'<div class="charts">{drawn}</div>{rest}</details>'
            )
        fold = " open" if index < _OPEN_STAGES else ""
        title = esc(stage_title(stage.name))
        blocks.append(f'<details class="stage"{fold}><summary><h3>{title}</h3></summary>{body}</details>')
    return "".join(blocks)


def _is_plain(key: str, word: str) -> bool:
    """Whether a key is a trainer's own loss or accuracy, not one of PPO's named parts."""
    last = key.rsplit("/", 1)[-1]
    return last == word or last in (
        f"train_{word}",
        f"val_{word}",
        f"validation_{word}",
        f"eval_{word}",
        f"pair_{word}",
    )


def _matching(wanted: str, keys: list[str]) -> list[str]:
    if wanted.endswith("*"):
        return [key for key in keys if key.startswith(wanted[:-1])]
    return [wanted] if wanted in keys else []


def _chart(stage: Stage, recipe: Recipe, keys: list[str]) -> Chart:
    lines = tuple(Line(_short(key, keys), stage.series[key], style) for style, key in enumerate(keys))
    return Chart(recipe.title, lines, recipe.unit, recipe.note, recipe.include, recipe.log)


def _short(key: str, keys: list[str]) -> str:
    """Return a line's name: the key without its prefix, unless two lines would then be called the same."""
    if key in _NAMES:
        return _NAMES[key]
    tails = [other.split("/", 1)[-1] for other in keys]
    own = key.split("/", 1)[-1]
    return label(own if tails.count(own) == 1 else key)
