//! A customer's state as bytes, and back: MessagePack, as `streams/state/codec.py` packs it. Both cores read and write
//! it, so that one goes on where the other stopped.
//!
//! What is not read here (an older shape, an unknown currency, another rate than the model's) is declined: the Python
//! core takes such a customer.

use std::collections::BTreeMap;

use rmp::decode;
use rmp::encode;

use crate::consent::ConsentRecord;
use crate::customer::{Catalogue, Customer, Seen};
use crate::days::day_of;
use crate::decision::{Baseline, Decision, PendingTrigger};
use crate::engagement::{DayEngagement, Held, Latest};
use crate::events::Answer;
use crate::log::SharedNames;
use crate::model::{Model, METRICS};
use crate::orders::{Entry, Ledger, Refund, Totals, Version};
use crate::scores::RANKS;
use crate::Declined;

const UNREAD: Declined = Declined("a state of another shape");
const NIL: u8 = 0xc0;
const TOPICS: [&str; 3] = ["consents", "purchases", "engagements"];

/// The state of a customer, with numbers of `names` in it; `settle` must follow once all names are known.
pub fn unpack(bytes: &[u8], names: &mut SharedNames, model: &Model) -> Result<Customer, Declined> {
    let mut reader = Reader(bytes);
    reader.array(11)?;
    let mut customer = Customer::blank();
    customer.ledger = ledger(&mut reader, names, model)?;
    engagement(&mut reader, &mut customer, names)?;
    consent(&mut reader, &mut customer, names)?;
    customer.decision = decision(&mut reader)?;
    for topic in [1, 2, 0] {
        customer.seen[topic] = seen(&mut reader)?;
    }
    for _ in 0..reader.map()? {
        let topic = reader.text()?;
        let topic = TOPICS.iter().position(|known| *known == topic);
        let place = topic.ok_or(UNREAD)?;
        customer.attributes[place] = held(&mut reader, |reader| Ok(reader.text()?.into()))?;
    }
    customer.latest_us = reader.optional(Reader::integer)?;
    customer.profiled_day = reader.integer()?;
    customer.due_day = reader.optional(Reader::integer)?;
    if reader.0.is_empty() && is_in_order(&customer) {
        Ok(customer)
    } else {
        Err(UNREAD)
    }
}

/// Whether days come one after the other, none after the newest record.
fn is_in_order(customer: &Customer) -> bool {
    let ordered = customer.ledger.days.iter().map(|bucket| bucket.day);
    let engaged = customer.engagement.days.iter().map(|bucket| bucket.day);
    let newest_day = customer.latest_us.map_or(i64::MIN, day_of);
    let is_ascending = ordered.clone().is_sorted() && engaged.clone().is_sorted();
    is_ascending && ordered.chain(engaged).all(|day| day <= newest_day)
}

/// Turn the numbers of a customer just read into their places in a catalogue.
pub fn settle(customer: &mut Customer, catalogue: &Catalogue) {
    for entry in customer.ledger.entries.values_mut() {
        for version in [&mut entry.version, &mut entry.late_version] {
            let Some(version) = version else { continue };
            for category in &mut version.categories {
                *category = catalogue.category_places[*category as usize];
            }
            version.categories.sort_unstable();
        }
    }
    for bucket in &mut customer.engagement.days {
        for (key, _) in &mut bucket.counts {
            *key = catalogue.count_key_places[*key as usize];
        }
        bucket.counts.sort_unstable();
    }
    for (purpose, _) in &mut customer.consent.latest {
        *purpose = catalogue.place_places[*purpose as usize];
    }
    customer.consent.latest.sort_by_key(|(purpose, _)| *purpose);
}

/// The bytes of a customer's state.
pub fn pack(customer: &Customer, catalogue: &Catalogue, model: &Model) -> Vec<u8> {
    let mut out = Writer(Vec::with_capacity(1024));
    out.array(11);
    write_ledger(&mut out, &customer.ledger, catalogue, model);
    write_engagement(&mut out, customer, catalogue);
    write_consent(&mut out, customer, catalogue);
    write_decision(&mut out, &customer.decision);
    let mut told: BTreeMap<u64, i64> = BTreeMap::new();
    if customer.has_told_purchases {
        for version in customer.ledger.versions() {
            told.insert(version.digest, version.occurred_at_us);
        }
    }
    write_seen(&mut out, &customer.seen[1], &told);
    write_seen(&mut out, &customer.seen[2], &BTreeMap::new());
    write_seen(&mut out, &customer.seen[0], &BTreeMap::new());
    let topics = || (0..3).filter(|&topic| !customer.attributes[topic].is_empty());
    out.map(topics().count());
    for topic in topics() {
        out.text(TOPICS[topic]);
        write_held(&mut out, &customer.attributes[topic], |out, value| {
            out.text(value);
        });
    }
    out.optional(customer.latest_us, Writer::integer);
    out.integer(customer.profiled_day);
    out.optional(customer.due_day, Writer::integer);
    out.0
}

