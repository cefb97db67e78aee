"""The table of a recovery: what Redis and Kafka say of each other, row by row, and what must not be gone on with."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.checkpoint import Checkpoint
from streams.kafka.size_limits import StoppedError
from streams.state.store import StoredCheckpoint
from streams.worker.recovery import RecoveryCase, compare

Before = tuple[int, str] | None


def kafka(batch: int, token: str) -> Checkpoint:
    return Checkpoint(batch, token, 20_000, {"purchases": 1, "engagements": 2, "consents": 3})


def redis(batch: int, token: str, before: Before = None, is_restoring: bool = False) -> StoredCheckpoint:
    return StoredCheckpoint(kafka(batch, token), before, "model", is_restoring)


ROWS = {
    "same micro-batch, same token": (redis(7, "g", (6, "f")), kafka(7, "g"), RecoveryCase.CLEAN),
    "first start done": (redis(0, "a"), kafka(0, "a"), RecoveryCase.CLEAN),
    "one ahead of Kafka's micro-batch": (redis(8, "h", (7, "g")), kafka(7, "g"), RecoveryCase.UNPUBLISHED),
    "one ahead of another micro-batch": (redis(8, "h", (7, "x")), kafka(7, "g"), RecoveryCase.LOST_WRITES),
    "one ahead, and told no predecessor": (redis(8, "h"), kafka(7, "g"), RecoveryCase.LOST_WRITES),
    "behind": (redis(6, "f", (5, "e")), kafka(7, "g"), RecoveryCase.LOST_WRITES),
    "far behind": (redis(0, "a"), kafka(7, "g"), RecoveryCase.LOST_WRITES),
    "empty": (None, kafka(7, "g"), RecoveryCase.LOST_WRITES),
    "another token": (redis(7, "x", (6, "f")), kafka(7, "g"), RecoveryCase.LOST_WRITES),
    "restore interrupted": (redis(7, "g", is_restoring=True), kafka(7, "g"), RecoveryCase.LOST_WRITES),
    "restore interrupted, then more": (
        redis(7, "g", is_restoring=True),
        kafka(9, "i"),
        RecoveryCase.LOST_WRITES,
    ),
    "first start cut short": (None, kafka(0, "a"), RecoveryCase.LOST_WRITES),
    "both blank": (None, None, RecoveryCase.FIRST_START),
}


@pytest.mark.parametrize("row", ROWS)
def test_each_row_is_found(row: str) -> None:
    """Oracle: the table in the design, with the tokens that tell two micro-batches of one number apart."""
    stored, committed, finding = ROWS[row]
    assert compare(stored, committed, 3) is finding


@pytest.mark.parametrize(
    ("stored", "committed", "said"),
    [
        (
            redis(9, "i", (8, "h")),
            kafka(7, "g"),
            "Redis is at micro-batch 9, further ahead of Kafka's micro-batch 7",
        ),
        (redis(9, "i", (8, "h")), None, "Kafka has no committed offsets, but Redis is at micro-batch 9"),
        (redis(0, "a"), None, "Kafka has no committed offsets, but Redis is at micro-batch 0"),
        (
            redis(7, "g", is_restoring=True),
            None,
            "Kafka has no committed offsets, but Redis is at micro-batch 7",
        ),
    ],
    ids=["further ahead", "offsets expired", "offsets expired at once", "offsets expired in a restore"],
)
def test_what_no_crash_explains_stops_the_partition(
    stored: StoredCheckpoint, committed: Checkpoint | None, said: str
) -> None:
    """The error names the partition, what was found, and where to look."""
    with pytest.raises(StoppedError, match="partition 3: stopped: ") as stopped:
        compare(stored, committed, 3)
    assert said in str(stopped.value)


@given(
    st.integers(0, 4), st.sampled_from("gx"), st.integers(0, 4), st.sampled_from("gx"), st.sampled_from("gx")
)
def test_redis_is_trusted_only_where_its_token_or_that_of_its_predecessor_is_kafkas(
    batch: int, token: str, committed_batch: int, committed_token: str, before_token: str
) -> None:
    """Whatever the numbers: the states in Redis are gone on with only if Kafka's batch is this or the one before."""
    stored = redis(batch, token, (batch - 1, before_token))
    try:
        found = compare(stored, kafka(committed_batch, committed_token), 0)
    except StoppedError:
        assert batch > committed_batch + 1
        return
    is_same = (batch, token) == (committed_batch, committed_token)
    is_next = (batch - 1, before_token) == (committed_batch, committed_token)
    assert (found is RecoveryCase.CLEAN) == is_same
    assert (found is RecoveryCase.UNPUBLISHED) == (is_next and not is_same)
