"""What Kafka's codecs compressed, decompressed up to a limit: what would be more is refused before memory is spent."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Final

import cramjam
import zstandard

CODECS: Final = {0: "none", 1: "gzip", 2: "snappy", 3: "lz4", 4: "zstd"}
"""By their number in a batch's attributes."""
CHUNK_BYTES: Final = 1024 * 1024
_XERIAL_MAGIC: Final = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES: Final = 16
_GZIP_WINDOW: Final = 31
"""zlib's name for a gzip header before data with the largest window."""
_LZ4_FIRST_RATIO: Final = 8
_BUFFER_TOO_SMALL: Final = "failed to write whole buffer"
"""What cramjam says then."""


class DecompressionError(Exception):
    """Bytes that their codec cannot have made."""


class TooLargeError(DecompressionError):
    """More than the limit once decompressed."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"more than {limit_bytes:,} bytes once decompressed")


def decompress(codec: int, data: bytes, limit_bytes: int) -> bytes | bytearray:
    """The bytes that a codec's number and compressed data stand for, at most `limit_bytes` of them.

    Raises:
        TooLargeError: there are more; about as much memory as the limit was spent on seeing that.
        DecompressionError: no such codec, or damaged data.
    """
    if codec == 0:
        if len(data) > limit_bytes:
            raise TooLargeError(limit_bytes)
        return data
    decoder = _DECODERS.get(codec)
    if decoder is None:
        raise DecompressionError(f"unknown codec {codec}")
    try:
        return decoder(data, limit_bytes)
    except (zlib.error, zstandard.ZstdError, cramjam.DecompressionError, struct.error, EOFError) as error:
        raise DecompressionError(f"damaged {CODECS[codec]} data ({error})") from error


def _joined(chunks: Iterator[bytes], limit_bytes: int) -> bytearray:
    """All chunks in one, unless they are more than the limit."""
    made = bytearray()
    for chunk in chunks:
        made += chunk
        if len(made) > limit_bytes:
            raise TooLargeError(limit_bytes)
    return made


def _gzip(data: bytes, limit_bytes: int) -> bytearray:
    return _joined(_gzip_chunks(data), limit_bytes)


def _gzip_chunks(data: bytes) -> Iterator[bytes]:
    """A gzip stream may have several members, and zeros at its end."""
    while data:
        member = zlib.decompressobj(_GZIP_WINDOW)
        yield member.decompress(data, CHUNK_BYTES)
        while not member.eof:
            chunk = member.decompress(member.unconsumed_tail, CHUNK_BYTES)
            if not chunk and not member.unconsumed_tail and not member.eof:
                raise EOFError("it has no end")
            yield chunk
        data = member.unused_data.lstrip(b"\0")


def _zstd(data: bytes, limit_bytes: int) -> bytearray:
    with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True) as reader:
        return _joined(iter(lambda: reader.read(CHUNK_BYTES), b""), limit_bytes)


def _lz4(data: bytes, limit_bytes: int) -> bytearray:
    """Into a buffer that is made larger, up to the limit, until the data fit: they do not say how many they are."""
    room_bytes = _LZ4_FIRST_RATIO * len(data) + CHUNK_BYTES
    while True:
        buffer = bytearray(min(room_bytes, limit_bytes))
        try:
            size_bytes = cramjam.lz4.decompress_into(data, buffer)
        except cramjam.DecompressionError as error:
            if _BUFFER_TOO_SMALL not in str(error):
                raise
            if len(buffer) == limit_bytes:
                raise TooLargeError(limit_bytes) from error
            room_bytes *= 4
        else:
            del buffer[size_bytes:]
            return buffer


def _snappy(data: bytes, limit_bytes: int) -> bytes:
    """One block, as librdkafka writes it, or many in the framing that Java's clients use; each says its size."""
    blocks = list(_xerial_blocks(data)) if data.startswith(_XERIAL_MAGIC) else [data]
    if sum(map(cramjam.snappy.decompress_raw_len, blocks)) > limit_bytes:
        raise TooLargeError(limit_bytes)
    return b"".join(bytes(cramjam.snappy.decompress_raw(block)) for block in blocks)


def _xerial_blocks(data: bytes) -> Iterator[bytes]:
    at = _XERIAL_HEADER_BYTES
    while at < len(data):
        (size_bytes,) = struct.unpack_from(">i", data, at)
        at += 4
        if not 0 < size_bytes <= len(data) - at:
            raise EOFError("a block of it is cut off")
        yield data[at : at + size_bytes]
        at += size_bytes


_DECODERS: Final[dict[int, Callable[[bytes, int], bytes | bytearray]]] = {
    1: _gzip,
    2: _snappy,
    3: _lz4,
    4: _zstd,
}