fn ledger(
    reader: &mut Reader<'_>,
    names: &mut SharedNames,
    model: &Model,
) -> Result<Ledger, Declined> {
    reader.array(4)?;
    let mut ledger = Ledger::default();
    for _ in 0..reader.map()? {
        let order_id = reader.text()?.into();
        reader.array(7)?;
        let mut entry = Entry {
            ordered_on: reader.optional(Reader::integer)?,
            version: reader.optional(|reader| version(reader, names, model))?,
            late_version: reader.optional(|reader| version(reader, names, model))?,
            is_cancelled: reader.truth()?,
            is_cancelled_late: reader.truth()?,
            ..Entry::default()
        };
        for _ in 0..reader.list()? {
            entry.refunds.push(refund(reader, model)?);
        }
        entry.newest_day = reader.integer()?;
        ledger.entries.insert(order_id, entry);
    }
    reader.array(9)?;
    ledger.folded = Totals {
        first_day: reader.optional(Reader::integer)?,
        last_day: reader.optional(Reader::integer)?,
        orders: reader.integer()?,
        purchase_days: reader.integer()?,
        revenue_micros: reader.integer()?,
        margin_micros: reader.integer()?,
        refunded_micros: reader.integer()?,
        repeat_spend_days: reader.integer()?,
        repeat_spend_micros: reader.integer()?,
    };
    ledger.gross_micros = reader.integer()?;
    ledger.newest_day = reader.integer()?;
    Ok(ledger)
}

fn version(
    reader: &mut Reader<'_>,
    names: &mut SharedNames,
    model: &Model,
) -> Result<Version, Declined> {
    reader.array(8)?;
    let occurred_at_us = reader.integer()?;
    let event_id = reader.text()?;
    let code = reader.text()?;
    let (total_micros, base_total_micros) = (reader.integer()?, reader.integer()?);
    let base_cost_micros = reader.integer()?;
    let currency = currency(code, reader.text()?, model)?;
    let mut categories = Vec::new();
    for _ in 0..reader.list()? {
        categories.push(names.category(reader.text()?));
    }
    Ok(Version {
        occurred_at_us,
        event_id: event_id.into(),
        digest: 0,
        currency,
        total_micros,
        base_total_micros,
        base_cost_micros,
        categories,
    })
}

fn refund(reader: &mut Reader<'_>, model: &Model) -> Result<Refund, Declined> {
    reader.array(8)?;
    let (day, is_late) = (reader.integer()?, reader.truth()?);
    let code = reader.text()?;
    let amount_micros = reader.integer()?;
    let (base_amount_micros, base_cost_micros) = (reader.integer()?, reader.integer()?);
    Ok(Refund {
        day,
        is_late,
        currency: currency(code, reader.text()?, model)?,
        amount_micros,
        base_amount_micros,
        base_cost_micros,
        count: reader.integer()?,
    })
}

fn currency(code: &str, rate: &str, model: &Model) -> Result<usize, Declined> {
    let found = model.currency_at.get(code).copied();
    found
        .filter(|&at| *model.currency_texts[at].rate == *rate)
        .ok_or(Declined("an amount by another rate than the model's"))
}

fn engagement(
    reader: &mut Reader<'_>,
    customer: &mut Customer,
    names: &mut SharedNames,
) -> Result<(), Declined> {
    let engagement = &mut customer.engagement;
    reader.array(5)?;
    for _ in 0..reader.list()? {
        reader.array(3)?;
        let day = reader.integer()?;
        let mut counts = Vec::new();
        for _ in 0..reader.map()? {
            let key = names.count_key(reader.text()?).ok_or(UNREAD)?;
            counts.push((key, reader.integer()?));
        }
        engagement.days.push(DayEngagement {
            day,
            counts,
            cost_micros: reader.integer()?,
            points: 0.0,
        });
    }
    for _ in 0..reader.map()? {
        let kind = names.kind(reader.text()?);
        engagement.last_day_by_kind.push((kind, reader.integer()?));
    }
    engagement.cost_to_acquire_micros = reader.integer()?;
    engagement.gross_cost_micros = reader.integer()?;
    engagement.declared = held(reader, |reader| reader.answer())?;
    Ok(())
}

