//! One customer: everything held about them, and how one accepted record changes it.
//! Twin: `enrichment/customer/customer.py`, `validation.py` and `size_limits.py`.
//!
//! In a replay a customer's records come in the order of their times; in a first load they come in any order, and some
//! are too late.

use std::collections::BTreeMap;

use foldhash::HashSet;

use crate::consent::ConsentState;
use crate::days::{day_of, DAY_US};
use crate::decision::Decision;
use crate::engagement::{forget_before, hold_latest, CountKey, EngagementState, Held, Touch};
use crate::events::{Answer, Event, Record};
use crate::identity::digest_of;
use crate::json::string_bytes;
use crate::model::Model;
use crate::orders::Ledger;
use crate::Declined;

const MONEY_ONLY_AFTER_DAYS: i64 = 400;
const MAX_GROSS_MICROS: i64 = 1 << 61;
const MAX_HELD_BYTES: usize = 65_536;
const PURCHASES: usize = 1;
const ENGAGEMENTS: usize = 2;

/// The names of a log, and what the model says of them.
pub struct Catalogue {
    pub count_keys: Vec<CountKey>,
    pub count_key_names: Vec<Box<str>>,
    /// Channels and purposes.
    pub places: Vec<Box<str>>,
    pub is_channel: Vec<bool>,
    pub profiling: u32,
    pub categories: Vec<Box<str>>,
    pub kinds: Vec<Box<str>>,
    pub weight_of_kind: Vec<f64>,
    pub unit_cost_of_kind: Vec<i64>,
    pub acquired: Option<u32>,
    /// The number in order of each number that records carry.
    pub count_key_places: Vec<u32>,
    pub place_places: Vec<u32>,
    pub category_places: Vec<u32>,
}

/// Records that were accepted in one topic, for as long as others would not be too late beside them.
#[derive(Default)]
pub struct Seen {
    pub newest_us: Option<i64>,
    pub time_us_by_digest: BTreeMap<u64, i64>,
}

impl Seen {
    fn is_late(&self, time_us: i64, horizon_days: Option<i64>) -> bool {
        matches!((horizon_days, self.newest_us), (Some(days), Some(newest_us))
            if time_us < newest_us - days * DAY_US)
    }

    fn is_repeat(&self, digest: u64, at_us: i64, horizon_days: Option<i64>) -> bool {
        let Some(&known_us) = self.time_us_by_digest.get(&digest) else {
            return false;
        };
        match (horizon_days, self.newest_us) {
            (Some(days), Some(newest_us)) => known_us >= newest_us.max(at_us) - days * DAY_US,
            _ => true,
        }
    }

    /// Note an accepted record, and now and then drop those that would by now be too late.
    fn remember(&mut self, digest: u64, at_us: i64, horizon_days: Option<i64>) {
        self.time_us_by_digest.insert(digest, at_us);
        let before_us = self.newest_us;
        if before_us.is_some_and(|before_us| at_us <= before_us) {
            return;
        }
        self.newest_us = Some(at_us);
        if let (Some(before_us), Some(days)) = (before_us, horizon_days) {
            if day_of(at_us) >> 4 != day_of(before_us) >> 4 {
                let from_us = at_us - days * DAY_US;
                self.time_us_by_digest
                    .retain(|_, known_us| *known_us >= from_us);
            }
        }
    }
}

/// What became of a record.
pub enum Effect {
    /// Dated so many days, or more, before the newest of its topic.
    TooLate {
        newest_us: i64,
        days: i64,
    },
    Erased,
    Duplicate,
    /// The state changed. `is_repeated` is an order sent again, `wins_back` a new counted order or scored engagement.
    Changed {
        is_repeated: bool,
        wins_back: bool,
    },
    /// Everything is forgotten: this was known in the life that ended.
    Erasure(Box<Customer>),
}

/// A customer in memory, with what is derived from the state.
#[derive(Default)]
pub struct Customer {
    pub ledger: Ledger,
    pub engagement: EngagementState,
    pub consent: ConsentState,
    pub decision: Decision,
    pub seen: [Seen; 3],
    /// Whether the purchases that orders tell of are among those seen; they are added where a purchase asks for them.
    pub has_told_purchases: bool,
    pub attributes: [Held<Box<str>>; 3],
    pub latest_us: Option<i64>,
    pub profiled_day: i64,
    pub due_day: Option<i64>,
    /// The latest value of each attribute of any topic.
    pub told: BTreeMap<Box<str>, Box<str>>,
    pub profiling_until_day: i64,
    pub declared_intent: Option<f64>,
    /// Purposes by the last day on which they are granted, in order.
    pub channels: Vec<(u32, i64)>,
    pub others: Vec<(u32, i64)>,
    names: HashSet<u32>,
    name_bytes: usize,
}

