"""Some of very many customers, drawn while their records are read: a model fitted to them costs the same for millions.

Drawn are those with the smallest hashes of their ids (Cohen 1997, "Size-Estimation Framework with Applications to
Transitive Closure and Reachability", section 3: bottom-k samples), so that it does not depend on the order of records
who is drawn, and all records of a customer are kept or none.
"""

from __future__ import annotations

import re
import zlib
from array import array
from collections.abc import Iterable
from typing import Any, Final

import orjson

from streams.replay.log import Line

HASHES: Final = 2**32
_ID: Final = re.compile(rb'"customer_id"\s*:\s*"([^"\\]+)"')


class CustomerSample:
    """The records of at most `most` customers; of everyone where `most` is 0.

    Those of twice as many are in memory at most, on the way. Records that name no customer are drawn by hashes of their
    own, so that their share stays what it is.

    Attributes:
        lines: What was kept, in the order in which it was read.
    """

    def __init__(self, most: int) -> None:
        self.lines: list[Line] = []
        self._most = most
        self._limit = HASHES
        self._hashes = array("L")
        self._customers = set[bytes]()

    @property
    def share(self) -> float:
        """The share of all customers that was drawn: 1 for everyone, else by the first hash that was too large."""
        return self._limit / HASHES

    @property
    def customers_in_all(self) -> int:
        """How many customers there are; an estimate where only some were drawn."""
        return round(len(self._customers) / self.share)

    @property
    def is_partial(self) -> bool:
        """Whether some customers were left out."""
        return self._limit < HASHES

    def take(self, lines: Iterable[Line]) -> None:
        """Read lines, in any order, and keep those of the customers who are drawn."""
        for line in lines:
            customer_id = _customer_id(line.value)
            own = _hash_of(line) if customer_id is None else zlib.crc32(customer_id)
            if own >= self._limit:
                continue
            self.lines.append(line)
            self._hashes.append(own)
            if customer_id is not None:
                self._customers.add(customer_id)
                if 0 < 2 * self._most < len(self._customers):
                    self._draw()
        if 0 < self._most < len(self._customers):
            self._draw()

    def _draw(self) -> None:
        """Keep the customers with the smallest hashes: `most` of them, or a few less where hashes are equal."""
        self._limit = limit = sorted(map(zlib.crc32, self._customers))[self._most]
        kept = [place for place, own in enumerate(self._hashes) if own < limit]
        self.lines = [self.lines[place] for place in kept]
        self._hashes = array("L", (self._hashes[place] for place in kept))
        self._customers = {own for own in self._customers if zlib.crc32(own) < limit}


def _customer_id(value: bytes) -> bytes | None:
    """The customer that a record names; None where it cannot be told.

    A record with the field once, as nearly all have it, needs not be parsed.
    """
    found: list[bytes] = _ID.findall(value)
    if len(found) == 1 and value.count(b'"customer_id"') == 1:
        return found[0]
    try:
        document: Any = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    named = document.get("customer_id") if isinstance(document, dict) else None
    return named.encode() if isinstance(named, str) else None


def _hash_of(line: Line) -> int:
    return zlib.crc32(line.value, zlib.crc32(f"{line.file}:{line.number}".encode()))
