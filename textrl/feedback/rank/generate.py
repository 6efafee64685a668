"""Items made by a model before the session starts: K different responses for each prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textrl.errors import UserError
from textrl.feedback.events import FEWEST, MOST
from textrl.feedback.rank.items import Item

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from textrl.mdp.task import Prompt

#: Responses in one batch: enough to be quick, and little memory.
_ROWS = 32
#: How often a prompt is sampled again when its responses are the same.
_ROUNDS = 4


def generate_items(
    model: str,
    prompts: str | Path | Sequence[Any],
    *,
    k: int = 4,
    temperatures: Sequence[float] = (1.0,),
    max_new_tokens: int = 48,
    seed: int = 0,
    most: int | None = None,
    tick: Callable[[int, int], None] = lambda done, of: None,
) -> list[Item]:
    """Sample items from a model.

    Responses that repeat another of their prompt are sampled again, and left out when that gives nothing
    new; so is a prompt with fewer than two different ones.

    Args:
        model: What `textrl.models.loading.load_causal_lm` loads.
        prompts: What `textrl.data.prompts.read_prompts` reads.
        k: Responses for each prompt.
        temperatures: Taken in turn by a prompt's responses.
        max_new_tokens: Longest response.
        seed: Of the sampling.
        most: Only the first so many prompts.
        tick: Told how many prompts are done, and of how many.

    Raises:
        UserError: When a setting, the model or a prompt cannot be used, or no prompt has two responses.
    """
    _check(k, temperatures, max_new_tokens)
    from textrl.data.prompts import read_prompts
    from textrl.models.loading import load_causal_lm

    policy, tokenizer = load_causal_lm(model)
    room = getattr(policy.config, "max_position_embeddings", None) or 1024
    if max_new_tokens >= room:
        raise UserError(
            f"--max-new-tokens is {max_new_tokens}; the model's context has {room} tokens in all."
        )
    read = read_prompts(prompts, tokenizer, max_prompt_tokens=room - max_new_tokens)[:most]
    items, step = [], max(1, _ROWS // k)
    for start in range(0, len(read), step):
        part = read[start : start + step]
        found = _sample(policy, tokenizer, part, start, k, temperatures, max_new_tokens, seed)
        for offset, (prompt, texts) in enumerate(zip(part, found, strict=True)):
            if len(texts) >= FEWEST:
                made = tuple({"model": model, "temperature": one} for one in texts.values())
                items.append(Item(str(start + offset + 1), prompt.text, tuple(texts), made))
        tick(min(start + step, len(read)), len(read))
    if not items:
        raise UserError(
            f"The model '{model}' gave the same response to a prompt every time; raise --temperature or "
            "--max-new-tokens."
        )
    return items


def _check(k: int, temperatures: Sequence[float], max_new_tokens: int) -> None:
    if not FEWEST <= k <= MOST:
        raise UserError(f"--k is {k}; an item has {FEWEST} to {MOST} responses.")
    if not temperatures or not all(0 < one <= 10 for one in temperatures):
        raise UserError(f"--temperature is {list(temperatures)}; give numbers over 0 and at most 10.")
    if max_new_tokens < 1:
        raise UserError(f"--max-new-tokens is {max_new_tokens}; a response has at least one token.")


def _sample(
    policy: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    first: int,
    k: int,
    temperatures: Sequence[float],
    max_new_tokens: int,
    seed: int,
) -> list[dict[str, float]]:
    """Return, for each prompt, up to k different responses with their temperatures, in order."""
    import torch

    from textrl.rollout import generate

    found: list[dict[str, float]] = [{} for _ in prompts]
    for attempt in range(_ROUNDS):
        for number, temperature in enumerate(temperatures):
            rows = [
                (index, response)
                for index in range(len(prompts))
                if len(found[index]) < k
                for response in range(number, k, len(temperatures))
            ]
            if not rows:
                continue
            width = max(len(prompts[index].ids) for index, _ in rows)
            ids = torch.full((len(rows), width), int(tokenizer.pad_token_id), dtype=torch.int64)
            mask = torch.zeros(len(rows), width, dtype=torch.bool)
            for row, (index, _) in enumerate(rows):
                length = len(prompts[index].ids)
                ids[row, width - length :] = torch.tensor(prompts[index].ids)
                mask[row, width - length :] = True
            # Which response of which prompt: the noise is the same however prompts are put into batches.
            episodes = [((first + index) * MOST + response) * _ROUNDS + attempt for index, response in rows]
            rollout = generate(
                policy,
                ids,
                mask,
                max_new_tokens=max_new_tokens,
                eos_ids=_ends(policy, tokenizer),
                pad_id=int(tokenizer.pad_token_id),
                seed=seed,
                episodes=torch.tensor(episodes),
                temperature=temperature,
            )
            for row, (index, _) in enumerate(rows):
                kept = rollout.response_ids[row][rollout.response_mask[row]]
                text = tokenizer.decode(kept, skip_special_tokens=True).replace("\0", "")
                if text.strip() and len(found[index]) < k:
                    found[index].setdefault(text, temperature)
    return found


def _ends(policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Return the tokens that end a response: the tokenizer's, and what the model says."""
    listed = getattr(policy.generation_config, "eos_token_id", None)
    named = listed if isinstance(listed, list) else [listed]
    return {int(token) for token in [*named, tokenizer.eos_token_id] if token is not None}
