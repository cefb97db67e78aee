//! Records of a worker, some at a time, and the customers whom they name: states come and go as bytes.
//!
//! Names are numbered anew for each part of a log.

use foldhash::{HashMap, HashMapExt};

use crate::customer::{Catalogue, Customer};
use crate::days::{write_time, DAY_US};
use crate::engagement::Held;
use crate::events::{Answer, Record};
use crate::log::{Log, Taken};
use crate::model::Model;
use crate::state::{settle, unpack};
use crate::walk::{declared_intent, Exactly};
use crate::Declined;

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

/// What became of records.
#[derive(Default)]
pub struct Outcomes {
    /// How many of a topic had an outcome.
    pub counts: Vec<((u8, &'static str), u64)>,
    /// Where those were that are refused, and why.
    pub refused: Vec<(usize, String)>,
}

impl Outcomes {
    pub fn note(&mut self, row: usize, topic: u8, outcome: &'static str, why: Option<String>) {
        let key = (topic, outcome);
        match self.counts.iter_mut().find(|(known, _)| *known == key) {
            Some((_, count)) => *count += 1,
            None => self.counts.push((key, 1)),
        }
        self.refused.extend(why.map(|why| (row, why)));
    }
}

/// A part whose customers have been read.
pub struct ReadPart {
    pub names: Vec<Box<str>>,
    /// In the order of `names`.
    pub customers: Vec<Customer>,
    /// In the order in which they came, each with the place where it was.
    pub records: Vec<(usize, Record)>,
    pub catalogue: Catalogue,
    pub points: HashMap<String, f64>,
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

    /// Name a customer of whom there is no record.
    pub fn name(&mut self, customer_id: &str) {
        self.log.customers.number(customer_id);
    }

    /// Whom the records name, in the order in which they came; some may be named by refused records alone.
    pub fn customers(&self) -> &[Box<str>] {
        self.log.customers.names()
    }

    /// Read the states of the customers, which are in their order; None for one who is unknown.
    pub fn read(
        mut self,
        states: &[Option<&[u8]>],
        model: &Model,
        exactly: &dyn Exactly,
    ) -> Result<ReadPart, Declined> {
        let mut unpacked = Vec::with_capacity(states.len());
        for state in states {
            let known = state.map(|bytes| unpack(bytes, &mut self.log.names, model));
            unpacked.push(known.transpose()?);
        }
        let catalogue = self.log.names.catalogue(model);
        let mut points = HashMap::new();
        let mut intent_of =
            |held: &Held<Answer>| declared_intent(held, model, exactly, &mut points);
        let mut customers = Vec::with_capacity(unpacked.len());
        for customer in unpacked {
            customers.push(match customer {
                Some(mut customer) => {
                    settle(&mut customer, &catalogue);
                    customer.derive(&catalogue, model, &mut intent_of)?;
                    customer
                }
                None => Customer::unknown(&catalogue, model),
            });
        }
        let mut records: Vec<_> = self.rows.into_iter().zip(self.log.records).collect();
        records.sort_by_key(|(row, _)| *row);
        Ok(ReadPart {
            names: self.log.customers.names().to_vec(),
            customers,
            records,
            catalogue,
            points,
        })
    }
}

/// Why a record is too late, as the Python core says it.
pub fn too_late(at_us: i64, newest_us: i64, days: i64) -> String {
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
