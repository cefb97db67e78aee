"""Why a record was refused, and how a refused record looks on `dead-letters` and in a replay's file."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Annotated, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from schemas.topics import InputTopic

Reason = Literal[
    "Malformed",
    "OutOfRange",
    "UnknownKind",
    "KeyMismatch",
    "UnknownCurrency",
    "FromTheFuture",
    "TooLate",
    "Unreadable",
    "Skipped",
]
REASONS: Final[tuple[Reason, ...]] = get_args(Reason)

MALFORMED: Final = "Malformed"
OUT_OF_RANGE: Final = "OutOfRange"
UNKNOWN_KIND: Final = "UnknownKind"
KEY_MISMATCH: Final = "KeyMismatch"
UNKNOWN_CURRENCY: Final = "UnknownCurrency"
FROM_THE_FUTURE: Final = "FromTheFuture"
TOO_LATE: Final = "TooLate"
UNREADABLE: Final = "Unreadable"
SKIPPED: Final = "Skipped"

WHOLE_RECORD: Final = "$"
"""The path of a problem that no single field has."""

EXCEPTION_HEADER: Final = "__streams.errors.exception"
MESSAGE_HEADER: Final = "__streams.errors.message"
TOPIC_HEADER: Final = "__streams.errors.topic"
PARTITION_HEADER: Final = "__streams.errors.partition"
OFFSET_HEADER: Final = "__streams.errors.offset"
HEADER_NAMES: Final = (EXCEPTION_HEADER, MESSAGE_HEADER, TOPIC_HEADER, PARTITION_HEADER, OFFSET_HEADER)
"""The header names of KIP-1034, in the order in which they are written."""

MAX_MESSAGE_CHARACTERS: Final = 299
_MAX_PATH_CHARACTERS: Final = 120
_MAX_SEGMENT_CHARACTERS: Final = 60
_MAX_QUOTED_CHARACTERS: Final = 40


class RefusedError(ValueError):
    """A field's text that cannot be taken; `decode` turns it into a `Rejection`.

    `path` leads from the field to the part of it that is at fault; empty where that is the field itself.
    """

    def __init__(self, message: str, *, reason: Reason = MALFORMED, path: tuple[str | int, ...] = ()) -> None:
        super().__init__(message)
        self.reason: Reason = reason
        self.path = path


@dataclass(frozen=True, slots=True)
class Rejection:
    """A refused record: why, and where in it.

    `message` is one printable line of fewer than 300 characters that begins with the field's path and a
    colon, such as `items[2].unit_price: …`, or with `$:` where the whole record is at fault. It quotes
    no amount and no id.
    """

    reason: Reason
    message: str


def rejection(reason: Reason, path: tuple[str | int, ...], message: str) -> Rejection:
    """A `Rejection` of the field at `path` (empty for the whole record), made printable and cut to length."""
    where = _cut(_joined(path), _MAX_PATH_CHARACTERS) if path else WHOLE_RECORD
    return Rejection(reason, _printable(f"{where}: {message}", MAX_MESSAGE_CHARACTERS))


def headers(refused: Rejection, topic: str, partition: int, offset: int) -> list[tuple[str, bytes]]:
    """The headers of the record on `dead-letters`, all of them UTF-8 text.

    `topic`, `partition` and `offset` are where the original record was read.
    """
    values = (refused.reason, refused.message, topic, str(partition), str(offset))
    return [(name, value.encode()) for name, value in zip(HEADER_NAMES, values, strict=True)]


def replay_line(topic: str, refused: Rejection, value: bytes, file: str, line: int) -> dict[str, object]:
    """One line of a replay's `dead-letters.jsonl`, keys in the contract's order; `line` counts from 1."""
    return {
        "topic": topic,
        "reason": refused.reason,
        "message": refused.message,
        "value_base64": base64.b64encode(value).decode("ascii"),
        "file": file,
        "line": line,
    }


class DeadLetterLine(BaseModel):
    """One refused record, as a line of a replay's `dead-letters.jsonl`."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    topic: Annotated[
        InputTopic,
        Field(description="The input that held the record, without the optional prefix."),
    ]
    reason: Annotated[Reason, Field(description="Which rule of acceptance the record broke.")]
    message: Annotated[
        str,
        Field(
            max_length=MAX_MESSAGE_CHARACTERS,
            description="One line: the field's path (`$` for the whole record), a colon, and what is wrong.",
        ),
    ]
    value_base64: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9+/]*={0,2}$",
            description="The original bytes in Base64 (RFC 4648 section 4).",
            json_schema_extra={"contentEncoding": "base64"},
        ),
    ]
    file: Annotated[str, Field(description="The file that the record was read from, as it was named.")]
    line: Annotated[int, Field(ge=1, description="The record's line in the file, counted from 1.")]


def _printable(text: str, limit: int) -> str:
    """`text` within `limit` characters, with what is not printable escaped as in a Python string."""
    text = text[:limit]
    if not text.isprintable():
        text = "".join(
            character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
            for character in text
        )
    return _cut(text, limit)


def _joined(path: tuple[str | int, ...]) -> str:
    """Names by dots, and places in lists in brackets, counted from 0."""
    joined = ""
    for segment in path:
        if isinstance(segment, int):
            joined += f"[{segment}]"
        else:
            joined += f"{'.' if joined else ''}{_printable(segment, _MAX_SEGMENT_CHARACTERS)}"
    return joined


def quoted(text: str) -> str:
    """What a sender wrote, such as a kind, for the inside of a message."""
    return f"`{_printable(text, _MAX_QUOTED_CHARACTERS)}`"


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
