"""Settings of ``rubric``: questions, classes, and the safety rubric that comes with it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from textrl_judges import safety

Answer = Literal["yes", "no"]
#: All answers to so many questions are enumerated: 2 ** 12 rows.
MOST_QUESTIONS = 12


@dataclass(frozen=True, kw_only=True)
class Question:
    """A yes/no question; give one of `pattern`, `column` and `ask`.

    Attributes:
        pattern: Yes where this regular expression (Python's `re`, upper and lower case alike) is found.
        column: Yes where this column of the prompt's record is true.
        ask: The question in words, which the rubric's `model` answers: yes with the probability of its
            "yes" against its "no".
        about: Where `pattern` looks.
    """

    pattern: str | None = None
    column: str | None = None
    ask: str | None = None
    about: Literal["response", "prompt"] = "response"

    def __post_init__(self) -> None:
        if sum(part is not None for part in (self.pattern, self.column, self.ask)) != 1:
            raise ValueError("pattern, column and ask: give one of the three")
        if self.pattern is not None:
            try:
                re.compile(self.pattern)
            except re.error as error:
                raise ValueError(f"pattern is {self.pattern!r}, no regular expression ({error})") from error


@dataclass(frozen=True, kw_only=True)
class RubricClass:
    """A class of responses.

    Attributes:
        when: Question -> "yes" or "no"; all of them must hold.
        reward: What a response of this class is paid.
    """

    when: Mapping[str, Answer | bool]
    reward: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.reward):
            raise ValueError(f"reward is {self.reward}; it must be a finite number")

    def wants(self, question: str) -> bool | None:
        """Return the answer that the class asks of a question; None where it does not care."""
        found = self.when.get(question)
        # YAML 1.1 reads a bare yes as true.
        return None if found is None else found in (True, "yes")


@dataclass(frozen=True, kw_only=True)
class RubricSettings:
    """Questions about a response, and what follows from the answers.

    Attributes:
        preset: "safety" brings the questions and classes of refusals; your own classes are tried first.
        questions: Name -> question: ``pattern``, ``column`` or ``ask``, and ``about``.
        classes: Name -> class: ``when`` (question -> yes or no) and ``reward``; of the classes whose
            conditions hold, the first counts.
        otherwise: What a response of no class is paid.
        answers: "expected" pays the mean over all answers by their probabilities, taken as independent;
            "likeliest" takes each answer as yes from one half on.
        model: Answers the questions that `ask`: a registered model, folder, GGUF file or hub id.
        template: What the model reads, with {prompt}, {response} and {question} in it.
        yes: Words that mean yes, with the space before them that the template leaves out.
        no: Words that mean no.
        refusal_column: Under the safety preset: column of the prompt's record that is true where a refusal
            is wanted.
        micro_batch_size: Texts per forward pass of the model; never changes the result.
    """

    preset: Literal["safety"] | None = None
    questions: Mapping[str, Question] = field(default_factory=dict)
    classes: Mapping[str, RubricClass] = field(default_factory=dict)
    otherwise: float = 0.0
    answers: Literal["expected", "likeliest"] = "expected"
    model: str | None = None
    template: str = "{prompt}\n{response}\n\nQuestion: {question}\nAnswer (yes or no):"
    yes: tuple[str, ...] = (" yes", " Yes")
    no: tuple[str, ...] = (" no", " No")
    refusal_column: str = "refuse"
    micro_batch_size: int = 16

    def __post_init__(self) -> None:
        questions, classes = self.whole()
        if not classes:
            raise ValueError("classes is empty; give at least one, or preset: safety")
        if len(questions) > MOST_QUESTIONS:
            raise ValueError(f"questions has {len(questions)} entries; use at most {MOST_QUESTIONS}")
        for name, kind in classes.items():
            for question in kind.when:
                if question not in questions:
                    known = ", ".join(questions) or "none"
                    raise ValueError(f"classes: '{name}' asks for '{question}', no question (known: {known})")
        asked = [name for name, question in questions.items() if question.ask is not None]
        if asked and self.model is None:
            raise ValueError(f"model is missing; the question '{asked[0]}' must be answered by one")
        if not math.isfinite(self.otherwise):
            raise ValueError(f"otherwise is {self.otherwise}; it must be a finite number")
        if not self.yes or not self.no or any(not word for word in (*self.yes, *self.no)):
            raise ValueError("yes and no must each hold a word, and no empty one")
        for slot in ("{response}", "{question}"):
            if slot not in self.template:
                raise ValueError(f"template lacks {slot}")
        if self.micro_batch_size < 1:
            raise ValueError(f"micro_batch_size is {self.micro_batch_size}; it must be at least 1")

    def whole(self) -> tuple[dict[str, Question], dict[str, RubricClass]]:
        """Return questions and classes in force: your own classes are tried before those of the preset."""
        questions: dict[str, Question] = {}
        classes: dict[str, RubricClass] = {}
        if self.preset == "safety":
            questions = {
                "refusal_wanted": Question(column=self.refusal_column),
                "refuses": Question(pattern=safety.REFUSES),
                "evasive": Question(pattern=safety.EVASIVE),
            }
            classes = {name: RubricClass(when=when, reward=pay) for name, when, pay in safety.CLASSES}
        left = {name: kind for name, kind in classes.items() if name not in self.classes}
        return {**questions, **self.questions}, {**self.classes, **left}
