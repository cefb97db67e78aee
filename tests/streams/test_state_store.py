"""One partition's states in Redis: who has lost it changes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from redis.asyncio import Redis

from enrichment.customer.customer import Customer, empty_state
from enrichment.model import load_model
from streams.checkpoint import Checkpoint, Skipped
from streams.micro_batch import MicroBatch, StoredState
from streams.settings.erasure_keys import ErasureKeys
from streams.state.keys import PartitionKeys
from streams.state.store import FencedError, StateStore, stored_state
from streams.state.stuck import SkipRequest, Stuck
from tests.services import RedisService

MODEL = load_model()
KEYS = ErasureKeys(b"a key for tests")
START = Checkpoint(0, "start", 20_000, {"purchases": 0, "engagements": 0, "consents": 0})


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
    made = StateStore(redis, PartitionKeys(unique_prefix, "group", 0), MODEL, KEYS)
    await made.claim("first owner")
    await made.begin_restore(START, MODEL.fingerprint)
    await made.put_restored([known("ada", 20_100), known("bob", 20_300)])
    await made.end_restore(START, MODEL.fingerprint)
    return made


async def test_a_micro_batch_is_written_once_however_often_it_is_sent(store: StateStore) -> None:
    """Clients repeat a call whose answer was lost; the repeat is well, and another micro-batch from there is not."""
    batch = MicroBatch(START, START.next(20_001, START.offsets), MODEL.fingerprint, [known("ada", 20_050)])
    await store.persist(batch)
    await store.persist(batch)
    stored = await store.stored_checkpoint()
    assert stored is not None
    assert stored.checkpoint == batch.after
    assert stored.before == (START.batch_id, START.token)
    with pytest.raises(FencedError, match="conflict"):
        await store.persist(MicroBatch(START, START.next(20_001, START.offsets), MODEL.fingerprint))


async def test_a_micro_batch_that_obeys_a_request_to_skip_deletes_it_and_keeps_the_range(
    store: StateStore,
) -> None:
    """Any other micro-batch leaves the request; a restore has the ranges anew, and no others."""
    request = SkipRequest("purchases", 7, "alice", "")
    await store.ask_to_skip(request)
    after = START.next(20_001, START.offsets)
    await store.persist(MicroBatch(START, after, MODEL.fingerprint))
    assert await store.skip_request() == request
    skipped = [Skipped("purchases", 5, 9), Skipped("purchases", 12, 13)]
    obeying = MicroBatch(after, after.next(20_001, START.offsets), MODEL.fingerprint, skipped=skipped)
    obeying.obeys_request = True
    await store.persist(obeying)
    assert await store.skip_request() is None
    assert await store.skipped() == skipped
    await store.begin_restore(START, MODEL.fingerprint)
    await store.wipe()
    assert await store.skipped() == []
    await store.put_restored([known("ada", 20_100)], [], skipped[:1])
    assert await store.skipped() == skipped[:1]


async def test_only_the_request_that_was_read_is_refused(store: StateStore) -> None:
    """One that has come since is another's, and has not been looked at."""
    first, second = SkipRequest("purchases", 7, "alice", ""), SkipRequest("consents", 1, "bob", "why")
    await store.ask_to_skip(second)
    await store.refuse_skip(first)
    assert await store.skip_request() == second
    await store.refuse_skip(second)
    assert await store.skip_request() is None


async def test_where_a_partition_is_stuck_is_kept_until_it_goes_on(store: StateStore) -> None:
    """For whoever looks beside the worker, also when it has died."""
    stuck = Stuck("purchases", 5, 9, "batch", "because")
    await store.keep_stuck(stuck)
    assert (await store.go_on(), await store.kept_troubles()) == (stuck, (None, stuck))
    await store.keep_stuck(None)
    assert await store.go_on() is None


async def test_an_emptied_outbox_is_none(store: StateStore) -> None:
    """Another than that of a micro-batch without records, which may still have to be published."""
    await store.persist(MicroBatch(START, START.next(20_001, START.offsets), MODEL.fingerprint))
    assert await store.outbox() == []
    await store.empty_outbox()
    assert await store.outbox() is None


FORBIDDEN: dict[str, Callable[[StateStore], Awaitable[object]]] = {
    "persist": lambda store: store.persist(
        MicroBatch(START, START.next(20_001, START.offsets), MODEL.fingerprint)
    ),
    "begin": lambda store: store.begin(START, MODEL.fingerprint),
    "keep_stuck": lambda store: store.keep_stuck(None),
    "refuse_skip": lambda store: store.refuse_skip(SkipRequest("purchases", 7, "alice", "")),
    "begin_restore": lambda store: store.begin_restore(START, MODEL.fingerprint),
    "end_restore": lambda store: store.end_restore(START, MODEL.fingerprint),
    "put_restored": lambda store: store.put_restored([known("eve", 1)]),
    "check": StateStore.check,
    "load": lambda store: store.load(["ada"]),
    "wipe": StateStore.wipe,
    "empty_outbox": StateStore.empty_outbox,
}


