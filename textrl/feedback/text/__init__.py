"""A session in front of a language model: tokens appear one by one, and somebody presses + and -.

`settings` holds every knob, `writer` the model, `head` H over all tokens of the vocabulary, `teaching`
what a press or a span teaches and how it is taken back, `words` the text of tokens, and `machine` says what
an event does.
"""

from textrl.feedback.text.machine import TextMachine
from textrl.feedback.text.settings import TextSettings

__all__ = ["TextMachine", "TextSettings"]
