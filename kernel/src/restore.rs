//! States made anew from the inputs, after decisions that are known. Twin: `_Fold` and `_Customers.restored` of
//! `streams/worker/restoring/restore.py`.

use foldhash::{HashMap, HashMapExt};

use crate::customer::{Customer, Effect};
use crate::days::{day_of, midnight_us};
use crate::engagement::Held;
use crate::events::{Answer, Event, Record};
use crate::log::Log;
use crate::model::Model;
use crate::part::ReadPart;
use crate::state::{pack, settle, unpack};
use crate::walk::{declared_intent, Exactly};
use crate::Declined;

/// The due day of everyone who has not been decided on, until the first load ends.
const UNDECIDED_DAY: i64 = -1;

/// What is known of erasures and days from the records so far.
pub struct Restorer {
    is_wall_clock: bool,
    erased_at_ms: HashMap<Box<str>, i64>,
    erased_up_to_us: HashMap<Box<str>, i64>,
    newest_day: [Option<i64>; 3],
}

/// When a record came.
#[derive(Clone, Copy)]
pub struct Moment {
    /// By the broker or by its producer; None of one that did not come in a batch.
    pub timestamp_ms: Option<i64>,
    /// When the broker took it; None where it does not say.
    pub stamped_us: Option<i64>,
}

/// The state of a customer so far: the place among the customers, the bytes, and whether anything is known.
pub struct RestoredState {
    pub customer: usize,
    pub bytes: Vec<u8>,
    pub is_known: bool,
}

impl Restorer {
    pub fn new(is_wall_clock: bool) -> Self {
        Restorer {
            is_wall_clock,
            erased_at_ms: HashMap::new(),
            erased_up_to_us: HashMap::new(),
            newest_day: [None; 3],
        }
    }

    /// Take the records of a part, which are all of a first load as of this midnight, or none of them is.
    /// `as_of_us` is when customers were erased for the last time, by their places, as far as it is remembered.
    pub fn take(
        &mut self,
        part: ReadPart,
        moments: &[Moment],
        load_midnight_day: Option<i64>,
        as_of_us: &HashMap<usize, i64>,
        model: &Model,
        exactly: &dyn Exactly,
    ) -> Result<Vec<RestoredState>, Declined> {
        let (mut customers, mut points, catalogue) = (part.customers, part.points, part.catalogue);
        let mut intent_of =
            |held: &Held<Answer>| declared_intent(held, model, exactly, &mut points);
        let mut is_touched = vec![false; customers.len()];
        for (row, record) in &part.records {
            let at = record.customer as usize;
            let (customer, name) = (&mut customers[at], &part.names[at]);
            is_touched[at] = true;
            if let Some(midnight_day) = load_midnight_day {
                self.note_load(record, name);
                let midnight_us = midnight_us(midnight_day);
                match customer.apply(record, midnight_us, &catalogue, model, &mut intent_of)? {
                    Effect::Erasure(before) => {
                        let at_us = record.occurred_at_us;
                        customer.keep_later(
                            *before,
                            at_us,
                            midnight_us,
                            &catalogue,
                            model,
                            &mut intent_of,
                        )?;
                    }
                    Effect::TooLate { .. }
                    | Effect::Erased
                    | Effect::Duplicate
                    | Effect::Changed { .. } => {}
                }
                if let Some(latest_us) = customer.latest_us {
                    customer.profiled_day = customer.profiled_day.max(day_of(latest_us));
                }
                continue;
            }
            let moment = moments[*row];
            let came_ms = moment
                .timestamp_ms
                .ok_or(Declined("a record that did not come in a batch"))?;
            if let Event::Erasure = record.event {
                if self.note_erasure(record, name, came_ms) {
                    let decision = std::mem::take(&mut customer.decision);
                    *customer = Customer::unknown(&catalogue, model);
                    customer.decision = decision;
                }
                continue;
            }
            if self.is_erased(record, name, came_ms, as_of_us.get(&at).copied()) {
                continue;
            }
            customer.apply(record, 0, &catalogue, model, &mut intent_of)?;
            if let Some(latest_us) = customer.latest_us {
                let day = day_of(latest_us).max(self.evaluated_on(record, moment.stamped_us));
                customer.profiled_day = customer.profiled_day.max(day);
            }
        }
        let touched = (0..customers.len()).filter(|&at| is_touched[at]);
        Ok(touched
            .map(|at| RestoredState {
                customer: at,
                bytes: pack(&customers[at], &catalogue, model),
                is_known: customers[at].is_known(),
            })
            .collect())
    }

