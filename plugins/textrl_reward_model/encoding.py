"""What a reward model reads: templates, tokens, limits, and whether two tokenizers agree."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from textrl.errors import UserError
from textrl.models.heads import fill_template, is_decoder
from textrl.models.sources import one_line, quiet_transformers, resolve
from textrl.protocols import Batch
from textrl_reward_model.settings import RewardModelRewardSettings

#: Tokenizers say so when they do not know a limit.
_NO_LIMIT = 10**9


class Encoder:
    """Turns a batch's texts into rows of the reward model's tokens."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        settings: RewardModelRewardSettings,
        limit: int,
    ) -> None:
        """Keep the parts; `limit` is the longest input in tokens."""
        self.tokenizer, self.settings, self.limit = tokenizer, settings, limit
        # The response stands at the end, so the beginning goes.
        self.tokenizer.truncation_side = "left"
        starts = (tokenizer.cls_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id)
        self.blank = next((token for token in starts if token is not None), None)
        if settings.chat and not getattr(tokenizer, "chat_template", None):
            raise UserError(f"the tokenizer of {settings.model} has no chat template; set chat to false.")

    def rows(self, batch: Batch) -> list[list[int]]:
        """Return B rows of token ids within the limit.

        Raises:
            UserError: When an input is too long and `too_long` is "refuse".
        """
        if self.settings.too_long == "truncate":
            return self._tokenise(batch, truncation=True, max_length=self.limit)
        rows = self.untruncated(batch)
        for index, row in enumerate(rows):
            if len(row) > self.limit:
                raise UserError(
                    f"the input of row {index} has {len(row)} tokens and {self.settings.model} reads "
                    f"{self.limit}; shorten the prompts or max_new_tokens, or set too_long to 'truncate'."
                )
        return rows

    def untruncated(self, batch: Batch) -> list[list[int]]:
        """Return B rows of token ids, however long."""
        return self._tokenise(batch, truncation=False)

    def _tokenise(self, batch: Batch, **options: Any) -> list[list[int]]:
        assert batch.prompt_text is not None
        assert batch.text is not None  # in the record's needs
        texts = [self._text(*pair) for pair in zip(batch.prompt_text, batch.text, strict=True)]
        # A chat template writes the special tokens itself.
        encoded = self.tokenizer(texts, add_special_tokens=not self.settings.chat, verbose=False, **options)
        return [row or self._nothing() for row in encoded["input_ids"]]

    def _text(self, prompt: str, response: str) -> str:
        if self.settings.chat:
            turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
            return str(self.tokenizer.apply_chat_template(turns, tokenize=False))
        return fill_template(self.settings.template, prompt, response)

    def _nothing(self) -> list[int]:
        """A text without tokens is read as one special token."""
        if self.blank is None:
            raise UserError(
                f"a text is empty and the tokenizer of {self.settings.model} has no special token for it."
            )
        return [self.blank]


def warn_of_padding(name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Warn where a decoder was saved with one token for padding and EOS.

    Its scores are then not those of other software: transformers' pooling reads the last token that is
    not the pad token, textrl the last token.
    """
    try:
        saved = json.loads((Path(resolve(name)) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    pad = saved.get("pad_token_id")
    if is_decoder(model) and pad is not None and pad == tokenizer.eos_token_id:
        warnings.warn(
            f"the reward model {name} pads with its EOS token '{tokenizer.eos_token}': textrl scores the "
            "last token, an EOS included, where transformers alone reads one token earlier; train it with a "
            "padding token of its own if scores differ from those you know.",
            stacklevel=4,
        )


def longest_input(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, wanted: int | None) -> int:
    """Return the longest input in tokens that model, tokenizer and user allow."""
    known = [wanted, getattr(model.config, "max_position_embeddings", None), tokenizer.model_max_length]
    return min((int(limit) for limit in known if limit is not None and limit < _NO_LIMIT), default=_NO_LIMIT)


def same_ids(policy: str, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether the policy's tokenizer and the reward model's give every text the same ids.

    The reward model's may know more special tokens (such as one for padding).

    Args:
        policy: A registered model, a folder or a hub id.
        tokenizer: The reward model's.

    Raises:
        UserError: When there is no tokenizer in `policy`.
    """
    folder = policy if Path(policy).is_dir() else resolve(policy)
    try:
        with quiet_transformers():
            theirs = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise UserError(f"The policy's tokenizer '{policy}' cannot be loaded ({one_line(error)}).") from error
    first, second = _content(theirs), _content(tokenizer)
    if first is None or second is None:
        return False
    fewer, more = first.pop("added_tokens"), second.pop("added_tokens")
    return first == second and fewer.items() <= more.items()


def _content(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any] | None:
    """Return what decides over ids; None for tokenizers that are not `tokenizers`' own."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    # Serialised, since files written by different versions differ in form and not in content.
    whole = json.loads(backend.to_str())
    content = {key: whole[key] for key in ("model", "normalizer", "pre_tokenizer")}
    content["added_tokens"] = {token["content"]: token["id"] for token in whole["added_tokens"]}
    return content
