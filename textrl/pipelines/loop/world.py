"""What the stages of the loop share: settings, prompts of each round, paths, the labeler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from textrl.data.ratings import movie_splits
from textrl.errors import UserError
from textrl.evaluation.judges import Judge, TfidfJudge
from textrl.evaluation.reward_judge import RewardJudge
from textrl.evaluation.statistics import Floats
from textrl.mdp.order import keyed_order
from textrl.mdp.task import Prompt
from textrl.models.loading import load_causal_lm
from textrl.pipelines.loop.labelers import Candidates, FileLabeler, Labeler, ScoringLabeler
from textrl.pipelines.loop.settings import LoopSettings
from textrl.pipelines.rlhf.stages import Context
from textrl.rewards import build_rewards

LOOP, DIRECT = "loop", "direct"
#: Why a simulated labeler has no taste.
NO_RATINGS = (
    "labels.sources is empty, and made sentences were rated by nobody; give the labeler a source, such as "
    "{taste: {use: sentiment, scope: prompt+response}}."
)


@dataclass(frozen=True)
class World:
    """One run of the loop.

    Attributes:
        context: Run folder, base settings, texts.
        settings: Of the loop.
    """

    context: Context
    settings: LoopSettings

    @property
    def arms(self) -> tuple[str, ...]:
        """The loop, and the baseline where it is wanted."""
        return (LOOP, DIRECT) if self.settings.direct.enabled else (LOOP,)

    @property
    def sft(self) -> Path:
        """Folder of the SFT model."""
        return self.context.models / "sft"

    def models(self, number: int) -> Path:
        """Folder of a round's models; rounds count from 1."""
        return self.context.models / f"round_{number}"

    def data(self, number: int) -> Path:
        """Folder of a round's candidates and rankings."""
        return self.context.run.path / "data" / f"round_{number}"

    def policy(self, number: int, arm: str = LOOP) -> Path:
        """Folder of the policy after a round; after round 0 that is the SFT model."""
        if number == 0:
            return self.sft
        return self.models(number) / ("policy" if arm == LOOP else "direct")

    def start(self, number: int) -> Path:
        """Folder of the policy that PPO begins at in a round, and whose KL it pays for."""
        return self.policy(number - 1) if self.settings.start == "previous" else self.sft

    def rankings(self, number: int) -> Path:
        """File of a round's rankings."""
        return self.data(number) / "rankings.jsonl"

    def held_out(self, number: int) -> Path:
        """File of a round's rankings that nothing is trained on."""
        return self.data(number) / "held_out.jsonl"


def deal_prompts(
    texts: Sequence[str], settings: LoopSettings, seed: int, number: int
) -> tuple[list[str], list[str]]:
    """Return the prompts that are ranked in a round, and those that only measure.

    No prompt is ranked in two rounds; those that measure are the same in every round and in no other part.

    Args:
        texts: All prompts.
        settings: Of the loop.
        seed: Of the order.
        number: The round, from 1.

    Raises:
        UserError: When there are too few.
    """
    labels = settings.labels
    wanted = settings.rounds * labels.prompts + labels.held_out
    if wanted > len(texts):
        raise UserError(
            f"{settings.rounds} rounds of {labels.prompts} prompts (labels.prompts) and {labels.held_out} "
            f"held-out ones are {wanted}, and the data have {len(texts)}; ask for fewer "
            "or enlarge base.data.sizes."
        )
    order = [texts[index] for index in keyed_order((seed, 17), len(texts))]
    first = labels.held_out + (number - 1) * labels.prompts
    return order[first : first + labels.prompts], order[: labels.held_out]


def make_labeler(world: World, number: int) -> Labeler:
    """Return the labeler of a round.

    Raises:
        UserError: When it ranks by a file that is not there yet, or its rewards cannot be built.
    """
    labels = world.settings.labels
    if labels.file is not None:
        file = Path(labels.file.replace("{round}", str(number))).expanduser()
        if not file.exists():
            raise UserError(
                f"Round {number} waits for rankings: rank the completions of "
                f"{world.data(number)}/candidates.jsonl into {file} ('ranks', 1 is best, equal is a tie), "
                "then run the same command with --resume."
            )
        return FileLabeler(file)
    return ScoringLabeler(
        make_rater(world), temperature=labels.temperature, tie_margin=labels.tie_margin, seed=labels.seed
    )


class JudgeRater:
    """Scores candidates by a judge of whole texts, or by rewards, which also see the prompt's record."""

    def __init__(self, judge: Judge) -> None:
        """Keep the judge."""
        self.judge = judge

    def __call__(self, candidates: Sequence[Candidates]) -> list[Floats]:
        """Return (K,) scores for each set of candidates; equal texts are scored once."""
        pairs = [(one.prompt, text) for one in candidates for text in one.responses]
        unique: dict[tuple[str, str], Prompt] = {}
        for prompt, text in pairs:
            unique.setdefault((prompt.text, text), prompt)
        scores = dict(zip(unique, self._score(unique), strict=True))
        return [np.array([scores[one.prompt.text, text] for text in one.responses]) for one in candidates]

    def _score(self, texts: dict[tuple[str, str], Prompt]) -> Any:
        if isinstance(self.judge, RewardJudge):
            prompts, responses = [prompt for prompt, _ in texts], [text for _, text in texts]
            return self.judge.rate(prompts, responses, [prompt.record for prompt in texts.values()])
        return self.judge.score([(prompt + text).strip() for prompt, text in texts])


def make_rater(world: World) -> JudgeRater:
    """Return what scores for a simulated labeler or a judge."""
    return JudgeRater(labeler_judge(world))


_FITTED: dict[str, Judge] = {}


def labeler_judge(world: World) -> Judge:
    """Return the labeler's taste without its mistakes; fitted or built once per process.

    Raises:
        UserError: When its rewards cannot be built, or there are too few ratings to fit to.
    """
    key = str(world.context.run.path)
    if key not in _FITTED:
        labels, context = world.settings.labels, world.context
        if labels.sources:
            rewards = build_rewards(
                labels.sources,
                labels.rewards,
                context.registry,
                lambda name: context.node.where(f"labels.{name}"),
            )
            _, tokenizer = load_causal_lm(context.settings.model, registry=context.registry)
            _FITTED[key] = RewardJudge(rewards, tokenizer, name="labeler")
        else:
            _FITTED[key] = _people(world)
    return _FITTED[key]


def _people(world: World) -> Judge:
    """Fit the taste of the people who rated the split ``rm``: no judge and no other stage sees it.

    Raises:
        UserError: Where nobody rated anything.
    """
    base = world.context.settings
    if base.data.source != "ratings":
        raise UserError(f"{world.context.node.where('labels')}: {NO_RATINGS}")
    rated = movie_splits(base.ppo.seed, sizes=base.data.sizes)["rm"]  # as they are dealt for the other stages
    judge = TfidfJudge.fit([one.text for one in rated], [one.mean for one in rated])
    judge.name = "labeler"
    return judge
