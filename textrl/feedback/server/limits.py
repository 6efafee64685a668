"""What one client may ask of the server: sizes, rates, queues."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds on one socket, and on how many there are.

    Attributes:
        message_bytes: Largest message; a larger one is refused, and the socket stays.
        socket_bytes: Largest message that is read at all; a larger one closes the socket (code 1009).
        rate: Messages per second that are read in the long run; a faster client is told, and then read no
            faster than this, so that its own network buffers hold the rest.
        burst: Messages that may come at once: after a reconnect, a page sends everything again that was
            not acknowledged.
        pending: Events of one socket that may wait for the disk; more are not read until some are stored.
        connections: Sockets at the same time, over all sessions.
        queue_bytes: Messages that wait for a slow reader, frames apart; beyond, its socket is closed (code
            1013), and it loses nothing, as it says hello again and sends again.
        hello_s: Seconds until a socket must have said who it is.
        future_s: Seconds that a stamp may be ahead of the session's clock.
    """

    message_bytes: int = 64 * 1024
    socket_bytes: int = 1024 * 1024
    rate: float = 200.0
    burst: float = 400.0
    pending: int = 1000
    connections: int = 128
    queue_bytes: int = 4 * 1024 * 1024
    hello_s: float = 10.0
    future_s: float = 5.0


class Bucket:
    """A token bucket: `burst` at once, `rate` per second."""

    def __init__(self, rate: float, burst: float, now_s: float) -> None:
        """Begin full at `now_s`, on any clock that does not fall."""
        self._rate, self._burst = rate, burst
        self._left, self._at = burst, now_s

    def take(self, now_s: float) -> float:
        """Take one, on credit if need be.

        Returns:
            Seconds to wait before the next; 0 while there is enough.
        """
        self._left = min(self._burst, self._left + (now_s - self._at) * self._rate) - 1.0
        self._at = now_s
        return max(0.0, -self._left / self._rate)
