"""A rubric of yes/no questions that puts a response into a class with a reward.

After GPT-4's rule-based reward models (arXiv 2303.08774, section 6), where the questions were answered by
the language model itself; here a question is answered by a pattern, by the prompt's record, or by any
language model's token probabilities. Shapes: ``B`` episodes, ``Q`` questions.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from textrl.errors import UserError, did_you_mean
from textrl.protocols import Batch
from textrl_judges.rubric_settings import Question, RubricClass, RubricSettings
from textrl_judges.texts import Memory

_SLOT = re.compile(r"\{(prompt|response|question)\}")
#: What a column may hold for a yes or a no, beside true and false.
_WORDS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


class RubricReward:
    """Pay what the class of a response is worth."""

    def __init__(self, settings: RubricSettings) -> None:
        """Compile the patterns and load the model that answers, where one is asked.

        Raises:
            UserError: When there is no such model.
        """
        self.settings = settings
        self.questions, self.classes = settings.whole()
        self._patterns = {
            name: re.compile(question.pattern, re.IGNORECASE)
            for name, question in self.questions.items()
            if question.pattern is not None
        }
        self._table = list(_worth(tuple(self.questions), self.classes, settings.otherwise))
        self._memory: Memory[float] = Memory()
        self._model: Any = None
        if any(question.ask is not None for question in self.questions.values()):
            from textrl_judges.answers import YesNo

            assert settings.model is not None  # the settings refuse a question to nobody
            size = settings.micro_batch_size
            self._model = YesNo.load(settings.model, settings.yes, settings.no, micro_batch_size=size)

    def __call__(self, batch: Batch) -> Tensor:
        """Return (B,) float32.

        Raises:
            UserError: When a record lacks a column, or holds neither yes nor no in it.
        """
        return torch.tensor([self._pay(row) for row in self.answers(batch)], dtype=torch.float32)

    def metrics(self, batch: Batch) -> Mapping[str, float]:
        """Return each class's share of the responses, by the likeliest answers."""
        found = [self.classify(row) for row in self.answers(batch)]
        counts = Counter(found)
        return {f"class_{name}": counts[name] / max(len(found), 1) for name in (*self.classes, "none")}

    def answers(self, batch: Batch) -> list[tuple[float, ...]]:
        """Return B rows of the Q probabilities of yes, in the order of the questions."""
        assert batch.prompt_text is not None
        assert batch.text is not None
        assert batch.records is not None  # in the record's needs
        columns = [
            self._answer(name, question, batch.prompt_text, batch.text, batch.records)
            for name, question in self.questions.items()
        ]
        return list(zip(*columns, strict=True))

    def classify(self, row: Sequence[float]) -> str:
        """Return the class of the likeliest answers, or ``none``."""
        said = {name: answer >= 0.5 for name, answer in zip(self.questions, row, strict=True)}
        return _class_of(said, self.classes) or "none"

    def _pay(self, row: Sequence[float]) -> float:
        if self.settings.answers == "likeliest":
            row = [float(answer >= 0.5) for answer in row]
        # Every combination of answers: its probability, times what it is worth.
        return math.fsum(
            worth * math.prod(p if yes else 1 - p for p, yes in zip(row, said, strict=True))
            for said, worth in self._table
        )

    def _answer(
        self,
        name: str,
        question: Question,
        prompts: Sequence[str],
        responses: Sequence[str],
        records: Sequence[Mapping[str, Any]],
    ) -> list[float]:
        """Return B probabilities of yes."""
        if question.column is not None:
            return [float(_truth(question.column, record)) for record in records]
        if question.pattern is not None:
            texts = responses if question.about == "response" else prompts
            return [float(self._patterns[name].search(text) is not None) for text in texts]
        assert question.ask is not None  # one of the three is given
        asked = [
            self._fill(prompt, response, question.ask)
            for prompt, response in zip(prompts, responses, strict=True)
        ]
        return self._memory.look_up(asked, self._model.probabilities)

    def _fill(self, prompt: str, response: str, question: str) -> str:
        # One pass, so that a response that contains "{question}" stays as it is.
        texts = {"prompt": prompt, "response": response, "question": question}
        return _SLOT.sub(lambda slot: texts[slot[1]], self.settings.template)


def _class_of(said: Mapping[str, bool], classes: Mapping[str, RubricClass]) -> str | None:
    """Return the first class whose conditions hold."""
    for name, kind in classes.items():
        if all(said[question] == kind.wants(question) for question in kind.when):
            return name
    return None


def _worth(
    questions: tuple[str, ...], classes: Mapping[str, RubricClass], otherwise: float
) -> Sequence[tuple[tuple[bool, ...], float]]:
    """Return the reward of each of the 2 ** Q combinations of answers; those worth 0 are left out."""
    table = []
    for said in itertools.product((False, True), repeat=len(questions)):
        name = _class_of(dict(zip(questions, said, strict=True)), classes)
        reward = otherwise if name is None else classes[name].reward
        if reward:
            table.append((said, reward))
    return table


def _truth(column: str, record: Mapping[str, Any]) -> bool:
    if column not in record:
        raise UserError(
            f"a prompt's record has no column '{column}'.{did_you_mean(column, map(str, record))}"
        )
    value = record[column]
    found = value if isinstance(value, bool) else _WORDS.get(str(value).strip().lower())
    if found is None:
        raise UserError(f"the column '{column}' holds {value!r}; it must hold true or false.")
    return found
