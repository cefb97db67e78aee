//! One customer through a log: midnights, records, decisions. Twin: `enrichment/enricher.py`,
//! `deciding/decider.py`, `deciding/timers.py` and `streams/replay/replay.py`.
//!
//! Customers are independent of each other, so that each is taken through the whole log alone. Every midnight on
//! which a customer is due is evaluated when it is passed; nothing is looked at ahead.

use foldhash::HashMap;

use crate::customer::{Catalogue, Customer, Effect};
use crate::days::{day_of, midnight_us};
use crate::decision::{Baseline, Decision, PendingTrigger};
use crate::documents::{standing_name, Cause, Writer};
use crate::engagement::Held;
use crate::events::{Answer, Event, Record};
use crate::lifetime::{chance_of_return, History, Predictor, Purchasing};
use crate::model::Model;
use crate::output::{Fared, Output};
use crate::scores::{
    evaluate, history_of, next_standing, Ranks, Row, AT_RISK, LAPSED, LIFECYCLE, SEGMENT,
};
use crate::Declined;

const FARED_WITHIN_DAYS: i64 = 14;
/// So far ahead is looked for a day on which a customer need not be waited for any more.
const LOOK_DAYS: i64 = 400;

/// What only Python computes: predictions near a tie, and points of declared answers.
pub trait Exactly: Sync {
    fn purchasing(&self, history: History) -> Result<Purchasing, Declined>;
    fn chance_of_return(&self, history: History) -> Result<f64, Declined>;
    fn points_of_answer(&self, key: &str, answer: &Answer) -> Result<f64, Declined>;
}

/// A re-activation that is due, as JSON.
pub struct Fired {
    pub value: Vec<u8>,
    pub is_control: bool,
    pub segment: &'static str,
}

/// Takes customers through their records, one after another.
pub struct Walker<'a> {
    pub model: &'a Model,
    pub catalogue: &'a Catalogue,
    pub exactly: &'a dyn Exactly,
    pub end_us: i64,
    pub predictor: &'a mut Predictor,
    pub points: HashMap<String, f64>,
    pub output: Output,
}

impl<'a> Walker<'a> {
    /// Take a customer through all their records, which are in order, and to the end.
    pub fn walk(&mut self, number: u32, id: &str, records: &[Record]) -> Result<(), Declined> {
        let writer = Writer {
            model: self.model,
            catalogue: self.catalogue,
            customer_id: id,
        };
        let mut customer = Customer::unknown(self.catalogue, self.model);
        let first_fared = self.output.fared.len();
        for record in records {
            self.advance(
                &writer,
                number,
                &mut customer,
                day_of(record.occurred_at_us),
            )?;
            self.take(&writer, number, &mut customer, record)?;
        }
        self.advance(&writer, number, &mut customer, day_of(self.end_us))?;
        if !customer.is_known() {
            self.output.fared.truncate(first_fared);
            return Ok(());
        }
        self.see_how_they_fared(&customer, first_fared);
        let row = self.evaluate(&customer, day_of(self.end_us))?;
        let mut profile = Vec::with_capacity(2048);
        writer.profile(&mut profile, &customer, &row, self.end_us);
        self.output.profiles.push((0, number, 0), &[&profile]);
        for dimension in 0..3 {
            let rank = customer.decision.standing.map(|ranks| ranks[dimension]);
            self.output.count_standing(dimension, rank);
        }
        Ok(())
    }

    fn take(
        &mut self,
        writer: &Writer<'_>,
        number: u32,
        customer: &mut Customer,
        record: &Record,
    ) -> Result<(), Declined> {
        let (model, exactly, points) = (self.model, self.exactly, &mut self.points);
        let mut intent_of = |held: &Held<Answer>| declared_intent(held, model, exactly, points);
        let effect = customer.apply(record, i64::MIN, self.catalogue, model, &mut intent_of)?;
        let at_us = record.occurred_at_us;
        let event_id = Some(&*record.event_id);
        match effect {
            Effect::Erased => self.output.count_outcome(record.topic, "erased"),
            Effect::Duplicate => self.output.count_outcome(record.topic, "duplicate"),
            Effect::TooLate { .. } => return Err(Declined("a record out of order in a replay")),
            Effect::Erasure(erased) => {
                self.output.count_outcome(record.topic, "accepted");
                let cause = Cause {
                    trigger: "erasure",
                    event_id,
                };
                self.change(
                    writer,
                    number,
                    &erased.decision,
                    customer,
                    None,
                    None,
                    at_us,
                    cause,
                );
            }
            Effect::Changed {
                is_repeated,
                wins_back,
            } => {
                let outcome = if is_repeated { "duplicate" } else { "accepted" };
                self.output.count_outcome(record.topic, outcome);
                let day = day_of(at_us);
                customer.due_day = Some(day + 1);
                if wins_back {
                    customer.decision.pending = None;
                }
                let trigger = match record.event {
                    Event::Consent(_) => "consent",
                    _ => "event",
                };
                let row = self.evaluate(customer, day)?;
                self.decide(
                    writer,
                    number,
                    customer,
                    &row,
                    at_us,
                    Cause { trigger, event_id },
                );
            }
        }
        Ok(())
    }

