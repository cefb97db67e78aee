"""Messages of an output, and the requests that carry them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from streams.delivery.steps import Reactivation, Step


class Message(NamedTuple):
    """What is told of one step or re-activation, as JSON; `message_id` is the same however often it is sent."""

    message_id: str
    step_id: str
    customer_id: str
    body: bytes


class Request(NamedTuple):
    """A POST that carries messages."""

    headers: Mapping[str, str]
    body: bytes


ENVELOPE_BYTES: Final = 64
"""Of a request around its messages, at most."""


def portions_of(messages: Sequence[Message], most_bytes: int) -> Iterator[Sequence[Message]]:
    """The messages in their order, as many at once as fit into a request of so many bytes."""
    portion: list[Message] = []
    size = ENVELOPE_BYTES
    for message in messages:
        if portion and size + len(message.body) + 1 > most_bytes:
            yield portion
            portion, size = [], ENVELOPE_BYTES
        portion.append(message)
        size += len(message.body) + 1
    if portion:
        yield portion


class Format(Protocol):
    """How an output is spoken to."""

    most_bytes: int
    """Of a message; larger ones become dead letters."""

    def messages(self, step: Step) -> list[Message]:
        """What is to be said of a step, in order."""

    def reactivation(self, due: Reactivation) -> Message:
        """What is to be said of a re-activation that is due."""

    def portions(self, messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
        """The messages in their order, as many at once as a request may carry."""

    def request(self, messages: Sequence[Message], secret: str) -> Request:
        """A request that carries these messages, made when it is sent."""

    def refused(self, messages: Sequence[Message], answer: str) -> Mapping[int, str]:
        """Which of the messages of a request that was taken an answer names as refused, by place, and why."""
