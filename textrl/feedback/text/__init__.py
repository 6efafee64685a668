"""A session in front of a language model: tokens appear one by one, and somebody presses + and -.

`settings` holds every knob, `writer` the model, and `machine` says what an event does. H over all tokens of
the vocabulary, what a press or a span teaches it, and the text of tokens stand in `textrl.tamer.text`.
"""

from textrl.feedback.text.machine import TextMachine
from textrl.feedback.text.settings import TextSettings

__all__ = ["TextMachine", "TextSettings"]
