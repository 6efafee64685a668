"""What stands beside some learners of the text benchmark: a prior that pays, and a reader who knows the task.

**The prior, paid by the environment.** E[return] - beta KL(policy || prior) contains the policy's own
log-probabilities, which an environment does not know. It is also

    E[return + beta log prior(response)] + beta x entropy of the policy's responses,

whose first part is a reward like any other: `prior_source`. So a learner that only sees rewards is paid that,
and one with an entropy bonus gets the weight beta for it.

**The reader** presses by what the task itself pays for a word: `textrl.bench.text_beside:copy_small` and so
on are truths of the feedback ``simulated_text``, made when they are asked for.

Shapes: ``B`` sequences, ``T`` response tokens (right-padded), ``V`` vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from textrl.bench.text_play import Floats, OfModel
from textrl.mdp.task import TokenTask
from textrl.protocols import Batch
from textrl.registry import get_registry
from textrl.rewards import Source
from textrl.specs import RewardSpec

_PRIOR = RewardSpec(
    name="prior",
    target="textrl.bench.text_beside:PriorPay",
    summary="log-probability of each token under the task's prior",
    granularity="token",
    causal=True,
)
#: (prompt, record, response before the word, word) -> what a reader thinks of the word, from -2 to 2.
Truth = Callable[[str, Mapping[str, Any], str, str], float]


class PriorPay:
    """Pays every token its log-probability under a language model.

    The distribution after each beginning is kept, so that the model reads every beginning once.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        """Keep the model: a causal LM in evaluation mode."""
        self._acting = OfModel(model)
        self._known: dict[tuple[int, ...], Floats] = {}

    def __call__(self, batch: Batch) -> Tensor:
        """Return (B, T) float32, zero outside the mask."""
        paid = np.zeros(tuple(batch.response_ids.shape), dtype=np.float32)
        rows = []
        prompts = zip(batch.prompt_ids.tolist(), batch.prompt_mask.sum(1).tolist(), strict=True)
        lengths = batch.response_mask.sum(1).tolist()
        for (ids, size), response, length in zip(prompts, batch.response_ids.tolist(), lengths, strict=True):
            rows.append((tuple(ids[len(ids) - size :]), response[:length]))
        self._learn([prompt + tuple(said[:t]) for prompt, said in rows for t in range(len(said))])
        for row, (prompt, said) in enumerate(rows):
            for t, token in enumerate(said):
                paid[row, t] = self._known[prompt + tuple(said[:t])][token]
        return torch.from_numpy(paid).to(batch.response_ids.device)

    def _learn(self, beginnings: list[tuple[int, ...]]) -> None:
        new = sorted({one for one in beginnings if one not in self._known})
        if not new:
            return
        longest = max(map(len, new))
        ids = np.zeros((len(new), longest), dtype=np.int64)
        mask = np.zeros((len(new), longest), dtype=np.int8)
        for row, one in enumerate(new):
            ids[row, longest - len(one) :], mask[row, longest - len(one) :] = one, 1
        found, _ = self._acting({"input_ids": ids, "attention_mask": mask}, None, None)
        self._known.update(zip(new, found, strict=True))


def prior_source(model: PreTrainedModel, beta: float) -> Source:
    """Return the environment's part of the KL-regularised objective.

    Args:
        model: The prior.
        beta: Weight of the KL divergence.
    """
    return Source(name="prior", spec=_PRIOR, reward=PriorPay(model), weight=beta)


def _by_pay(zero: float, least: float = 0.0) -> Callable[[TokenTask], Truth]:
    """Return a reader of tasks that pay tokens: 2 for what is paid more than `least`, -2 for less than 0.

    Args:
        zero: What is thought of a word between the two.
        least: Pay that is not worth a word.
    """

    def reader(task: TokenTask) -> Truth:
        def truth(prompt: str, record: Mapping[str, Any], before: str, word: str) -> float:
            pay = _pay(task, prompt, before, word)
            if pay is None:
                return 0.0
            return 2.0 if pay > least else (-2.0 if pay < 0 else zero)

        return truth

    return reader


def _by_amount(task: TokenTask) -> Truth:
    """Return a reader who thinks of a word what it is paid, from -2 for 0 to 2 for 1."""

    def truth(prompt: str, record: Mapping[str, Any], before: str, word: str) -> float:
        pay = _pay(task, prompt, before, word)
        return 0.0 if pay is None else 4.0 * pay - 2.0

    return truth


def _by_digits(task: TokenTask) -> Truth:
    """Return a reader who knows the result of a sum."""

    def truth(prompt: str, record: Mapping[str, Any], before: str, word: str) -> float:
        text = prompt.replace(" ", "").rstrip("=")
        first, second = (int(part) for part in text.split("-" if "-" in text else "+"))
        answer = str(first - second if "-" in text else first + second)
        return 2.0 if answer.startswith(before.replace(" ", "") + word) else -2.0

    return truth


def _by_count(task: TokenTask) -> Truth:
    """Return a reader who counts words: each that was asked for pleases, each further one does not."""
    asked = {prompt.text: count for count, prompt in enumerate(task.prompts, 1)}

    def truth(prompt: str, record: Mapping[str, Any], before: str, word: str) -> float:
        return 2.0 if len(before.split()) < asked[prompt] else -2.0

    return truth


#: Task -> how its reader judges words. Brackets are no words; sentiment's reader has the built-in lexicon.
READERS: Mapping[str, Callable[[TokenTask], Truth]] = {
    "copy": _by_pay(-2.0),
    "reverse": _by_pay(-2.0),
    "arithmetic": _by_digits,
    "keyword": _by_pay(0.0),
    "word_bandit": _by_amount,
    "dialogue": _by_pay(0.0),
    "length": _by_count,
}


def _pay(task: TokenTask, prompt: str, before: str, word: str) -> float | None:
    """Return what the task pays for a word after what stands before it; None for what is no token of it."""
    assert task.tokenizer is not None
    known = task.tokenizer.get_vocab()
    # A reader's words come without the punctuation around them.
    token = known.get(word, known.get(f"{word}?"))
    said = [known.get(one) for one in before.split()]
    if token is None or None in said:
        return None
    ids = torch.tensor([[*(one for one in said if one is not None), token]])
    found = next(one for one in task.prompts if one.text == prompt)
    scored = task.score(task.batch([found], ids, torch.ones_like(ids, dtype=torch.bool)))
    return float(scored.total[0, -1])


def __getattr__(name: str) -> Truth:
    """Return a reader's truth: ``copy_small`` and so on.

    Raises:
        AttributeError: When there is no such reader.
    """
    task, _, difficulty = name.rpartition("_")
    if task not in READERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    get_registry().register_envs()
    title = "".join(part.capitalize() for part in task.split("_"))
    made: Any = gymnasium.make(f"TextRL/{title}-v0", difficulty=difficulty).unwrapped
    return READERS[task](made.task)
