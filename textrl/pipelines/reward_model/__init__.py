"""One reward model, an ensemble, or several arms side by side: ``pipeline: reward_model``.

`settings` is the config, `material` the texts, `stages` trains, `measure` makes the figures, `pipeline`
puts them in order.
"""

from textrl.pipelines.reward_model.pipeline import run

__all__ = ["run"]
