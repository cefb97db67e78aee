//! Records of a first load taken into customers' states, without deciding. Twin: `Enricher.load` of
//! `enrichment/enricher.py`.

use crate::customer::{Catalogue, Customer, Effect};
use crate::days::midnight_us;
use crate::engagement::Held;
use crate::events::{Answer, Record};
use crate::model::Model;
use crate::part::{too_late, Outcomes, ReadPart};
use crate::state::pack;
use crate::walk::{declared_intent, Exactly};
use crate::Declined;

/// The due day of everyone whom a first load has made known and who has not been decided on.
const UNDECIDED_DAY: i64 = -1;

/// What became of the records of a part.
pub struct Folded {
    pub outcomes: Outcomes,
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

/// Take the records of a part into its customers.
pub fn fold(
    part: ReadPart,
    midnight_day: i64,
    model: &Model,
    exactly: &dyn Exactly,
) -> Result<Folded, Declined> {
    let (mut customers, mut points, catalogue) = (part.customers, part.points, part.catalogue);
    let mut intent_of = |held: &Held<Answer>| declared_intent(held, model, exactly, &mut points);
    let mut folding = Folding {
        catalogue: &catalogue,
        model,
        midnight_us: midnight_us(midnight_day),
        is_touched: vec![false; customers.len()],
        erased: vec![None; customers.len()],
    };
    let mut outcomes = Outcomes::default();
    for (row, record) in &part.records {
        let customer = &mut customers[record.customer as usize];
        let (outcome, why) = folding.take(customer, record, &mut intent_of)?;
        outcomes.note(*row, record.topic, outcome, why);
    }
    let states = (0..customers.len())
        .filter(|&customer| folding.is_touched[customer])
        .map(|customer| FoldedState {
            customer,
            bytes: pack(&customers[customer], &catalogue, model),
            due_day: customers[customer]
                .due_day
                .filter(|_| customers[customer].is_known()),
            erased: folding.erased[customer],
        })
        .collect();
    Ok(Folded { outcomes, states })
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
