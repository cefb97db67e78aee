"""Lines of a file, within limits: a compressed file of a few megabytes may hold more than memory does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

from streams.errors import EbbtideError

DEFAULT_LIMIT_BYTES: Final = 64 * 1024 * 1024
LARGEST_RATIO: Final = 250
"""How many times its size a file may decompress to, once that is beyond the limit: logs of records stay far below."""


class Readable(Protocol):
    """A file that is open for reading bytes."""

    def readline(self, size: int = -1, /) -> bytes:
        """The next line, or so many bytes of it; nothing at the end."""


def bounded_lines(
    file: Readable, name: str, compressed_bytes: int | None, limit_bytes: int
) -> Iterator[bytes]:
    """The lines of an open file with their ends; `compressed_bytes` is what it takes on the disk, if it is compressed.

    Raises:
        EbbtideError: a line is longer than the limit; or the file decompresses to more than that, and to more than
            `LARGEST_RATIO` times its size.
    """
    most_bytes = None if compressed_bytes is None else max(limit_bytes, LARGEST_RATIO * compressed_bytes)
    way_out = "EBBTIDE_DECOMPRESSED_MAX_BYTES allows more"
    total_bytes = number = 0
    while line := file.readline(limit_bytes + 1):
        number += 1
        total_bytes += len(line)
        if len(line) > limit_bytes:
            raise EbbtideError(
                f"{name}, line {number}: longer than {limit_bytes:,} bytes, so it is no record; {way_out}"
            )
        if most_bytes is not None and total_bytes > most_bytes:
            raise EbbtideError(
                f"{name}: its {compressed_bytes:,} bytes decompress to more than {most_bytes:,}, so it is no log; "
                f"{way_out}"
            )
        yield line
