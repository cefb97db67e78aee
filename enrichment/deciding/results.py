"""What came of some records and midnights, in the order in which it is to be published."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from enrichment.customer.customer import Customer
from enrichment.customer.decision import Decision
from enrichment.deciding.profile import ScoresAndTraits, profile_document
from enrichment.model import Model
from enrichment.scoring.evaluate import Table
from schemas.documents import ChangeDocument, ProfileDocument, TriggerDocument
from schemas.rejection import Rejection


class _ProfileVersion(NamedTuple):
    customer: Customer
    decision: Decision
    table: Table
    row: int
    as_of_us: int
    scores_and_traits: ScoresAndTraits | None


@dataclass(slots=True)
class Results:
    """Everything to publish and to store; call `finish` before reading `profiles`."""

    model: Model
    changes: list[ChangeDocument] = field(default_factory=list)
    triggers: list[TriggerDocument] = field(default_factory=list)
    profiles: list[tuple[str, ProfileDocument | None]] = field(default_factory=list)
    rejected: list[tuple[int, Rejection]] = field(default_factory=list)
    """(index among the records given to `process`, why)."""
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(topic, `accepted` | `duplicate` | `erased` | `dead_letter`) → records."""
    touched: dict[str, Customer] = field(default_factory=dict)
    """Customers whose stored state changed."""
    rescheduled: dict[str, Customer] = field(default_factory=dict)
    """Customers to whom nothing happened on a day on which they were due: only the day on which they are next changed.
    Some may be touched too."""
    decided: set[str] = field(default_factory=set)
    """Customers whose decision changed."""
    erased: dict[str, Decision] = field(default_factory=dict)
    """Customers erased here, with the little that is remembered of them."""
    tombstones_us: dict[str, int] = field(default_factory=dict)
    """Customer → the moment at which their profile ends."""
    triggers_dropped: int = 0
    keeps_profiles: bool = True
    """Whether decisions make profiles. False in replay, which makes all profiles at its end."""
    _versions: dict[str, _ProfileVersion] = field(default_factory=dict)

    def note_profile(
        self,
        customer: Customer,
        decision: Decision,
        table: Table,
        row: int,
        as_of_us: int,
        scores_and_traits: ScoresAndTraits | None = None,
    ) -> None:
        """A profile to publish, with its scores and traits if they are there; a later one takes its place."""
        if self.keeps_profiles:
            self._versions[customer.id] = _ProfileVersion(
                customer, decision, table, row, as_of_us, scores_and_traits
            )

    def note_tombstone(self, customer_id: str, as_of_us: int) -> None:
        """The end of a profile: no version from before is published, later ones are."""
        self._versions.pop(customer_id, None)
        self.profiles.append((customer_id, None))
        self.tombstones_us[customer_id] = as_of_us

    def finish(self) -> Results:
        """Make the documents of the profiles that nothing took the place of."""
        for customer_id, version in self._versions.items():
            document = profile_document(
                customer_id,
                version.as_of_us,
                version.decision,
                version.table.features,
                version.table.scored,
                version.row,
                self.model,
                version.scores_and_traits,
            )
            self.profiles.append((customer_id, document))
        self._versions.clear()
        return self
