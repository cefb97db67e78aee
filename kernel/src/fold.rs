//! Records of a first load taken into customers' states, without deciding. Twin: `Enricher.load` of
//! `enrichment/enricher.py`.
//!
//! Names are numbered anew for each part of a log: states come and go as bytes.

use std::collections::HashMap;

use crate::customer::{Catalogue, Customer, Effect};
use crate::days::{midnight_us, write_time, DAY_US};
use crate::engagement::Held;
use crate::events::{Answer, Record};
use crate::log::{Log, Taken};
use crate::model::Model;
use crate::state::{pack, settle, unpack};
use crate::walk::{declared_intent, Exactly};
use crate::Declined;

/// The due day of everyone whom a first load has made known and who has not been decided on.
const UNDECIDED_DAY: i64 = -1;

/// Records in the order in which they came, and where each was among all that were given.
pub struct Part {
    log: Log,
    rows: Vec<usize>,
}

/// Where a record was, and who says what of it beside its value.
pub struct Given<'a> {
    pub row: usize,
    pub topic: u8,
    pub value: &'a [u8],
    /// The key that must be its customer's id; None where that has been checked.
    pub key: Option<&'a [u8]>,
    /// When the broker took it, in microseconds; None where it does not say, or that has been checked.
    pub stamped_us: Option<i64>,
}

/// Where a record was, what became of it, and why it was refused.
pub type Outcome = (usize, &'static str, Option<String>);

/// What became of the records of a part.
pub struct Folded {
    /// For each record: where it was, what became of it, and why it was refused.
    pub outcomes: Vec<Outcome>,
    /// Of each customer whose state changed.
    pub states: Vec<FoldedState>,
}

/// The state of a customer.
pub struct FoldedState {
    /// The place among the customers.
    pub customer: usize,
    pub bytes: Vec<u8>,
    /// None for one of whom nothing but an erasure is known.
    pub due_day: Option<i64>,
    /// How many lives have ended, and up to when records are erased, if a record of this part says so.
    pub erased: Option<(i64, i64)>,
}

impl Part {
    pub fn new(model: &Model) -> Self {
        Part {
            log: Log::new(model),
            rows: Vec::new(),
        }
    }

    /// Take a record; tells whether it is plainly valid, keyed by its customer, and not of the future.
    pub fn take(&mut self, given: &Given<'_>, model: &Model) -> bool {
        let Taken::Record = self.log.take(given.topic, given.value, None, None, model) else {
            return false;
        };
        let record = &self.log.records[self.log.records.len() - 1];
        let customer_id = self.log.customers.name(record.customer).as_bytes();
        let latest_us = given.stamped_us.map(|stamped_us| stamped_us + DAY_US);
        if given.key.is_some_and(|key| key != customer_id)
            || latest_us.is_some_and(|latest_us| record.occurred_at_us > latest_us)
        {
            self.log.records.pop();
            return false;
        }
        self.rows.push(given.row);
        true
    }

    /// Whom the records name, in the order in which they came; some may be named by refused records alone.
    pub fn customers(&self) -> &[Box<str>] {
        self.log.customers.names()
    }

    /// Take the records into the states of the customers, which are in their order; None for one who is unknown.
    pub fn fold(
        mut self,
        states: &[Option<&[u8]>],
        midnight_day: i64,
        model: &Model,
        exactly: &dyn Exactly,
    ) -> Result<Folded, Declined> {
        let mut customers = Vec::with_capacity(states.len());
        for state in states {
            let known = state.map(|bytes| unpack(bytes, &mut self.log.names, model));
            customers.push(known.transpose()?);
        }
        let catalogue = self.log.names.catalogue(model);
        let mut points = HashMap::new();
        let mut intent_of =
            |held: &Held<Answer>| declared_intent(held, model, exactly, &mut points);
        let mut folding = Folding {
            catalogue: &catalogue,
            model,
            midnight_us: midnight_us(midnight_day),
            is_touched: vec![false; customers.len()],
            erased: vec![None; customers.len()],
        };
        let mut settled = Vec::with_capacity(customers.len());
        for customer in customers {
            settled.push(match customer {
                Some(mut customer) => {
                    settle(&mut customer, &catalogue);
                    customer.derive(&catalogue, model, &mut intent_of)?;
                    customer
                }
                None => Customer::unknown(&catalogue, model),
            });
        }
        let mut order: Vec<usize> = (0..self.rows.len()).collect();
        order.sort_by_key(|&at| self.rows[at]);
        let mut outcomes = Vec::with_capacity(order.len());
        for at in order {
            let record = &self.log.records[at];
            let customer = &mut settled[record.customer as usize];
            let (outcome, why) = folding.take(customer, record, &mut intent_of)?;
            outcomes.push((self.rows[at], outcome, why));
        }
        let states = (0..settled.len())
            .filter(|&customer| folding.is_touched[customer])
            .map(|customer| FoldedState {
                customer,
                bytes: pack(&settled[customer], &catalogue, model),
                due_day: settled[customer]
                    .due_day
                    .filter(|_| settled[customer].is_known()),
                erased: folding.erased[customer],
            })
            .collect();
        Ok(Folded { outcomes, states })
    }
}

struct Folding<'a> {
    catalogue: &'a Catalogue,
    model: &'a Model,
    midnight_us: i64,
    is_touched: Vec<bool>,
    erased: Vec<Option<(i64, i64)>>,
}

impl Folding<'_> {
    fn take(
        &mut self,
        customer: &mut Customer,
        record: &Record,
        intent_of: &mut impl FnMut(&Held<Answer>) -> Result<Option<f64>, Declined>,
    ) -> Result<(&'static str, Option<String>), Declined> {
        let (catalogue, model, midnight_us) = (self.catalogue, self.model, self.midnight_us);
        let effect = customer.apply(record, midnight_us, catalogue, model, intent_of)?;
        let outcome = match effect {
            Effect::TooLate { newest_us, days } => {
                let why = too_late(record.occurred_at_us, newest_us, days);
                return Ok(("dead_letter", Some(why)));
            }
            Effect::Erased => return Ok(("erased", None)),
            Effect::Duplicate => return Ok(("duplicate", None)),
            Effect::Changed {
                is_repeated: true, ..
            } => "duplicate",
            Effect::Changed { .. } => "accepted",
            Effect::Erasure(erased) => {
                let at_us = record.occurred_at_us;
                customer.keep_later(*erased, at_us, midnight_us, catalogue, model, intent_of)?;
                let decision = &customer.decision;
                self.erased[record.customer as usize] = decision
                    .erased_up_to_us
                    .map(|erased_us| (decision.life, erased_us));
                "accepted"
            }
        };
        self.is_touched[record.customer as usize] = true;
        customer.due_day = Some(UNDECIDED_DAY);
        Ok((outcome, None))
    }
}

/// Why a record is too late, as the Python core says it.
fn too_late(at_us: i64, newest_us: i64, days: i64) -> String {
    let text = |time_us| {
        let mut text = Vec::new();
        write_time(&mut text, time_us);
        String::from_utf8_lossy(&text).into_owned()
    };
    format!(
        "occurred_at: {} is more than {days} days before the customer's newest, {}",
        text(at_us),
        text(newest_us)
    )
}
