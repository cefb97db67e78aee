"""`ebbtide-decisions`: what has been decided about each customer, as its latest record in a compacted topic.

The key is the customer's id; an erased customer's decision is deleted, and what must be remembered of them goes under
the HMAC of their id. Redis can lose everything else, which the inputs tell again; this they cannot. Nor can they tell
which of their offsets were skipped: a key that no customer's id can be says so. One more record per partition holds its
facts.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from enrichment.customer.decision import Decision
from enrichment.deciding.results import Results
from streams.checkpoint import Skipped
from streams.kafka.size_limits import StoppedError
from streams.outbox import OutputRecord
from streams.state.partition_facts import Facts

TOPIC = "ebbtide-decisions"
KIND_HEADER = "ebbtide_kind"
GROUP_HEADER = "ebbtide_group"
DECISION, ERASED, SKIPPED, FACTS = b"decision", b"erased", b"skipped", b"facts"
_SKIPPED_KEY = b"\xff"
"""What keys of skipped offsets begin with: ids are UTF-8, in which this byte never is."""
FACTS_KEY = b"\xff facts"
"""Not UTF-8, so it is no customer's id; keys of skipped offsets go on with a topic's name instead."""

_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Decision)


class Remembered(msgspec.Struct, array_like=True, frozen=True):
    """What is remembered of an erased customer.

    `as_of_us` is that of the erasure: nothing dated later had been taken before it. None where it was not kept yet.
    """

    life: int
    erased_up_to_us: int
    as_of_us: int | None = None


_REMEMBERED_DECODER = msgspec.json.Decoder(Remembered)


def changelog_records(
    results: Results, erased: dict[str, tuple[str, Decision]], group_id: str
) -> list[OutputRecord]:
    """A record for each customer whose decision changed; `erased` gives (HMAC, what is remembered) by customer."""
    erasure = (KIND_HEADER, ERASED), (GROUP_HEADER, group_id.encode())
    records = []
    for customer_id in results.decided:
        customer = results.touched[customer_id]
        value = _ENCODER.encode(customer.decision) if customer.is_known else None
        records.append(decision_record(customer_id, value, group_id))
    for customer_id, (hashed, decision) in erased.items():
        as_of_us = results.tombstones_us.get(customer_id)
        remembered = Remembered(decision.life, decision.erased_up_to_us or 0, as_of_us)
        records.append(
            OutputRecord("ebbtide-decisions", hashed.encode(), _ENCODER.encode(remembered), erasure)
        )
    return records


def decision_record(customer_id: str, value: bytes | None, group_id: str) -> OutputRecord:
    """The record of a decision, which is given as JSON; None where nothing is known of the customer any more."""
    return OutputRecord("ebbtide-decisions", customer_id.encode(), value, decision_headers(group_id))


def decision_headers(group_id: str) -> tuple[tuple[str, bytes], ...]:
    """The headers of every decision of a group."""
    return (KIND_HEADER, DECISION), (GROUP_HEADER, group_id.encode())


_SKIPPED_DECODER = msgspec.json.Decoder(Skipped)


def skip_records(skipped: Iterable[Skipped], group_id: str) -> list[OutputRecord]:
    """A record for each range of offsets that a micro-batch skips."""
    headers = (KIND_HEADER, SKIPPED), (GROUP_HEADER, group_id.encode())
    return [
        OutputRecord(
            "ebbtide-decisions",
            _SKIPPED_KEY + f"{entry.topic}:{entry.first}".encode(),
            _ENCODER.encode(entry),
            headers,
        )
        for entry in skipped
    ]


def facts_record(facts: Facts, group_id: str) -> OutputRecord:
    """The record of a partition's facts."""
    said = ((KIND_HEADER, FACTS), (GROUP_HEADER, group_id.encode()))
    return OutputRecord("ebbtide-decisions", FACTS_KEY, facts.pack(), said)


class DecisionTable:
    """The latest of everything in one partition of `ebbtide-decisions`."""

    def __init__(self, group_id: str) -> None:
        self._group_id = group_id.encode()
        self.decisions: dict[str, Decision] = {}
        self.erased: dict[str, Remembered] = {}
        self.skipped: list[Skipped] = []
        self.facts: Facts | None = None

    def put(self, key: bytes, value: bytes | None, headers: tuple[tuple[str, bytes], ...]) -> None:
        """Take the next record; raises `StoppedError` for one of another group, `msgspec.DecodeError` for none of ours.

        Groups that shared the topic would overwrite each other's decisions.
        """
        said = dict(headers)
        if said.get(GROUP_HEADER) != self._group_id:
            raise StoppedError(
                f"{TOPIC} holds decisions of group {said.get(GROUP_HEADER, b'?').decode()!r}, not only of "
                f"{self._group_id.decode()!r}: give each group an EBBTIDE_TOPIC_PREFIX of its own"
            )
        if said.get(KIND_HEADER) == SKIPPED:
            if value is not None:
                self.skipped.append(_SKIPPED_DECODER.decode(value))
            return
        if said.get(KIND_HEADER) == FACTS:
            self.facts = None if value is None else Facts.unpack(value)
            return
        name = key.decode()
        if said.get(KIND_HEADER) == ERASED:
            if value is not None:
                self.erased[name] = _REMEMBERED_DECODER.decode(value)
        elif value is None:
            self.decisions.pop(name, None)
        else:
            self.decisions[name] = _DECODER.decode(value)
