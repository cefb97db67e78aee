"""Garbage collection for processes that hold many customers for long."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

YOUNGEST_OBJECTS = 500_000
"""Net of what has gone meanwhile: of a step's documents and states most go before they would be looked at."""
LOOKS_PER_OLDER_LOOK = 20
"""Looks at the youngest for one at those that outlived them, among which are all customers in memory."""


def expect_long_lives() -> None:
    """Look for cycles seldom: states and documents have none, and walking them all took a third of the time.

    For a whole process, at its start; what exists then is never looked at again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNGEST_OBJECTS, LOOKS_PER_OLDER_LOOK, LOOKS_PER_OLDER_LOOK)


@contextmanager
def expecting_long_lives() -> Iterator[None]:
    """The same for the length of a block: a replay, which holds all that it makes, takes a sixth less time."""
    threshold = gc.get_threshold()
    expect_long_lives()
    try:
        yield
    finally:
        gc.set_threshold(*threshold)
        gc.unfreeze()
