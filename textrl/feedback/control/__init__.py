"""A session in front of an environment: somebody watches, presses keys, and the learner learns meanwhile.

`settings` holds every knob, `learning` puts the learner together, `machine` says what an event does,
`pictures` and `drawing` make the frames, and `maps` what H and the policy look like over two dimensions.
"""

from textrl.feedback.control.machine import ControlMachine
from textrl.feedback.control.settings import ControlSettings

__all__ = ["ControlMachine", "ControlSettings"]
