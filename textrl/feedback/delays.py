"""How long this person takes to press: a few cues, a press on seeing each, and a distribution through them.

The page shows cues at random times and sends, for each, when it appeared and when the key went down, both
on its own clock. People anticipate, look away and press twice, so the fit rests on the median and the median
absolute deviation. The distribution is a gamma, the form that Warnell et al. (2018) quote for delays of
trainers: never negative and with a tail to the right, as reaction times have it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from textrl.tamer.settings import DelaySettings

#: Faster is anticipation: nobody sees and presses within this. Slower is a cue that was missed. Seconds.
FASTEST_S, SLOWEST_S = 0.1, 4.0
#: Fewer presses than this say too little.
FEWEST = 5
#: Only the last so many count: a person who calibrates again means the newer ones.
MOST = 40
#: The least spread that is believed: frames and keyboards alone scatter by some 10 ms. Seconds.
_LEAST_SD_S = 0.02
_NORMAL = 1.4826  # the standard deviation of a normal distribution over its median absolute deviation


@dataclass(frozen=True)
class DelayFit:
    """A person's delay.

    Attributes:
        median_s: Seconds.
        sd_s: Spread, seconds: 1.4826 times the median absolute deviation.
        trials: Presses that it rests on.
        dropped: Presses that were too fast or too slow to count.
        settings: The gamma distribution with that median and about that spread, for credit assignment.
    """

    median_s: float
    sd_s: float
    trials: int
    dropped: int
    settings: DelaySettings


def fit_delay(delays_s: Iterable[float]) -> DelayFit | None:
    """Fit the delays of a calibration.

    With m the median, s the spread and k = (m / s)^2, the scale is m / (k (1 - 1 / 9k)^3): by Wilson and
    Hilferty (1931) the median of a gamma distribution is close to k theta (1 - 1 / 9k)^3.

    Args:
        delays_s: From each cue's appearance to the press, seconds, in their order.

    Returns:
        The fit, or None while fewer than `FEWEST` delays can count.
    """
    given = [float(delay) for delay in delays_s]
    kept = np.array([delay for delay in given if FASTEST_S <= delay <= SLOWEST_S][-MOST:])
    if len(kept) < FEWEST:
        return None
    median = float(np.median(kept))
    spread = max(_NORMAL * float(np.median(np.abs(kept - median))), _LEAST_SD_S)
    spread = min(spread, median)  # beyond, the density would be highest at 0 s
    shape = (median / spread) ** 2
    scale = median / (shape * (1 - 1 / (9 * shape)) ** 3)
    dropped = sum(not FASTEST_S <= delay <= SLOWEST_S for delay in given)
    settings = DelaySettings(kind="gamma", shape=shape, scale=scale)
    return DelayFit(median, spread, len(kept), dropped, settings)
