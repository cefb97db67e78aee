"""Records that no topic would take: found before anything is stored."""

from __future__ import annotations

import pytest

from streams.kafka.size_limits import (
    BATCH_OVERHEAD_BYTES,
    DEFAULT_MAX_BYTES,
    KEY_TRUNCATED_HEADER,
    LONGEST_KEY_BYTES,
    TRUNCATED_HEADER,
    SizeLimits,
    StoppedError,
)
from streams.outbox import OutputRecord


def letter(size: int) -> OutputRecord:
    return OutputRecord("dead-letters", b"key", b"x" * size, (("why", b"Malformed"),))


def test_a_dead_letter_that_fits_is_left_as_it_is() -> None:
    """Bytes and headers are those of the original."""
    assert SizeLimits({"dead-letters": 10_000}).fitted(letter(9_000)) == letter(9_000)


def test_a_dead_letter_too_large_keeps_its_beginning_and_says_of_how_much() -> None:
    """It then fits exactly within what the topic takes."""
    limits = SizeLimits({"dead-letters": 10_000})
    fitted = limits.fitted(letter(50_000))
    assert fitted.headers == (("why", b"Malformed"), (TRUNCATED_HEADER, b"50000"))
    assert fitted.value is not None
    assert set(fitted.value) == set(b"x")
    assert 10_000 - BATCH_OVERHEAD_BYTES - 32 < fitted.size_bytes <= 10_000 - BATCH_OVERHEAD_BYTES
    limits.check([fitted])


@pytest.mark.parametrize("value", [None, b"", b"x" * 500, b"x" * 50_000])
def test_a_long_key_of_a_dead_letter_is_cut_before_its_value(value: bytes | None) -> None:
    """No customer's id is as long; a letter without a value fits too."""
    limits = SizeLimits({"dead-letters": 10_000})
    fitted = limits.fitted(OutputRecord("dead-letters", b"k" * 60_000, value))
    assert fitted.key == b"k" * LONGEST_KEY_BYTES
    assert dict(fitted.headers)[KEY_TRUNCATED_HEADER] == b"60000"
    assert (fitted.value == value) == (value is None or len(value) < 8_000)
    limits.check([fitted])


def test_any_other_record_too_large_stops_the_partition_and_names_topic_and_limit() -> None:
    """A topic whose limit is not known takes what Kafka takes by default."""
    profile = OutputRecord("customer-profiles", b"key", b"x" * DEFAULT_MAX_BYTES)
    with pytest.raises(StoppedError, match=r"too large for customer-profiles \(max.message.bytes 1048576\)"):
        SizeLimits().check([profile])
    SizeLimits({"customer-profiles": 4 * DEFAULT_MAX_BYTES}).check([profile])
