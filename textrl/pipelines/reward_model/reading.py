"""What a reward model reads of an example: its texts in the places of a template, within a limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from textrl.batching import context_length
from textrl.data.rankings import RankingGroup
from textrl.errors import UserError
from textrl.models.heads import PLAIN_TEMPLATE, fill_template
from textrl.pipelines.reward_model.settings import ArmSettings
from textrl.sft import SFTExample


class Reader:
    """Puts examples into a template.

    A template's last words are what the head reads, so where the whole is longer than the limit the
    response loses its end and the template stays. Tokenising cuts what has no template.

    Attributes:
        shortened: Texts that lost their end.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: ArmSettings
    ) -> None:
        """Read for a model; its context and `max_tokens` limit a text with its template."""
        self._tokenizer, self._template = tokenizer, settings.template
        self._limit = context_length(model, settings.max_tokens)
        self.shortened = 0

    def examples(self, examples: Sequence[SFTExample]) -> list[SFTExample]:
        """Return examples as the template shows them; such a text is tokenised as a whole.

        Raises:
            UserError: When the template and the prompt leave no room for a response.
        """
        if self._template == PLAIN_TEMPLATE:
            return list(examples)
        return [SFTExample("", self._within(one.prompt, one.completion)) for one in examples]

    def groups(self, groups: Sequence[RankingGroup]) -> list[RankingGroup]:
        """Return groups as the template shows them.

        Raises:
            UserError: As `examples`.
        """
        if self._template == PLAIN_TEMPLATE:
            return list(groups)
        return [
            replace(
                group,
                prompt="",
                completions=tuple(self._within(group.prompt, text) for text in group.completions),
            )
            for group in groups
        ]

    def tell(self) -> None:
        """Say how many texts lost their end, if any did."""
        if self.shortened:
            print(  # noqa: T201
                f"[textrl] {self.shortened:,} texts are with their template longer than max_tokens "
                f"{self._limit} and lost their end; raise it to read them whole.",
                flush=True,
            )

    def _within(self, prompt: str, response: str) -> str:
        whole = fill_template(self._template, prompt, response)
        over = self._length(whole) - self._limit
        if over <= 0:
            return whole
        self.shortened += 1
        ids = self._tokenizer(response, add_special_tokens=False).input_ids
        # What is left need not tokenise into as many tokens as it was.
        for kept in range(len(ids) - over, 0, -1):
            whole = fill_template(self._template, prompt, self._tokenizer.decode(ids[:kept]))
            if self._length(whole) <= self._limit:
                return whole
        raise UserError(
            f"The template with the prompt '{prompt[:40]}' leaves no room for a response within "
            f"{self._limit} tokens; shorten it or raise max_tokens."
        )

    def _length(self, text: str) -> int:
        return len(self._tokenizer(text, verbose=False).input_ids)
