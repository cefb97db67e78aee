"""One partition's states in Redis: who has lost it changes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from redis.asyncio import Redis

from enrichment.customer import Customer, empty_state
from enrichment.model import load_model
from streams.redis_keys import PartitionKeys
from streams.state_store import FencedError, StateStore, stored_state
from streams.step import Mark, Step, StoredState
from tests.services import RedisService

MODEL = load_model()
START = Mark(0, "start", 20_000, {"purchases": 0, "engagements": 0, "consents": 0})


def known(customer_id: str, due_day: int) -> StoredState:
    state = empty_state()
    state.latest_us, state.due_day = 1, due_day
    return stored_state(Customer(customer_id, state, MODEL))


@pytest.fixture
async def redis(redis_server: RedisService) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_server.url) as client:
        yield client


@pytest.fixture
async def store(redis: Redis, unique_prefix: str) -> StateStore:
    """With two customers, owned."""
    made = StateStore(redis, PartitionKeys(unique_prefix, "group", 0), MODEL, b"a key for tests")
    await made.claim("first owner")
    await made.begin(START, MODEL.fingerprint, "ready")
    await made.put_rebuilt([known("ada", 20_100), known("bob", 20_300)])
    return made


async def test_a_step_is_written_once_however_often_it_is_sent(store: StateStore) -> None:
    """Clients repeat a call whose answer was lost; the repeat is well, and another step from there is not."""
    step = Step(START, START.next(20_001, START.offsets), MODEL.fingerprint, [known("ada", 20_050)])
    await store.persist(step)
    await store.persist(step)
    stored = await store.stored_mark()
    assert stored is not None
    assert stored.mark == step.after
    assert stored.before == (START.step, START.token)
    with pytest.raises(FencedError, match="conflict"):
        await store.persist(Step(START, START.next(20_001, START.offsets), MODEL.fingerprint))


FORBIDDEN: dict[str, Callable[[StateStore], Awaitable[None]]] = {
    "persist": lambda store: store.persist(Step(START, START.next(20_001, START.offsets), MODEL.fingerprint)),
    "begin": lambda store: store.begin(START, MODEL.fingerprint, "rebuilding"),
    "put_rebuilt": lambda store: store.put_rebuilt([known("eve", 1)]),
    "make_everyone_due": StateStore.make_everyone_due,
    "wipe": StateStore.wipe,
}


@pytest.mark.parametrize("name", FORBIDDEN)
async def test_who_has_lost_a_partition_changes_nothing_of_it(
    store: StateStore, redis: Redis, name: str
) -> None:
    """Deleting is fenced like writing: a worker that wakes up in a rebuild must not delete its successor's states."""
    successor = StateStore(redis, store.keys, MODEL, b"a key for tests")
    await successor.claim("second owner")
    before = await redis.zrange(store.keys.due, 0, -1, withscores=True)
    with pytest.raises(FencedError, match="fenced"):
        await FORBIDDEN[name](store)
    assert await redis.zrange(store.keys.due, 0, -1, withscores=True) == before
    stored = await successor.stored_mark()
    assert stored is not None
    assert (stored.mark, stored.is_rebuilding) == (START, False)
    assert {customer.is_known for customer in (await successor.load(["ada", "bob"])).values()} == {True}


async def test_a_new_model_makes_everyone_due(store: StateStore) -> None:
    """Whatever day they were due on."""
    assert await store.due(20_200, 10) == ["ada"]
    await store.make_everyone_due()
    assert await store.due(0, 10) == ["ada", "bob"]


async def test_wiping_leaves_the_mark_and_nobody(store: StateStore, redis: Redis) -> None:
    """Erasures go too: a rebuild brings back those that the decisions hold."""
    await store.put_rebuilt([], [(store.hash_of("eve"), store.erased_value(1, 5))])
    assert (await store.load(["eve"]))["eve"].decision.life == 1
    await store.wipe()
    assert await store.all_ids() == []
    assert (await store.load(["eve"]))["eve"].decision.life == 0
    assert await store.stored_mark() is not None