fn consent(
    reader: &mut Reader<'_>,
    customer: &mut Customer,
    names: &mut SharedNames,
) -> Result<(), Declined> {
    let consent = &mut customer.consent;
    reader.array(3)?;
    for _ in 0..reader.map()? {
        let purpose = names.place(reader.text()?);
        consent.latest.push((purpose, consent_record(reader)?));
    }
    for _ in 0..reader.list()? {
        consent.profiling.push(consent_record(reader)?);
    }
    consent.enforced_from_us = reader.integer()?;
    Ok(())
}

fn consent_record(reader: &mut Reader<'_>) -> Result<ConsentRecord, Declined> {
    reader.array(4)?;
    Ok(ConsentRecord {
        occurred_at_us: reader.integer()?,
        granted: reader.truth()?,
        event_id: reader.text()?.into(),
        expires_at_us: reader.optional(Reader::integer)?,
    })
}

fn decision(reader: &mut Reader<'_>) -> Result<Decision, Declined> {
    reader.array(10)?;
    Ok(Decision {
        life: reader.integer()?,
        sequence: reader.integer()?,
        standing: reader.optional(|reader| {
            let ranks = reader.three()?;
            let rank = |at: usize| match u8::try_from(ranks[at]) {
                Ok(rank) if rank < RANKS[at] => Ok(rank),
                _ => Err(UNREAD),
            };
            Ok([rank(0)?, rank(1)?, rank(2)?])
        })?,
        changed_days: reader.three()?,
        baseline: reader.optional(|reader| {
            reader.array(3)?;
            Ok(Baseline {
                metrics: reader.numbers::<METRICS>()?,
                contributions: reader.numbers::<METRICS>()?,
                scores: reader.numbers::<5>()?,
            })
        })?,
        pending: reader.optional(|reader| {
            reader.array(2)?;
            Ok(PendingTrigger {
                change_id: reader.text()?.into(),
                due_day: reader.integer()?,
            })
        })?,
        fired_change_id: reader.optional(|reader| Ok(reader.text()?.into()))?,
        model: reader.optional(|reader| Ok(reader.text()?.into()))?,
        model_day: reader.integer()?,
        erased_up_to_us: reader.optional(Reader::integer)?,
    })
}

fn seen(reader: &mut Reader<'_>) -> Result<Seen, Declined> {
    reader.array(2)?;
    let mut seen = Seen {
        newest_us: reader.optional(Reader::integer)?,
        ..Seen::default()
    };
    for _ in 0..reader.map()? {
        let digest = reader.digest()?;
        seen.time_us_by_digest.insert(digest, reader.integer()?);
    }
    Ok(seen)
}

