"""Logits of any `AutoModelForSequenceClassification`, encoder or decoder, whatever it pads with.

Shapes: ``N`` texts, ``L`` tokens, ``C`` labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from textrl.errors import UserError
from textrl.evaluation.statistics import Floats
from textrl.models.sources import one_line, quiet_transformers, resolve
from textrl_judges.settings import ClassifierSettings

#: Tokenizers say so when they do not know a limit.
_NO_LIMIT = 10**9


class SequenceClassifier:
    """A frozen classifier.

    Attributes:
        labels: C names, as the model's config has them.
        multi_label: Whether each label has a probability of its own.
    """

    def __init__(self, settings: ClassifierSettings) -> None:
        """Load model and tokenizer.

        Raises:
            UserError: When there is no such model, or its head was never trained.
        """
        name = settings.model
        folder = resolve(name)
        try:
            with quiet_transformers():
                self._tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
                model, info = AutoModelForSequenceClassification.from_pretrained(
                    folder,
                    dtype=torch.float32,
                    use_safetensors=True,
                    trust_remote_code=False,
                    output_loading_info=True,
                )
        except Exception as error:  # transformers and safetensors raise many kinds
            raise UserError(f"the classifier '{name}' cannot be loaded ({one_line(error)}).") from error
        if info["missing_keys"]:
            missing = ", ".join(sorted(info["missing_keys"])[:3])
            raise UserError(
                f"the model '{name}' is no classifier: its head is not trained ({missing} missing)."
            )
        config = model.config
        self.labels: tuple[str, ...] = tuple(str(config.id2label[i]) for i in range(config.num_labels))
        self.multi_label = config.problem_type == "multi_label_classification"
        self._model, self._size = model.eval().requires_grad_(False), settings.micro_batch_size
        limits = (settings.max_tokens, config.max_position_embeddings, self._tokenizer.model_max_length)
        known = [int(limit) for limit in limits if limit is not None and limit < _NO_LIMIT]
        self._limit = min(known, default=None)
        # The response stands at the end, so the beginning goes.
        self._tokenizer.truncation_side = "left"
        # Rows are never padded here, but a decoder looks for the last token that is not this one, and would
        # stop short of a real token where padding and EOS are the same.
        config.pad_token_id = -1

    @torch.no_grad()
    def logits(self, texts: Sequence[str]) -> Floats:
        """Return (N, C) float64."""
        out = np.zeros((len(texts), len(self.labels)))
        if not texts:
            return out
        rows = self._tokenizer(list(texts), truncation=self._limit is not None, max_length=self._limit)[
            "input_ids"
        ]
        rows = [row or self._nothing() for row in rows]
        # Texts of one length share a batch, so that no architecture's padding matters.
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        start = 0
        while start < len(order):
            length = len(rows[order[start]])
            part = [i for i in order[start : start + self._size] if len(rows[i]) == length]
            ids = torch.tensor([rows[index] for index in part], device=self._model.device)
            found = self._model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
            out[part] = found.double().cpu().numpy()
            start += len(part)
        return out

    def _nothing(self) -> list[int]:
        """Return what a text without tokens is read as: one special token."""
        tokenizer = self._tokenizer
        starts = (tokenizer.cls_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id)
        for token in starts:
            if token is not None:
                return [int(token)]
        raise UserError("a text is empty and the classifier's tokenizer has no special token for it.")
