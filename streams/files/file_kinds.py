"""What a file is that was given for JSON Lines and is something else, told by its first bytes."""

from __future__ import annotations

from typing import Final

HEAD_BYTES: Final = 4_096
"""How much of a file's beginning is looked at."""
BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
"""Of UTF-8: some tools write it before the first line, which is in the middle where files were put together."""

_UNPACK: Final = "; unpack it first"
_KINDS: Final[tuple[tuple[bytes, str], ...]] = (
    (b"PAR1", "Parquet"),
    (b"ORC", "ORC"),
    (b"Obj\x01", "Avro"),
    (b"PK\x03\x04", "a zip archive or a spreadsheet" + _UNPACK),
    (b"\x04\x22\x4d\x18", "lz4" + _UNPACK),
)
"""What files begin with."""
_WIDE_MARKS: Final[tuple[tuple[bytes, str], ...]] = (
    (b"\xff\xfe\0\0", "UTF-32"),
    (b"\0\0\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
"""Byte order marks of text in which ASCII characters have zero bytes."""
_DELIMITERS: Final = (b",", b";", b"\t", b"|")


def other_kind(head: bytes) -> str | None:
    """What a file with this beginning is, and what to do; None for what may be JSON Lines.

    A single line that is no JSON is not taken for another kind of file: it is one bad record.
    """
    for beginning, kind in _KINDS:
        if head.startswith(beginning):
            return kind
    encoding = _wide_encoding(head)
    if encoding is not None:
        return f"{encoding} text; `iconv -f {encoding} -t UTF-8` converts it"
    lines = [line for line in head.removeprefix(BYTE_ORDER_MARK).splitlines() if line.strip()]
    if not lines:
        return None
    first = lines[0].strip()
    if first.startswith(b"["):
        return "a JSON array; `jq -c '.[]'` makes a line of each element"
    if first == b"{" and len(lines) > 1 and lines[1].lstrip().startswith(b'"'):
        return "JSON over several lines; `jq -c .` makes a line of each object"
    return "CSV" if is_csv(lines) else None


def _wide_encoding(head: bytes) -> str | None:
    """UTF-16 or UTF-32, by a byte order mark or by the zero byte of an ASCII character."""
    if b"\0" not in head:
        return None
    for mark, encoding in _WIDE_MARKS:
        if head.startswith(mark):
            return encoding
    if head[:1] != b"\0" and head[1:2] == b"\0":
        return "UTF-32LE" if head[2:4] == b"\0\0" else "UTF-16LE"
    if head[:1] == b"\0" and head[1:2] != b"\0":
        return "UTF-16BE"
    return "UTF-32BE" if head.startswith(b"\0\0\0") else None


def is_csv(lines: list[bytes]) -> bool:
    """Whether the first two lines are cells, and no JSON."""
    if len(lines) < 2 or any(bracket in lines[0] for bracket in b"{}[]"):
        return False
    return any(
        delimiter in lines[0] and delimiter in lines[1] and not lines[1].lstrip().startswith(b"{")
        for delimiter in _DELIMITERS
    )
