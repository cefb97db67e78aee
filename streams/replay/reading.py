"""Files of records: JSON Lines, and tables (CSV, TSV, Parquet) whose rows become records."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from schemas.topics import INPUT_TOPICS, InputTopic
from streams.errors import EbbtideError
from streams.files.bounded_lines import DEFAULT_LIMIT_BYTES, bounded_lines
from streams.files.file_kinds import BYTE_ORDER_MARK, other_kind
from streams.files.frames import PARQUET, is_table, read_frame
from streams.files.opening import Opened, opened
from streams.replay.log import Line
from streams.replay.tables import records_of


@dataclass(frozen=True, slots=True)
class Tables:
    """How tables are read.

    `columns` are those that were named (field → column); amounts without a currency are in `currency`; `tell` is told
    which columns were taken.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    currency: str = "USD"
    tell: Callable[[str], None] = lambda _: None


def read_records(
    files: Mapping[InputTopic, Sequence[Path]],
    limit_bytes: int = DEFAULT_LIMIT_BYTES,
    tables: Tables | None = None,
) -> Iterator[Line]:
    """The records of files of JSON Lines and of tables, by topic, compressed or not; `-` is standard input.

    Raises:
        UsageError: A table lacks a column.
        EbbtideError: A compressed file is cut off or damaged; the file is of another kind; a line is longer than the
            limit, or the file explodes.
        OSError: A file cannot be read.
    """
    how = tables or Tables()
    for topic in INPUT_TOPICS:
        for path in files.get(topic, ()):
            name = os.fsencode(path).decode(errors="backslashreplace")
            with opened(path) as file:
                if is_table(file.head, path):
                    yield from _rows(topic, name, path, file, how, limit_bytes)
                    continue
                for number, value in enumerate(lines_of(file, path, limit_bytes), start=1):
                    yield Line(topic, value, name, number)


def read_lines(path: Path, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> Iterator[bytes]:
    """The lines of a file as they are, without their ends and without byte order marks.

    Raises:
        EbbtideError: A compressed file is cut off or damaged; the file is of another kind than JSON Lines; a line is
            longer than the limit, or the file explodes.
        OSError: The file cannot be read.
    """
    with opened(path) as file:
        yield from lines_of(file, path, limit_bytes)


def lines_of(file: Opened, path: Path, limit_bytes: int) -> Iterator[bytes]:
    """The lines of an open file; raises as `read_lines` does."""
    kind = other_kind(file.head)
    if kind is not None:
        raise EbbtideError(f"{path}: no JSON Lines (one object a line, in UTF-8), but {kind}")
    if file.head.startswith(BYTE_ORDER_MARK):
        file.file.read(len(BYTE_ORDER_MARK))
    for line in bounded_lines(file.file, str(path), file.compressed_bytes, limit_bytes):
        yield line.rstrip(b"\r\n").removeprefix(BYTE_ORDER_MARK)


def _rows(
    topic: InputTopic, name: str, path: Path, file: Opened, how: Tables, limit_bytes: int
) -> Iterator[Line]:
    """The records of a table; the lines of CSV are counted with the header."""
    header = 0 if file.head.startswith(PARQUET) else 1
    frame = read_frame(file, path, limit_bytes)
    ours = {of: column for of, column in how.columns.items() if column in frame.columns}
    records = records_of(topic, name, frame, ours, how.currency)
    how.tell(f"{name}: {', '.join(f'{of} ← {column}' for of, column in records.columns.items())}")
    for line in records.lines:
        yield line._replace(number=line.number + header)
    for line, why in records.refused:
        yield line._replace(number=line.number + header, why=why)
