"""A simulated reader at work: sees tokens appear, judges each word when it is whole, waits, presses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from textrl.errors import UserError
from textrl.tamer.text.reading import TextShown, WholeWord, whole_words
from textrl_human.reactor import Reactor
from textrl_human.text_settings import SimulatedTextSettings
from textrl_human.text_truths import Forgetful, WordTruth, find_word_truth
from textrl_human.trainers import Reactions


class SimulatedReader(Reactor):
    """Gives the presses of a reader, on the clock that stamps the tokens that appear.

    A word is judged once, when its last token appears, and the delay counts from then.

    Attributes:
        reactions: What the reader is like.
    """

    def __init__(self, settings: SimulatedTextSettings, truth: WordTruth | None = None) -> None:
        """Seed the generators and find what the reader likes.

        Args:
            settings: A preset with changes, and a truth.
            truth: (prompt, record, text before, word) -> value, instead of the settings' truth.

        Raises:
            UserError: When the settings' truth does not exist or cannot judge words.
        """
        self.reactions: Reactions = settings.reactions()
        super().__init__(self.reactions)
        found = truth if truth is not None else find_word_truth(settings)
        self._truth = found if settings.memory is None else Forgetful(found, settings.memory)
        self._scale = settings.scale

    def check(self, env: Any) -> None:
        """Refuse an environment's steps, which are no words.

        Raises:
            UserError: Names the feedback that watches steps.
        """
        raise UserError(
            "The feedback 'simulated_text' reads words and cannot watch the steps of an environment; use "
            "'simulated'.",
            key="use",
        )

    def watch(self, observation: Any, token: int, shown_s: float) -> None:
        """See a token appear, and judge the words that are whole with it.

        Args:
            observation: What is on screen.
            token: The token that appeared.
            shown_s: When.

        Raises:
            UserError: When this is no text, or the truth gives no finite number.
        """
        if not isinstance(observation, TextShown):
            raise UserError(
                f"The feedback 'simulated_text' reads words, not observations of the kind "
                f"{type(observation).__name__}; for an environment's steps use 'simulated'."
            )
        for word in observation.words:
            value = self._judge(observation.prompt, observation.record, word)
            self.react(value, shown_s, f"the word '{word.text}'")

    def score(self, text: str, prompt: str = "", record: Mapping[str, Any] | None = None) -> float:
        """Return what the reader thinks of a whole response: the sum of its words' values, without errors.

        Args:
            text: The response.
            prompt: What it goes on from.
            record: All columns of the prompt's line in its file.
        """
        (words,) = whole_words([text])
        return sum(self._judge(prompt, record or {}, word) for word in words)

    def _judge(self, prompt: str, record: Mapping[str, Any], word: WholeWord) -> float:
        value: Any = self._truth(prompt, record, word.before, word.text)
        try:
            return self._scale * float(value)
        except (TypeError, ValueError):
            raise UserError(
                f"The reader's truth gave {value!r} for the word '{word.text}'; return finite numbers."
            ) from None
