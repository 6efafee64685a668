"""The random streams of a control run, each with a key of its own.

A learner, the advice beside it and a simulated trainer may all be given one seed, and usually are. Each
stream is therefore drawn from the pair (seed, key): were a key used twice, two parts of a run would draw
the same numbers, and a trainer would err just where the learner explores. The keys below are all there
are; a new stream takes a new one, and no key ever changes, because figures depend on it.
"""

from __future__ import annotations

import numpy as np

#: A learner's exploration and ties, the seeds of its episodes, and what `predict` draws.
ACTIONS, STARTS, PREDICTIONS = 0, 1, 2
#: When control sharing lets H act, and H's ties.
GUIDANCE = 3
#: A simulated trainer's moods and errors, and how long it takes to press.
TRAINER, TRAINER_DELAYS = 4, 5
#: Which earlier samples the network of Deep TAMER learns again.
H_REPLAY = 6


def stream(seed: int, key: int) -> np.random.Generator:
    """Return the generator of a seed and a key.

    NumPy fills short entropy up with zeros: ``default_rng(seed)`` is the stream (seed, 0).

    Args:
        seed: 0 or more; from 2^32 on NumPy reads it as two numbers, and streams may meet.
        key: One of this module's.
    """
    return np.random.default_rng([seed, key])
