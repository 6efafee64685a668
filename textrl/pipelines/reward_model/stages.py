"""Train one member of one arm, and score the held-out texts with it."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from textrl.data.rankings import RankingGroup
from textrl.fit import checkpoint_step
from textrl.models.heads import PLAIN_TEMPLATE
from textrl.models.layers import blocks
from textrl.models.loading import load_scorer
from textrl.models.sources import build_once
from textrl.pipelines.reward_model.material import Material
from textrl.pipelines.reward_model.measure import Floats
from textrl.pipelines.reward_model.reading import Reader
from textrl.pipelines.reward_model.settings import ArmSettings, RewardModelRunSettings
from textrl.registry import Registry
from textrl.reward_model import as_pairs, train_reward_model
from textrl.reward_model.backbones import reward_backbone
from textrl.reward_model.scoring import score_examples
from textrl.runs import Run
from textrl.sft import SFTExample
from textrl.training import Log, progress


@dataclass(frozen=True)
class Member:
    """One reward model of the run.

    Attributes:
        arm: Its arm's name.
        number: From 1, of `members`.
        members: In the arm.
        settings: Of the arm.
    """

    arm: str
    number: int
    members: int
    settings: ArmSettings

    @property
    def stage(self) -> str:
        """Name of its stage."""
        return self.arm if self.members == 1 else f"{self.arm}-{self.number}"

    @property
    def folder(self) -> str:
        """Where its model goes, below the run folder."""
        own = f"models/{self.arm}"
        return own if self.members == 1 else f"{own}/member-{self.number}"


@dataclass(frozen=True)
class Context:
    """What every stage gets."""

    run: Run
    settings: RewardModelRunSettings
    registry: Registry
    material: Material
    resume: bool


def train(context: Context, member: Member) -> dict[str, Any]:
    """Train a member; writes its folder and says what it cost."""
    settings, material = member.settings, context.material
    # The first member is what a run without an ensemble would give, but for the resampling.
    settings = replace(settings, seed=settings.seed + member.number - 1)
    torch.manual_seed(settings.seed)
    model, tokenizer = reward_backbone(
        context.settings.model, layers=settings.layers, seed=settings.seed, registry=context.registry
    )
    reader = Reader(model, tokenizer, settings)
    groups = reader.groups(material.train)
    demonstrations = reader.examples(material.demonstrations)
    held_out = reader.groups(material.validation)
    reader.tell()
    if member.members > 1 and context.settings.resample:
        groups = random.Random(settings.seed).choices(groups, k=len(groups))
    if settings.pairs == "independent":
        groups = as_pairs(groups)
    # Frozen features are the same for every arm and member of one backbone.
    own = "features" if settings.mode == "linear" else member.stage
    checkpoints = context.run.path / "checkpoints" / own

    def learns(group: RankingGroup) -> bool:
        return settings.loss in ("regression", "rao_kupper") or len(set(group.ranks)) > 1

    cpu_s = time.process_time()
    with _logging(context, member.stage) as log, Passes(model) as passes:
        result = train_reward_model(
            model,
            tokenizer,
            groups,
            demonstrations,
            settings,
            log=log,
            checkpoint_dir=checkpoints,
            resume=context.resume,
            held_out=held_out,
        )
    cpu_s = time.process_time() - cpu_s

    if settings.template != PLAIN_TEMPLATE:
        model.config.textrl_template = settings.template

    def save(folder: Path) -> None:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    build_once(context.run.path / member.folder, save)
    return {
        **vars(result),
        "groups": len(groups),
        "rows": None if settings.cache_frozen or settings.max_steps else passes.rows,
        "shown": settings.epochs * sum(len(group.completions) for group in material.train if learns(group)),
        "cpu_s": cpu_s,
    }


def score_test(context: Context, member: Member) -> tuple[list[Floats], Floats]:
    """Score the test part by the member's saved folder: (K,) for each of G groups, and (N,) for the texts.

    Rated texts stand in a group and alone; the network computes them once.
    """
    material = context.material
    examples = [SFTExample(group.prompt, text) for group in material.test for text in group.completions]
    count = len(examples)
    examples += [SFTExample(text.prompt, text.completion) for text in material.test_texts]
    model, tokenizer = load_scorer(str(context.run.path / member.folder))
    read = Reader(model, tokenizer, member.settings).examples(examples)
    scores = score_examples(model, tokenizer, read, member.settings)
    sizes = [len(group.completions) for group in material.test]
    return np.split(scores[:count], np.cumsum(sizes)[:-1]), scores[count:]


class Passes:
    """Counts the rows that go through the last block while gradients are taken.

    What `cache_frozen` lays out without padding is not counted in rows, and neither is evaluation.

    Attributes:
        rows: So far; None where the network was never trained through.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.rows: int | None = None

    def __enter__(self) -> Passes:
        self._handle = blocks(self.model)[-1].register_forward_pre_hook(self._count)
        return self

    def __exit__(self, *error: object) -> None:
        self._handle.remove()

    def _count(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if args and isinstance(args[0], Tensor) and torch.is_grad_enabled():
            self.rows = (self.rows or 0) + int(args[0].shape[0])


@contextmanager
def _logging(context: Context, stage: str) -> Iterator[Log]:
    """Show progress and write metrics; on resume the rows after the checkpoint are written again."""
    folder = context.run.path / "checkpoints" / stage
    context.run.rewind(stage, checkpoint_step(folder) if context.resume and folder.exists() else 0)
    with progress(stage) as show:

        def log(step: int, figures: Mapping[str, float]) -> None:
            context.run.append_metrics(stage, step, figures)
            show(step, figures)

        yield log
