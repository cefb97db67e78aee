"""`ebbtide-decisions`: what has been decided about each customer, as its latest record in a compacted topic.

The key is the customer's id; an erased customer's decision is deleted, and what must be remembered of them goes under
the HMAC of their id. Redis can lose everything else, which the inputs tell again; this they cannot.
"""

from __future__ import annotations

import msgspec

from enrichment.decision import Decision
from enrichment.results import Results
from streams.step import OutputRecord

TOPIC = "ebbtide-decisions"
KIND_HEADER = "ebbtide_kind"
DECISION, ERASED = b"decision", b"erased"

_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Decision)
_ERASED_DECODER = msgspec.json.Decoder(tuple[int, int])


def decision_records(results: Results, erased: dict[str, tuple[str, Decision]]) -> list[OutputRecord]:
    """A record for each customer whose decision changed; `erased` gives (HMAC, what is remembered) by customer."""
    records = []
    for customer_id in results.decided:
        customer = results.touched[customer_id]
        value = _ENCODER.encode(customer.decision) if customer.is_known else None
        records.append(
            OutputRecord("ebbtide-decisions", customer_id.encode(), value, ((KIND_HEADER, DECISION),))
        )
    for hashed, remembered in erased.values():
        value = _ENCODER.encode((remembered.life, remembered.erased_up_to_us))
        records.append(OutputRecord("ebbtide-decisions", hashed.encode(), value, ((KIND_HEADER, ERASED),)))
    return records


class DecisionTable:
    """The latest of everything in one partition of `ebbtide-decisions`."""

    def __init__(self) -> None:
        self.decisions: dict[str, Decision] = {}
        self.erased: dict[str, tuple[int, int]] = {}

    def put(self, key: bytes, value: bytes | None, headers: tuple[tuple[str, bytes], ...]) -> None:
        """Take the next record; raises `msgspec.DecodeError` for one that is not ours."""
        name = key.decode()
        if dict(headers).get(KIND_HEADER) == ERASED:
            if value is not None:
                self.erased[name] = _ERASED_DECODER.decode(value)
        elif value is None:
            self.decisions.pop(name, None)
        else:
            self.decisions[name] = _DECODER.decode(value)
