"""Segment's HTTP API for batches, which RudderStack, Jitsu and Dittofeed take too: audiences as destinations read them.

An audience is a boolean trait. Its name stands in `context.personas.computation_key`, and whoever reads it looks for
the boolean under that key. Each message is an `identify`; one that may start a flow is followed by a `track`,
`Audience Entered` or `Audience Exited`. Source: Segment, "HTTP Tracking API" (limits: 500 KB a request, 32 KB a
message) and "Engage Audiences Overview".
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import orjson

from streams.delivery.messages import Message, Request, portions_of
from streams.delivery.outputs_file import Output
from streams.delivery.steps import Reactivation, Step, flattened

MOST_MESSAGE_BYTES: Final = 32 * 1024
MOST_REQUEST_BYTES: Final = 500 * 1024
LIBRARY: Final = {"name": "ebbtide", "version": "1"}


class SegmentFormat:
    """Speaks to `/v1/batch`."""

    most_bytes = MOST_MESSAGE_BYTES

    def __init__(self, output: Output) -> None:
        self._output = output

    def messages(self, step: Step) -> list[Message]:
        """First out of the audience before, then into the next one."""
        told: list[Message] = []
        if step.previous is not None:
            told += self._of_audience(step, step.previous, is_member=False)
        if step.current is not None:
            told += self._of_audience(step, step.current, is_member=True)
        return told

    def _of_audience(self, step: Step, standing: str, *, is_member: bool) -> list[Message]:
        key = f"{self._output.audience_prefix}_{step.dimension}_{standing}"
        common: dict[str, Any] = {
            "userId": step.customer_id,
            "timestamp": step.at,
            "context": {
                "library": LIBRARY,
                "personas": {
                    "computation_class": "audience",
                    "computation_key": key,
                    "namespace": self._output.audience_prefix,
                },
            },
        }
        traits = {key: is_member}
        if is_member:
            traits |= {
                f"{self._output.audience_prefix}_{name}": value for name, value in flattened(step.details)
            }
        message_id = step.step_id if is_member else f"{step.step_id}-exit"
        told = [self._message(step, message_id, {"type": "identify", **common, "traits": traits})]
        if not step.is_silent:
            event = "Audience Entered" if is_member else "Audience Exited"
            properties = {"audience_key": key, **traits}
            tracked = {"type": "track", **common, "event": event, "properties": properties}
            told.append(self._message(step, f"{message_id}-event", tracked))
        return told

    @staticmethod
    def _message(step: Step, message_id: str, document: dict[str, Any]) -> Message:
        body = orjson.dumps({"messageId": message_id, **document})
        return Message(message_id, step.step_id, step.customer_id, body)

    def reactivation(self, due: Reactivation) -> Message:
        """A `track` of its own."""
        document = {
            "messageId": due.trigger_id,
            "type": "track",
            "userId": due.customer_id,
            "timestamp": due.at,
            "context": {"library": LIBRARY},
            "event": "Reactivation Due",
            "properties": dict(due.details),
        }
        return Message(due.trigger_id, due.trigger_id, due.customer_id, orjson.dumps(document))

    def portions(self, messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
        """As many messages as fit into a request."""
        return portions_of(messages, MOST_REQUEST_BYTES)

    def request(self, messages: Sequence[Message], secret: str) -> Request:
        """The batch, with the write key as the user of Basic authentication."""
        authorization = base64.b64encode(f"{secret}:".encode()).decode()
        headers = {"Authorization": f"Basic {authorization}", "Content-Type": "application/json"}
        return Request(headers, b'{"batch":[' + b",".join(message.body for message in messages) + b"]}")

    def refused(self, messages: Sequence[Message], answer: str) -> Mapping[int, str]:
        """None: a request is taken whole."""
        return {}
