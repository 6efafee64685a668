"""A sum of rewards as a judge: what a config pays can also label, and can judge at the end.

Any reward that reads finished texts is a judge through this adapter, whatever plugin it comes from: the
evaluation asks it for scores of whole texts, the online loop for scores of responses to prompts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from textrl.data.ratings import Rated
from textrl.errors import UserError
from textrl.evaluation.judges import ANCHOR_RATING, FittedJudge, Judge, JudgeReport
from textrl.evaluation.statistics import Floats, pair_accuracy, pearson
from textrl.protocols import Batch
from textrl.rewards import RewardSum

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: What a finished text comes with; log-probs and hidden states belong to a learner.
READABLE = frozenset({"text", "records"})
_BATCH = 64


class RewardJudge:
    """Scores texts by the weighted sum of some rewards; a reward per token counts by its sum.

    Attributes:
        name: Short name, a key in summaries.
        features: What it looks at, in words.
    """

    def __init__(
        self,
        rewards: RewardSum,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str = "rewards",
        batch_size: int = _BATCH,
    ) -> None:
        """Keep the rewards.

        Args:
            rewards: At least one source.
            tokenizer: Gives the ids for the rewards that read them: the policy's.
            name: See the class.
            batch_size: Texts per call of a reward.

        Raises:
            UserError: When there is no source, or one needs what only a learner has.
        """
        if not rewards.sources:
            raise UserError("a judge needs a source of reward; name one under 'sources' and weigh it.")
        for source in rewards.sources:
            beyond = sorted(source.spec.needs - READABLE)
            if source.spec.side == "learner" or beyond:
                what = ", ".join(beyond) or "a learner"
                raise UserError(
                    f"{source.label} needs {what}, which a finished text does not come with; judge by a "
                    "reward that reads text."
                )
        self.rewards, self.tokenizer, self.name, self.size = rewards, tokenizer, name, batch_size
        weights = rewards.weights
        self.features = ", ".join(
            source.spec.summary if len(weights) == 1 else f"{weights[source.name]:g} x {source.spec.name}"
            for source in rewards.sources
        )

    def score(self, texts: Sequence[str]) -> Floats:
        """Return (N,) scores of whole texts, as responses to an empty prompt."""
        return self.rate([""] * len(texts), texts)

    def rate(
        self,
        prompts: Sequence[str],
        responses: Sequence[str],
        records: Sequence[Mapping[str, Any]] | None = None,
    ) -> Floats:
        """Return (N,) scores of responses to prompts.

        Args:
            prompts: N prompts.
            responses: N responses.
            records: N records of the prompts; by default the prompt alone.

        Raises:
            UserError, PluginError: As the rewards.
        """
        known = records if records is not None else [{"prompt": prompt} for prompt in prompts]
        scores = np.zeros(len(prompts))
        for start in range(0, len(prompts), self.size):
            part = slice(start, start + self.size)
            batch = self._batch(prompts[part], responses[part], known[part])
            scores[part] = self.rewards(batch).total.double().sum(1).numpy()
        return scores

    def _batch(
        self, prompts: Sequence[str], responses: Sequence[str], records: Sequence[Mapping[str, Any]]
    ) -> Batch:
        prompt_ids, prompt_mask = _padded([self._ids(text) for text in prompts], "left")
        # An episode has an action even where it says nothing: the one that ends it.
        nothing = [int(self.tokenizer.eos_token_id or 0)]
        ids, mask = _padded([self._ids(text) or nothing for text in responses], "right")
        return Batch(
            prompt_ids=prompt_ids,
            prompt_mask=prompt_mask,
            response_ids=ids,
            response_mask=mask,
            prompt_text=list(prompts),
            text=list(responses),
            records=list(records),
        )

    def _ids(self, text: str) -> list[int]:
        found: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return found


def _padded(rows: Sequence[Sequence[int]], side: str) -> tuple[Tensor, Tensor]:
    """Return (N, L) ids and their mask; 0, which every vocabulary has, stands on padding."""
    parts = [torch.tensor(row, dtype=torch.int64) for row in rows]
    ids = pad_sequence(parts, batch_first=True, padding_side=side)
    real = [torch.ones(len(row), dtype=torch.bool) for row in rows]
    return ids, pad_sequence(real, batch_first=True, padding_value=False, padding_side=side)


def trusted(judge: Judge, test: Sequence[Rated], anchors: Sequence[Rated]) -> FittedJudge:
    """Measure a judge that was fitted to nothing here on people's ratings.

    Args:
        judge: The judge.
        test: Rated texts.
        anchors: Rated texts, of which those that people liked give the anchor.
    """
    scores, truth = judge.score([one.text for one in test]), [one.mean for one in test]
    high = [one for one in anchors if one.mean >= ANCHOR_RATING]
    report = JudgeReport(
        fitted_on=0,
        tested_on=len(test),
        pair_accuracy=pair_accuracy(scores, truth),
        pearson=pearson(scores, truth),
        anchor=float(judge.score([one.text for one in high]).mean()) if high else math.nan,
        anchor_people=float(np.mean([one.mean for one in high])) if high else math.nan,
        anchor_texts=len(high),
        alpha=math.nan,
        fit_s=0.0,
        score_1000_s=math.nan,
    )
    return FittedJudge(judge, report)
