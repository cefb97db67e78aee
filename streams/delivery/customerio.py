"""Customer.io's Track API, version 2, in batches: standings as attributes of people, and events of changes.

Source: Customer.io, "Track API v2", `POST /api/v2/batch` (limits: 500 KB a request, 32 KB a message). An answer of 207
names the messages that were refused. The secret is `site_id:api_key`.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
import orjson

from schemas.timestamps import parse_timestamp
from streams.delivery.messages import Message, Request, portions_of
from streams.delivery.outputs_file import Output
from streams.delivery.steps import Reactivation, Step, flattened

MOST_MESSAGE_BYTES: Final = 32 * 1024
MOST_REQUEST_BYTES: Final = 500 * 1024


class _Refusal(msgspec.Struct):
    batch_index: int
    reason: str = ""
    message: str = ""


class _Answer(msgspec.Struct):
    errors: list[_Refusal] = []


class CustomerIOFormat:
    """Speaks to `/api/v2/batch`."""

    most_bytes = MOST_MESSAGE_BYTES

    def __init__(self, output: Output) -> None:
        self._output = output

    def messages(self, step: Step) -> list[Message]:
        """The person's standing as an attribute, null where there is none; and what happened, unless it is silent."""
        prefix = self._output.audience_prefix
        attribute = f"{prefix}_{step.dimension}"
        attributes: dict[str, Any] = {attribute: step.current}
        attributes |= {f"{prefix}_{name}": value for name, value in flattened(step.details)}
        person = {"type": "person", "identifiers": {"id": step.customer_id}}
        body = orjson.dumps({**person, "action": "identify", "attributes": attributes})
        told = [Message(step.step_id, step.step_id, step.customer_id, body)]
        if not step.is_silent:
            event = {
                **person,
                "action": "event",
                "name": f"{prefix}_{step.dimension}_changed",
                "timestamp": parse_timestamp(step.at) // 1_000_000,
                "attributes": {"change_id": step.step_id, "previous": step.previous, "current": step.current},
            }
            told.append(Message(f"{step.step_id}-event", step.step_id, step.customer_id, orjson.dumps(event)))
        return told

    def reactivation(self, due: Reactivation) -> Message:
        """An event of its own."""
        event = {
            "type": "person",
            "identifiers": {"id": due.customer_id},
            "action": "event",
            "name": f"{self._output.audience_prefix}_reactivation_due",
            "timestamp": parse_timestamp(due.at) // 1_000_000,
            "attributes": {"trigger_id": due.trigger_id, **due.details},
        }
        return Message(due.trigger_id, due.trigger_id, due.customer_id, orjson.dumps(event))

    def portions(self, messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
        """As many messages as fit into a request."""
        return portions_of(messages, MOST_REQUEST_BYTES)

    def request(self, messages: Sequence[Message], secret: str) -> Request:
        """The batch."""
        authorization = base64.b64encode(secret.encode()).decode()
        headers = {"Authorization": f"Basic {authorization}", "Content-Type": "application/json"}
        return Request(headers, b'{"batch":[' + b",".join(message.body for message in messages) + b"]}")

    def refused(self, messages: Sequence[Message], answer: str) -> Mapping[int, str]:
        """What an answer of 207 names."""
        try:
            errors = msgspec.json.decode(answer.encode(), type=_Answer).errors
        except msgspec.DecodeError:
            return {}
        return {
            error.batch_index: f"{error.reason} {error.message}".strip()
            for error in errors
            if 0 <= error.batch_index < len(messages)
        }
