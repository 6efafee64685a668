"""Yes or no, by the token probabilities of a causal language model.

Shapes: ``N`` contexts, ``W`` words, ``L`` tokens, ``V`` vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from textrl.errors import UserError
from textrl.mdp.logprobs import token_logprobs
from textrl.models.loading import load_causal_lm
from textrl.models.stack import Part, hidden_at, states_before
from textrl.rollout import head_of


class YesNo:
    """The probability that a language model says yes rather than no.

    P(yes) = sum over its words for yes of P(word | context) / the same sum over the words for yes and no:
    whatever else the model might say does not count.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        yes: Sequence[str],
        no: Sequence[str],
        *,
        micro_batch_size: int = 16,
    ) -> None:
        """Tokenise the words.

        Args:
            model: A causal language model in evaluation mode.
            tokenizer: Its own.
            yes: Words that mean yes.
            no: Words that mean no.
            micro_batch_size: Rows per forward pass.

        Raises:
            UserError: When a word stands on both sides, or has no tokens.
        """
        self.model, self.tokenizer, self.size = model, tokenizer, micro_batch_size
        self.yes, self.no = (sorted({self._ids(word) for word in words}) for words in (yes, no))
        both = set(self.yes) & set(self.no)
        if both:
            word = tokenizer.decode(list(both.pop()))
            raise UserError(f"'{word}' means both yes and no; give words that differ to the model.")
        longest = max(len(word) for word in (*self.yes, *self.no))
        self.limit = int(getattr(model.config, "max_position_embeddings", None) or 10**9) - longest

    @classmethod
    def load(cls, name: str, yes: Sequence[str], no: Sequence[str], *, micro_batch_size: int = 16) -> YesNo:
        """Load a model by its name; see `textrl.models.loading.load_causal_lm`."""
        model, tokenizer = load_causal_lm(name)
        return cls(model.requires_grad_(False), tokenizer, yes, no, micro_batch_size=micro_batch_size)

    def probabilities(self, contexts: Sequence[str]) -> list[float]:
        """Return the probability of yes after each of N contexts.

        Raises:
            UserError: When a context is longer than the model reads.
        """
        rows = [self._context(text) for text in contexts]
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        found = [0.0] * len(rows)
        for start in range(0, len(order), self.size):
            part = order[start : start + self.size]
            yes, no = (self._log_mass([rows[i] for i in part], words) for words in (self.yes, self.no))
            for index, value in zip(part, torch.sigmoid(yes - no).tolist(), strict=True):
                found[index] = value
        return found

    def _log_mass(self, rows: Sequence[tuple[int, ...]], words: Sequence[tuple[int, ...]]) -> Tensor:
        """Return (N,) float64: log of the summed probability of the words after each context."""
        return torch.stack([self._log_probability(rows, word) for word in words]).logsumexp(0)

    @torch.no_grad()
    def _log_probability(self, rows: Sequence[tuple[int, ...]], word: tuple[int, ...]) -> Tensor:
        """Return (N,) float64: log P(word | context), the sum over the word's tokens."""
        width = max(len(row) for row in rows) + len(word)
        ids = torch.zeros((len(rows), width), dtype=torch.int64)
        mask = torch.zeros((len(rows), width), dtype=torch.bool)
        actions = torch.zeros((len(rows), width), dtype=torch.bool)
        for number, row in enumerate(rows):
            length = len(row) + len(word)
            ids[number, :length] = torch.tensor([*row, *word])
            mask[number, :length] = True
            actions[number, len(row) : length] = True
        ids, mask, actions = (part.to(self.model.device) for part in (ids, mask, actions))
        weight, bias = head_of(self.model)
        before = hidden_at(self.model, Part(ids, mask, states_before(actions)))
        logs = token_logprobs(before, weight, ids[actions], bias=bias)
        return logs.double().view(len(rows), len(word)).sum(1).cpu()

    def _ids(self, word: str) -> tuple[int, ...]:
        found = tuple(self.tokenizer(word, add_special_tokens=False)["input_ids"])
        if not found:
            raise UserError(f"the word {word!r} has no tokens in the model's vocabulary; give another.")
        return found

    def _context(self, text: str) -> tuple[int, ...]:
        found = tuple(self.tokenizer(text, verbose=False)["input_ids"])
        if not found:
            raise UserError("the template made an empty text; put words into it.")
        if len(found) > self.limit:
            raise UserError(
                f"a question with its response has {len(found)} tokens and the model reads {self.limit}; "
                "shorten the prompts or max_new_tokens."
            )
        return found
