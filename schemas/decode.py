"""Bytes of an input record to an event, or to the reason why not."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final

import orjson
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from schemas.events import Event
from schemas.fast_path import EVENT_OF, NOT_PLAIN
from schemas.input_models import RECORD_TYPES
from schemas.rejection import (
    KEY_MISMATCH,
    MALFORMED,
    OUT_OF_RANGE,
    Reason,
    RefusedError,
    Rejection,
    rejection,
)
from schemas.topics import InputTopic

MAX_VALUE_BYTES: Final = 1_048_576


class NoKey(Enum):
    """The type of `NO_KEY`."""

    NO_KEY = "no key"


NO_KEY: Final = NoKey.NO_KEY
"""For records that have no Kafka key by nature, such as lines of a file: the key is not checked."""

_WORDS: Final[Mapping[str, str]] = {
    "model_type": "Input should be an object",
    "tuple_type": "Input should be a list",
}
"""For the messages of pydantic that name Python's types instead of JSON's."""


def decode(topic: InputTopic, value: bytes | None, key: bytes | NoKey | None = NO_KEY) -> Event | Rejection:
    """The event in a record's value, or a `Rejection`; no bytes make it raise.

    1. Size: larger than 1 MiB is `OutOfRange`, and is not parsed.
    2. JSON: an object in UTF-8, of at most 1,024 levels. A number that no finite double can hold is refused
       wherever it is, in ignored fields too. Of duplicate keys the last wins.
    3. Fields, as `schemas.input_models` describes them. Where several are wrong, a `Malformed` one is reported
       before any other, and then the first in the order of the model.
    4. Key: `KeyMismatch` unless it is the customer id in UTF-8; not checked with `NO_KEY`.

    What needs the model or the customer's past (kinds, rates, lateness, duplicates) is not checked here.

    Raises:
        KeyError: `topic` is none of the three inputs (names are without prefix).
    """
    event_of = EVENT_OF[topic]
    if not value:
        return rejection(MALFORMED, (), "the value is null" if value is None else "the value is empty")
    if len(value) > MAX_VALUE_BYTES:
        return rejection(OUT_OF_RANGE, (), f"{len(value)} bytes are more than {MAX_VALUE_BYTES}")
    try:
        document = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        return rejection(MALFORMED, (), f"not JSON: {error}")
    if type(document) is not dict:
        return rejection(MALFORMED, (), "not a JSON object")
    try:
        event = event_of(document)
    except NOT_PLAIN:
        validated = validate(topic, document)
        if isinstance(validated, Rejection):
            return validated
        event = validated
    if key is not NO_KEY and key != event.customer_id.encode():
        return rejection(KEY_MISMATCH, (), "the record has no key" if key is None else "the key is another")
    return event


def validate(topic: InputTopic, document: object) -> Event | Rejection:
    """The event in a JSON document, or a `Rejection` that names the field: the long way, which knows every rule."""
    try:
        return RECORD_TYPES[topic].model_validate(document).event()
    except ValidationError as error:
        return _rejection_of(error)


def _rejection_of(error: ValidationError) -> Rejection:
    """The first `Malformed` problem of a record, or else its first one."""
    refusals = [_refusal(details) for details in error.errors(include_url=False, include_input=False)]
    first = next((refusal for refusal in refusals if refusal.reason == MALFORMED), refusals[0])
    return rejection(first.reason, first.path, str(first))


def _refusal(details: ErrorDetails) -> RefusedError:
    path: tuple[str | int, ...] = details["loc"]
    cause = details.get("ctx", {}).get("error")
    if isinstance(cause, RefusedError):
        return RefusedError(str(cause), reason=cause.reason, path=(*path, *cause.path))
    reason: Reason = OUT_OF_RANGE if details["type"] == "less_than_equal" else MALFORMED
    return RefusedError(_WORDS.get(details["type"], details["msg"]), reason=reason, path=path)
