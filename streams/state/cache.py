"""Customers in memory: the most recently used ones of a partition, at most so many."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Generic, TypeVar

State = TypeVar("State")
"""What is kept of a customer: `Customer`, or packed bytes for the compiled core."""


class CustomerCache(Generic[State]):
    """Least recently used goes first. Holds what Redis holds: drop it (`clear`) whenever that may no longer be so.

    A micro-batch may touch more customers than fit; they stay until `trim`, because they are not stored yet.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._customers: OrderedDict[str, State] = OrderedDict()
        self.hits = 0
        self.misses = 0
        """Look-ups since `drain_counts`."""

    def get(self, customer_id: str) -> State | None:
        """The customer, who is thereby the most recently used one."""
        customer = self._customers.get(customer_id)
        if customer is None:
            self.misses += 1
            return None
        self.hits += 1
        self._customers.move_to_end(customer_id)
        return customer

    def __len__(self) -> int:
        return len(self._customers)

    def __contains__(self, customer_id: str) -> bool:
        return customer_id in self._customers

    def drop(self, customer_id: str) -> None:
        """Forget a customer."""
        self._customers.pop(customer_id, None)

    def drain_counts(self) -> tuple[int, int]:
        """Hits and misses since the last time."""
        counts = self.hits, self.misses
        self.hits = self.misses = 0
        return counts

    def put(self, customers: Mapping[str, State]) -> None:
        """Keep more customers."""
        self._customers.update(customers)

    def trim(self) -> None:
        """Let the least recently used go; only between micro-batches."""
        while len(self._customers) > self._most:
            self._customers.popitem(last=False)

    def clear(self) -> None:
        """Forget everyone."""
        self._customers.clear()
