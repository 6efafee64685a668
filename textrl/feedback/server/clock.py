"""The session's clock: the trainer's own, as the server can know it.

Presses and display stamps carry the time of the trainer's page, so the time that a tick uses must be on that
clock too. A message that left the page at t and arrived at m on the server's monotonic clock says that
m - t = offset + delay with delay >= 0; the least of these over a minute is the best estimate of the offset
(the filter of NTP, RFC 5905, section 10, takes the sample of least delay likewise).
"""

from __future__ import annotations

import threading
from collections import deque

#: Seconds over which the least delay counts: clocks drift apart by some ten microseconds a second.
WINDOW_S = 60.0
#: Seconds by which a page's clock may be ahead of the server's before it is taken to be wrong.
AHEAD_S = 3600.0


class SessionClock:
    """Session time from the trainer's stamps. Every method may be called from any thread.

    Session time never falls, also when the trainer comes back on another machine whose clock is behind: the
    stamps of that page are shifted by a constant then, which `joined` returns and the log records.
    """

    def __init__(self, last_s: float | None = None) -> None:
        """Begin, or go on from a log.

        Args:
            last_s: The largest session time in the log.
        """
        self._lock = threading.Lock()
        self._last = last_s
        self._samples: deque[tuple[float, float]] = deque()  # (received, received - t), both growing

    def joined(self, t_s: float, received_s: float, unix_s: float) -> float:
        """A page of the trainer says hello; estimates begin anew with it.

        Args:
            t_s: The page's time.
            received_s: The server's monotonic time.
            unix_s: The server's unix time.

        Returns:
            Seconds to add to every stamp of this page; 0 unless its clock is behind or absurd.
        """
        with self._lock:
            floor = self._last
            shift = 0.0
            if t_s > unix_s + AHEAD_S:
                # Taken as it is, one wrong clock would set the session's clock forward for ever.
                shift = max(unix_s, floor or 0.0) - t_s
            elif floor is not None and t_s < floor:
                shift = floor - t_s
            self._samples.clear()
            self._samples.append((received_s, received_s - (t_s + shift)))
            return shift

    def observe(self, t_s: float, received_s: float) -> None:
        """Take in a message that the trainer's page stamped `t_s` (shifted) when it happened."""
        difference = received_s - t_s
        with self._lock:
            while self._samples and self._samples[-1][1] >= difference:
                self._samples.pop()
            self._samples.append((received_s, difference))
            while len(self._samples) > 1 and self._samples[0][0] < received_s - WINDOW_S:
                self._samples.popleft()

    def ahead(self, t_s: float, received_s: float) -> float:
        """Return by how many seconds a stamp is later than the session's time; negative when it is past."""
        with self._lock:
            return t_s - (received_s - self._samples[0][1]) if self._samples else 0.0

    def now(self, monotonic_s: float) -> float | None:
        """Return the session time; None before the trainer has ever come."""
        with self._lock:
            if self._samples:
                estimate = monotonic_s - self._samples[0][1]
                self._last = estimate if self._last is None else max(self._last, estimate)
            return self._last
