"""Sizes of output records: a step that its topics could never take must not be persisted.

Kafka would refuse it at every take-over, and the partition would stand still.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from streams.errors import EbbtideError
from streams.step import OutputRecord

DEFAULT_MAX_BYTES = 1_048_576
"""What a topic takes where the broker does not say."""
BATCH_OVERHEAD_BYTES = 512
TRUNCATED_HEADER = "ebbtide_truncated_from_bytes"


class StoppedError(EbbtideError):
    """A partition that must not go on before a person has looked at it."""


class SizeLimits:
    """The largest record that each output topic takes, in bytes; `max_bytes` is by name without prefix."""

    def __init__(self, max_bytes: Mapping[str, int | None] | None = None) -> None:
        self._max_bytes = dict(max_bytes or {})

    def of(self, topic: str) -> int:
        """The most that key, value and headers of a record may have."""
        return (self._max_bytes.get(topic) or DEFAULT_MAX_BYTES) - BATCH_OVERHEAD_BYTES

    def fitted(self, letter: OutputRecord) -> OutputRecord:
        """A dead letter as its topic takes it: one too large keeps its beginning, and a header says of how much.

        Only a record that came compressed can be larger than the inputs' limit, for which the topic has room.
        """
        if letter.value is None or letter.size_bytes <= self.of(letter.topic):
            return letter
        said = (TRUNCATED_HEADER, str(len(letter.value)).encode())
        marked = letter._replace(headers=(*letter.headers, said))
        excess = marked.size_bytes - self.of(letter.topic)
        return marked._replace(value=letter.value[: max(0, len(letter.value) - excess)])

    def check(self, records: Iterable[OutputRecord]) -> None:
        """Raise `StoppedError` for a record that its topic does not take."""
        for record in records:
            if record.size_bytes > self.of(record.topic):
                raise StoppedError(
                    f"a record of {record.size_bytes} bytes is too large for {record.topic} (max.message.bytes "
                    f"{self.of(record.topic) + BATCH_OVERHEAD_BYTES}): raise the topic's limit and start again"
                )