    fn note_load(&mut self, record: &Record, name: &str) {
        if let Event::Erasure = record.event {
            let known = self.erased_up_to_us.entry(name.into()).or_insert(-1);
            *known = record.occurred_at_us.max(*known);
        }
    }

    /// Tells whether an erasure erases anything: not one that comes again, dated no later than the last one.
    fn note_erasure(&mut self, record: &Record, name: &str, came_ms: i64) -> bool {
        let known_us = self.erased_up_to_us.get(name).copied().unwrap_or(-1);
        if record.occurred_at_us <= known_us {
            return false;
        }
        self.erased_up_to_us
            .insert(name.into(), record.occurred_at_us);
        self.erased_at_ms.insert(name.into(), came_ms);
        true
    }

    /// Whether a record came before its customer's erasure, which deleted it whatever its date.
    fn is_erased(&self, record: &Record, name: &str, came_ms: i64, as_of_us: Option<i64>) -> bool {
        match self.erased_at_ms.get(name) {
            Some(&erased_at_ms) if came_ms < erased_at_ms => {
                as_of_us.is_none_or(|as_of_us| record.occurred_at_us <= as_of_us)
            }
            _ => false,
        }
    }

    fn evaluated_on(&mut self, record: &Record, stamped_us: Option<i64>) -> i64 {
        let day = day_of(record.occurred_at_us);
        if self.is_wall_clock {
            return stamped_us.map_or(day, day_of);
        }
        let newest = &mut self.newest_day[usize::from(record.topic)];
        let newest_day = newest.map_or(day, |known| known.max(day));
        *newest = Some(newest_day);
        newest_day
    }
}

/// The states as they are stored once all records have been taken, with their due days. Of each is told whether it was
/// decided on.
pub fn finish(
    states: &[(&[u8], bool)],
    midnight_day: i64,
    is_loading: bool,
    fingerprint: &str,
    model: &Model,
    exactly: &dyn Exactly,
) -> Result<Vec<(Vec<u8>, i64)>, Declined> {
    let mut names = Log::new(model).names;
    let mut customers = Vec::with_capacity(states.len());
    for (bytes, _) in states {
        customers.push(unpack(bytes, &mut names, model)?);
    }
    let catalogue = names.catalogue(model);
    let mut points = HashMap::new();
    let mut intent_of = |held: &Held<Answer>| declared_intent(held, model, exactly, &mut points);
    let mut finished = Vec::with_capacity(states.len());
    for (mut customer, (_, is_decided)) in customers.into_iter().zip(states) {
        settle(&mut customer, &catalogue);
        customer.derive(&catalogue, model, &mut intent_of)?;
        let mut due_day = UNDECIDED_DAY;
        if *is_decided {
            let decision = &customer.decision;
            let days = [customer.profiled_day, decision.model_day];
            let last_day = days
                .into_iter()
                .chain(decision.changed_days)
                .fold(i64::MIN, i64::max);
            let is_outdated = is_loading && decision.model.as_deref() != Some(fingerprint);
            due_day = if is_outdated { last_day } else { last_day + 1 };
            customer.latest_us.get_or_insert(midnight_us(last_day));
            customer.forget_unallowed(last_day.max(midnight_day), model, &mut intent_of)?;
        }
        customer.due_day = Some(due_day);
        finished.push((pack(&customer, &catalogue, model), due_day));
    }
    Ok(finished)
}
