"""TAMER's H on text as a source: pay per token and advice on all tokens, from presses on what was read.

Data flow: ``bind_text`` says whose hidden states and tokens these are; ``show`` puts a token on screen and
``end`` takes the last word off it, ``observe`` brings what the reader did; ``__call__`` pays the tokens of a
batch and ``advise`` rates all tokens in a state. Without presses H is 0 everywhere.

Shapes: ``B`` sequences, ``T`` response tokens, ``D`` width of the model, ``V`` vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from textrl.errors import UserError, at_setting
from textrl.protocols import AdviceState, Batch, Signal
from textrl.tamer.tamer import wanted
from textrl.tamer.text.head import FrozenHead, TokenHead, fingerprint_of, unit
from textrl.tamer.text.lessons import Replay
from textrl.tamer.text.saved import load_head, save_head
from textrl.tamer.text.teaching import Teaching, Token
from textrl.tamer.text.words import HALF, Words, is_silent
from textrl_tamer.settings import TamerTextSettings
from textrl_tamer.states import arrays, tensors

#: Tokens that may come before those that nothing refers to any more are dropped.
_ROOM = 4096


class TamerText:
    """One instance serves both roles: reward and advice.

    Attributes:
        settings: As given.
        tokenizer: Of the model, None until there is one.
        presses: Presses that were heard while training was on.
    """

    def __init__(self, settings: TamerTextSettings) -> None:
        """Begin with H = 0, or with the weights of the settings.

        Raises:
            UserError: When the model of the settings cannot be had, or the weights are not of it.
        """
        self.settings = settings
        self.tokenizer: Any = None
        self.presses = 0
        self._head: TokenHead | None = None
        self._teaching: Teaching | None = None
        self._waiting: Mapping[str, Any] | None = None  # a state that came before the model
        self._ids: list[int] = []  # of the text on screen
        self._words: Words | None = None
        self._room = _ROOM
        if settings.model is not None:
            from textrl.models.loading import load_causal_lm

            with at_setting("model"):
                model, tokenizer = load_causal_lm(settings.model)
            self.bind_text(model, tokenizer)

    @property
    def head(self) -> TokenHead:
        """H.

        Raises:
            UserError: When the model is not known yet.
        """
        self._bound()
        assert self._head is not None
        return self._head

    @property
    def teaching(self) -> Teaching:
        """What presses teach H.

        Raises:
            UserError: When the model is not known yet.
        """
        return self._bound()

    @property
    def taught(self) -> bool:
        """Whether H holds, or will hold once the model is known, what somebody taught before."""
        if self._head is None:
            return self.settings.weights is not None or self._waiting is not None
        return self._head.learnt > 0

    @property
    def is_training(self) -> bool:
        """Whether presses count."""
        return self._teaching is None or self._teaching.is_training

    def bind_text(self, model: Any, tokenizer: Any) -> None:
        """Say whose hidden states and tokens H rates; twice the same model changes nothing.

        Args:
            model: A causal language model of transformers, on any device.
            tokenizer: Its tokenizer, which finds the words; may be None where words share nothing.

        Raises:
            UserError: When H rates another model's tokens already, or the weights of the settings, or the
                state that was loaded, are of another model.
        """
        settings = self.settings
        embeddings = model.get_input_embeddings().weight.detach().float().cpu().numpy()
        if self._head is not None:
            self._require_same(embeddings)
            return
        head = TokenHead(embeddings, rank=settings.rank, alpha=settings.alpha, seed=settings.seed)
        if tokenizer is None and settings.share_words:
            raise UserError(
                "The source 'tamer_text' needs the model's tokenizer to find words; give it, or set "
                "share_words: false.",
                key="share_words",
            )
        if settings.weights is not None:
            _load(head, settings.weights)
        replay = Replay(settings.replay, settings.capacity, settings.seed)
        teaching = Teaching(head, settings.delay, settings.loss, replay)
        if self._waiting is not None:
            teaching.load_state_dict(arrays(self._waiting["teaching"]))
        self._head, self._teaching, self.tokenizer = head, teaching, tokenizer
        self._words = self._words_of(self._ids)
        self._waiting = None

    def show(self, state: NDArray[Any], token: int, at_s: float, *, last: bool = False) -> None:
        """A token appears on screen.

        A token that is never seen, such as the end of a text, is not taught: the word before it stays. One
        that ends inside a character waits for the token that completes it, and both appear with that one.

        Args:
            state: (D,) last hidden state of the frozen model before it, of any length.
            token: Its id.
            at_s: When, seconds, on the clock that also stamps presses.
            last: Whether the text ends with it: half a character then appears as it is.

        Raises:
            UserError: When the model is not known yet, or state or token are not of this model.
        """
        teaching, head = self._bound(), self.head
        hidden = np.asarray(state, np.float32)
        if hidden.shape != (head.width,) or not np.isfinite(hidden).all():
            raise UserError(
                f"The source 'tamer_text' was shown a hidden state of the shape {hidden.shape}; give "
                f"{head.width} finite numbers, those of the model whose tokens it rates."
            )
        if not 0 <= token < head.vocabulary:
            raise UserError(
                f"The source 'tamer_text' was shown token {token}, but its model has {head.vocabulary} "
                "tokens; give what that model wrote."
            )
        self._ids.append(token)
        appears, joins, own = True, False, True
        if self._words is not None:
            new = self._words.add(token, last=last)
            appears, joins, own = bool(new.piece), new.joins, new.own
        elif self.tokenizer is not None:
            appears = own = not is_silent(self.tokenizer, token)
        if own:
            teaching.tokens.append(Token(unit(hidden), token))
            teaching.waiting.append(len(teaching.tokens))
        if appears and teaching.waiting:
            *waited, number = teaching.waiting
            teaching.waiting.clear()
            teaching.show(number, at_s, joins=joins, waited=waited)

    def end(self, at_s: float) -> None:
        """The text is over: its last word leaves the screen.

        Args:
            at_s: When, seconds.
        """
        teaching = self._bound()
        teaching.end(at_s)
        self._ids, self._words = [], self._words_of([])
        if len(teaching.tokens) > self._room:
            teaching.settle()
            self._room = 2 * len(teaching.tokens) + _ROOM

    def observe(self, signals: Iterable[Signal]) -> None:
        """Learn from a stream of ``press``, ``training`` and ``tick`` signals, oldest first.

        A stream may also hold what was on screen: ``shown``, with ``token`` and ``hidden`` (D numbers) in its
        payload, perhaps with the ``text`` that the token added, and ``end_episode``. Before the model is
        known nothing can have been on screen, and presses are about nothing.

        Raises:
            UserError: When a press is not finite, or what was shown is not of this model.
        """
        for signal in signals:
            if signal.kind == "shown":
                self._shown(signal)
            elif signal.kind == "press":
                self._press(signal)
            elif self._teaching is None:
                continue
            elif signal.kind == "training":
                self._teaching.training(wanted(signal, self.is_training), signal.time_s)
            elif signal.kind == "end_episode":
                self.end(signal.time_s)
            elif signal.kind == "tick":
                self._teaching.tick(signal.time_s)

    def __call__(self, batch: Batch) -> Tensor:
        """Return (B, T) float32: H(s_t, y_t), 0 outside the mask.

        Raises:
            UserError: When hidden states are missing, or they or the tokens are of another model; or when
                something was taught and nobody has said on which model: zeros would look like an opinion.
        """
        ids, mask = batch.response_ids, batch.response_mask
        if self._head is None and self.taught:
            self._bound()
        paid = torch.zeros(ids.shape, dtype=torch.float32, device=ids.device)
        frozen = None if self._head is None else self._head.snapshot()
        if frozen is None or frozen.zero:
            return paid
        hidden, tokens = self._hidden(frozen, batch.ref_hidden)[mask], ids[mask]
        vocabulary = len(frozen.b)
        if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < vocabulary:
            raise UserError(
                f"The source 'tamer_text' is to pay token {int(tokens.max())}, but its model has "
                f"{vocabulary} tokens; set its model to the learner's reference."
            )
        paid[mask] = frozen.values(hidden, tokens).to(paid.device)
        return paid

    def advise(self, state: AdviceState) -> Tensor:
        """Return H(s, .), (B, V) float32, of the (B, D) hidden states.

        Raises:
            UserError: When the model is not known yet, or the hidden states are missing or another's.
        """
        frozen = self.head.snapshot()
        return frozen.rate(self._hidden(frozen, state.ref_hidden))

    def metrics(self, batch: Batch) -> dict[str, float]:
        """Return presses heard and labels learnt so far."""
        samples = 0 if self._teaching is None else self._teaching.samples
        return {"presses": float(self.presses), "samples": float(samples)}

    def save_head(self, folder: str | Path) -> Path:
        """Write H, for the setting `weights` of another run; see `textrl.tamer.text.saved`."""
        return save_head(self.head, folder)

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and JSON data."""
        if self._teaching is None:
            return {**(self._waiting or {}), "presses": self.presses}
        teaching = tensors(self._teaching.state_dict())
        return {"teaching": teaching, "presses": self.presses, "text": list(self._ids)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`; where the model is not known yet, as soon as it is.

        Raises:
            UserError: When H was learnt on another model.
        """
        if "teaching" in state and self._teaching is not None:
            self._teaching.load_state_dict(arrays(state["teaching"]))
        elif "teaching" in state:
            self._waiting = dict(state)
        self.presses, self._ids = int(state["presses"]), [int(token) for token in state.get("text", ())]
        self._words = self._words_of(self._ids)

    def _shown(self, signal: Signal) -> None:
        payload = signal.payload
        missing = [name for name in ("token", "hidden") if name not in payload]
        if missing:
            raise UserError(
                f"The source 'tamer_text' was told at {signal.time_s} s that something was shown, without "
                f"its '{missing[0]}'; give token and hidden."
            )
        before = "" if self._words is None else self._words.text
        # Half a character is on screen only where the text breaks off with it.
        last = str(payload.get("text", "")).endswith(HALF)
        hidden = np.asarray(payload["hidden"], np.float32)
        self.show(hidden, int(payload["token"]), signal.time_s, last=last)
        if "text" in payload and self._words is not None:
            added = self._words.text[len(before) :]
            if added != payload["text"]:
                raise UserError(
                    f"Token {payload['token']} at {signal.time_s} s is {payload['text']!r} in the log, but "
                    f"{added!r} in this model's vocabulary; give the model that wrote the log."
                )

    def _press(self, signal: Signal) -> None:
        if not np.isfinite(signal.value):
            raise UserError(f"A press has the value {signal.value}; give a finite number.")
        if self._teaching is None or not self._teaching.is_training:
            return
        self.presses += 1
        self._teaching.press(f"press {self.presses}", float(signal.value), signal.time_s)

    def _words_of(self, ids: list[int]) -> Words | None:
        if not self.settings.share_words or self.tokenizer is None:
            return None
        words = Words(self.tokenizer)
        for token in ids:
            words.add(token)
        return words

    def _require_same(self, embeddings: NDArray[np.float32]) -> None:
        mine, other = self.head.fingerprint, fingerprint_of(embeddings)
        if other != mine or embeddings.shape != (self.head.vocabulary, self.head.width):
            raise UserError(
                f"The source 'tamer_text' rates the tokens of another model (SHA-256 of its embeddings "
                f"{mine[:12]}..., here {other[:12]}...); use one source for each model, or set its 'model' "
                "to the learner's reference.",
                key="model",
            )

    def _hidden(self, frozen: FrozenHead, hidden: Tensor | None) -> Tensor:
        width = frozen.w.shape[1]
        if hidden is None or hidden.shape[-1] != width:
            found = "none" if hidden is None else f"some of width {hidden.shape[-1]}"
            raise UserError(
                f"The source 'tamer_text' needs the reference's hidden states of width {width}, and was "
                f"given {found}; set its 'model' to the learner's reference."
            )
        return hidden

    def _bound(self) -> Teaching:
        if self._teaching is None:
            raise UserError(
                "The source 'tamer_text' does not know whose tokens to rate; set its 'model' to a language "
                "model, or train a learner of text with it."
            )
        return self._teaching


def _load(head: TokenHead, folder: str) -> None:
    """Give a head the weights of the settings; an error that names no other setting is about these."""
    try:
        load_head(head, folder)
    except UserError as error:
        error.key = error.key or "weights"
        raise