impl Customer {
    /// A customer of whom nothing is known, before anything is derived.
    pub fn blank() -> Self {
        Customer {
            profiled_day: -1,
            ..Customer::default()
        }
    }

    /// A customer of whom nothing is known.
    pub fn unknown(catalogue: &Catalogue, model: &Model) -> Self {
        let mut customer = Customer::blank();
        customer.profiling_until_day = customer
            .consent
            .profiling_until_day(catalogue.profiling, model.given.is_opt_in);
        customer
    }

    /// Whether anything but an erasure is known of this customer.
    pub fn is_known(&self) -> bool {
        self.latest_us.is_some()
    }

    /// The later of the newest record and the last midnight that has passed.
    pub fn as_of_us(&self, midnight_us: i64) -> i64 {
        self.latest_us
            .map_or(midnight_us, |latest_us| latest_us.max(midnight_us))
    }

    /// Make what is derived from the state.
    pub fn derive(
        &mut self,
        catalogue: &Catalogue,
        model: &Model,
        intent_of: &mut impl FnMut(&Held<Answer>) -> Result<Option<f64>, Declined>,
    ) -> Result<(), Declined> {
        self.ledger.derive(model)?;
        let mut named: Vec<u32> = Vec::new();
        for bucket in &mut self.engagement.days {
            bucket.weigh(&catalogue.count_keys);
            named.extend(bucket.counts.iter().map(|(key, _)| *key));
        }
        for key in named {
            self.note_name(key, catalogue)?;
        }
        self.permit(catalogue, model)?;
        self.declared_intent = intent_of(&self.engagement.declared)?;
        self.merge_attributes();
        Ok(())
    }

    fn tell_purchases(&mut self) {
        if std::mem::replace(&mut self.has_told_purchases, true) {
            return;
        }
        let told = &mut self.seen[PURCHASES].time_us_by_digest;
        for entry in self.ledger.entries.values_mut() {
            if let Some(version) = &mut entry.version {
                version.digest = digest_of(version.event_id.as_bytes());
                told.entry(version.digest).or_insert(version.occurred_at_us);
            }
        }
    }

