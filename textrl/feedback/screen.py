"""What a person had on the screen, and since when: frames wait here for the stamps of the person's page.

A machine emits a frame on one clock and the person sees it a little later, or never: a slow line drops
frames, and a page in the background draws none. Only the page knows, and it says so in ``shown`` events,
which come in batches. A frame that was overtaken by a later one, or whose stamp has not come within a
second, was not seen: no press can speak of it, and no silence either.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
#: A frame without a stamp for so long was not seen; so late, too, may a batch of stamps or a press arrive.
PATIENCE_S = 1.0


@dataclass(frozen=True, slots=True)
class Seen(Generic[T]):
    """A frame that is settled.

    Attributes:
        number: The frame's, from 1.
        content: What it showed.
        at_s: When it appeared on the person's clock, seconds; where it was never seen, when the frame that
            overtook it appeared.
        seen: Whether it was on the screen at all.
    """

    number: int
    content: T
    at_s: float
    seen: bool


class Screen(Generic[T]):
    """Frames that were emitted and have no stamp yet, oldest first.

    Attributes:
        unseen: Frames that were never seen.
    """

    def __init__(self) -> None:
        self.unseen = 0
        self._waiting: deque[tuple[int, T, float]] = deque()
        self._last_s = -float("inf")
        self._number = 0

    def __len__(self) -> int:
        """Return how many frames wait."""
        return len(self._waiting)

    @property
    def newest(self) -> int:
        """The number of the frame that was emitted last; 0 before the first."""
        return self._number

    def emit(self, content: T, now_s: float) -> int:
        """Send a frame to the page.

        Args:
            content: What it shows.
            now_s: The tick's time, seconds on the person's clock.

        Returns:
            Its number, from 1.
        """
        self._number += 1
        self._waiting.append((self._number, content, now_s))
        return self._number

    def stamp(self, number: int, at_s: float) -> list[Seen[T]]:
        """The page says that it showed a frame.

        Args:
            number: The frame's; one that does not wait (any more) changes nothing.
            at_s: When, seconds on the person's clock. Times never fall: an earlier one counts as the last.

        Returns:
            The frames that are settled by it, in their order.
        """
        if not any(number == waiting for waiting, _, _ in self._waiting):
            return []
        at_s = self._last_s = max(at_s, self._last_s)
        settled = []
        while self._waiting[0][0] < number:
            settled.append(self._settle(at_s, seen=False))
        settled.append(self._settle(at_s, seen=True))
        return settled

    def pressed(self, number: int | None, at_s: float) -> list[Seen[T]]:
        """A press names a frame as the one on the screen: it was shown, even where its stamp is to come.

        Its appearance is then taken to be the tick's own time, or the press's where that is earlier.
        """
        for waiting, _, now_s in self._waiting:
            if waiting == number:
                return self.stamp(waiting, min(now_s, at_s))
        return []

    def give_up(self, now_s: float) -> list[Seen[T]]:
        """Stop waiting for the stamps of frames that are older than `PATIENCE_S`, except of the newest."""
        settled = []
        while len(self._waiting) > 1 and now_s - self._waiting[0][2] > PATIENCE_S:
            settled.append(self._settle(max(now_s, self._last_s), seen=False))
        return settled

    def _settle(self, at_s: float, *, seen: bool) -> Seen[T]:
        number, content, _ = self._waiting.popleft()
        self.unseen += not seen
        return Seen(number, content, at_s, seen)