    /// Pass every midnight up to that of a day on which the customer is due.
    fn advance(
        &mut self,
        writer: &Writer<'_>,
        number: u32,
        customer: &mut Customer,
        midnight_day: i64,
    ) -> Result<(), Declined> {
        if !customer.is_known() {
            return Ok(());
        }
        while let Some(day) = customer.due_day.filter(|&day| day <= midnight_day) {
            customer.due_day = Some(day + 1);
            let mut row = self.evaluate(customer, day)?;
            let mut trigger = "time";
            if customer.decision.standing.is_some() && !row.profiling_allowed {
                // Engagement kept by the consent that ended is deleted; this row would still show it.
                let (model, exactly, points) = (self.model, self.exactly, &mut self.points);
                let mut intent_of =
                    |held: &Held<Answer>| declared_intent(held, model, exactly, points);
                customer.forget_unallowed(day, model, &mut intent_of)?;
                row = self.evaluate(customer, day)?;
                trigger = "consent";
            }
            let cause = Cause {
                trigger,
                event_id: None,
            };
            self.decide(writer, number, customer, &row, midnight_us(day), cause);
            let pending = &customer.decision.pending;
            if trigger == "time"
                && pending
                    .as_ref()
                    .is_some_and(|pending| pending.due_day <= day)
            {
                if let Some(fired) = self.fire(writer, customer, &row)? {
                    self.note_fired(writer, number, &row, fired);
                }
            }
        }
        Ok(())
    }

    pub fn evaluate(&mut self, customer: &Customer, day: i64) -> Result<Row, Declined> {
        let exactly = self.exactly;
        evaluate(customer, day, self.model, self.predictor, |history| {
            exactly.purchasing(history)
        })
    }

    /// Move the standing if the rules say so, with changes; gives their dimensions and ids if it moved.
    pub fn decide(
        &mut self,
        writer: &Writer<'_>,
        number: u32,
        customer: &mut Customer,
        row: &Row,
        as_of_us: i64,
        cause: Cause<'_>,
    ) -> Option<Vec<(usize, String)>> {
        let decision = &customer.decision;
        let current = self.standing_at(decision, row);
        if current == decision.standing {
            return None;
        }
        let changes = self.change(
            writer,
            number,
            decision,
            customer,
            Some(row),
            current,
            as_of_us,
            cause,
        );
        let pending = self.pending_after(customer, row, current, &changes, cause);
        let decision = &mut customer.decision;
        decision.pending = pending;
        decision.standing = current;
        decision.baseline = current.map(|_| Baseline {
            metrics: row.metrics,
            contributions: row.contributions,
            scores: row.scores,
        });
        for (dimension, _) in &changes {
            decision.changed_days[*dimension] = row.day;
        }
        decision.sequence += changes.len() as i64;
        Some(changes)
    }

    /// Where a customer would stand after an evaluation of this row.
    pub fn standing_at(&self, decision: &Decision, row: &Row) -> Option<Ranks> {
        row.profiling_allowed.then(|| {
            let dwell_days = self.model.given.dwell_days;
            next_standing(decision.standing, &decision.changed_days, row, dwell_days)
        })
    }

    /// Publish the changes from a decision's standing to `current`; gives each one's dimension and id.
    #[allow(clippy::too_many_arguments)] // one evaluation, in its parts
    pub fn change(
        &mut self,
        writer: &Writer<'_>,
        number: u32,
        decision: &Decision,
        customer: &Customer,
        row: Option<&Row>,
        current: Option<Ranks>,
        as_of_us: i64,
        cause: Cause<'_>,
    ) -> Vec<(usize, String)> {
        let rank_of =
            |standing: Option<Ranks>, dimension: usize| standing.map(|ranks| ranks[dimension]);
        let after = row.filter(|_| current.is_some()).map(|row| Baseline {
            metrics: row.metrics,
            contributions: row.contributions,
            scores: row.scores,
        });
        let mut changes = Vec::new();
        let mut end = None;
        for dimension in 0..3 {
            let previous = rank_of(decision.standing, dimension);
            let current = rank_of(current, dimension);
            if previous == current {
                continue;
            }
            let end = end.get_or_insert_with(|| {
                let (scores, traits) = writer.scores_and_traits(customer, row);
                writer.end_of_change(
                    cause,
                    decision.baseline.as_ref(),
                    decision.standing.is_some(),
                    after.as_ref(),
                    &scores,
                    &traits,
                    customer.channels_on(row.map_or(i64::MAX, |row| row.day)),
                )
            });
            let sequence = decision.sequence + changes.len() as i64 + 1;
            let mut begin = Vec::with_capacity(300);
            let life = decision.life;
            let id = writer.begin_change(
                &mut begin, life, sequence, dimension, previous, current, as_of_us,
            );
            let key = (as_of_us, number, sequence);
            self.output.changes.push(key, &[&begin, end]);
            self.output
                .count_change(dimension, previous, current, cause);
            changes.push((dimension, id));
        }
        changes
    }