    /// Channels that may be used on a day, in order.
    pub fn channels_on(&self, day: i64) -> impl Iterator<Item = u32> + '_ {
        self.channels
            .iter()
            .filter(move |(_, last_day)| *last_day >= day)
            .map(|(channel, _)| *channel)
    }

    /// Take a record; `midnight_us` is the last midnight that has passed, `intent_of` gives the points of what was
    /// declared.
    pub fn apply(
        &mut self,
        record: &Record,
        midnight_us: i64,
        catalogue: &Catalogue,
        model: &Model,
        intent_of: &mut impl FnMut(&Held<Answer>) -> Result<Option<f64>, Declined>,
    ) -> Result<Effect, Declined> {
        let at_us = record.occurred_at_us;
        if self
            .decision
            .erased_up_to_us
            .is_some_and(|erased_us| at_us <= erased_us)
        {
            return Ok(Effect::Erased);
        }
        let topic = usize::from(record.topic);
        let digest = digest_of(&identity_of(record, catalogue));
        let horizon_days = match topic {
            PURCHASES => Some(model.given.purchases_days),
            ENGAGEMENTS => Some(model.given.engagements_days),
            _ => None,
        };
        if topic == PURCHASES {
            self.tell_purchases();
        }
        let seen = &self.seen[topic];
        if let (true, Some(days), Some(newest_us)) = (
            seen.is_late(at_us, horizon_days),
            horizon_days,
            seen.newest_us,
        ) {
            return Ok(Effect::TooLate { newest_us, days });
        }
        if seen.is_repeat(digest, at_us, horizon_days) {
            return Ok(Effect::Duplicate);
        }
        if matches!(record.event, Event::Erasure) {
            let life = self.decision.life + 1;
            let erased = std::mem::replace(self, Customer::unknown(catalogue, model));
            self.decision.life = life;
            self.decision.erased_up_to_us = Some(at_us);
            return Ok(Effect::Erasure(Box::new(erased)));
        }
        self.seen[topic].remember(digest, at_us, horizon_days);
        let day = day_of(at_us);
        if self.latest_us.is_none_or(|latest_us| at_us > latest_us) {
            self.latest_us = Some(at_us);
            let today = day_of(self.as_of_us(midnight_us));
            self.forget_unallowed(today, model, intent_of)?;
        }
        let today = day_of(self.as_of_us(midnight_us));
        let mut effect = (false, false);
        match &record.event {
            Event::Purchase(purchase) => {
                let mut categories: Vec<u32> = purchase
                    .categories
                    .iter()
                    .map(|&number| catalogue.category_places[number as usize])
                    .collect();
                categories.sort_unstable();
                let late_after_days = MONEY_ONLY_AFTER_DAYS.max(model.given.purchases_days);
                let found = self.ledger.apply(
                    purchase,
                    categories,
                    at_us,
                    &record.event_id,
                    digest,
                    model,
                    late_after_days,
                )?;
                if self.ledger.gross_micros > MAX_GROSS_MICROS {
                    return Err(Declined(
                        "a customer's amounts add up beyond 2^61 micro-units",
                    ));
                }
                effect = (found.is_repeated_order, found.is_new_counted_order);
                self.note_attributes(record)?;
            }
            Event::Engagement(engagement) => {
                let is_opt_in = model.given.is_opt_in;
                let is_kept = at_us >= self.consent.denied_until_us(is_opt_in, today);
                let count_key = catalogue.count_key_places[engagement.count_key as usize];
                let is_acquisition = Some(engagement.kind) == catalogue.acquired;
                let cost_micros = match engagement.cost_micros {
                    Some((cost_micros, currency)) => model
                        .in_base_micros(cost_micros, currency)
                        .ok_or(Declined("a cost beyond 64 bits"))?,
                    None if is_acquisition => 0,
                    None => catalogue.unit_cost_of_kind[engagement.kind as usize],
                };
                if self.engagement.gross_cost_micros + cost_micros > MAX_GROSS_MICROS {
                    return Err(Declined(
                        "a customer's costs add up beyond 2^61 micro-units",
                    ));
                }
                self.note_name(count_key, catalogue)?;
                if is_kept {
                    let touch = Touch {
                        day,
                        kind: engagement.kind,
                        count_key,
                        is_automated: engagement.is_automated,
                        is_acquisition,
                        cost_micros,
                    };
                    effect.1 = self.engagement.apply(&touch, &catalogue.count_keys);
                    self.note_attributes(record)?;
                }
                self.declare(record, &engagement.declared, is_kept, intent_of)?;
            }
            Event::Consent(consent) => {
                let purpose = catalogue.place_places[consent.purpose as usize];
                let is_profiling = purpose == catalogue.profiling;
                self.consent
                    .apply(consent, purpose, is_profiling, at_us, &record.event_id);
                self.permit(catalogue, model)?;
                self.note_attributes(record)?;
                self.forget_unallowed(today, model, intent_of)?;
            }
            Event::Erasure => {}
        }
        Ok(Effect::Changed {
            is_repeated: effect.0,
            wins_back: effect.1,
        })
    }

    /// After an erasure of a first load, in which consents come before everything else: take over the consents of
    /// `before` that are dated after it.
    pub fn keep_later(
        &mut self,
        mut before: Customer,
        erased_up_to_us: i64,
        midnight_us: i64,
        catalogue: &Catalogue,
        model: &Model,
        intent_of: &mut impl FnMut(&Held<Answer>) -> Result<Option<f64>, Declined>,
    ) -> Result<(), Declined> {
        let Some(newest_us) = before.seen[0]
            .newest_us
            .filter(|&newest| newest > erased_up_to_us)
        else {
            return Ok(());
        };
        let mut seen = std::mem::take(&mut before.seen[0]);
        seen.time_us_by_digest
            .retain(|_, at_us| *at_us > erased_up_to_us);
        self.seen[0] = seen;
        self.consent = before.consent.after(erased_up_to_us);
        self.attributes[0] = std::mem::take(&mut before.attributes[0]);
        forget_before(&mut self.attributes[0], erased_up_to_us + 1);
        self.latest_us = Some(newest_us);
        self.permit(catalogue, model)?;
        self.merge_attributes();
        let today = day_of(self.as_of_us(midnight_us));
        self.forget_unallowed(today, model, intent_of)
    }

    /// Delete engagement dated before the end of the latest period in which profiling was not allowed.
    pub fn forget_unallowed(
        &mut self,
        day: i64,
        model: &Model,
        intent_of: &mut impl FnMut(&Held<Answer>) -> Result<Option<f64>, Declined>,
    ) -> Result<(), Declined> {
        let is_opt_in = model.given.is_opt_in;
        let Some(keep_from_us) = self.consent.newly_denied_until(is_opt_in, day) else {
            return Ok(());
        };
        self.engagement.forget_before(keep_from_us);
        forget_before(&mut self.attributes[ENGAGEMENTS], keep_from_us);
        self.declared_intent = intent_of(&self.engagement.declared)?;
        self.merge_attributes();
        Ok(())
    }

    fn permit(&mut self, catalogue: &Catalogue, model: &Model) -> Result<(), Declined> {
        self.channels.clear();
        self.others.clear();
        let mut held_bytes = 0;
        for (purpose, last_day) in self.consent.granted_until() {
            held_bytes += string_bytes(&catalogue.places[purpose as usize]) + "false".len();
            if purpose == catalogue.profiling {
                continue;
            }
            if catalogue.is_channel[purpose as usize] {
                self.channels.push((purpose, last_day));
            } else {
                self.others.push((purpose, last_day));
            }
        }
        self.profiling_until_day = self
            .consent
            .profiling_until_day(catalogue.profiling, model.given.is_opt_in);
        within_limit(held_bytes)
    }

    /// Names of interactions, also of those that were not kept: where they are few, no limit can be reached.
    fn note_name(&mut self, count_key: u32, catalogue: &Catalogue) -> Result<(), Declined> {
        if self.names.insert(count_key) {
            self.name_bytes += string_bytes(&catalogue.count_key_names[count_key as usize]);
        }
        within_limit(self.name_bytes)
    }

    fn declare(
        &mut self,
        record: &Record,
        declared: &[(Box<str>, Answer)],
        is_kept: bool,
        intent_of: &mut impl FnMut(&Held<Answer>) -> Result<Option<f64>, Declined>,
    ) -> Result<(), Declined> {
        if declared.is_empty() {
            return Ok(());
        }
        let bytes = |key: &str, answer: &Answer| {
            string_bytes(key)
                + match answer {
                    Answer::Text(text) => string_bytes(text),
                    _ => 32,
                }
        };
        let held = self.engagement.declared.iter();
        let held_bytes: usize = held.map(|(key, latest)| bytes(key, &latest.value)).sum();
        let more_bytes: usize = declared
            .iter()
            .map(|(key, answer)| bytes(key, answer))
            .sum();
        within_limit(held_bytes + more_bytes)?;
        if is_kept {
            let answers = &mut self.engagement.declared;
            hold_latest(answers, declared, record.occurred_at_us, &record.event_id);
            self.declared_intent = intent_of(&self.engagement.declared)?;
        }
        Ok(())
    }

    fn note_attributes(&mut self, record: &Record) -> Result<(), Declined> {
        if record.attributes.is_empty() {
            return Ok(());
        }
        let held = &mut self.attributes[usize::from(record.topic)];
        if !hold_latest(
            held,
            &record.attributes,
            record.occurred_at_us,
            &record.event_id,
        ) {
            return Ok(());
        }
        let all = self.attributes.iter().flatten();
        within_limit(
            all.map(|(key, latest)| string_bytes(key) + string_bytes(&latest.value))
                .sum(),
        )?;
        self.merge_attributes();
        Ok(())
    }

    fn merge_attributes(&mut self) {
        let mut merged: BTreeMap<&str, (i64, &str, &str)> = BTreeMap::new();
        for (key, latest) in self.attributes.iter().flatten() {
            let mark = (latest.occurred_at_us, &*latest.event_id, &*latest.value);
            let known = merged.entry(key).or_insert(mark);
            *known = mark.max(*known);
        }
        self.told = merged
            .into_iter()
            .map(|(key, (_, _, value))| (key.into(), value.into()))
            .collect();
    }
}

/// Near the limit of what a customer may hold, Python counts exactly.
fn within_limit(held_bytes: usize) -> Result<(), Declined> {
    if held_bytes > MAX_HELD_BYTES {
        return Err(Declined("a customer who holds more text than 64 KiB"));
    }
    Ok(())
}

/// What a record is known by in its topic: its event id, and for a consent its purpose and whether it grants.
fn identity_of(record: &Record, catalogue: &Catalogue) -> Vec<u8> {
    let granted = match &record.event {
        Event::Consent(consent) if consent.granted => "True",
        Event::Consent(_) => "False",
        Event::Erasure => "None",
        _ => return record.event_id.as_bytes().to_vec(),
    };
    let purpose = match &record.event {
        Event::Consent(consent) => {
            let place = catalogue.place_places[consent.purpose as usize];
            &*catalogue.places[place as usize]
        }
        _ => "",
    };
    let length = purpose.chars().count();
    format!("{granted}/{length}/{purpose}{}", record.event_id).into_bytes()
}
