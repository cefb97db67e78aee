"""How much of a worker's one thread sweeps may take from records."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

REST = 1.5
"""While records are being processed, a sweep pauses so many times as long as its last slice took. So records keep three
fifths of the thread, and take up to two thirds longer than without a sweep."""
ASK_AGAIN_S = 0.01


class SweepPace:
    """Tells the partitions of a worker when one of them may sweep a slice: one at a time, and not all the time.

    Sweeps rest only while records are under way, of whichever partition.
    """

    def __init__(self) -> None:
        self._under_way = 0
        self._is_sweeping = False
        self._rests_until_s = 0.0

    def wait_s(self) -> float:
        """Seconds after which to ask again; 0 if a slice may begin now."""
        if self._is_sweeping:
            return ASK_AGAIN_S
        return max(0.0, self._rests_until_s - _now_s()) if self._under_way else 0.0

    @contextmanager
    def slice(self) -> Iterator[None]:
        """Around the sweep of a slice."""
        began_s, self._is_sweeping = _now_s(), True
        try:
            yield
        finally:
            ended_s, self._is_sweeping = _now_s(), False
            self._rests_until_s = ended_s + REST * (ended_s - began_s)

    @contextmanager
    def records(self) -> Iterator[None]:
        """Around all that is done with records that have come."""
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1


def _now_s() -> float:
    return asyncio.get_running_loop().time()
