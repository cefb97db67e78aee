"""Inputs that give nothing: for how long, and whether Kafka holds more of them all the same.

aiokafka fetches in the background, and gives what has come. Where that has ended, or waits for what never comes, its
answer is the same as where there is nothing. So Kafka is asked for the end, and time counts from its answer on: while
Kafka is away, nothing is wrong with the consumer.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from schemas.topics import INPUT_TOPICS, InputTopic

DOUBTFUL_AFTER_S = 5.0
"""How long an input gives nothing before Kafka is asked whether there is more."""
STALLED_AFTER_S = 45.0
"""How long, if there is, it may still give nothing before it is read through other connections: longer than aiokafka
waits for an answer."""
LONGEST_LOOK_S = 1.0
"""Time between two looks counts up to this much: a worker that slept or computed did not wait in vain."""


class SilenceWatch:
    """Counts how long each input of a partition has given nothing; times are an event loop's, in seconds."""

    def __init__(self) -> None:
        self._silent_s: dict[InputTopic, float] = {}
        self._ends: dict[InputTopic, int] = {}
        self._looked_at_s = 0.0

    def begin(self, now_s: float) -> None:
        """Forget all that was counted: the inputs are read from other offsets."""
        self._silent_s = dict.fromkeys(INPUT_TOPICS, 0.0)
        self._ends.clear()
        self._looked_at_s = now_s

    def look(self, silent: Collection[InputTopic], now_s: float) -> list[InputTopic]:
        """Count the time since the last look for those that gave nothing; returns those whose end must be asked for."""
        look_s, self._looked_at_s = min(now_s - self._looked_at_s, LONGEST_LOOK_S), now_s
        for topic in INPUT_TOPICS:
            if topic in silent:
                self._silent_s[topic] += look_s
            else:
                self._silent_s[topic] = 0.0
                self._ends.pop(topic, None)
        return [
            topic for topic in silent if self._silent_s[topic] >= DOUBTFUL_AFTER_S and topic not in self._ends
        ]

    def note_ends(self, fetched: Mapping[InputTopic, int], ends: Mapping[InputTopic, int]) -> None:
        """What Kafka says of inputs that were asked for: from now on counts how long there has been more."""
        for topic, end in ends.items():
            self._silent_s[topic] = 0.0
            if fetched[topic] < end:
                self._ends[topic] = end

    @property
    def short_of(self) -> dict[InputTopic, int]:
        """Inputs that give nothing though Kafka holds more of them, and where they end."""
        return dict(self._ends)

    def is_stalled(self, topic: InputTopic) -> bool:
        """Whether an input has given nothing for too long since Kafka said that there is more."""
        return topic in self._ends and self._silent_s[topic] >= STALLED_AFTER_S

    def pass_over(self, topic: InputTopic) -> None:
        """The input goes on from another offset."""
        self._ends.pop(topic, None)