    /// The re-activation that is pending after a move: one at most, and none of a customer who leaves.
    fn pending_after(
        &self,
        customer: &Customer,
        row: &Row,
        current: Option<Ranks>,
        changes: &[(usize, String)],
        cause: Cause<'_>,
    ) -> Option<PendingTrigger> {
        let rules = &self.model.given;
        let current = current?;
        let pending = customer.decision.pending.clone();
        let Some(previous) = customer.decision.standing else {
            return pending;
        };
        if pending.is_some()
            || !rules
                .triggers
                .iter()
                .any(|trigger| trigger == cause.trigger)
        {
            return pending;
        }
        let is_slip = |dimension: usize| {
            let rank = current[dimension];
            let counts = dimension == SEGMENT
                || (dimension == LIFECYCLE && (rank == AT_RISK || rank == LAPSED));
            rank > previous[dimension] && counts
        };
        let (_, change_id) = changes.iter().find(|(dimension, _)| is_slip(*dimension))?;
        let mut delay_days = rules.delay_days[usize::from(current[SEGMENT])];
        if row.tenure_days >= rules.long_tenure_days {
            delay_days += rules.long_tenure_extra_days;
        }
        let last_engaged = customer
            .engagement
            .last_engaged_day(&self.catalogue.weight_of_kind);
        if last_engaged.is_some_and(|last_day| row.day - last_day <= rules.engaged_within_days) {
            delay_days += rules.engaged_extra_days;
        }
        Some(PendingTrigger {
            change_id: change_id.clone(),
            due_day: row.day + delay_days.max(1),
        })
    }

    /// The re-activation that is due; None where no channel is permitted, and where the customer may come back alone,
    /// so that it is put off.
    pub fn fire(
        &mut self,
        writer: &Writer<'_>,
        customer: &mut Customer,
        row: &Row,
    ) -> Result<Option<Fired>, Declined> {
        let Some(mut pending) = customer.decision.pending.take() else {
            return Ok(None);
        };
        if let Some(later_day) = self.awaited_until(customer, row.day)? {
            pending.due_day = later_day;
            customer.decision.pending = Some(pending);
            return Ok(None);
        }
        let fired = customer.decision.standing.and_then(|ranks| {
            let (value, is_control) = writer.trigger(customer, &pending, ranks, row)?;
            Some(Fired {
                value,
                is_control,
                segment: standing_name(SEGMENT, ranks[SEGMENT]),
            })
        });
        match fired {
            Some(_) => customer.decision.fired_change_id = Some(pending.change_id),
            None => self.output.triggers_dropped += 1,
        }
        Ok(fired)
    }

    /// The day up to which a customer who may come back alone is waited for; None where there is nothing to wait for.
    fn awaited_until(&self, customer: &Customer, day: i64) -> Result<Option<i64>, Declined> {
        let Some((within_days, above)) = self.model.given.own_return else {
            return Ok(None);
        };
        for later_day in day..=day + LOOK_DAYS {
            let Some(history) = history_of(customer, later_day, self.model) else {
                return Ok(None);
            };
            let chance = match chance_of_return(history, within_days, self.model) {
                Some(chance) => chance,
                None => self.exactly.chance_of_return(history)?,
            };
            if chance <= above {
                return Ok((later_day > day).then_some(later_day));
            }
        }
        Ok(Some(day + LOOK_DAYS))
    }

    fn note_fired(&mut self, writer: &Writer<'_>, number: u32, row: &Row, fired: Fired) {
        let at_us = midnight_us(row.day);
        self.output
            .triggers
            .push((at_us, number, 0), &[&fired.value]);
        self.output.fared.push(Fared {
            at_us,
            customer: number,
            day: row.day,
            is_control: fired.is_control,
            segment: fired.segment,
            value_at_stake: writer.money_text(row.value_at_stake),
            bought: false,
            revenue_micros: 0,
        });
    }

    /// What the customer did in the days after each of their re-activations.
    fn see_how_they_fared(&mut self, customer: &Customer, first: usize) {
        for fared in &mut self.output.fared[first..] {
            let days = fared.day..fared.day + FARED_WITHIN_DAYS;
            for bucket in customer
                .ledger
                .days
                .iter()
                .filter(|bucket| days.contains(&bucket.day))
            {
                fared.bought |= bucket.orders != 0;
                fared.revenue_micros += bucket.revenue_micros;
            }
        }
    }
}

/// The weighted mean of the points for every declared answer that the model knows; None without one.
pub fn declared_intent(
    held: &Held<Answer>,
    model: &Model,
    exactly: &dyn Exactly,
    known: &mut HashMap<String, f64>,
) -> Result<Option<f64>, Declined> {
    let (mut total, mut weights) = (0.0, 0.0);
    for (key, latest) in held {
        let Some(weight) = model.given.declared_weights.get(&**key) else {
            continue;
        };
        let question = format!("{key}\u{0}{:?}", latest.value);
        let points = match known.get(&question) {
            Some(points) => *points,
            None => {
                let points = exactly.points_of_answer(key, &latest.value)?;
                known.insert(question, points);
                points
            }
        };
        total += weight * points;
        weights += weight;
    }
    Ok((weights > 0.0).then(|| total / weights))
}
