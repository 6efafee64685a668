"""A small world of made words: a prior, a hidden lexicon that says what a text is worth, and the optimum.

The prior is a GPT-2 of one block with random weights whose attention says nothing yet: what comes next
depends on the place and on the word before alone. The policy starts as the prior and may learn to look
further back. A text has a fixed number of words, and its score is the sum of their values in the lexicon,
which is paid with the last word. The best objective then follows from dynamic programming,

    V_t(w) = beta log sum_a p_t(a|w) exp((v(a) + V_{t+1}(a)) / beta),   V_T = 0,   J* = mean over prompts V_0,

since the best policy, the prior tilted by exp(score / beta), needs to know no more than the prior does.

Shapes: ``T`` words of a text, ``V`` words there are, ``X`` prompts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from textrl.mdp.task import Prompt, TokenTask
from textrl.protocols import Batch
from textrl.rewards import RewardSum, Source
from textrl.specs import RewardSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Floats = NDArray[np.float64]

WIDTH, HEADS = 32, 4
#: Far wider than a language model's .02, so that a random network prefers some words to others.
_SPREAD = 0.1
#: Of the final norm: sharpens what the small network says (2.5 nats a word instead of 3.4).
_GAIN = 2.6
_UNKNOWN = "<unknown>"
#: Values of a third good, a third neutral and a third bad words; the reader presses more surely at 2.
_VALUES = (2.0, 1.0, 0.0, 0.0, -1.0, -2.0)
_SCORE = RewardSpec(
    name="lexicon_score",
    target="textrl.bench.text_feedback_world:LexiconScore",
    summary="the sum of what the words of a text are worth, paid with the last one",
)


class LexiconScore:
    """Pays a text the sum of its words' values."""

    def __init__(self, values: Tensor) -> None:
        """Keep the (V,) values."""
        self.values = values

    def __call__(self, batch: Batch) -> Tensor:
        """Return (B,) float32."""
        worth = self.values.to(batch.response_ids.device)[batch.response_ids]
        return torch.where(batch.response_mask, worth, 0.0).sum(1)


@dataclass(frozen=True)
class WorldSettings:
    """Sizes of a world.

    Attributes:
        words: V.
        horizon: T, the length of a text.
        prompts: X, texts begin with one of the first so many words.
        beta: Weight of the KL divergence from the prior.
    """

    words: int = 30
    horizon: int = 10
    prompts: int = 4
    beta: float = 2.0


@dataclass(frozen=True, eq=False)
class World:
    """A world.

    Attributes:
        settings: Its sizes.
        seed: Drew prior and lexicon.
        words: V made words; a word's place is its token.
        values: (V,) what they are worth.
        prior: The language model.
        tokenizer: Of texts with single spaces between the words.
    """

    settings: WorldSettings
    seed: int
    words: tuple[str, ...]
    values: Floats
    prior: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast

    @classmethod
    def make(cls, settings: WorldSettings, seed: int) -> World:
        """Draw a world."""
        words = made_words(settings.words)
        values = np.resize(np.array(_VALUES), settings.words)
        np.random.default_rng([seed, 0x1E81]).shuffle(values)
        prior = make_prior(settings, seed)
        return cls(settings, seed, words, values, prior, word_tokenizer(words))

    @property
    def lexicon(self) -> dict[str, float]:
        """Word -> value, as a reader knows it."""
        return {word: float(value) for word, value in zip(self.words, self.values, strict=True)}

    def prompts(self) -> tuple[Prompt, ...]:
        """Return where texts begin."""
        return tuple(Prompt((token,), self.words[token]) for token in range(self.settings.prompts))

    def task(self, sources: list[Source]) -> TokenTask:
        """Return the task in which these sources pay; texts end by their length alone."""
        return TokenTask(
            self.prompts(), self.tokenizer, len(self.words), (), 0, self.settings.horizon,
            RewardSum(sources), self.seed,
        )  # fmt: skip

    def score_source(self, values: Floats | None = None) -> Source:
        """Return what pays the true score, or that by other (V,) values."""
        worth = torch.from_numpy(self.values if values is None else values).float()
        return Source(name="score", spec=_SCORE, reward=LexiconScore(worth))

    @torch.no_grad()
    def transitions(self) -> Floats:
        """Return (T, V, V) the prior's probability of each word (last) after each other at each place."""
        count, steps = len(self.words), self.settings.horizon
        repeated = torch.arange(count)[:, None].expand(count, steps)
        real = torch.ones_like(repeated)
        logits = self.prior(input_ids=repeated, attention_mask=real).logits.double()
        table: Floats = logits.softmax(-1).transpose(0, 1).numpy()
        return table

    def optimum(self) -> Optimum:
        """Return what is known of the best policy."""
        return Optimum.of(self.transitions(), self.values, self.settings.beta, self.settings.prompts)


