"""What is held long is looked at once; cycles among what is new are found, by portions that are small."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from streams.garbage import FEW_OBJECTS, expecting_long_lives, look_in_small_portions


class Node:
    """Something that can refer to itself."""

    def __init__(self) -> None:
        self.itself: Node | None = None


def cycle() -> weakref.ref[Node]:
    """A cycle that nobody holds."""
    node = Node()
    node.itself = node
    return weakref.ref(node)


def is_looked_at(thing: object) -> bool:
    return any(one is thing for one in gc.get_objects())


@pytest.fixture
def expecting() -> Iterator[None]:
    with expecting_long_lives():
        yield


@pytest.mark.usefixtures("expecting")
def test_what_survives_a_look_is_never_looked_at_again() -> None:
    """Neither by later looks at the young nor by those at older objects, of which there are none."""
    held = [[number] for number in range(FEW_OBJECTS)]
    assert is_looked_at(held)
    look_in_small_portions()
    assert not is_looked_at(held)
    assert not is_looked_at(held[-1])
    assert len(gc.get_objects()) < FEW_OBJECTS


@pytest.mark.usefixtures("expecting")
def test_cycles_among_new_objects_are_found_once_there_are_many() -> None:
    """Few new objects are not worth a look."""
    gone = cycle()
    look_in_small_portions()
    assert gone() is not None
    held = [[number] for number in range(FEW_OBJECTS)]
    look_in_small_portions()
    assert gone() is None
    assert len(held) == FEW_OBJECTS


def test_after_the_block_everything_is_as_before() -> None:
    """Thresholds, who is called back, and what is looked at."""
    before = gc.get_threshold(), list(gc.callbacks)
    with expecting_long_lives():
        held = [[number] for number in range(FEW_OBJECTS)]
        look_in_small_portions()
        assert gc.get_threshold() != before[0]
    assert (gc.get_threshold(), gc.callbacks) == before
    assert is_looked_at(held)
