"""Every codec of Kafka's gives back what was compressed, and no more of it than the limit."""

from __future__ import annotations

import gzip
import random
import tracemalloc
from collections.abc import Callable
from contextlib import suppress

import pytest
from aiokafka.codec import gzip_encode, lz4_encode, snappy_encode, zstd_encode

from streams.kafka.decompression import DecompressionError, TooLargeError, decompress

Encode = Callable[[bytes], bytes]
ENCODERS: dict[str, tuple[int, Encode]] = {
    "gzip": (1, gzip_encode),
    "gzip of two members": (1, lambda data: gzip.compress(data[:7]) + gzip.compress(data[7:])),
    "snappy of Java's": (2, snappy_encode),
    "snappy of librdkafka's": (2, lambda data: bytes(snappy_encode(data, xerial_compatible=False))),
    "lz4": (3, lz4_encode),
    "zstd": (4, zstd_encode),
}
ALL = pytest.mark.parametrize(("codec", "encode"), ENCODERS.values(), ids=ENCODERS)


@ALL
def test_what_was_compressed_comes_back_up_to_the_limit(codec: int, encode: Encode) -> None:
    """The encoders are aiokafka's; a byte less of limit is too little."""
    for data in (b"x", b"hello " * 10_000, random.Random(1).randbytes(100_000), bytes(5_000_000)):
        compressed = encode(data)
        assert decompress(codec, compressed, len(data)) == data
        if len(data) > 1:
            with pytest.raises(TooLargeError, match=f"more than {len(data) - 1:,} bytes once decompressed"):
                decompress(codec, compressed, len(data) - 1)


@ALL
def test_damaged_data_give_an_error_or_something_within_the_limit(
    codec: int, encode: Encode, random_seed: int
) -> None:
    """Never another error, whatever byte is wrong or missing."""
    rng = random.Random(random_seed)
    compressed = encode(b"hello " * 1_000)
    for _ in range(300):
        damaged = bytearray(compressed[: rng.randint(0, len(compressed))])
        for _ in range(rng.randint(0, 3)):
            if damaged:
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        with suppress(DecompressionError):
            assert len(decompress(codec, bytes(damaged), 10_000)) <= 10_000


def test_a_codec_that_is_none_is_named() -> None:
    """As aiokafka would, one kind of error for all of them."""
    with pytest.raises(DecompressionError, match="unknown codec 5"):
        decompress(5, b"", 10)


@ALL
def test_a_bomb_takes_no_more_memory_than_some_times_the_limit(codec: int, encode: Encode) -> None:
    """Of 50 MB of zeros 1 MB may be seen; what is made of them are objects of Python's, which it counts."""
    bomb = encode(bytes(50_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError):
            decompress(codec, bomb, 1_000_000)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 5_000_000 + len(bomb)