@dataclass(frozen=True)
class Optimum:
    """The ends of the scale; means over the prompts.

    Attributes:
        prior_score: Mean score of the prior's texts, which is its objective too.
        best_score: Of the best policy's.
        best_kl: Its KL divergence from the prior, nats a text.
        best_objective: J*.
    """

    prior_score: float
    best_score: float
    best_kl: float
    best_objective: float

    @classmethod
    def of(cls, transitions: Floats, values: Floats, beta: float, prompts: int) -> Optimum:
        """Solve a world.

        Args:
            transitions: (T, V, V) place, word before, word.
            values: (V,).
            beta: Above 0.
            prompts: Texts begin with one of the first so many words, each as often.
        """
        steps, count, _ = transitions.shape
        best, plain, earned = np.zeros(count), np.zeros(count), np.zeros(count)
        for t in reversed(range(steps)):
            scores = np.log(transitions[t]) + (values + best) / beta
            top = scores.max(axis=1, keepdims=True)
            log_z = top + np.log(np.exp(scores - top).sum(axis=1, keepdims=True))
            chosen = np.exp(scores - log_z)
            best = beta * log_z[:, 0]
            plain = transitions[t] @ (values + plain)
            earned = chosen @ (values + earned)
        first = slice(prompts)
        objective, score = float(best[first].mean()), float(earned[first].mean())
        return cls(float(plain[first].mean()), score, (score - objective) / beta, objective)

    def closed(self, objective: float) -> float:
        """Return the share of the gap between prior and optimum that an objective closes."""
        return (objective - self.prior_score) / (self.best_objective - self.prior_score)


def made_words(count: int) -> tuple[str, ...]:
    """Return `count` words that no lexicon knows."""
    every = [f"{first}{vowel}{last}" for last in "nkrs" for first in "bdfgklmprtvz" for vowel in "aeiou"]
    return tuple(every[:count])


def word_tokenizer(words: tuple[str, ...]) -> PreTrainedTokenizerFast:
    """Return the tokenizer of texts in which single spaces stand between `words`; no token is special."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    model = models.WordLevel({word: token for token, word in enumerate(words)}, unk_token=_UNKNOWN)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False)


def make_prior(settings: WorldSettings, seed: int) -> PreTrainedModel:
    """Return a random GPT-2 whose next word depends on the place and the word before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1_000_003 + seed)
        config: Any = GPT2Config(
            vocab_size=settings.words, n_positions=settings.horizon + 1, n_embd=WIDTH, n_layer=1,
            n_head=HEADS,
            bos_token_id=None, eos_token_id=None, pad_token_id=0, initializer_range=_SPREAD,
            # One table for reading and writing would make every word be followed by itself.
            tie_word_embeddings=False,
            embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0,
            activation_function="gelu_pytorch_tanh", attn_implementation="eager",
        )  # fmt: skip
        model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        inner: Any = model.transformer
        inner.ln_f.weight.mul_(_GAIN)
        inner.h[0].attn.c_proj.weight.zero_()
    return model
