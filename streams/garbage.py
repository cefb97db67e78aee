"""Garbage collection for processes that hold many customers for long."""

from __future__ import annotations

import gc

YOUNGEST_OBJECTS = 100_000


def expect_long_lives() -> None:
    """Look for cycles seldom: states and documents have none, and walking them all took a third of the time.

    For a whole process, at its start; what exists then is never looked at again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNGEST_OBJECTS, 50, 50)
