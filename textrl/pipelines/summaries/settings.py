"""Settings of the summarisation pipeline; the file is the config, section by section."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from textrl.data.summaries import SummarySizes
from textrl.errors import did_you_mean
from textrl.learners.ppo_ptx.settings import PPOPTXSettings
from textrl.pipelines.rlhf.settings import EvaluationSettings, RankingSettings, RLHFSettings
from textrl.sft import SFTSettings

#: Where candidates come from.
ORIGINS = ("current", "initial", "pretrained", "reference", "lead")


@dataclass(frozen=True)
class SummaryDataSettings:
    """The set of texts.

    Attributes:
        source: ``made`` (sentences of a small grammar), ``stdlib`` (documentation strings of this Python's
            library), or a file or dataset with the columns ``prompt`` and ``completion``.
        split: Which part of a dataset.
        sizes: Texts of each part.
        seed: Of the deal.
    """

    source: str = "stdlib"
    split: str = "train"
    sizes: SummarySizes = field(default_factory=SummarySizes)
    seed: int = 0


@dataclass(frozen=True)
class CandidateSettings:
    """What is ranked, and by whom.

    Attributes:
        origins: Candidates of each text. ``current`` is the policy of the moment, ``initial`` the supervised
            model, ``pretrained`` the model before that, ``reference`` the set's own summary and ``lead`` the
            text's first words.
        current: Folder of the current policy, such as an earlier run's ``models/policy``; None is the
            supervised model, whose texts then differ from those of ``initial`` by sampling alone.
        lead_words: Words of the ``lead`` baseline.
        tie_margin: The simulated labeler calls candidates equal whose ROUGE-L F1 with the reference differ by
            no more than this.
        labeler: ``rouge`` simulates a labeler; ``none`` ranks nothing, for comparisons of people alone.
        add: Files or datasets of rankings that are learnt from besides, such as people's comparisons or an
            earlier run's ``data/rankings.jsonl``.
    """

    origins: tuple[str, ...] = ("current", "initial", "reference", "lead")
    current: str | None = None
    lead_words: int = 12
    tie_margin: float = 0.02
    labeler: Literal["rouge", "none"] = "rouge"
    add: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.origins:
            if name not in ORIGINS:
                raise ValueError(f"there is no origin of candidates '{name}'.{did_you_mean(name, ORIGINS)}")
        if len(set(self.origins)) < max(len(self.origins), 2):
            raise ValueError(f"origins is {list(self.origins)}; name two or more, each once")
        if self.labeler == "none" and not self.add:
            raise ValueError(
                "labeler is none and add names no rankings; the reward model would learn nothing"
            )
        if self.lead_words < 1:
            raise ValueError(f"lead_words is {self.lead_words}; it must be at least 1")


@dataclass(frozen=True)
class SummarizeSettings:
    """The whole pipeline.

    Attributes:
        pipeline: ``summarize``.
        model: Where the policy starts: registered name, folder, GGUF file or hub id; or ``made``, a small
            GPT-2 with random weights and a tokenizer learnt from the supervised part's texts.
        max_new_tokens: Length of a summary in tokens; 48 in the paper.
        max_prompt_tokens: A longer prompt is refused.
        iterations: Of PPO.
        data: See `SummaryDataSettings`.
        sft: See `SFTSettings`.
        candidates: See `CandidateSettings`.
        reward_model: See `RankingSettings`; of its own settings ``layers`` counts here, since the rankings
            are those of the candidates.
        sources: Sources of reward by name; ``use`` names the plugin's record.
        rewards: Weight of each source.
        ppo: See `PPOPTXSettings`; the pipeline fills in ``policy`` and ``value``.
        evaluation: See `EvaluationSettings`; how many texts is `data.sizes.test`.
        targets: Figures to reach, by the names of the report's schema.
    """

    model: str
    pipeline: str = "summarize"
    max_new_tokens: int = 48
    max_prompt_tokens: int = 512
    iterations: int = 20
    data: SummaryDataSettings = field(default_factory=SummaryDataSettings)
    sft: SFTSettings = field(default_factory=SFTSettings)
    candidates: CandidateSettings = field(default_factory=CandidateSettings)
    reward_model: RankingSettings = field(default_factory=RankingSettings)
    sources: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    rewards: Mapping[str, float] = field(default_factory=dict)
    ppo: PPOPTXSettings = field(default_factory=lambda: PPOPTXSettings(policy="models/sft"))
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    targets: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.ppo.ptx_coef:
            raise ValueError("ppo.ptx_coef is above 0; learning to summarize has no pretraining term")

    def as_rlhf(self) -> RLHFSettings:
        """Return what the stages of the three-step pipeline read."""
        return RLHFSettings(
            model=self.model,
            max_new_tokens=self.max_new_tokens,
            max_prompt_tokens=self.max_prompt_tokens,
            iterations=self.iterations,
            sft=self.sft,
            reward_model=self.reward_model,
            sources=self.sources,
            rewards=self.rewards,
            ppo=self.ppo,
            evaluation=self.evaluation,
            targets=self.targets,
        )
