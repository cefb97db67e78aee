"""What contradicts a clock: Redis, Kafka, and a clock that nobody sets. Times are made up; nobody waits."""

from __future__ import annotations

import logging
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.state.redis_client import RedisClient
from streams.worker.clock_check import ASK_KAFKA_AGAIN_AFTER_US, ClockCheck
from streams.worker.publisher import Publisher

SECOND_US = 1_000_000
YEAR_US = 365 * 86_400 * SECOND_US
TRUE_START_US = 1_735_000_000 * SECOND_US
ALLOWED_S = 30


class World:
    """True time, and by how much each clock is off. Redis and Kafka may take their time to answer."""

    def __init__(self) -> None:
        self.passed_us = 0
        self.ours_us = 0
        self.redis_us = 0
        self.kafka_us: int | None = 0
        self.answer_takes_us = 0
        self.redis_asked = 0
        self.kafka_asked = 0
        self.check = ClockCheck(ALLOWED_S, self.now_us, lambda: self.passed_us)

    def now_us(self) -> int:
        return TRUE_START_US + self.passed_us + self.ours_us

    async def time(self) -> tuple[int, int]:
        """Redis' answer."""
        self.redis_asked += 1
        self.passed_us += self.answer_takes_us
        return divmod(TRUE_START_US + self.passed_us + self.redis_us, SECOND_US)

    async def broker_time_us(self) -> int | None:
        """Kafka's answer."""
        self.kafka_asked += 1
        self.passed_us += self.answer_takes_us
        return None if self.kafka_us is None else TRUE_START_US + self.passed_us + self.kafka_us

    async def is_trusted(self, after_s: float = 0) -> bool:
        """Whether the clock is trusted so long after the last look."""
        self.passed_us += int(after_s * SECOND_US)
        clients = cast(Any, self)
        now_us = await self.check.trusted_now_us(cast(RedisClient, clients), cast(Publisher, clients))
        assert now_us in (None, self.now_us())
        return now_us is not None


async def test_clocks_that_agree_are_trusted_however_long_nothing_happens() -> None:
    """Days asleep are days on all clocks."""
    world = World()
    assert await world.is_trusted()
    assert await world.is_trusted(after_s=10 * 86_400)
    assert world.check.problem is None


@pytest.mark.parametrize("off_s", [-ALLOWED_S, ALLOWED_S])
async def test_the_allowed_skew_is_allowed(off_s: int) -> None:
    """In both directions; a second more is not."""
    world = World()
    world.redis_us = off_s * SECOND_US
    assert await world.is_trusted()
    world.redis_us += (off_s // ALLOWED_S) * SECOND_US
    assert not await world.is_trusted(after_s=1)


async def test_a_redis_far_off_is_an_alarm_until_it_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    """It is told once, with the difference and the setting, and so is its end."""
    world = World()
    world.redis_us = -YEAR_US
    with caplog.at_level(logging.WARNING, "streams"):
        assert [await world.is_trusted(after_s=1) for _ in range(3)] == [False] * 3
        world.redis_us = 0
        assert [await world.is_trusted(after_s=1) for _ in range(2)] == [True] * 2
    assert [record.message for record in caplog.records] == [
        "this clock and Redis' differ by 31536000.0 s, more than EBBTIDE_MAX_CLOCK_SKEW_S=30: no midnight passes",
        "the clocks agree again: midnights pass",
    ]


@pytest.mark.parametrize("stamps", [True, False])
@pytest.mark.parametrize("jump_us", [YEAR_US, -YEAR_US, (ALLOWED_S + 1) * SECOND_US])
async def test_a_clock_that_jumps_is_not_trusted_although_all_jump_with_it(
    jump_us: int, stamps: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """At the very next look, with Redis and Kafka on the same machine; not before it is back, however often it asks."""
    world = World()
    world.kafka_us = 0 if stamps else None
    assert await world.is_trusted()
    world.ours_us = world.redis_us = jump_us
    world.kafka_us = jump_us if stamps else None
    for after_s in (0, 0.1, 2, 3_600, 86_400):
        assert not await world.is_trusted(after_s)
    assert "this clock has jumped by" in str(world.check.problem)
    assert "restart the worker if it is right now" in caplog.text
    world.ours_us = world.redis_us = 0
    assert await world.is_trusted(after_s=1)


async def test_a_jump_within_the_second_for_which_redis_answer_holds_is_noticed() -> None:
    """The answer moves on with the clock that nobody sets, so that it is never compared with a later time."""
    world = World()
    assert await world.is_trusted()
    asked = world.redis_asked
    world.ours_us = YEAR_US
    assert not await world.is_trusted(after_s=0.5)
    assert world.redis_asked == asked


async def test_worker_and_redis_years_ahead_of_kafka_from_the_start_are_not_trusted() -> None:
    """Kafka is the third witness; put right, the clock is trusted again without a restart."""
    world = World()
    world.ours_us = world.redis_us = 3 * YEAR_US
    assert not await world.is_trusted()
    assert "this clock and Kafka's differ" in str(world.check.problem)
    world.ours_us = world.redis_us = 0
    assert await world.is_trusted(after_s=1)


async def test_kafka_is_asked_once_and_again_only_where_its_clock_was_off() -> None:
    """A broker whose clock is put right is trusted after a while, without a restart."""
    world = World()
    assert await world.is_trusted()
    assert await world.is_trusted(after_s=86_400)
    assert world.kafka_asked == 1
    world = World()
    world.kafka_us = YEAR_US
    assert not await world.is_trusted()
    world.kafka_us = 0
    assert not await world.is_trusted(after_s=1)
    assert await world.is_trusted(after_s=ASK_KAFKA_AGAIN_AFTER_US / SECOND_US)
    assert world.kafka_asked == 2


async def test_slow_answers_are_no_difference() -> None:
    """A time told within a minute's wait is right at some moment of that minute."""
    world = World()
    world.answer_takes_us = 60 * SECOND_US
    assert await world.is_trusted()
    assert await world.is_trusted(after_s=5)


async def test_without_kafkas_stamps_a_start_by_a_wrong_clock_goes_unnoticed() -> None:
    """What cannot be detected: worker and Redis wrong by the same since before the start, and nobody else to ask."""
    world = World()
    world.kafka_us = None
    world.ours_us = world.redis_us = YEAR_US
    assert await world.is_trusted()


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 7_200)), max_size=20))
async def test_no_time_is_trusted_that_is_off_by_more_than_allowed(steps: list[tuple[int, int]]) -> None:
    """Whatever a clock does, and Redis' with it, after a right start; oracle: the true time."""
    world = World()
    assert await world.is_trusted()
    for jump, after_s in steps:
        world.ours_us += jump * 20 * SECOND_US
        world.redis_us = world.ours_us
        trusted = await world.is_trusted(after_s)
        is_right = abs(world.ours_us) <= ALLOWED_S * SECOND_US
        assert is_right or not trusted
        # Within a second of its last answer, what Redis said when it was off itself still counts.
        assert trusted or not is_right or after_s == 0
