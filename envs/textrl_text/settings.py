"""What a config file can say about a token environment."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TokenEnvSettings:
    """What a config file can say about a token environment.

    Attributes:
        prompts: A JSONL (.gz) or parquet file, a folder, the id of a dataset, or a list of strings.
        tokenizer: A folder, the name of a registered model or a hub id; None is one token per byte.
        max_new_tokens: Response length in tokens at which an episode ends if no EOS came first.
        max_prompt_tokens: A longer prompt is refused.
        column: The column of the file that holds the prompts.
        split: The split of the dataset, where the prompts are one.
        seed: Keys the order of the prompts.
    """

    prompts: str | list[str] | None = None
    tokenizer: str | None = None
    max_new_tokens: int = 16
    max_prompt_tokens: int = 512
    column: str = "prompt"
    split: str = "train"
    seed: int = 0
