"""The language models of the tasks: small GPT-2s over a task's own words, made on the spot and kept.

Where no prior is part of the task its weights are random and its distribution is nearly uniform. A prior is
fitted to sentences with given probabilities, by full gradients, for some seconds.

The registered names of `textrl_text.catalog.policy_name` lead to functions of this module that are made when
they are asked for: ``copy_tiny`` and so on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from textrl.data.cache import cache_dir
from textrl.models.sources import build_once
from textrl_text.catalog import DIFFICULTIES, TASKS
from textrl_text.tasks.vocabulary import EOS_ID, FIRST_WORD, PAD_ID, word_ids, word_tokenizer

#: Part of the name of every folder; grows when the same arguments are to give other weights.
_FORMAT = 1
#: Of the fit of a prior: steps of Adam with the gradient of the whole corpus, and its rate.
_STEPS, _RATE = 300, 1e-2


@dataclass(frozen=True)
class Shape:
    """Size of a language model.

    Attributes:
        width: Of the residual stream.
        layers: Transformer blocks.
        heads: Attention heads.
    """

    width: int
    layers: int
    heads: int


@dataclass(frozen=True)
class Sentence:
    """What a prior is to say after a prompt, and how often.

    Attributes:
        prompt: Words between single spaces.
        response: The same; EOS follows it unless it is cut.
        weight: Probability given the prompt.
        cut: Whether the length limit ends the response instead of EOS.
    """

    prompt: str
    response: str
    weight: float
    cut: bool = False


def random_policy(task: str, words: Sequence[str], shape: Shape, context: int, seed: int) -> Path:
    """Return the folder of a model with random weights.

    Args:
        task: Name, for the folder's.
        words: Vocabulary beside padding and EOS.
        shape: Size.
        context: Longest sequence in tokens.
        seed: Of the weights.
    """
    key = (tuple(words), shape, context, seed)
    return build_once(
        _folder(task, key), lambda target: _save(_fresh(words, shape, context, seed), words, target)
    )


def fitted_policy(
    task: str, words: Sequence[str], shape: Shape, context: int, corpus: Sequence[Sentence]
) -> Path:
    """Return the folder of a model that says the sentences of a corpus as often as it does.

    Args:
        task: Name, for the folder's.
        words: Vocabulary beside padding and EOS.
        shape: Size.
        context: Longest sequence in tokens.
        corpus: Sentences; their weights add up to 1 for each prompt.
    """

    def fill(target: Path) -> None:
        model = _fresh(words, shape, context, 0)
        _fit(model, *_tokens(words, corpus))
        _save(model, words, target)

    return build_once(_folder(task, (tuple(words), shape, context, tuple(corpus), _STEPS, _RATE)), fill)


def _folder(task: str, key: object) -> Path:
    digest = hashlib.sha256(repr((_FORMAT, key)).encode()).hexdigest()[:12]
    return cache_dir() / "models" / f"task-{task.replace('_', '-')}-{digest}"


def _fresh(words: Sequence[str], shape: Shape, context: int, seed: int) -> PreTrainedModel:
    config = GPT2Config(
        vocab_size=FIRST_WORD + len(words), n_positions=context, n_embd=shape.width, n_layer=shape.layers,
        n_head=shape.heads, bos_token_id=EOS_ID, eos_token_id=EOS_ID, pad_token_id=PAD_ID,
        embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0, activation_function="gelu_pytorch_tanh",
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GPT2LMHeadModel(config).eval()


def _save(model: PreTrainedModel, words: Sequence[str], target: Path) -> None:
    model.save_pretrained(target)
    word_tokenizer(words).save_pretrained(target)


def _tokens(words: Sequence[str], corpus: Sequence[Sentence]) -> tuple[Tensor, Tensor, Tensor]:
    """Return (N, L) right-padded ids, (N, L) bool of what is to be said, and (N,) weights."""
    ids = word_ids(words)
    rows = []
    for sentence in corpus:
        prompt = [ids[word] for word in sentence.prompt.split()]
        said = [ids[word] for word in sentence.response.split()] + ([] if sentence.cut else [EOS_ID])
        rows.append((prompt, said))
    longest = max(len(prompt) + len(said) for prompt, said in rows)
    tokens = torch.full((len(rows), longest), PAD_ID)
    targets = torch.zeros(tokens.shape, dtype=torch.bool)
    for row, (prompt, said) in enumerate(rows):
        tokens[row, : len(prompt) + len(said)] = torch.tensor([*prompt, *said])
        targets[row, len(prompt) : len(prompt) + len(said)] = True
    return tokens, targets, torch.tensor([sentence.weight for sentence in corpus])


def _fit(model: PreTrainedModel, tokens: Tensor, targets: Tensor, weights: Tensor) -> None:
    """Minimise the weighted cross-entropy of what is to be said, in a fixed number of steps."""
    optimizer = torch.optim.Adam(model.parameters(), lr=_RATE)
    share = weights[:, None] / weights.sum()
    for step in range(_STEPS):
        for group in optimizer.param_groups:
            group["lr"] = _RATE * (1 - step / _STEPS)
        # Padding stands right of every real token, so causal attention never reads it.
        logprobs = model(tokens[:, :-1]).logits.log_softmax(-1)
        said = logprobs.gather(-1, tokens[:, 1:, None]).squeeze(-1)
        loss = -(share * said * targets[:, 1:]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def __getattr__(name: str) -> Callable[[], Path]:
    """Return the target of a registered model: ``copy_tiny`` and so on.

    Raises:
        AttributeError: When no task has such a model.
    """
    task, _, difficulty = name.rpartition("_")
    if task not in TASKS or difficulty not in DIFFICULTIES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def made(**overrides: Any) -> Path:
        from textrl_text.tasks.lookup import task_policy

        return task_policy(task, difficulty, **overrides)

    return made