fn held<T>(
    reader: &mut Reader<'_>,
    mut value_of: impl FnMut(&mut Reader<'_>) -> Result<T, Declined>,
) -> Result<Held<T>, Declined> {
    let mut held = Held::new();
    for _ in 0..reader.map()? {
        let key = reader.text()?.into();
        reader.array(3)?;
        let latest = Latest {
            occurred_at_us: reader.integer()?,
            event_id: reader.text()?.into(),
            value: value_of(reader)?,
        };
        held.insert(key, latest);
    }
    Ok(held)
}

fn write_ledger(out: &mut Writer, ledger: &Ledger, catalogue: &Catalogue, model: &Model) {
    out.array(4);
    out.map(ledger.entries.len());
    for (order_id, entry) in &ledger.entries {
        out.text(order_id);
        out.array(7);
        out.optional(entry.ordered_on, Writer::integer);
        for version in [&entry.version, &entry.late_version] {
            match version {
                Some(version) => write_version(out, version, catalogue, model),
                None => out.0.push(NIL),
            }
        }
        out.truth(entry.is_cancelled);
        out.truth(entry.is_cancelled_late);
        out.array(entry.refunds.len());
        for refund in &entry.refunds {
            let currency = &model.currency_texts[refund.currency];
            out.array(8);
            out.integer(refund.day);
            out.truth(refund.is_late);
            out.text(&currency.code);
            out.integer(refund.amount_micros);
            out.integer(refund.base_amount_micros);
            out.integer(refund.base_cost_micros);
            out.text(&currency.rate);
            out.integer(refund.count);
        }
        out.integer(entry.newest_day);
    }
    let folded = &ledger.folded;
    out.array(9);
    out.optional(folded.first_day, Writer::integer);
    out.optional(folded.last_day, Writer::integer);
    for number in [
        folded.orders,
        folded.purchase_days,
        folded.revenue_micros,
        folded.margin_micros,
        folded.refunded_micros,
        folded.repeat_spend_days,
        folded.repeat_spend_micros,
        ledger.gross_micros,
        ledger.newest_day,
    ] {
        out.integer(number);
    }
}

fn write_version(out: &mut Writer, version: &Version, catalogue: &Catalogue, model: &Model) {
    let currency = &model.currency_texts[version.currency];
    out.array(8);
    out.integer(version.occurred_at_us);
    out.text(&version.event_id);
    out.text(&currency.code);
    out.integer(version.total_micros);
    out.integer(version.base_total_micros);
    out.integer(version.base_cost_micros);
    out.text(&currency.rate);
    out.array(version.categories.len());
    for &category in &version.categories {
        out.text(&catalogue.categories[category as usize]);
    }
}

fn write_engagement(out: &mut Writer, customer: &Customer, catalogue: &Catalogue) {
    let engagement = &customer.engagement;
    out.array(5);
    out.array(engagement.days.len());
    for bucket in &engagement.days {
        out.array(3);
        out.integer(bucket.day);
        out.map(bucket.counts.len());
        for &(key, count) in &bucket.counts {
            out.text(&catalogue.count_key_names[key as usize]);
            out.integer(count);
        }
        out.integer(bucket.cost_micros);
    }
    out.map(engagement.last_day_by_kind.len());
    for &(kind, day) in &engagement.last_day_by_kind {
        out.text(&catalogue.kinds[kind as usize]);
        out.integer(day);
    }
    out.integer(engagement.cost_to_acquire_micros);
    out.integer(engagement.gross_cost_micros);
    write_held(out, &engagement.declared, Writer::answer);
}

fn write_consent(out: &mut Writer, customer: &Customer, catalogue: &Catalogue) {
    let consent = &customer.consent;
    out.array(3);
    out.map(consent.latest.len());
    for (purpose, record) in &consent.latest {
        out.text(&catalogue.places[*purpose as usize]);
        write_consent_record(out, record);
    }
    out.array(consent.profiling.len());
    for record in &consent.profiling {
        write_consent_record(out, record);
    }
    out.integer(consent.enforced_from_us);
}

fn write_consent_record(out: &mut Writer, record: &ConsentRecord) {
    out.array(4);
    out.integer(record.occurred_at_us);
    out.truth(record.granted);
    out.text(&record.event_id);
    out.optional(record.expires_at_us, Writer::integer);
}

fn write_decision(out: &mut Writer, decision: &Decision) {
    out.array(10);
    out.integer(decision.life);
    out.integer(decision.sequence);
    out.optional(decision.standing, |out, ranks| {
        out.three(ranks.map(i64::from));
    });
    out.three(decision.changed_days);
    out.optional(decision.baseline.as_ref(), |out, baseline| {
        out.array(3);
        out.numbers(&baseline.metrics);
        out.numbers(&baseline.contributions);
        out.numbers(&baseline.scores);
    });
    out.optional(decision.pending.as_ref(), |out, pending| {
        out.array(2);
        out.text(&pending.change_id);
        out.integer(pending.due_day);
    });
    out.optional(decision.fired_change_id.as_deref(), Writer::text);
    out.optional(decision.model.as_deref(), Writer::text);
    out.integer(decision.model_day);
    out.optional(decision.erased_up_to_us, Writer::integer);
}

fn write_seen(out: &mut Writer, seen: &Seen, told: &BTreeMap<u64, i64>) {
    let is_told = |digest: &u64, time_us: &i64| told.get(digest) == Some(time_us);
    let untold = || {
        let known = seen.time_us_by_digest.iter();
        known.filter(|(digest, time_us)| !is_told(digest, time_us))
    };
    out.array(2);
    out.optional(seen.newest_us, Writer::integer);
    out.map(untold().count());
    for (digest, time_us) in untold() {
        out.digest(*digest);
        out.integer(*time_us);
    }
}

fn write_held<T>(out: &mut Writer, held: &Held<T>, write: impl Fn(&mut Writer, &T)) {
    out.map(held.len());
    for (key, latest) in held {
        out.text(key);
        out.array(3);
        out.integer(latest.occurred_at_us);
        out.text(&latest.event_id);
        write(out, &latest.value);
    }
}

/// What is left of some MessagePack.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn list(&mut self) -> Result<u32, Declined> {
        decode::read_array_len(&mut self.0).map_err(|_| UNREAD)
    }

    fn array(&mut self, fields: u32) -> Result<(), Declined> {
        if self.list()? == fields {
            Ok(())
        } else {
            Err(UNREAD)
        }
    }

    fn map(&mut self) -> Result<u32, Declined> {
        decode::read_map_len(&mut self.0).map_err(|_| UNREAD)
    }

    fn integer(&mut self) -> Result<i64, Declined> {
        decode::read_int(&mut self.0).map_err(|_| UNREAD)
    }

    fn truth(&mut self) -> Result<bool, Declined> {
        decode::read_bool(&mut self.0).map_err(|_| UNREAD)
    }

    fn text(&mut self) -> Result<&'a str, Declined> {
        let (text, rest) = decode::read_str_from_slice(self.0).map_err(|_| UNREAD)?;
        self.0 = rest;
        Ok(text)
    }

    /// A number, or NaN for nil.
    fn number(&mut self) -> Result<f64, Declined> {
        match self.0.first() {
            Some(&NIL) => {
                self.0 = &self.0[1..];
                Ok(f64::NAN)
            }
            Some(0xcb) => decode::read_f64(&mut self.0).map_err(|_| UNREAD),
            _ => Ok(self.integer()? as f64),
        }
    }

    fn numbers<const N: usize>(&mut self) -> Result<[f64; N], Declined> {
        self.array(N as u32)?;
        let mut numbers = [0.0; N];
        for number in &mut numbers {
            *number = self.number()?;
        }
        Ok(numbers)
    }

    fn three(&mut self) -> Result<[i64; 3], Declined> {
        self.array(3)?;
        Ok([self.integer()?, self.integer()?, self.integer()?])
    }

    fn digest(&mut self) -> Result<u64, Declined> {
        let length = decode::read_bin_len(&mut self.0).map_err(|_| UNREAD)?;
        let (digest, rest) = self.0.split_first_chunk::<8>().ok_or(UNREAD)?;
        if length != 8 {
            return Err(UNREAD);
        }
        self.0 = rest;
        Ok(u64::from_be_bytes(*digest))
    }

    fn answer(&mut self) -> Result<Answer, Declined> {
        match self.0.first() {
            Some(0xc2 | 0xc3) => Ok(Answer::Truth(self.truth()?)),
            Some(0xcb) => Ok(Answer::Number(self.number()?)),
            Some(0xa0..=0xbf | 0xd9..=0xdb) => Ok(Answer::Text(self.text()?.into())),
            Some(_) => {
                let whole: u64 = match decode::read_int::<i64, _>(&mut { self.0 }) {
                    Ok(_) => return Ok(Answer::Whole(self.integer()?)),
                    Err(_) => decode::read_int(&mut self.0).map_err(|_| UNREAD)?,
                };
                Ok(Answer::Large(whole))
            }
            None => Err(UNREAD),
        }
    }

    fn optional<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Declined>,
    ) -> Result<Option<T>, Declined> {
        if self.0.first() == Some(&NIL) {
            self.0 = &self.0[1..];
            return Ok(None);
        }
        read(self).map(Some)
    }
}

