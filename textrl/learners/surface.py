"""What every learner of ours shows to Stable-Baselines3's callbacks, loggers and `evaluate_policy`.

SB3 asks a "model" for a logger, an environment, its normalisation and a count of timesteps; which class it
is does not matter. The learners' own loops differ, so none is here: only what they would all write alike.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from textrl.errors import UserError
from textrl.settings import build, to_plain


class LearnerSurface(ABC):
    """A learner without its algorithm.

    A *round* is what a learner counts its metrics and checkpoints in: an iteration, or an episode.

    Attributes:
        env: As given.
        settings: As given; it has `checkpoint_every` and `keep_checkpoints`, both in rounds.
        checkpoint_dir: Where checkpoints go; None keeps none.
        num_timesteps: Steps (on text: tokens) so far.
        metrics: What was logged last.
    """

    settings_class: ClassVar[type[Any]]  # the frozen dataclass that `load` rebuilds
    round_name: ClassVar[str] = "iteration"  # begins a checkpoint's name
    num_timesteps: int

    def __init__(self, env: Any, settings: Any, checkpoint_dir: Path | None = None) -> None:
        """Keep what is given; nothing has been learnt or logged."""
        self.env, self.settings, self.checkpoint_dir = env, settings, checkpoint_dir
        self.num_timesteps = 0
        self.metrics: dict[str, float] = {}
        self._logger: Any = None

    @property
    def writes(self) -> bool:
        """Whether this process logs and keeps checkpoints; of several, one does."""
        return True

    @property
    def logger(self) -> Any:
        """The SB3-compatible logger in use, or None."""
        return self._logger

    def set_logger(self, logger: Any) -> None:
        """Use an SB3-compatible logger (``record(key, value)`` and ``dump(step)``)."""
        self._logger = logger

    def get_env(self) -> Any:
        """Return the environment."""
        return self.env

    def get_vec_normalize_env(self) -> Any:
        """Return SB3's running statistics of the observations; None, where nothing is normalised."""
        return None

    def log(self, metrics: Mapping[str, float], at: int) -> None:
        """Remember the figures of a round, and log them where there is a logger.

        Args:
            metrics: Name -> figure.
            at: Number of the round, from 1.
        """
        self.metrics = dict(metrics)
        if self._logger is not None and self.writes:
            for name, value in self.metrics.items():
                self._logger.record(name, value)
            self._logger.dump(at)

    def keep(self, at: int) -> None:
        """Write the checkpoint of a round that is finished, if one is due, and remove the oldest.

        Args:
            at: Number of the round, from 1.
        """
        if self.checkpoint_dir is None or not self.writes or at % self.settings.checkpoint_every:
            return
        from textrl.checkpoint import prune

        self.save(self.checkpoint_dir / f"{self.round_name}_{at:06d}")
        prune(self.checkpoint_dir, self.settings.keep_checkpoints)

    @abstractmethod
    def save(self, path: str | Path) -> None:
        """Write a checkpoint folder."""

    @abstractmethod
    def restore(self, path: str | Path) -> Self:
        """Continue from a checkpoint that `save` wrote."""

    @classmethod
    def load(cls, path: str | Path, env: Any, **parts: Any) -> Self:
        """Rebuild a learner from a checkpoint folder.

        Args:
            path: The folder.
            env: An environment of the kind it was trained in.
            parts: What the learner was built with beside its settings, such as `rewards`.

        Raises:
            UserError: As `restore`.
        """
        from textrl.checkpoint import load

        config = load(path).config
        settings = build(cls.settings_class, config, where=lambda key: f"{path}/config.yaml, {key}")
        return cls(env, settings, **parts).restore(path)


def check_same_settings(path: str | Path, written: Mapping[str, Any], settings: Any) -> None:
    """Refuse a checkpoint of other settings.

    Args:
        path: The checkpoint.
        written: The settings in it, as plain data.
        settings: Those of the learner that is to continue from it.

    Raises:
        UserError: Names the settings that differ.
    """
    changed = [key for key, value in to_plain(settings).items() if written.get(key) != value]
    if changed:
        raise UserError(
            f"{path} was written with other settings ({', '.join(changed)}); resume with the same ones."
        )
