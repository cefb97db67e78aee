"""Why a record was refused, and where in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

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
    "Undelivered",
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
UNDELIVERED: Final = "Undelivered"

WHOLE_RECORD: Final = "$"
"""The path of a problem that no single field has."""

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
