"""`ebbtide skip`: asks the owner of a partition to pass over where it is stuck."""

from __future__ import annotations

from typing import Final

from redis.exceptions import RedisError

from schemas.topics import InputTopic
from streams.errors import EbbtideError, one_line
from streams.settings import Settings
from streams.state.keys import PartitionKeys
from streams.state.redis_client import connect
from streams.state.store import StateStore
from streams.state.stuck import SkipRequest, Stuck

TIMEOUT_S: Final = 10.0


async def ask_to_skip(
    settings: Settings, topic: InputTopic, partition: int, offset: int, by: str, why: str
) -> Stuck:
    """Leave the request in Redis, where the owner finds it at its next attempt; gives what it will pass over.

    Raises:
        EbbtideError: Redis does not answer, or the partition is not stuck at this offset.
    """
    redis = connect(settings, TIMEOUT_S)
    keys = PartitionKeys.of(settings, partition)
    store = StateStore(redis, keys, settings.load_model(), settings.erasure_keys)
    try:
        _, stuck = await store.kept_troubles()
        if stuck is None or not stuck.holds(topic, offset):
            raise EbbtideError(_not_there(stuck, topic, partition, offset))
        await store.ask_to_skip(SkipRequest(topic, offset, by, why))
        return stuck
    except RedisError as error:
        where = f"{settings.redis_address} (setting EBBTIDE_REDIS_URL)"
        raise EbbtideError(f"Redis does not answer at {where}: {one_line(error)}") from error
    finally:
        await redis.aclose()


def _not_there(stuck: Stuck | None, topic: InputTopic, partition: int, offset: int) -> str:
    where = "it goes on" if stuck is None else f"it is stuck at {stuck.place}"
    return f"partition {partition} is not stuck at {topic} offset {offset}: {where}; nothing is skipped"
