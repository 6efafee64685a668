"""The language model of a text session: one token at a time, with H in the choice.

A token is drawn from mu(a | s), proportional to exp(log pi(a | s) / T + beta H(s, a)), with beta H cut at
`cap_nats` either way: action biasing (tamer.md's default on text). The noise is keyed by seed, text and
position, so that one and the same noise also says what the model would have written there without H.
"""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from textrl.errors import UserError
from textrl.feedback.text.settings import TextSettings
from textrl.mdp.sampling import sample
from textrl.models.decoding import Decoder, open_decoder
from textrl.models.loading import load_causal_lm
from textrl.models.products import head_logits
from textrl.rollout import head_of
from textrl.tamer.text.head import State, TokenHead, unit

_MADE = {"made": "tiny-gpt2"}


@dataclass(frozen=True)
class Draw:
    """A token that was drawn.

    Attributes:
        token: Its id.
        state: (D,) unit hidden state before it.
        plain: What the same noise would have drawn without H.
        score: H(s, a), or None before H has learnt anything.
        kl: KL(mu || pi) here, nats.
        last: Whether the text ends with it.
    """

    token: int
    state: State
    plain: int
    score: float | None
    kl: float
    last: bool


class Writer:
    """A model, its tokenizer, and the text that is being written.

    Attributes:
        tokenizer: The model's.
        head: H over its vocabulary.
    """

    def __init__(self, settings: TextSettings) -> None:
        """Load the model.

        Raises:
            UserError: When there is no such model, or its weights are not those of the session.
        """
        torch.set_num_threads(settings.threads)
        self._settings = settings
        self._name = _MADE.get(settings.model, settings.model)
        self._model, self.tokenizer = load_causal_lm(self._name)
        recorded = settings.model_sha256
        if recorded is not None and recorded != (found := self.sha256()):
            raise UserError(
                f"The weights of the model '{settings.model}' are not those of the session (SHA-256 is "
                f"{found[:12]}..., was {recorded[:12]}...); put the model of that time in its place."
            )
        self._weight, self._bias = head_of(self._model)
        config: Any = self._model.config
        eos = config.eos_token_id
        self._eos = frozenset(eos if isinstance(eos, list) else [] if eos is None else [eos])
        self._context = int(getattr(config, "max_position_embeddings", None) or 1024)
        embeddings = self._model.get_input_embeddings().weight.detach().float().numpy()
        self.head = TokenHead(embeddings, rank=settings.rank, alpha=settings.alpha, seed=settings.seed)
        self._open = ExitStack()
        self._decoder: Decoder | None = None
        self._hidden = torch.zeros(0)
        self._number = self._position = 0

    @property
    def longest_prompt(self) -> int:
        """Tokens of a prompt at most."""
        return self._context - self._settings.max_new_tokens

    def encode(self, prompt: str) -> list[int]:
        """Return a prompt's tokens; a prompt of nothing is the model's own beginning of a text.

        Raises:
            UserError: When it does not fit into the model's context.
        """
        ids = list(self.tokenizer(prompt)["input_ids"]) if prompt else []
        if not ids:
            begin = self.tokenizer.bos_token_id
            ids = [int(begin if begin is not None else min(self._eos, default=0))]
        if len(ids) > self.longest_prompt:
            raise UserError(
                f"The prompt '{prompt[:40]}...' has {len(ids)} tokens; with {self._settings.max_new_tokens} "
                f"new ones at most {self.longest_prompt} fit into the context of '{self._name}'."
            )
        return ids

    @torch.no_grad()
    def begin(self, ids: list[int], number: int) -> None:
        """Begin a text.

        Args:
            ids: The prompt's tokens.
            number: Of the text; it keys the noise.
        """
        self.close()
        torch.set_num_threads(self._settings.threads)  # each thread of Python has a number of its own
        capacity = len(ids) + self._settings.max_new_tokens
        self._decoder = self._open.enter_context(open_decoder(self._model, 1, capacity, ()))
        prompt = torch.tensor([ids], dtype=torch.int64)
        self._hidden = self._decoder.prefill(prompt, torch.ones_like(prompt, dtype=torch.bool))
        self._number, self._position = number, 0

    @torch.no_grad()
    def draw(self) -> Draw:
        """Write the next token.

        Raises:
            UserError: When the model's numbers are not finite.
        """
        settings, hidden = self._settings, self._hidden
        assert self._decoder is not None  # `begin` comes first
        if not bool(torch.isfinite(hidden).all()):
            raise UserError(
                f"The model '{settings.model}' gave numbers that are not finite at token "
                f"{self._position + 1} of text {self._number}; the session cannot go on with it."
            )
        logits = head_logits(hidden, self._weight, self._bias, settings.temperature)
        state = unit(hidden[0].float().numpy())
        plain = self._sample(logits)
        token, score, kl = plain, None, 0.0
        if self.head.learnt and settings.beta:
            rating = self.head.rate(state)
            moved = np.clip(settings.beta * rating, -settings.cap_nats, settings.cap_nats)
            biased = logits + torch.from_numpy(moved.astype(np.float32))
            token = self._sample(biased)
            score = float(rating[token])
            log_mu, log_pi = torch.log_softmax(biased, -1), torch.log_softmax(logits, -1)
            kl = max(0.0, float((log_mu.exp() * (log_mu - log_pi)).sum()))
        self._position += 1
        last = token in self._eos or self._position >= settings.max_new_tokens
        if not last:
            self._hidden = self._decoder.step(torch.tensor([token]))
        return Draw(token, state, plain, score, kl, last)

    def is_end(self, token: int) -> bool:
        """Return whether a token ends a text and has no text of its own."""
        return token in self._eos

    def sha256(self) -> str:
        """Return the SHA-256 of the model's weights."""
        running = hashlib.sha256()
        for name, tensor in sorted(self._model.state_dict().items()):
            running.update(name.encode() + str(tuple(tensor.shape)).encode())
            running.update(np.ascontiguousarray(tensor.float().numpy()).data)
        return running.hexdigest()

    def close(self) -> None:
        """Let go of the text that was being written."""
        self._open.close()
        self._decoder = None

    def _sample(self, logits: Tensor) -> int:
        key = torch.tensor([self._number]), torch.tensor([self._position])
        return int(sample(logits, self._settings.seed, *key)[0])