/// MessagePack being written; a vector takes everything.
struct Writer(Vec<u8>);

impl Writer {
    fn array(&mut self, length: usize) {
        let _ = encode::write_array_len(&mut self.0, length as u32);
    }

    fn map(&mut self, length: usize) {
        let _ = encode::write_map_len(&mut self.0, length as u32);
    }

    fn integer(&mut self, value: i64) {
        let _ = encode::write_sint(&mut self.0, value);
    }

    fn truth(&mut self, value: bool) {
        let _ = encode::write_bool(&mut self.0, value);
    }

    fn text(&mut self, value: &str) {
        let _ = encode::write_str(&mut self.0, value);
    }

    fn numbers(&mut self, numbers: &[f64]) {
        self.array(numbers.len());
        for number in numbers {
            if number.is_nan() {
                self.0.push(NIL);
            } else {
                let _ = encode::write_f64(&mut self.0, *number);
            }
        }
    }

    fn three(&mut self, values: [i64; 3]) {
        self.array(3);
        for value in values {
            self.integer(value);
        }
    }

    fn digest(&mut self, digest: u64) {
        let _ = encode::write_bin(&mut self.0, &digest.to_be_bytes());
    }

    fn answer(&mut self, answer: &Answer) {
        match answer {
            Answer::Text(text) => self.text(text),
            Answer::Truth(truth) => self.truth(*truth),
            Answer::Whole(number) => self.integer(*number),
            Answer::Large(number) => {
                let _ = encode::write_uint(&mut self.0, *number);
            }
            Answer::Number(number) => {
                let _ = encode::write_f64(&mut self.0, *number);
            }
        }
    }

    fn optional<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        match value {
            Some(value) => write(self, value),
            None => self.0.push(NIL),
        }
    }
}
