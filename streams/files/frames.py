"""Tables as pandas frames: CSV with any usual separator, and Parquet."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Final

import pandas as pd

from streams.errors import EbbtideError
from streams.extras import missing
from streams.files.bounded_lines import LARGEST_RATIO
from streams.files.file_kinds import BYTE_ORDER_MARK, is_csv
from streams.files.opening import Opened

PARQUET: Final = b"PAR1"
_SEPARATORS: Final = (",", ";", "\t", "|")
_SUFFIXES: Final = frozenset({".csv", ".tsv", ".tab"})
_CHUNK_BYTES: Final = 1 << 20


def is_table(head: bytes, path: Path) -> bool:
    """Whether a file with this beginning and name is CSV, TSV or Parquet."""
    if head.startswith(PARQUET):
        return True
    lines = [line for line in head.removeprefix(BYTE_ORDER_MARK).splitlines() if line.strip()]
    if not lines or lines[0].lstrip().startswith((b"{", b"[")) or b"\0" in head:
        return False
    return is_csv(lines) or any(suffix.lower() in _SUFFIXES for suffix in path.suffixes)


def read_frame(opened: Opened, path: Path, limit_bytes: int) -> pd.DataFrame:
    """The table in an open file. Cells of CSV are text as they stand; those of Parquet have their types.

    Raises:
        EbbtideError: It is no such table, or explodes once decompressed.
        MissingExtraError: It is Parquet, and the package for it is not installed.
    """
    is_parquet = opened.head.startswith(PARQUET)
    content = io.BytesIO(_bounded(opened, path, limit_bytes))
    if is_parquet:
        return _parquet(content, path)
    header = content.readline().decode("utf-8-sig", errors="replace")
    content.seek(0)
    separator = max(_SEPARATORS, key=header.count)
    try:
        return pd.read_csv(content, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise EbbtideError(f"{path}: not a table: {' '.join(str(error).split())}") from error


def _parquet(content: io.BytesIO, path: Path) -> pd.DataFrame:
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise missing(f"reading {path}, which is Parquet,", "files") from None
    try:
        frame: Any = parquet.read_table(content).to_pandas()
    except Exception as error:  # pyarrow's own, which are of many kinds
        raise EbbtideError(f"{path}: not readable as Parquet: {' '.join(str(error).split())}") from error
    assert isinstance(frame, pd.DataFrame)
    return frame


def _bounded(opened: Opened, path: Path, limit_bytes: int) -> bytes:
    """All bytes of a file, unless they explode."""
    if opened.compressed_bytes is None:
        return opened.file.read()
    most_bytes = max(limit_bytes, LARGEST_RATIO * opened.compressed_bytes)
    chunks, total = [], 0
    while chunk := opened.file.read(_CHUNK_BYTES):
        chunks.append(chunk)
        total += len(chunk)
        if total > most_bytes:
            raise EbbtideError(
                f"{path}: its {opened.compressed_bytes:,} bytes decompress to more than {most_bytes:,}, so it is no "
                "table; EBBTIDE_DECOMPRESSED_MAX_BYTES allows more"
            )
    return b"".join(chunks)
