"""Standard Webhooks: each step as one signed request.

Source: standardwebhooks.com, "Standard Webhooks Specification".
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import orjson
from standardwebhooks import Webhook

from streams.delivery.messages import Message, Request
from streams.delivery.outputs_file import Output
from streams.delivery.steps import Reactivation, Step
from streams.errors import UsageError

TYPE: Final = "standing.changed"
REACTIVATION_TYPE: Final = "reactivation.due"


class WebhookFormat:
    """One request for each step; `webhook-id` is the change's id, by which a receiver drops repeats."""

    most_bytes = 256 * 1024

    def __init__(self, output: Output) -> None:
        self._output = output

    def messages(self, step: Step) -> list[Message]:
        """One message."""
        data = {
            "customer_id": step.customer_id,
            "dimension": step.dimension,
            "previous": step.previous,
            "current": step.current,
            "trigger": step.trigger,
            "starts_flows": not step.is_silent,
            **step.details,
        }
        body = orjson.dumps({"type": TYPE, "timestamp": step.at, "data": data})
        return [Message(step.step_id, step.step_id, step.customer_id, body)]

    def reactivation(self, due: Reactivation) -> Message:
        """A request of its own."""
        data = {"customer_id": due.customer_id, "trigger_id": due.trigger_id, **due.details}
        body = orjson.dumps({"type": REACTIVATION_TYPE, "timestamp": due.at, "data": data})
        return Message(due.trigger_id, due.trigger_id, due.customer_id, body)

    def portions(self, messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
        """Each by itself."""
        return ([message] for message in messages)

    def request(self, messages: Sequence[Message], secret: str) -> Request:
        """Signed now: receivers refuse old signatures."""
        (message,) = messages
        now = dt.datetime.now(dt.UTC)
        try:
            signature = Webhook(secret).sign(message.message_id, now, message.body.decode())
        except ValueError as error:
            raise UsageError(f"output {self._output.name}: the secret is not Base64: {error}") from error
        headers = {
            "webhook-id": message.message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": signature,
            "Content-Type": "application/json",
        }
        return Request(headers, message.body)

    def refused(self, messages: Sequence[Message], answer: str) -> Mapping[int, str]:
        """None: a request is taken whole."""
        return {}
