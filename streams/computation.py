"""Computing a step: from segments of records and due customers to everything that is to be stored and published."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from enrichment.customer import Customer
from enrichment.enricher import Enricher
from enrichment.model import Model
from enrichment.results import Results
from schemas.dead_letters import Rejection
from schemas.events import Event
from streams.cache import CustomerCache
from streams.clock import Segment
from streams.decisions import decision_records
from streams.inputs import Arrived
from streams.output import OutputWriter, dead_letter
from streams.settings import Settings
from streams.state_store import StateStore, stored_state
from streams.step import Mark, OutputRecord, Step

CHANGE_BYTES = 1_600
"""About what one change or profile takes, for knowing when a step is large enough."""


class Computation:
    """One step being computed. Its customers come from the cache, which must be dropped if the step fails."""

    def __init__(
        self, settings: Settings, model: Model, enricher: Enricher, store: StateStore, cache: CustomerCache
    ) -> None:
        self.results = Results(model)
        self.records = 0
        self._settings = settings
        self._model = model
        self._enricher = enricher
        self._store = store
        self._cache = cache
        self._dead_letters: list[OutputRecord] = []
        self._dead_letter_bytes = 0
        self._refused: Counter[tuple[str, str]] = Counter()

    @property
    def is_full(self) -> bool:
        """Whether the step has reached a limit of records, customers or bytes."""
        made = len(self.results.changes) + len(self.results.touched)
        return (
            self.records >= self._settings.batch_max_records
            or len(self.results.touched) >= self._settings.step_max_customers
            or made * CHANGE_BYTES + self._dead_letter_bytes >= self._settings.step_max_bytes
        )

    async def process(self, segment: Segment) -> None:
        """Take the records of a segment, in their order."""
        self.records += len(segment.arrived)
        taken: list[tuple[Arrived, Event]] = []
        for arrived in segment.arrived:
            if isinstance(arrived.event, Rejection):
                self._refuse(arrived, arrived.event)
                self.results.outcomes[arrived.topic, "dead_letter"] += 1
            else:
                taken.append((arrived, arrived.event))
        if not taken:
            return
        customers = await self._customers(event.customer_id for _, event in taken)
        first = len(self.results.rejected)
        self._enricher.process([event for _, event in taken], customers, segment.midnight_day, self.results)
        for at, refused in self.results.rejected[first:]:
            self._refuse(taken[at][0], refused)

    async def sweep(self, midnight_day: int) -> int:
        """Pass midnights for a slice of those who are due; gives how many there were that this step had not touched.

        When those whom it has touched are due, only they know: Redis will be told by the end of the step.
        """
        room = self._settings.step_max_customers - len(self.results.touched)
        if room <= 0:
            return 0
        due = await self._store.due(midnight_day, self._settings.step_max_customers)
        unseen = [customer_id for customer_id in due if customer_id not in self.results.touched][:room]
        customers = [*self.results.touched.values(), *(await self._customers(unseen)).values()]
        self._enricher.advance(customers, midnight_day, self.results)
        return len(unseen)

    def step(self, writer: OutputWriter, before: Mark, after: Mark) -> Step:
        """Everything to store and to publish."""
        results = self.results.finish()
        erased = {
            customer_id: (self._store.hash_of(customer_id), decision)
            for customer_id, decision in results.erased.items()
        }
        return Step(
            before,
            after,
            self._model.fingerprint,
            states=[stored_state(customer) for customer in results.touched.values()],
            erased=[
                (hashed, self._store.erased_value(decision.life, decision.erased_up_to_us or 0))
                for hashed, decision in erased.values()
            ],
            outbox=[*writer.records(results), *self._dead_letters, *decision_records(results, erased)],
        )

    async def _customers(self, customer_ids: Iterable[str]) -> dict[str, Customer]:
        wanted = dict.fromkeys(customer_ids)
        found = {customer_id: self._cache.get(customer_id) for customer_id in wanted}
        absent = [customer_id for customer_id, customer in found.items() if customer is None]
        loaded = await self._store.load(absent) if absent else {}
        self._cache.put(loaded)
        return {customer_id: customer or loaded[customer_id] for customer_id, customer in found.items()}

    def _refuse(self, arrived: Arrived, refused: Rejection) -> None:
        record = arrived.record
        self._dead_letter_bytes += len(record.value or b"")
        self._dead_letters.append(
            dead_letter(refused, record.topic, record.partition, record.offset, record.key, record.value)
        )
