"""Messages of an output, and the requests that carry them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from streams.delivery.steps import Step


class Message(NamedTuple):
    """What is told of one step, as JSON; `message_id` is the same however often it is sent."""

    message_id: str
    step: Step
    body: bytes


class Request(NamedTuple):
    """A POST that carries messages."""

    headers: Mapping[str, str]
    body: bytes


class Format(Protocol):
    """How an output is spoken to."""

    most_bytes: int
    """Of a message; larger ones become dead letters."""

    def messages(self, step: Step) -> list[Message]:
        """What is to be said of a step, in order."""

    def portions(self, messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
        """The messages in their order, as many at once as a request may carry."""

    def request(self, messages: Sequence[Message], secret: str) -> Request:
        """A request that carries these messages, made when it is sent."""
