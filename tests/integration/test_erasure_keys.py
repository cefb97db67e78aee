"""Erasure keys on real Kafka and Redis: another key stops a partition, a new one takes over, earlier ones hold."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr
from redis import Redis

from streams.errors import EbbtideError
from streams.operations.doctor import check_erasure_key, check_partitions
from streams.operations.erasure import erase
from streams.settings import DEFAULT_ERASURE_KEY, Settings
from streams.state.keys import PartitionKeys
from streams.worker.partition_state import Status
from tests.integration.damage import empty, snapshot
from tests.integration.harness import (
    Document,
    Record,
    changes_of,
    make_topics,
    produce,
    read_topic,
    record_of,
    run_to_the_end,
    running,
    stored_profiles,
    until,
    until_idle,
)

pytestmark = pytest.mark.real_kafka

NEW_KEY = "another erasure key for tests"


def order(customer: str, event_id: str, day: int) -> Record:
    """An order on a day of January 2025."""
    document: Document = {
        "event_id": event_id,
        "customer_id": customer,
        "occurred_at": f"2025-01-{day:02}T12:00:00Z",
        "kind": "order",
        "order_id": event_id,
        "currency": "USD",
        "total": "10.00",
    }
    return record_of("purchases", document)


def erasure(customer: str, day: int) -> Record:
    document = {
        "event_id": f"erase-{customer}-{day}",
        "customer_id": customer,
        "occurred_at": f"2025-01-{day:02}T18:00:00Z",
        "kind": "erasure",
    }
    return record_of("consents", document)


def with_keys(settings: Settings, newest: str, *earlier: str) -> Settings:
    keys = {"erasure_key": SecretStr(newest), "earlier_erasure_keys": tuple(map(SecretStr, earlier))}
    return settings.model_copy(update=keys)


async def outcomes(settings: Settings) -> dict[tuple[str, str], int]:
    """What became of the records of one run to the end."""
    async with running(settings) as worker:
        await until_idle(settings, worker)
        return dict(worker.states()[0].outcomes)


async def why_it_stops(settings: Settings) -> str:
    async with running(settings) as worker:
        await until(lambda: bool(worker.tasks) and worker.states()[0].status is Status.STOPPED, "stopped")
        return worker.states()[0].reason


@pytest.fixture
async def erased(settings: Settings) -> Settings:
    """A group, by the event clock, whose customer c1 has been erased under the key of the tests."""
    settings = settings.model_copy(update={"clock": "event"})
    await make_topics(settings)
    await produce(settings, [order("c1", "e1", 1), order("c2", "e2", 1), erasure("c1", 2)])
    await run_to_the_end(settings)
    return settings


async def test_another_key_stops_the_partition_and_changes_nothing(
    erased: Settings, redis_client: Redis
) -> None:
    """In one line with both fingerprints and no key; also where Redis is lost, since `ebbtide-decisions` knows."""
    other = with_keys(erased, NEW_KEY)
    held, sent = snapshot(redis_client, erased), len(await read_topic(erased, "ebbtide-decisions"))
    reason = await why_it_stops(other)
    assert reason.startswith("partition 0: stopped: erasures may be remembered under another erasure key")
    for fingerprint in (*erased.erasure_keys.fingerprints, *other.erasure_keys.fingerprints):
        assert fingerprint in reason
    assert NEW_KEY not in reason
    assert "\n" not in reason
    now = snapshot(redis_client, erased)
    assert {key for key in now if now[key] != held.get(key)} == {k for k in held if k.endswith(b":meta")}
    assert len(await read_topic(erased, "ebbtide-decisions")) == sent

    empty(redis_client, erased)
    assert await why_it_stops(other) == reason
    (finding,) = [found for found in check_partitions(other) if "erasure key" in found.message]
    assert finding.status == "error"
    await produce(erased, [order("c1", "e3", 1), order("c1", "e4", 3)])
    assert await outcomes(erased) == {("purchases", "erased"): 1, ("purchases", "accepted"): 1}


async def test_doctor_and_erase_say_that_the_key_is_another(erased: Settings) -> None:
    """In one line that names the setting; with the key that was used all is well."""
    other = with_keys(erased, NEW_KEY)
    (finding,) = check_erasure_key(other)
    assert finding.status == "error"
    assert "EBBTIDE_EARLIER_ERASURE_KEYS" in finding.message
    with pytest.raises(EbbtideError, match="under another erasure key"):
        await erase(other, "c1", 1_800_000_000_000_000)
    assert [found.status for found in check_erasure_key(erased)] == ["ok"]


async def test_a_new_key_writes_and_the_earlier_ones_are_recognised(
    erased: Settings, redis_client: Redis
) -> None:
    """Before a restore and after it. Once it has written, the new key cannot be left out again either."""
    rotated = with_keys(erased, NEW_KEY, erased.erasure_key.get_secret_value())
    await produce(erased, [order("c1", "e3", 1), erasure("c2", 4)])
    assert await outcomes(rotated) == {("purchases", "erased"): 1, ("consents", "accepted"): 1}
    await produce(erased, [order("c1", "e4", 1), order("c2", "e5", 3), order("c2", "e6", 5)])
    assert await outcomes(rotated) == {("purchases", "erased"): 2, ("purchases", "accepted"): 1}
    empty(redis_client, erased)
    await produce(erased, [order("c1", "e7", 1), order("c2", "e8", 3)])
    assert await outcomes(rotated) == {("purchases", "erased"): 2}
    assert sorted(await stored_profiles(rotated)) == ["c2"]
    assert "under another erasure key" in await why_it_stops(erased)
    assert "under another erasure key" in await why_it_stops(with_keys(erased, NEW_KEY))
    back = with_keys(erased, erased.erasure_key.get_secret_value(), NEW_KEY)
    assert await outcomes(back) == {}


async def test_who_is_erased_again_under_a_new_key_has_a_third_life(
    erased: Settings, redis_client: Redis
) -> None:
    """The latest erasure holds, whichever key it was remembered under; also in a restore."""
    rotated = with_keys(erased, NEW_KEY, erased.erasure_key.get_secret_value())
    await produce(erased, [order("c1", "e3", 3), erasure("c1", 4), order("c1", "e4", 5)])
    await run_to_the_end(rotated)
    await produce(erased, [order("c1", "e5", 3)])
    assert await outcomes(rotated) == {("purchases", "erased"): 1}
    empty(redis_client, erased)
    await produce(erased, [order("c1", "e6", 4), order("c1", "e7", 6)])
    assert await outcomes(rotated) == {("purchases", "erased"): 1, ("purchases", "accepted"): 1}
    kept: dict[Any, Any] = redis_client.hgetall(PartitionKeys.of(erased, 0).erased)
    assert {key.decode() for key in kept} == set(rotated.erasure_keys.hashes_of("c1"))
    assert {change["life"] for change in await changes_of(erased)} == {0, 1, 2}


async def test_the_built_in_key_is_no_key_to_run_with(erased: Settings) -> None:
    """Everyone knows it; where version 0.1 used it, it is an earlier key."""
    (finding,) = check_erasure_key(with_keys(erased, DEFAULT_ERASURE_KEY))
    assert finding.status == "error"
    assert "EBBTIDE_ERASURE_KEY" in finding.message
    assert [f.status for f in check_erasure_key(with_keys(erased, NEW_KEY, DEFAULT_ERASURE_KEY))] == ["error"]
    keys = (NEW_KEY, DEFAULT_ERASURE_KEY, erased.erasure_key.get_secret_value())
    assert [finding.status for finding in check_erasure_key(with_keys(erased, *keys))] == ["ok"]