@pytest.mark.parametrize("name", FORBIDDEN)
async def test_who_has_lost_a_partition_changes_nothing_of_it(
    store: StateStore, redis: Redis, name: str
) -> None:
    """Deleting is fenced like writing: a worker that wakes up in a restore must not delete its successor's states."""
    successor = StateStore(redis, store.keys, MODEL, KEYS)
    await successor.claim("second owner")
    before = await redis.zrange(store.keys.due, 0, -1, withscores=True)
    with pytest.raises(FencedError, match="fenced"):
        await FORBIDDEN[name](store)
    assert await redis.zrange(store.keys.due, 0, -1, withscores=True) == before
    stored = await successor.stored_checkpoint()
    assert stored is not None
    assert (stored.checkpoint, stored.is_restoring) == (START, False)
    assert {customer.is_known for customer in (await successor.load(["ada", "bob"])).values()} == {True}


async def test_a_micro_batch_of_a_new_model_makes_everyone_due(store: StateStore) -> None:
    """Whatever day they were due on, but for those whom the micro-batch itself files."""
    assert await store.due(20_200, 0, 10) == ["ada"]
    after = START.next(20_001, START.offsets)
    await store.persist(MicroBatch(START, after, "another", [known("ada", 20_150)], is_everyone_due=True))
    assert await store.due(0, 0, 10) == ["bob"]
    assert await store.due(20_150, 0, 10) == ["bob", "ada"]
    assert [await store.due(20_150, skip, 1) for skip in range(3)] == [["bob"], ["ada"], []]


async def test_who_is_put_off_is_read_with_the_day_of_the_index(store: StateStore, redis: Redis) -> None:
    """Their state is not written again: it says the day on which they were due before."""
    held = await redis.get(store.keys.customer("ada"))
    after = START.next(20_150, START.offsets)
    await store.persist(MicroBatch(START, after, MODEL.fingerprint, rescheduled=[("ada", 20_170)]))
    assert await store.due(20_169, 0, 10) == []
    assert await store.due(20_170, 0, 10) == ["ada"]
    assert await redis.get(store.keys.customer("ada")) == held
    reader = StateStore(redis, store.keys, MODEL, KEYS)
    for of in (store, reader):
        loaded = await of.load(["ada", "bob", "eve"])
        assert [loaded[name].state.due_day for name in ("ada", "bob", "eve")] == [20_170, 20_300, None]


async def test_who_is_made_due_with_everyone_is_read_with_the_day_of_their_state(store: StateStore) -> None:
    """The index says 0 then, which is no day to begin a look ahead on."""
    after = START.next(20_301, START.offsets)
    await store.persist(MicroBatch(START, after, "another", is_everyone_due=True))
    assert await store.due(0, 0, 10) == ["ada", "bob"]
    loaded = await store.load(["ada", "bob"])
    assert [loaded[name].state.due_day for name in ("ada", "bob")] == [20_100, 20_300]


async def test_nothing_is_read_from_a_redis_that_is_not_where_the_owner_left_it(
    store: StateStore, redis: Redis
) -> None:
    """Else customers would begin a second time where Redis is emptied, read, and restored."""
    held = await redis.dump(store.keys.meta) or b""
    batch = MicroBatch(START, START.next(20_001, START.offsets), MODEL.fingerprint)
    await store.persist(batch)
    assert (await store.load(["ada"]))["ada"].is_known
    await redis.restore(store.keys.meta, 0, held, replace=True)
    with pytest.raises(FencedError, match="answer as of micro-batch 1: conflict"):
        await store.load(["ada"])
    await redis.delete(store.keys.meta)
    with pytest.raises(FencedError, match="fenced"):
        await store.check()


@pytest.mark.parametrize("write", ["put_restored", "wipe", "end_restore"])
async def test_a_restore_notices_that_redis_has_lost_one_of_its_writes(
    store: StateStore, redis: Redis, write: str
) -> None:
    """A replica that lags takes over in the middle: the restore must not end as if nothing were missing."""
    await store.begin_restore(START, MODEL.fingerprint)
    held = await redis.dump(store.keys.meta) or b""
    await store.put_restored([known("eve", 20_100)])
    await redis.restore(store.keys.meta, 0, held, replace=True)
    await redis.delete(store.keys.customer("eve"))
    calls: dict[str, Callable[[], Awaitable[None]]] = {
        "put_restored": lambda: store.put_restored([known("bob", 1)]),
        "wipe": store.wipe,
        "end_restore": lambda: store.end_restore(START, MODEL.fingerprint),
    }
    with pytest.raises(FencedError, match="conflict"):
        await calls[write]()
    stored = await store.stored_checkpoint()
    assert stored is not None
    assert stored.is_restoring


async def test_no_micro_batch_goes_on_from_a_restore_that_has_not_ended(
    store: StateStore, redis: Redis
) -> None:
    """Redis may fall back to the middle of a restore after its end, when its owner works on."""
    await store.begin_restore(START, MODEL.fingerprint)
    held = await redis.dump(store.keys.meta) or b""
    await store.end_restore(START, MODEL.fingerprint)
    await redis.restore(store.keys.meta, 0, held, replace=True)
    with pytest.raises(FencedError, match="conflict"):
        await store.persist(MicroBatch(START, START.next(20_001, START.offsets), MODEL.fingerprint))


async def test_wiping_leaves_the_checkpoint_and_nobody(store: StateStore, redis: Redis) -> None:
    """Erasures go too: a restore brings back those that the decisions hold."""
    await store.begin_restore(START, MODEL.fingerprint)
    await store.put_restored([], [(store.hash_of("eve"), store.erased_value(1, 5))])
    assert await redis.hlen(store.keys.erased) == 1
    await store.wipe()
    assert await store.all_ids() == []
    assert await redis.hlen(store.keys.erased) == 0
    assert await store.stored_checkpoint() is not None
