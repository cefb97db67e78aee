"""Opening a file for its bytes: its first bytes, not its name, tell what compresses it; `-` is standard input."""

from __future__ import annotations

import bz2
import glob
import gzip
import io
import lzma
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, cast

from streams.errors import EbbtideError, UsageError
from streams.extras import missing

STANDARD_INPUT: Final = "-"
_HEAD_BYTES: Final = 4_096
GZIP, BZIP2, XZ, ZSTANDARD = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"


class Opened(NamedTuple):
    """An open file: its bytes as they are once decompressed, and what it takes on the disk if it is compressed."""

    file: io.BufferedReader
    compressed_bytes: int | None

    @property
    def head(self) -> bytes:
        """The first bytes, some thousand of them, which are not taken by that."""
        return self.file.peek(_HEAD_BYTES)


@contextmanager
def opened(path: Path) -> Iterator[Opened]:
    """Open a file, decompressed: gzip, bzip2, xz or Zstandard; `-` is standard input.

    Raises:
        EbbtideError: While it is read, where it is cut off or damaged.
        MissingExtraError: It is Zstandard, and the package for it is not installed.
        OSError: It cannot be read.
    """
    is_input = str(path) == STANDARD_INPUT
    raw = cast("BinaryIO", sys.stdin.buffer) if is_input else path.open("rb")
    try:
        plain = raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(cast("io.RawIOBase", raw))
        size = None if is_input else path.stat().st_size
        inner = _decompressed(plain, path)
        if inner is plain:
            yield Opened(plain, None)
        else:
            yield Opened(io.BufferedReader(cast("io.RawIOBase", inner)), size or 1)
    except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
        raise EbbtideError(f"{path}: cannot be decompressed: {error}") from error
    except OSError as error:
        if error.errno is None:  # what bz2 raises of damaged bytes
            raise EbbtideError(f"{path}: cannot be decompressed: {error}") from error
        raise
    finally:
        if not is_input:
            raw.close()


def _decompressed(plain: io.BufferedReader, path: Path) -> io.IOBase:
    head = plain.peek(len(XZ))
    if head.startswith(GZIP):
        return gzip.GzipFile(fileobj=plain)
    if head.startswith(BZIP2) and head[3:4].isdigit():
        return bz2.BZ2File(plain)
    if head.startswith(XZ):
        return lzma.LZMAFile(plain)
    if head.startswith(ZSTANDARD):
        try:
            import zstandard
        except ImportError:
            raise missing(f"reading {path}, which Zstandard compressed,", "files") from None
        reader = zstandard.ZstdDecompressor().stream_reader(plain, read_across_frames=True)
        return _Zstandard(reader, zstandard.ZstdError)
    if head and path.suffix == ".gz":
        raise gzip.BadGzipFile(f"Not a gzipped file ({head[:2]!r})")
    return plain


class _Zstandard(io.RawIOBase):
    """A reader of Zstandard whose errors are those of damaged files."""

    def __init__(self, reader: BinaryIO, error: type[Exception]) -> None:
        self._reader, self._error = reader, error

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        """As of any raw file."""
        try:
            chunk = self._reader.read(len(buffer))
        except self._error as error:
            raise EOFError(str(error)) from None
        buffer[: len(chunk)] = chunk
        return len(chunk)


def expanded(names: Sequence[str]) -> list[Path]:
    """The files that names and patterns (`*`, `?`, `[…]`, `**`) stand for, those of a pattern in order.

    Raises:
        UsageError: There is no such file, a pattern finds none, or a name is that of a folder.
    """
    found: list[Path] = []
    for name in names:
        path = Path(name)
        if name == STANDARD_INPUT or path.is_file() or path.is_fifo() or path.is_char_device():
            found.append(path)
        elif path.is_dir():
            raise UsageError(f"{name} is a folder; name its files, such as '{name}/*.jsonl'")
        elif glob.has_magic(name):
            matches = sorted(Path(one) for one in glob.glob(name, recursive=True) if Path(one).is_file())
            if not matches:
                raise UsageError(f"no file is called {name}")
            found += matches
        else:
            raise UsageError(f"file {name!r} does not exist")
    return found
