"""How a refused record looks on `dead-letters`, and in a replay's file."""

from __future__ import annotations

import base64
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from schemas.rejection import MAX_MESSAGE_CHARACTERS, Reason, Rejection
from schemas.topics import InputTopic

EXCEPTION_HEADER: Final = "__streams.errors.exception"
MESSAGE_HEADER: Final = "__streams.errors.message"
TOPIC_HEADER: Final = "__streams.errors.topic"
PARTITION_HEADER: Final = "__streams.errors.partition"
OFFSET_HEADER: Final = "__streams.errors.offset"
HEADER_NAMES: Final = (EXCEPTION_HEADER, MESSAGE_HEADER, TOPIC_HEADER, PARTITION_HEADER, OFFSET_HEADER)
"""The header names of KIP-1034, in the order in which they are written."""


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
