"""What simulated readers like: words of a lexicon, what a rule says, what a classifier's score does."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

from textrl.errors import UserError, at_setting, did_you_mean
from textrl_human.text_lexicon import built_in, checked, look_up, read_lexicon
from textrl_human.text_settings import SimulatedTextSettings
from textrl_human.truths import load_function

#: (prompt, record, response before the word, word) -> value.
WordTruth = Callable[[str, Mapping[str, Any], str, str], float]
_KNOWN = ("lexicon", "classifier")
#: What a reward that rates texts may need.
_READABLE = frozenset({"text", "records"})


def find_word_truth(settings: SimulatedTextSettings) -> WordTruth:
    """Return what a reader's settings name.

    Raises:
        UserError: When there is no such lexicon, function or reward, or it cannot judge words.
    """
    if settings.truth in _KNOWN:
        with at_setting(settings.truth):  # the setting of that name
            lexicon = settings.truth == "lexicon"
            return Lexicon(settings.lexicon) if lexicon else Classifier(settings.classifier or {})
    with at_setting("truth"):
        return _rule(settings.truth, _function(settings.truth))


def _function(truth: str) -> Callable[..., Any]:
    """Load what ``module:function`` or ``file.py:function`` names."""
    place, _, name = truth.rpartition(":")
    if not place or not name.isidentifier():
        raise UserError(
            f"The reader's truth is '{truth}'; write lexicon, classifier, 'module:function' or "
            f"'file.py:function'.{did_you_mean(truth, _KNOWN)}"
        )
    return load_function(place, name)


class Lexicon:
    """A word is worth its value, wherever it stands.

    Attributes:
        values: Word in lower case -> value.
    """

    def __init__(self, lexicon: Mapping[str, float] | str | None) -> None:
        """Take a mapping, read a file, or take the built-in list.

        Raises:
            UserError: See `textrl_human.text_lexicon`.
        """
        if lexicon is None:
            self.values = built_in()
        else:
            self.values = read_lexicon(lexicon) if isinstance(lexicon, str) else checked(lexicon)

    def __call__(self, prompt: str, record: Mapping[str, Any], before: str, word: str) -> float:
        """Return the word's value, 0 where it has none."""
        return look_up(self.values, word)


class Classifier:
    """A word is worth what it changes of a text's score: score(before + word) - score(before).

    The values of a text's words add up to its score less that of the empty text, up to what the
    punctuation between them does.
    """

    def __init__(self, section: Mapping[str, Any]) -> None:
        """Build the reward that rates.

        Args:
            section: ``use``, the reward's name, and its settings.

        Raises:
            UserError: When there is no such reward, it does not rate whole texts, or refuses a setting.
        """
        from textrl.registry import get_registry
        from textrl.rewards.building import build_reward

        settings = dict(section)
        use = settings.pop("use", None)
        if not isinstance(use, str):
            raise UserError(
                f"The reader's classifier has use: {use!r}; name a registered reward, as sentiment."
            )
        registry = get_registry()
        spec: Any = registry.find("reward", use)
        if spec.side != "env" or spec.granularity != "episode" or "text" not in spec.needs:
            why = "which does not rate a text as a whole"
        else:
            why = f"which needs {', '.join(sorted(beyond))}" if (beyond := spec.needs - _READABLE) else ""
        if why:
            raise UserError(
                f"The reader's classifier is '{use}', {why}; choose a reward that rates texts alone, such as "
                "sentiment or classifier."
            )
        self._reward = build_reward(
            spec,
            settings,
            plugin=registry.owner("reward", use),
            where=lambda key: f"The reader's classifier '{use}'",
        )

    def __call__(self, prompt: str, record: Mapping[str, Any], before: str, word: str) -> float:
        """Return the change of the score."""
        import torch

        from textrl.protocols import Batch

        # The reward reads texts; ids of a tokenizer of its own it makes itself, and these say nothing.
        ids, mask = torch.zeros(2, 1, dtype=torch.int64), torch.ones(2, 1, dtype=torch.bool)
        batch = Batch(
            prompt_ids=ids,
            prompt_mask=mask,
            response_ids=ids,
            response_mask=mask,
            prompt_text=(prompt, prompt),
            text=(before, before + word),
            records=(record, record),
        )
        without, with_word = self._reward(batch).double().tolist()
        return float(with_word - without)


class Forgetful:
    """A truth that is told only the last words of what stands before the word."""

    def __init__(self, truth: WordTruth, memory: int) -> None:
        """Limit a truth.

        Args:
            truth: What is known otherwise.
            memory: Words, 1 or more.
        """
        self._truth, self._memory = truth, memory

    def __call__(self, prompt: str, record: Mapping[str, Any], before: str, word: str) -> float:
        """Return the word's value after the words that are remembered."""
        remembered = "".join(re.findall(r"\S+\s*", before)[-self._memory :])
        return self._truth(prompt, record, remembered, word)


def _rule(name: str, function: Callable[..., Any]) -> WordTruth:
    """Return a function, having seen that it takes what a rule is called with."""
    try:
        inspect.signature(function).bind("", {}, "", "")
    except TypeError as error:
        raise UserError(
            f"The reader's truth '{name}' cannot be called with (prompt, record, text before, word): {error}."
        ) from error
    except ValueError:  # no signature to look at: a function written in C
        pass
    return function
