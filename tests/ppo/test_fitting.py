"""Whether a policy's tokens are the task's: what differs only in padding or special tokens fits."""

from __future__ import annotations

from typing import Any

import pytest
from tiny_world import Env, networks, small, tiny_gpt2, tiny_task
from tokenizers import Tokenizer, models
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel, PreTrainedTokenizerFast

from textrl.errors import UserError
from textrl.learners.ppo_ptx import PPOPTX
from textrl.learners.ppo_ptx.fitting import check_tokens
from textrl.mdp.task import Prompt, TokenTask

WORDS = ("<pad>", "<eos>", "the", "film", "was", "good")


def tokenizer(words: tuple[str, ...] = WORDS, **special: str) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}))
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", **special)


def model(rows: int) -> PreTrainedModel:
    config = GPT2Config(vocab_size=rows, n_positions=32, n_embd=16, n_layer=1, n_head=2)
    return GPT2LMHeadModel(config).eval()


def task(words: Any = None, size: int = len(WORDS), pad: int = 0) -> TokenTask:
    return TokenTask([Prompt((2, 3))], words, size, {1}, pad, 3, None)


def check(rows: int, mine: Any, given: TokenTask) -> None:
    built = networks(small(), model(rows))
    built.tokenizer = mine
    check_tokens(built, Env(given), given, "mine")


def test_what_only_pads_or_adds_special_tokens_fits() -> None:
    check(8, tokenizer(), task(tokenizer()))  # embeddings padded to a multiple of 8
    check(6, tokenizer(pad_token="<pad>"), task(tokenizer()))
    padded = tokenizer()
    padded.add_special_tokens({"pad_token": "<fill>"})  # one that the model has no row for, and never sees
    check(6, tokenizer(), task(padded, size=len(padded)))
    check(8, padded, task(tokenizer()))
    check(6, None, task())
    check(6, None, task(tokenizer()))
    check(8, None, task())  # perhaps padded, perhaps not: nobody can tell
    check(6, tokenizer(), task())


@pytest.mark.parametrize(
    ("rows", "mine", "given", "said"),
    [
        (4, None, task(), "knows 4 tokens, but the task has 6; give a policy over the task's own tokens"),
        (6, tokenizer(), task(tokenizer(), pad=6, size=7), "knows 6 tokens, but the task has 7"),
        (
            6,
            tokenizer(("<eos>", "<pad>", *WORDS[2:]), pad_token="<pad>"),
            task(tokenizer(pad_token="<pad>")),
            "has the token '<eos>' as number 0, but the task as number 1",
        ),
        (8, tokenizer((*WORDS, "bad")), task(), "writes 7 tokens, but the task has 6"),
        (
            8,
            tokenizer((*WORDS, "bad")),
            task(tokenizer()),
            "has 7 tokens, such as 'bad', which is none of the",
        ),
        (
            8,
            tokenizer(WORDS[:5]),
            task(tokenizer()),
            "has no token 'good', which is number 5 of the task's 6",
        ),
        (
            6,
            tokenizer((*WORDS[:4], "good", "was")),
            task(tokenizer()),
            "has the token 'good' as number 4, but the task as number 5; set the environment's tokenizer to",
        ),
    ],
)
def test_other_tokens_are_refused(rows: int, mine: Any, given: TokenTask, said: str) -> None:
    with pytest.raises(UserError, match="The policy 'mine' " + said) as refused:
        check(rows, mine, given)
    assert refused.value.key == "settings.policy"


def test_the_learner_asks() -> None:
    few, chosen = task(size=7), small()
    with pytest.raises(UserError, match="The policy 'unused' knows 6 tokens, but the task has 7"):
        PPOPTX(Env(few), chosen, networks=networks(chosen, tiny_gpt2()))
    assert PPOPTX(Env(tiny_task()), chosen, networks=networks(chosen, tiny_gpt2()))
