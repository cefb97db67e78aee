"""What an output is taken to have been told where some of its messages were given up."""

from __future__ import annotations

import pytest

from streams.delivery.delivering import take_back
from streams.delivery.messages import Message
from streams.delivery.sender import Undelivered
from streams.delivery.steps import Step, Told


def step(number: int, previous: str | None, current: str | None) -> Step:
    return Step(f"s{number}", "c", "at", "segment", previous, current, "event", False, {})


def standing_after(steps: list[Step], sent: list[str], lost: list[str], before: str | None) -> str | None:
    messages = [Message(message_id, message_id.partition("-")[0], "c", b"") for message_id in sent]
    given_up = [Undelivered(message, "why") for message in messages if message.message_id in lost]
    known = {"c": Told({} if before is None else {"segment": before}, 0, 3)}
    told = {"c": Told({} if steps[-1].current is None else {"segment": steps[-1].current}, 0, 5)}
    take_back(told, known, steps, messages, given_up)
    assert told["c"].sequence == 5
    return told["c"].standing.get("segment")


MOVE = [step(1, "low", "high")]
OUT = [step(1, "low", None)]


@pytest.mark.parametrize(
    ("steps", "sent", "lost", "expected"),
    [
        (MOVE, ["s1-exit", "s1", "s1-event"], ["s1-event"], "high"),
        (MOVE, ["s1-exit", "s1"], ["s1"], None),
        (MOVE, ["s1-exit", "s1"], ["s1-exit", "s1"], "low"),
        (MOVE, ["s1-exit", "s1"], ["s1-exit"], "high"),
        (MOVE, ["s1"], ["s1"], "low"),
        (OUT, ["s1-exit"], ["s1-exit"], "low"),
        ([*MOVE, step(2, "high", "medium")], ["s1", "s2"], ["s1"], "medium"),
        ([*MOVE, step(2, "high", "medium")], ["s1", "s2"], ["s1", "s2"], "low"),
        ([*MOVE, step(2, "high", "medium")], ["s1", "s2"], ["s2"], "high"),
    ],
)
def test_only_what_arrived_has_been_told(
    steps: list[Step], sent: list[str], lost: list[str], expected: str | None
) -> None:
    """An event that was refused moves nobody."""
    assert standing_after(steps, sent, lost, "low") == expected
