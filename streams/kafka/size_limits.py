"""Sizes of output records: a micro-batch that its topics could never take must not be persisted.

Kafka would refuse it at every recovery, and the partition would stand still.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from streams.errors import EbbtideError
from streams.outbox import OutputRecord

DEFAULT_MAX_BYTES = 1_048_576
"""What a topic takes where the broker does not say."""
BATCH_OVERHEAD_BYTES = 512
TRUNCATED_HEADER = "ebbtide_truncated_from_bytes"
KEY_TRUNCATED_HEADER = "ebbtide_key_truncated_from_bytes"
LONGEST_KEY_BYTES = 1_024
"""Of the key of a dead letter that is too large: no customer's id has more."""
MOST_BESIDE_BYTES = 8_192
"""Key and headers of a record that is no dead letter have less together."""


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
        """A dead letter as its topic takes it: of one too large, key and value keep their beginning.

        Headers say of how much. Only a record that came compressed can be larger than the inputs' limit, for which the
        topic has room. A key is cut first: one longer than any id says less than the value.
        """
        most_bytes = self.of(letter.topic)
        if letter.size_bytes <= most_bytes:
            return letter
        if letter.key is not None and len(letter.key) > LONGEST_KEY_BYTES:
            said = (KEY_TRUNCATED_HEADER, str(len(letter.key)).encode())
            letter = letter._replace(key=letter.key[:LONGEST_KEY_BYTES], headers=(*letter.headers, said))
        if letter.value is None or letter.size_bytes <= most_bytes:
            return letter
        said = (TRUNCATED_HEADER, str(len(letter.value)).encode())
        marked = letter._replace(headers=(*letter.headers, said))
        excess = marked.size_bytes - most_bytes
        return marked._replace(value=letter.value[: max(0, len(letter.value) - excess)])

    def check(self, records: Iterable[OutputRecord]) -> None:
        """Raise `StoppedError` for a record that its topic does not take."""
        for record in records:
            # Nearly all are far smaller, and what exactly a record takes costs more than the rest of the question.
            at_most = len(record.value or b"") + MOST_BESIDE_BYTES
            if at_most <= self.of(record.topic) and record.topic != "dead-letters":
                continue
            self.check_size(record.topic, record.size_bytes)

    def check_size(self, topic: str, size_bytes: int) -> None:
        """Raise `StoppedError` for a size that a topic does not take."""
        limit = self.of(topic)
        if size_bytes > limit:
            raise StoppedError(
                f"a record of {size_bytes} bytes is too large for {topic} (max.message.bytes "
                f"{limit + BATCH_OVERHEAD_BYTES}): raise the topic's limit and start again"
            )
