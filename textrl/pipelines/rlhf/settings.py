"""Settings of the three-step pipeline; the file is the config, section by section."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from textrl.data.corpora import CORPORA
from textrl.data.ratings import SplitSizes
from textrl.errors import did_you_mean
from textrl.learners.ppo_ptx.settings import PPOPTXSettings
from textrl.reward_model import RewardModelSettings
from textrl.sft import SFTSettings


@dataclass(frozen=True)
class DataSettings:
    """What is written about and who rated it.

    Attributes:
        source: ``ratings`` are the movie snippets that people rated (downloaded once); ``made`` are
            sentences from a small grammar, rated by VADER's rules, for machines without a network.
        prompt_words: A prompt is the first words of a snippet.
        sizes: Snippets per split.
        ptx_corpora: Where the pretraining stream comes from.
        perplexity_corpus: Ordinary text that is not in the stream, for measuring forgetting.
        perplexity_tokens: How much of it is read.
    """

    source: Literal["ratings", "made"] = "ratings"
    prompt_words: int = 4
    sizes: SplitSizes = field(default_factory=SplitSizes)
    ptx_corpora: tuple[str, ...] = ("amazon", "pydoc", "tweets")
    perplexity_corpus: str = "nyt"
    perplexity_tokens: int = 5_000

    def __post_init__(self) -> None:
        for name in (*self.ptx_corpora, self.perplexity_corpus):
            if name not in CORPORA:
                raise ValueError(f"there is no corpus '{name}'.{did_you_mean(name, CORPORA)}")
        if self.perplexity_corpus in self.ptx_corpora:
            raise ValueError(
                f"perplexity_corpus is {self.perplexity_corpus}, which the pretraining stream holds "
                "and would adapt to; choose another corpus for one of them"
            )


@dataclass(frozen=True, kw_only=True)
class RankingSettings(RewardModelSettings):
    """The reward model's training, and the rankings it learns from.

    Attributes:
        layers: Blocks of the policy that the reward model keeps; None keeps all.
        k: Snippets per ranking.
        rounds: Times the snippets are dealt into new rankings.
        tie_margin: Mean ratings that differ by no more than this are a tie.
    """

    layers: int | None = None
    k: int = 4
    rounds: int = 1
    tie_margin: float = 0.2


@dataclass(frozen=True)
class EvaluationSettings:
    """The held-out evaluation.

    Attributes:
        prompts: Held-out prompts.
        samples_per_prompt: Of each model.
        shown: Samples in the report.
        batch_size: Sequences generated at once.
        last_weights: Also evaluate the weights of the last step, beside their average; the summary then has
            them under ``last_weights``.
    """

    prompts: int = 256
    samples_per_prompt: int = 1
    shown: int = 8
    batch_size: int = 64
    last_weights: bool = False


@dataclass(frozen=True)
class RLHFSettings:
    """The whole pipeline.

    Attributes:
        pipeline: ``rlhf``.
        model: Where the policy starts: registered name, folder, GGUF file or hub id.
        max_new_tokens: Length of a response.
        max_prompt_tokens: A longer prompt is refused.
        iterations: Of PPO-ptx.
        data: See `DataSettings`.
        sft: See `SFTSettings`.
        reward_model: See `RankingSettings`.
        sources: Sources of reward by name; ``use`` names the plugin's record.
        rewards: Weight of each source.
        ppo: See `PPOPTXSettings`; the pipeline fills in ``policy``, ``value`` and ``ptx_data``.
        evaluation: See `EvaluationSettings`.
        targets: Figures to reach, by the names of the report's schema; it says whether they were.
    """

    model: str
    pipeline: str = "rlhf"
    max_new_tokens: int = 20
    max_prompt_tokens: int = 256
    iterations: int = 20
    data: DataSettings = field(default_factory=DataSettings)
    sft: SFTSettings = field(default_factory=SFTSettings)
    reward_model: RankingSettings = field(default_factory=RankingSettings)
    sources: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    rewards: Mapping[str, float] = field(default_factory=dict)
    ppo: PPOPTXSettings = field(default_factory=lambda: PPOPTXSettings(policy="models/sft"))
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    targets: Mapping[str, float] = field(default_factory=dict)
