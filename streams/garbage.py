"""Garbage collection for processes that hold many customers for long.

States and documents have no cycles, so they go without being looked for; structs say so by `gc=False`. Cycles are of
tasks and errors, and young: an object that survives a look is never looked at again, or the looks at all customers in
memory would each take seconds.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

YOUNGEST_OBJECTS = 500_000
"""The youngest generation is collected once it has grown by so many objects. Most documents and states of a micro-batch
are gone before. A collection takes up to half a second on a slow core."""
FEW_OBJECTS = 20_000
"""So many are looked at where a pause is felt: it takes 10 to 40 ms on a slow core."""


def expect_long_lives() -> None:
    """Look for cycles seldom, and only among what is new: walking all states and documents took a third of the time.

    For a whole process, at its start; what exists then is never looked at.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNGEST_OBJECTS)
    gc.callbacks.append(_keep_survivors)


@contextmanager
def expecting_long_lives() -> Iterator[None]:
    """The same for the length of a block: a replay, which holds all that it makes, takes a sixth less time."""
    threshold = gc.get_threshold()
    expect_long_lives()
    try:
        yield
    finally:
        gc.callbacks.remove(_keep_survivors)
        gc.set_threshold(*threshold)
        gc.unfreeze()


def look_in_small_portions() -> None:
    """Look now if there is something to look at: to be called where nobody waits, such as between two small batches."""
    if gc.get_count()[0] >= FEW_OBJECTS:
        gc.collect(0)


def _keep_survivors(phase: str, info: Mapping[str, int]) -> None:
    if phase == "stop":
        gc.freeze()
