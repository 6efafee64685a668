"""From the plain arguments of the token environments to the task they describe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from textrl.data.prompts import read_prompts
from textrl.data.tokenizers import byte_tokenizer, load_tokenizer
from textrl.errors import UserError
from textrl.mdp.task import ActionMask, TokenTask
from textrl.registry import get_registry
from textrl.rewards import RewardSum, build_rewards

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: What `prompts` may be: a file, a dataset, or strings, records and message lists.
PromptSource = str | Path | Sequence[str | Mapping[str, Any] | Sequence[Mapping[str, Any]]]

#: What `rewards` may be: a sum, or source name -> settings with ``weight`` (1.0) and ``use`` (the name).
Rewards = RewardSum | Mapping[str, Mapping[str, Any]]

#: Started from when no prompts are given, so that ``gymnasium.make`` works without an argument.
DEFAULT_PROMPTS = ("Once upon a time", "The answer is", "Dear reader,")


class TaskArguments(TypedDict, total=False):
    """The arguments that describe a task; what is None counts as not given.

    Attributes:
        prompts: A file, a dataset, or strings; three short ones when left out.
        tokenizer: An object, folder, registered model or hub id; one token per byte when left out.
        rewards: Sources of reward; nothing is paid when left out.
        allowed: (prompt, response) -> (V,) bool, which tokens may follow; all when left out.
        max_new_tokens: Response length at which an episode ends if no EOS came first; 16.
        max_prompt_tokens: A longer prompt is refused; 512.
        column: The column of the file that holds the prompts; ``prompt``.
        split: The split of the dataset; ``train``.
        seed: Keys the order of the prompts; 0.
    """

    prompts: PromptSource | None
    tokenizer: str | PreTrainedTokenizerBase | None
    rewards: Rewards | None
    allowed: ActionMask | None
    max_new_tokens: int | None
    max_prompt_tokens: int | None
    column: str | None
    split: str | None
    seed: int | None


def make_task(
    *,
    prompts: PromptSource | None = None,
    tokenizer: str | PreTrainedTokenizerBase | None = None,
    rewards: Rewards | None = None,
    allowed: ActionMask | None = None,
    max_new_tokens: int = 16,
    max_prompt_tokens: int = 512,
    column: str = "prompt",
    split: str = "train",
    seed: int = 0,
) -> TokenTask:
    """Build a task from plain arguments; `TokenEnvSettings` and `TokenTask` explain each.

    Raises:
        UserError: Where the prompts or the tokenizer cannot be read, or the parts do not fit together.
    """
    loaded = byte_tokenizer() if tokenizer is None else tokenizer
    loaded = load_tokenizer(loaded) if isinstance(loaded, str) else loaded
    source = list(DEFAULT_PROMPTS) if prompts is None else prompts
    eos: int | None = loaded.eos_token_id
    pad: int | None = loaded.pad_token_id
    return TokenTask(
        prompts=read_prompts(source, loaded, max_prompt_tokens=max_prompt_tokens, column=column, split=split),
        tokenizer=loaded,
        vocab_size=len(loaded),
        eos_ids=frozenset() if eos is None else frozenset({eos}),
        # Masks say which tokens are real, so any token can stand where none is.
        pad_id=pad if pad is not None else (eos or 0),
        max_new_tokens=max_new_tokens,
        rewards=rewards if rewards is None or isinstance(rewards, RewardSum) else built_rewards(rewards),
        seed=seed,
        allowed=allowed,
    )


def built_rewards(sources: Mapping[str, Mapping[str, Any]]) -> RewardSum:
    """Build registered rewards from plain data, as a config's sections do."""
    for name, section in sources.items():
        if not isinstance(section, Mapping):
            raise UserError(
                f"The rewards argument has {section!r} for '{name}'; "
                "give a mapping of its settings and weight."
            )
    settings = {
        name: {key: value for key, value in section.items() if key != "weight"}
        for name, section in sources.items()
    }
    weights = {name: section.get("weight", 1.0) for name, section in sources.items()}
    return build_rewards(settings, weights, get_registry(), lambda key: f"The rewards argument, {key}")


def task_from(task: TokenTask | None, arguments: Mapping[str, Any]) -> TokenTask:
    """Return `task`, or build one from `arguments`, of which those that are None count as not given.

    Raises:
        UserError: When both a task and arguments that describe another one are given.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    if task is None:
        return make_task(**given)
    if given:
        names = ", ".join(sorted(given))
        raise UserError(f"Give the environment either a task or {names}, not both: a task contains them.")
    return task
