"""Braze's `/users/track`: standings as custom attributes, and custom events of changes.

Source: Braze, "POST: Track users" (limits: 75 attributes and 75 events a request). An answer names what was refused
(`errors`, with `input_array` and `index`) beside what was taken. The secret is a REST API key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
import orjson

from streams.delivery.messages import Message, Request
from streams.delivery.outputs_file import Output
from streams.delivery.steps import Reactivation, Step, flattened

MOST_OF_EACH: Final = 75
ATTRIBUTES, EVENTS = "attributes", "events"
_EVENT: Final = "-event"


class _Refusal(msgspec.Struct):
    type: str = ""
    input_array: str = ""
    index: int = -1


class _Answer(msgspec.Struct):
    errors: list[_Refusal | str] = []


class BrazeFormat:
    """Speaks to `/users/track`."""

    most_bytes = 64 * 1024

    def __init__(self, output: Output) -> None:
        self._output = output

    def messages(self, step: Step) -> list[Message]:
        """The user's standing as a custom attribute, null where there is none; and an event, unless it is silent."""
        prefix = self._output.audience_prefix
        attributes: dict[str, Any] = {
            "external_id": step.customer_id,
            f"{prefix}_{step.dimension}": step.current,
            **{f"{prefix}_{name}": value for name, value in flattened(step.details)},
        }
        told = [Message(step.step_id, step.step_id, step.customer_id, orjson.dumps(attributes))]
        if not step.is_silent:
            event = {
                "external_id": step.customer_id,
                "name": f"{prefix}_{step.dimension}_changed",
                "time": step.at,
                "properties": {"change_id": step.step_id, "previous": step.previous, "current": step.current},
            }
            told.append(
                Message(f"{step.step_id}{_EVENT}", step.step_id, step.customer_id, orjson.dumps(event))
            )
        return told

    def reactivation(self, due: Reactivation) -> Message:
        """An event of its own."""
        event = {
            "external_id": due.customer_id,
            "name": f"{self._output.audience_prefix}_reactivation_due",
            "time": due.at,
            "properties": {"trigger_id": due.trigger_id, **due.details},
        }
        message_id = f"{due.trigger_id}{_EVENT}"
        return Message(message_id, due.trigger_id, due.customer_id, orjson.dumps(event))

    def portions(self, messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
        """At most 75 attributes and 75 events."""
        portion: list[Message] = []
        counts = [0, 0]
        for message in messages:
            if counts[_is_event(message)] == MOST_OF_EACH:
                yield portion
                portion, counts = [], [0, 0]
            portion.append(message)
            counts[_is_event(message)] += 1
        if portion:
            yield portion

    def request(self, messages: Sequence[Message], secret: str) -> Request:
        """Attributes and events, each in their order."""
        parts = []
        for name in (ATTRIBUTES, EVENTS):
            own = [message.body for message in messages if _is_event(message) == (name == EVENTS)]
            if own:
                parts.append(b'"' + name.encode() + b'":[' + b",".join(own) + b"]")
        headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
        return Request(headers, b"{" + b",".join(parts) + b"}")

    def refused(self, messages: Sequence[Message], answer: str) -> Mapping[int, str]:
        """What the answer names by its place among attributes or events."""
        try:
            errors = msgspec.json.decode(answer.encode(), type=_Answer).errors
        except msgspec.DecodeError:
            return {}
        places: dict[str, list[int]] = {ATTRIBUTES: [], EVENTS: []}
        for at, message in enumerate(messages):
            places[EVENTS if _is_event(message) else ATTRIBUTES].append(at)
        return {
            places[error.input_array][error.index]: error.type
            for error in errors
            if isinstance(error, _Refusal) and 0 <= error.index < len(places.get(error.input_array, ()))
        }


def _is_event(message: Message) -> bool:
    return message.message_id.endswith(_EVENT)
