"""Whether what a learner of tokens is given fits its networks: the task, and sources that rate tokens."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from textrl.errors import UserError, at_setting
from textrl.learners.ppo_ptx.networks import Networks
from textrl.mdp.task import TokenTask
from textrl.rewards import RewardSum


def fit(networks: Networks, env: Any, task: TokenTask, rewards: RewardSum | None, policy: str) -> None:
    """Check the task's tokens, and tell the sources that rate tokens whose tokens these are.

    Args:
        networks: Of the learner, before anything is learnt.
        env: The environment; one that knows which policy learning starts from is asked for its name.
        task: Of the environment.
        rewards: Learner-side sources, or None.
        policy: Name of the policy, for errors.

    Raises:
        UserError: When the policy's tokens are not the task's, or a source rates those of another model.
    """
    check_tokens(networks, env, task, policy)
    for side in (task.rewards, rewards):
        for source in () if side is None else side.sources:
            # Unbound it would know no model, and pay zeros.
            if hasattr(source.reward, "bind_text"):
                with at_setting(f"sources.{source.name}"):
                    source.reward.bind_text(rated_model(networks), networks.tokenizer)


def rated_model(networks: Networks) -> PreTrainedModel:
    """Return the model whose tokens sources rate, before anything is learnt: the reference.

    A source knows a model by its embeddings. Where those of the reference are stored in fp16 they are the
    policy's, rounded; a head that was taught on the model would not know them again.
    """
    stored = list(networks.reference.get_input_embeddings().parameters())
    rounded = any(weight.dtype == torch.float16 for weight in stored)
    return networks.policy if rounded else networks.reference


def check_tokens(networks: Networks, env: Any, task: TokenTask, policy: str) -> None:
    """Refuse a policy whose tokens mean something else in the task.

    A model's embeddings may have more rows than its tokenizer has tokens, as many have that were padded, and
    padding or EOS may have been added to one of two tokenizers. Where one side has no tokenizer only numbers
    can be compared.

    Raises:
        UserError: Names the policy, what differs, and the policy or the tokenizer that would fit.
    """
    mine, other = networks.tokenizer, task.tokenizer
    rows = int(networks.policy.get_output_embeddings().weight.shape[0])
    largest = max(task.pad_id, *(max(prompt.ids) for prompt in task.prompts))
    same = mine is not None and other is not None and _same(mine, other)
    known = rows if mine is None else len(mine)
    if largest >= rows or (rows < task.vocab_size and not same):
        why = f"knows {rows} tokens, but the task has {task.vocab_size}"
    elif mine is not None and other is not None and not same:
        why = _difference(mine, other)
    elif other is None and mine is not None and known > task.vocab_size:
        why = f"writes {known} tokens, but the task has {task.vocab_size}"
    else:
        return
    raise UserError(f"The policy '{policy}' {why}; {_fix(env, other, policy)}.", key="settings.policy")


def _same(mine: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase) -> bool:
    """Return whether two tokenizers differ in nothing but special tokens that one of them lacks."""
    return mine is other or not _odd_tokens(mine, other)


def _odd_tokens(mine: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase) -> list[str]:
    """Return the tokens that have two numbers, or that only one of two tokenizers has, in order of number.

    Special and added tokens may be missing from one of them, but not have two numbers.
    """
    ours, theirs = mine.get_vocab(), other.get_vocab()
    if ours == theirs:
        return []
    odd = {token for token, _ in ours.items() ^ theirs.items()}
    added = {*mine.all_special_tokens, *other.all_special_tokens}
    added |= mine.get_added_vocab().keys() | other.get_added_vocab().keys()
    odd -= {token for token in added if token not in ours or token not in theirs}
    return sorted(odd, key=lambda token: (ours.get(token, theirs.get(token, 0)), token))


def _difference(mine: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase) -> str:
    token = _odd_tokens(mine, other)[0]
    ours, theirs = mine.get_vocab().get(token), other.get_vocab().get(token)
    if ours is None:
        return f"has no token {token!r}, which is number {theirs} of the task's {len(other)}"
    if theirs is None:
        return f"has {len(mine)} tokens, such as {token!r}, which is none of the task's {len(other)}"
    return f"has the token {token!r} as number {ours}, but the task as number {theirs}"


def _fix(env: Any, tokenizer: PreTrainedTokenizerBase | None, policy: str) -> str:
    """Say which policy, or which tokenizer, would fit."""
    label = getattr(getattr(env, "unwrapped", env), "policy_label", None)
    if label is not None:
        return f"set policy to '{label()}', which learning starts from in this environment"
    if tokenizer is None:
        return "give a policy over the task's own tokens"
    return f"set the environment's tokenizer to '{policy}', or policy to a model with the environment's"
