"""A customer's state as bytes in Redis, and back: MessagePack, without what can be told from the rest, compressed.

Most of what a customer takes are names that all customers share (kinds of engagement, the shape of an order), so the
compressor is given a dictionary of typical states, `state.dictionary`, made by `tools/train_state_dictionary.py`.
States are read with the dictionary that they were written with: changing it takes a new format byte.
"""

from __future__ import annotations

from functools import cache, lru_cache
from importlib import resources

import msgspec
import zstandard

from enrichment.customer.customer import CustomerState
from enrichment.customer.orders import Ledger
from enrichment.customer.validation import Seen, digest_of

FORMAT = b"\x01"
PLAIN_FORMAT = 0x9B
"""What states begin with that were written before there were formats: a MessagePack array of eleven."""
LEVEL = 1
DIGESTS_KEPT = 100_000

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(CustomerState)
_known_digest = lru_cache(DIGESTS_KEPT)(digest_of)


def encode(state: CustomerState) -> bytes:
    """The bytes that `decode` makes the state of."""
    return compressed(packed(state))


def decode(stored: bytes) -> CustomerState:
    """The state that was encoded; raises `ValueError` for bytes of a later format."""
    if stored[0] == PLAIN_FORMAT:  # with all records seen
        return _decoder.decode(stored)
    return unpacked(decompressed(stored))


def compressed(packed_state: bytes) -> bytes:
    """A packed state as it is stored."""
    return FORMAT + _compressors()[0].compress(packed_state)


def decompressed(stored: bytes) -> bytes:
    """A packed state from what is stored; raises `ValueError` for bytes of a later format."""
    if stored[0] == PLAIN_FORMAT:
        return stored
    if stored[:1] != FORMAT:
        raise ValueError(f"a state of format {stored[0]}, which this version of Ebbtide does not know")
    return _compressors()[1].decompress(memoryview(stored)[1:])


def unpacked(packed_state: bytes) -> CustomerState:
    """The state that was packed."""
    state = _decoder.decode(packed_state)
    seen = state.purchases_seen
    seen.time_us_by_digest = {**_told_by_orders(state.orders), **seen.time_us_by_digest}
    return state


def packed(state: CustomerState) -> bytes:
    """The state before it is compressed; `kernel/src/state.rs` writes the same."""
    seen, told = state.purchases_seen, _told_by_orders(state.orders)
    untold = {
        digest: time_us for digest, time_us in seen.time_us_by_digest.items() if told.get(digest) != time_us
    }
    short = msgspec.structs.replace(state, purchases_seen=Seen(seen.newest_us, untold))
    return _encoder.encode(short)


@cache
def _compressors() -> tuple[zstandard.ZstdCompressor, zstandard.ZstdDecompressor]:
    told = resources.files("streams.state").joinpath("state.dictionary").read_bytes()
    dictionary = zstandard.ZstdCompressionDict(told, zstandard.DICT_TYPE_FULLDICT)
    frames = zstandard.FORMAT_ZSTD1_MAGICLESS
    parameters = zstandard.ZstdCompressionParameters.from_level(
        LEVEL, format=frames, write_content_size=True, write_dict_id=False
    )
    return (
        zstandard.ZstdCompressor(dict_data=dictionary, compression_params=parameters),
        zstandard.ZstdDecompressor(dict_data=dictionary, format=frames),
    )


def _told_by_orders(orders: Ledger) -> dict[bytes, int]:
    """Records that must have been seen, since they are what is known of an order."""
    versions = [entry.version for entry in orders.entries.values() if entry.version is not None]
    return {_known_digest(version.event_id): version.occurred_at_us for version in versions}
