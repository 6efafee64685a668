"""A world with a gold judge: an initial policy that writes short texts, and what they are really worth.

Texts are words of a small vocabulary. The gold judge is fixed and known, so that what Gao et al. (2022) had
to ask a 6B reward model can be computed here for every text:

    gold(x, y) = sum_w value[w] n_w(y)  -  repetition * sum_w n_w(y) (n_w(y) - 1) / 2  +  taste(x, y)

Words have values, saying a word again is worth less each time, and `taste` is a random transformer that hears
words in their order and the prompt. The initial policy seldom repeats itself, so texts sampled from it hardly
show that repetition costs anything: a reward model learns that a good word is good, and a policy
that follows it says that word until nothing else is left.

Scores are shifted and scaled to mean 0 and variance 1 on the initial policy's texts. Shapes: B texts, P
prompt tokens, T response tokens, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from textrl.mdp.task import Prompt, TokenTask
from textrl.models.loading import scorer_from_causal_lm
from textrl.models.stack import score_ids
from textrl.rewards import RewardSum
from textrl.rollout import Rollout, generate

PAD, EOS = 0, 1
WORDS_FROM = 2
#: Of the initial policy: far wider than a language model's .02, so that a random network has habits.
_SPREAD, _GAIN = 0.1, 1.8
_ROWS = 2048

#: (ids (B, P + T) int64, mask (B, P + T) bool, response mask (B, T) bool) -> (B,) float32.
Score = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class WorldSettings:
    """Size and manner of a world.

    Attributes:
        vocabulary: V, with pad and EOS.
        length: Tokens at which a text is cut.
        prompts: How many; each is two words.
        repetition: Cost of each pair of equal words, where word values vary by 1.
        taste: Standard deviation of the transformer's part of the gold score, relative to that of the rest.
        normalise: Samples that define mean 0 and variance 1.
    """

    vocabulary: int = 32
    length: int = 12
    prompts: int = 4
    repetition: float = 0.5
    taste: float = 0.5
    normalise: int = 4096


class World:
    """Initial policy, prompts and gold judge, all drawn from one seed.

    Attributes:
        settings: As given.
        seed: Of everything.
        policy: The initial policy, a small GPT-2; copy it before training.
        prompts: Where texts begin.
        values: (V,) what a word is worth when it is said once; 0 for pad and EOS.
    """

    def __init__(self, settings: WorldSettings, seed: int) -> None:
        """Draw a world; the same for the same settings and seed."""
        self.settings, self.seed = settings, seed
        self.policy = network(settings.vocabulary, 32, 1, self.key(0), spread=_SPREAD)
        with torch.no_grad():
            self.policy.transformer.ln_f.weight.mul_(_GAIN)
        words = torch.arange(WORDS_FROM, settings.vocabulary)
        drawn = words[torch.randperm(len(words), generator=self.generator(1))]
        self.prompts = tuple(
            Prompt(ids=(int(drawn[2 * i]), int(drawn[2 * i + 1]))) for i in range(settings.prompts)
        )
        self.values = torch.randn(settings.vocabulary, generator=self.generator(2))
        self.values[:WORDS_FROM] = 0.0
        self._taste = scorer_from_causal_lm(
            network(settings.vocabulary, 64, 2, self.key(3), spread=_SPREAD), layers=None
        ).requires_grad_(False)
        head = torch.randn(self._taste.score.weight.shape, generator=self.generator(4))
        with torch.no_grad():
            self._taste.score.weight.copy_(head)
        self._scale_taste()

    def key(self, stream: int) -> int:
        """Return a seed of its own for each stream of random numbers."""
        return 1_000_003 * (stream + 1) + self.seed

    def generator(self, stream: int) -> torch.Generator:
        """Return a generator for one stream."""
        return torch.Generator().manual_seed(self.key(stream))

    def task(self, rewards: RewardSum | None = None) -> TokenTask:
        """Return the task of writing a text, paid by `rewards`."""
        settings = self.settings
        return TokenTask(
            self.prompts, None, settings.vocabulary, {EOS}, PAD, settings.length, rewards, self.seed
        )

    def sample(self, policy: PreTrainedModel, per_prompt: int, stream: int) -> Rollout:
        """Sample texts; row i belongs to prompt i // per_prompt.

        Args:
            policy: Whose texts.
            per_prompt: Of each prompt.
            stream: Keys the sampling noise.
        """
        prompts = [prompt for prompt in self.prompts for _ in range(per_prompt)]
        ids, mask = self.task().collate(prompts)
        return generate(
            policy,
            ids,
            mask,
            max_new_tokens=self.settings.length,
            eos_ids={EOS},
            pad_id=PAD,
            seed=self.key(stream),
            episodes=torch.arange(len(prompts)),
        )

    def gold(self, ids: Tensor, mask: Tensor, response_mask: Tensor) -> Tensor:
        """Return what texts are really worth: (B,) float32, mean 0 and variance 1 at the beginning.

        Args:
            ids: (B, P + T) int64.
            mask: (B, P + T) bool.
            response_mask: (B, T) bool, the last T columns.
        """
        raw = self._said(ids, response_mask) + self._weight * score_ids(self._taste, ids, mask)
        return (raw - self._mean) / self._sd

    def _said(self, ids: Tensor, response_mask: Tensor) -> Tensor:
        counts = word_counts(ids, response_mask, self.settings.vocabulary)
        again = (counts * (counts - 1) / 2).sum(1)
        return counts @ self.values - self.settings.repetition * again

    def _scale_taste(self) -> None:
        """Fix the weight of `taste`, and the mean and standard deviation of the whole."""
        texts = self.sample(self.policy, self.settings.normalise // len(self.prompts), stream=5)
        said = self._said(texts.ids, texts.response_mask)
        taste = score_ids(self._taste, texts.ids, texts.mask)
        self._weight = self.settings.taste * float(said.std()) / float(taste.std())
        raw = said + self._weight * taste
        self._mean, self._sd = float(raw.mean()), float(raw.std())


def network(vocabulary: int, width: int, layers: int, seed: int, *, spread: float = 0.02) -> PreTrainedModel:
    """Return a random GPT-2 over a few words, without dropout.

    Args:
        vocabulary: V.
        width: Of the residual stream; heads are 8 wide.
        layers: Blocks.
        seed: Of the weights.
        spread: Standard deviation of the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = GPT2Config(
            vocab_size=vocabulary, n_positions=64, n_embd=width, n_layer=layers, n_head=max(width // 8, 1),
            bos_token_id=EOS, eos_token_id=EOS, pad_token_id=PAD, initializer_range=spread,
            embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0,
            activation_function="gelu_pytorch_tanh", attn_implementation="eager",
        )  # fmt: skip
        return GPT2LMHeadModel(config).eval()


def word_counts(ids: Tensor, response_mask: Tensor, vocabulary: int) -> Tensor:
    """Return (B, V) float32: how often each word stands in a response; pad and EOS are no words."""
    responses = ids[:, -response_mask.shape[1] :]
    counts = torch.zeros(len(ids), vocabulary)
    counts.scatter_add_(1, responses, response_mask.float())
    counts[:, :WORDS_FROM] = 0.0
    return counts


@torch.no_grad()
def scores_of(score: Score, texts: Rollout) -> Tensor:
    """Return (B,) scores of all texts of a rollout, in bounded memory."""
    ids, mask = texts.ids, texts.mask
    parts = [
        score(ids[rows], mask[rows], texts.response_mask[rows])
        for rows in torch.split(torch.arange(len(ids)), _ROWS)
    ]
    return torch.cat(parts)


def standardised(score: Score, texts: Rollout) -> Score:
    """Return a score with mean 0 and variance 1 on the given texts; a constant one keeps its scale."""
    found = scores_of(score, texts)
    mean, sd = float(found.mean()), float(found.std())
    sd = sd if math.isfinite(sd) and sd > 1e-8 else 1.0
    return lambda ids, mask, response_mask: (score(ids, mask, response_mask) - mean) / sd


def by_prompt(values: Tensor, prompts: Sequence[Prompt]) -> Tensor:
    """Return (X, N) values of a sample that holds equally many texts of each prompt, in order."""
    return values.reshape(len(prompts), -1)
