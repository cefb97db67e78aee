"""What a worker makes of what the group says, without a group."""

from __future__ import annotations

import logging

import pytest
from aiokafka import TopicPartition

from schemas.topics import INPUT_TOPICS
from streams.settings import Settings
from streams.worker.worker import Worker


async def test_a_foreign_assignor_fails_the_worker_and_the_log_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Another kind of program in the group may be given one input of a partition, and the worker the others."""
    settings = Settings()
    worker = Worker(settings)
    with caplog.at_level(logging.CRITICAL, "streams"):
        worker.note_assignment([TopicPartition(settings.topic(topic), 0) for topic in INPUT_TOPICS])
        before = worker.failure
        worker.note_assignment([TopicPartition(settings.topic(topic), 0) for topic in list(INPUT_TOPICS)[1:]])
    assert before is None
    assert worker.failure is not None
    assert "all members must be Ebbtide" in worker.failure
    assert worker.failure in caplog.text
