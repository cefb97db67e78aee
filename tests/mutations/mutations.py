"""One-line mistakes in the core, each of which some test must notice."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Mutation(NamedTuple):
    """`before`, which stands once in a file, becomes `after`."""

    name: str
    file: str
    before: str
    after: str

    def apply(self, root: Path) -> None:
        """Make the mistake in a copy of the project."""
        path = root / self.file
        text = path.read_text("utf-8")
        assert text.count(self.before) == 1, f"{self.file} has {text.count(self.before)} times: {self.before}"
        path.write_text(text.replace(self.before, self.after), encoding="utf-8")


MUTATIONS = [
    Mutation(
        "decoding: any key will do",
        "schemas/decode.py",
        "if key is not NO_KEY and key != event.customer_id.encode():",
        "if key is None:",
    ),
    Mutation(
        "decoding: every fraction of a second is of tenths",
        "schemas/timestamps.py",
        "_FRACTION_UNIT_US[len(digits)]",
        "_FRACTION_UNIT_US[1]",
    ),
    Mutation(
        "decoding: an item without a quantity is none",
        "schemas/fast_path.py",
        "quantity=1.0 if record.quantity is None",
        "quantity=0.0 if record.quantity is None",
    ),
    Mutation(
        "acceptance: a record is late a day before its time",
        "enrichment/customer/validation.py",
        "time_us < seen.newest_us - horizon_days * DAY_US",
        "time_us < seen.newest_us - (horizon_days - 1) * DAY_US",
    ),
    Mutation(
        "ledger: the first version of an order counts, not the last",
        "enrichment/customer/orders.py",
        "elif entry.version is None or version.key > entry.version.key:",
        "elif entry.version is None:",
    ),
    Mutation(
        "ledger: an order refunded to the cent still counts",
        "enrichment/customer/orders.py",
        "for refund in timely) >= version.total_micros",
        "for refund in timely) > version.total_micros",
    ),
    Mutation(
        "ledger: days are folded while late records may still change them",
        "enrichment/customer/orders.py",
        "cut = newest_day - keep_days",
        "cut = newest_day - keep_days // 2",
    ),
    Mutation(
        "windows: a day too long",
        "enrichment/scoring/features.py",
        'self._row_key - window_days, side="right")',
        'self._row_key - window_days, side="left")',
    ),
    Mutation(
        "windows: engagement of today has already decayed",
        "enrichment/scoring/features.py",
        "np.exp2(-np.arange(window_days) / half_life_days)",
        "np.exp2(-np.arange(1, window_days + 1) / half_life_days)",
    ),
    Mutation(
        "scores: costs add to a customer's value",
        "enrichment/scoring/scores.py",
        "signed[:, inverted] = 100.0 - points[:, inverted]",
        "signed[:, inverted] = points[:, inverted]",
    ),
    Mutation(
        "scores: growth takes a year to have a day less",
        "enrichment/scoring/scores.py",
        "days = np.minimum(tenure + 1, 365)",
        "days = np.minimum(tenure, 365)",
    ),
    Mutation(
        "standing: dwell takes a day longer",
        "enrichment/scoring/standing.py",
        "elif day - changed_days[dimension] >= dwell_days[dimension]:",
        "elif day - changed_days[dimension] > dwell_days[dimension]:",
    ),
    Mutation(
        "standing: no hysteresis",
        "enrichment/scoring/standing.py",
        "ranks[dimension] = min(max(rank, easy[dimension]), hard[dimension])",
        "ranks[dimension] = plain[dimension]",
    ),
    Mutation(
        "consent: a grant ends a day early",
        "enrichment/customer/consent.py",
        "for channel, last_day in self.channels if last_day >= day]",
        "for channel, last_day in self.channels if last_day > day]",
    ),
    Mutation(
        "consent: an older answer replaces a newer one",
        "enrichment/customer/consent.py",
        "if latest is None or record.key > latest.key:",
        "if True:",
    ),
    Mutation(
        "consent: a grant does not end a denial",
        "enrichment/customer/consent.py",
        "return records[1].occurred_at_us if len(records) > 1 else NEVER_US",
        "return NEVER_US",
    ),
    Mutation(
        "consent: a denial is dropped where a grant had its event id",
        "enrichment/customer/validation.py",
        'return f"{event.granted}/{len(purpose)}/{purpose}{event.event_id}"',
        "return event.event_id",
    ),
    Mutation(
        "ledger: refunds that are held as one count as one",
        "enrichment/customer/orders.py",
        "refunds=refund.count,",
        "refunds=1,",
    ),
    Mutation(
        "silence: risks stay as they are at the beginning",
        "enrichment/deciding/long_silence.py",
        "np.array([risk.min() - MARGIN, risk.max() + MARGIN])",
        "np.array([risk.min() - MARGIN, risk.min() + MARGIN])",
    ),
    Mutation(
        "first load: dwell begins by it",
        "enrichment/deciding/decider.py",
        "changed_days[dimension] = NO_DWELL_DAY if cause.trigger == LOAD else day",
        "changed_days[dimension] = day",
    ),
    Mutation(
        "first load: an erasure takes along what is dated later",
        "enrichment/customer/customer.py",
        "if isinstance(effect, Effect) and effect.is_erasure:",
        "if False:",
    ),
    Mutation(
        "first load: everyone is evaluated as of its midnight",
        "enrichment/enricher.py",
        "state, day = customer.state, day_of(as_of_us)",
        "state, day, as_of_us = customer.state, midnight_day, midnight_us(midnight_day)",
    ),
]
