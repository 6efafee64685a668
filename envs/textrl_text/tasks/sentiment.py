"""Sentiment: go on with a text, friendly, but like the language model.

``tiny`` has a vocabulary of a few words and a known optimum; the others write with SmolLM2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from textrl.mdp.task import TokenTask
from textrl.models.sources import resolve
from textrl.registry import get_registry
from textrl.rewards import RewardSum, Source, build_rewards
from textrl_text.catalog import Difficulty
from textrl_text.tasks.arguments import make_task
from textrl_text.tasks.envs import TextTaskEnv, TextTaskVectorEnv
from textrl_text.tasks.facts import TaskFacts
from textrl_text.tasks.policies import Sentence
from textrl_text.tasks.prior import PriorTask, refuse_masks
from textrl_text.tasks.rules import TASK_REWARD

_SUBJECTS = ("film", "music")
_ADJECTIVES = (("good", 0.15), ("bad", 0.35), ("fine", 0.2), ("dull", 0.3))
_BEGINNINGS = (
    "The film begins in a small town by the sea, and", "I went to see it with my brother, and",
    "The main actor is somebody I had never seen before, and", "After the first half hour",
    "The music in this film", "What I remember best is", "The story is about two sisters who",
    "When the lights came on again,", "My friends told me about it, and", "The ending",
    "It is the second film of this director, and", "The camera follows her through the city, and",
    "The book was long, and the film", "Everybody in the cinema", "For a film that cost so little, it",
    "I do not often write about films, but this one",
)  # fmt: skip


@dataclass(frozen=True)
class SentimentSizes:
    """How large Sentiment is.

    Attributes:
        model: Registered model, folder or hub id of the prior; None is a model of a few words.
        length: Tokens at which a response is cut.
        beta: Weight of the KL divergence from the prior.
    """

    model: str | None
    length: int
    beta: float

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"length is {self.length}; give at least 1")
        if not self.beta > 0:
            raise ValueError(f"beta is {self.beta}; it must be above 0")


class SentimentTask(PriorTask[SentimentSizes]):
    """Sentiment."""

    name = "sentiment"
    sizes: ClassVar = {
        "tiny": SentimentSizes(model=None, length=3, beta=0.1),
        "small": SentimentSizes(model="smollm2-135m", length=16, beta=0.05),
        "medium": SentimentSizes(model="smollm2-135m", length=48, beta=0.05),
    }
    budgets: ClassVar = {"tiny": 50_000, "small": 50_000, "medium": 1_000_000}

    def words(self, size: SentimentSizes) -> tuple[str, ...]:
        """Return subjects, the verb and adjectives."""
        return (*_SUBJECTS, "was", *(word for word, _ in _ADJECTIVES))

    def prompts(self, size: SentimentSizes) -> Sequence[str]:
        """Return the subjects, or beginnings of sentences."""
        return _SUBJECTS if size.model is None else _BEGINNINGS

    def horizon(self, size: SentimentSizes) -> int:
        """Return where a response is cut."""
        return size.length

    def beta(self, size: SentimentSizes) -> float:
        """Return the weight of the KL divergence."""
        return size.beta

    def source(self, size: SentimentSizes) -> Source:
        """Return the registered reward ``sentiment`` of the response."""
        sources = {TASK_REWARD: {"use": "sentiment"}}
        (source,) = build_rewards(sources, {TASK_REWARD: 1.0}, get_registry(), lambda _: self.env_id).sources
        return source

    def corpus(self, size: SentimentSizes) -> Sequence[Sentence]:
        """Return the sentences of the small model."""
        return [
            Sentence(subject, f"was {word}", share) for subject in _SUBJECTS for word, share in _ADJECTIVES
        ]

    def build(
        self, size: SentimentSizes, difficulty: Difficulty, seed: int, masks: bool, rewards: RewardSum | None
    ) -> TokenTask:
        """Return the token task of these sizes."""
        if size.model is None:
            return super().build(size, difficulty, seed, masks, rewards)
        refuse_masks(self.env_id, masks)
        more = () if rewards is None else rewards.sources
        return make_task(
            prompts=list(_BEGINNINGS),
            tokenizer=resolve(size.model),
            rewards=RewardSum([self.source(size), *more]),
            max_new_tokens=size.length,
            seed=seed,
        )

    def facts(self, difficulty: Difficulty = "small", *, masks: bool = False, **overrides: Any) -> TaskFacts:
        """Return the exact values where they can be had; for a large vocabulary prior, beta and budget."""
        size = self.size(difficulty, overrides)
        if size.model is None:
            return super().facts(difficulty, masks=masks, **overrides)
        return TaskFacts(
            random=None, optimum=None, how=None, prior=size.model, beta=size.beta,
            budget=self.budgets[difficulty],
        )  # fmt: skip

    def policy(self, difficulty: Difficulty = "small", seed: int = 0, **overrides: Any) -> Path:
        """Return the folder of the prior, which no seed changes."""
        size = self.size(difficulty, overrides)
        return (
            super().policy(difficulty, seed, **overrides) if size.model is None else Path(resolve(size.model))
        )

    def policy_label(self, difficulty: Difficulty, overrides: Mapping[str, Any]) -> str:
        """Return the name of the prior, which is a model of its own in all difficulties but the first."""
        return self.size(difficulty, overrides).model or super().policy_label(difficulty, overrides)


class SentimentEnv(TextTaskEnv):
    """Go on with a sentence, friendly and like the language model.

    ## Description
    The prompt begins a text about a film; the policy, which starts as the prior, goes on. The value of a
    policy is `E[return] - beta KL(policy || prior)`.

    "small" and "medium" write with SmolLM2 (135 million parameters; `model` names another). Their best value
    is not known, so no score can be normalised: compare returns and KL. "tiny" is the same task over nine
    tokens, with a GPT-2 that was fitted to `SentimentTask.corpus` (registered as `task-sentiment-tiny`); its
    best value is known by enumeration.

    ## Action Space
    `Discrete(V)`: the next token. Token 0 is padding, token 1 is EOS, in "tiny"; else the tokens are the
    model's own.

    ## Observation Space
    `Dict(input_ids=Box(0, V-1, (P + T,), int64), attention_mask=Box(0, 1, (P + T,), int8))`: the prompt,
    padded on the left to P tokens, then the response, padded on the right to T; see `TokenEnv`.

    ## Rewards
    What VADER's lexicon finds in the response, -1 to 1: the registered reward `sentiment`, paid with the
    last token. The KL divergence is not paid by the environment: give the learner the reward `kl` with the
    weight `facts().beta` and the prior as its reference.

    ## Starting State
    One of 16 beginnings; in "tiny" `film` or `music`.

    ## Episode End
    `terminated` after EOS, or after T = `length` tokens.

    ## Arguments
    `difficulty` ("small") is "tiny", "small" or "medium":

    | size                 | tiny   | small        | medium       |
    |----------------------|--------|--------------|--------------|
    | model                |        | smollm2-135m | smollm2-135m |
    | length               | 3      | 16           | 48           |
    | beta                 | 0.1    | 0.05         | 0.05         |
    | tokens of the budget | 50,000 | 50,000       | 1,000,000    |

    `model`, `length` and `beta` replace single sizes. `seed` (0) orders the prompts. `rewards` are paid
    beside the task's own, as in `TokenEnv`; `first_episode`, `episode_stride` and `render_mode` too are
    `TokenEnv`'s. `facts()` says what is known about the task as it is, `policy()` gives a small language
    model to start from.

    ## Version History
    * v0: Initial version.
    """

    recipe = SentimentTask()


class SentimentVectorEnv(TextTaskVectorEnv):
    """`SentimentEnv`, many at once."""

    recipe = SentimentEnv.recipe
