"""Files of other systems' events as JSON documents: lines, lists, single documents over many lines, rows of tables.

Numbers with a fraction become `Decimal`, never `float`: 0.1 stays 0.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import orjson
import pandas as pd

from schemas.rejection import MALFORMED, Rejection, rejection
from streams.errors import EbbtideError
from streams.files.bounded_lines import DEFAULT_LIMIT_BYTES, bounded_lines
from streams.files.file_kinds import BYTE_ORDER_MARK
from streams.files.frames import is_table, read_frame
from streams.files.opening import Opened, opened

_DECODER: Final = msgspec.json.Decoder(float_hook=Decimal)


class Document(NamedTuple):
    """A document, or why there is none: its bytes, and the line at which it begins, counted from 1."""

    value: bytes
    line: int
    content: Any | Rejection


def parsed(value: bytes) -> Any:
    """JSON with numbers as `int` and `Decimal`.

    Raises:
        msgspec.DecodeError: It is none.
    """
    return _DECODER.decode(value)


def read_documents(path: Path, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> Iterator[Document]:
    """The documents of a file: one a line, or the whole file where it is one document over several lines.

    Where the first line is a document, every line is one, and is read without the others. A line that is no JSON is
    then one bad document. A file none of whose lines is a document is a single bad one. Each row of a table (CSV, TSV,
    Parquet) is a document whose keys are the columns.

    Raises:
        EbbtideError: The file is damaged, or too large to be one document.
        OSError: It cannot be read.
    """
    with opened(path) as file:
        if is_table(file.head, path):
            yield from _rows(read_frame(file, path, limit_bytes))
        else:
            yield from _lines(file, path, limit_bytes)


def _rows(frame: pd.DataFrame) -> Iterator[Document]:
    """Cells that are missing are left out; the header is line 1."""
    columns = [str(column) for column in frame.columns]
    for number, cells in enumerate(frame.itertuples(index=False, name=None), start=2):
        row = {
            column: cell
            for column, cell in zip(columns, cells, strict=True)
            if cell is not None and cell == cell
        }
        value = orjson.dumps(row, default=str, option=orjson.OPT_SERIALIZE_NUMPY)
        yield _document(value, number)


def _lines(file: Opened, path: Path, limit_bytes: int) -> Iterator[Document]:
    lines = bounded_lines(file.file, str(path), file.compressed_bytes, limit_bytes)
    numbered = enumerate((line.removeprefix(BYTE_ORDER_MARK) for line in lines), start=1)
    for number, line in numbered:
        if not line.strip():
            continue
        first = _document(line, number)
        if not isinstance(first.content, Rejection):
            yield first
            yield from (_document(rest, at) for at, rest in numbered if rest.strip())
        else:
            yield from _whole(number, [line, *_rest(path, numbered, limit_bytes)])
        return


def _rest(path: Path, numbered: Iterator[tuple[int, bytes]], limit_bytes: int) -> Iterator[bytes]:
    total = 0
    for _, line in numbered:
        total += len(line)
        if total > limit_bytes:
            raise EbbtideError(
                f"{path}: more than {limit_bytes:,} bytes that are not one document a line; "
                "`jq -c '.[]'` makes a line of each element, and EBBTIDE_DECOMPRESSED_MAX_BYTES allows more"
            )
        yield line


def _whole(number: int, lines: list[bytes]) -> Iterator[Document]:
    """A file whose first line is no document: it is one itself, or that line is a bad one."""
    whole = _document(b"".join(lines), number)
    if isinstance(whole.content, Rejection):
        each = [_document(line, at) for at, line in enumerate(lines, start=number) if line.strip()]
        if any(isinstance(one.content, (dict, list)) and one.content for one in each):
            yield from each
            return
    yield whole


def _document(value: bytes, line: int) -> Document:
    value = value.strip()
    try:
        return Document(value, line, parsed(value))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Document(value, line, rejection(MALFORMED, (), f"not JSON: {error}"))
