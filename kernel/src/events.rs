//! What input records say. Twin: `schemas/events.py`.
//!
//! Names that many records share are numbers, whose order is that of the names (`Names`).

use foldhash::HashMap;

/// Names by number.
#[derive(Default)]
pub struct Names {
    numbers: HashMap<Box<str>, u32>,
    names: Vec<Box<str>>,
}

impl Names {
    /// The number of a name, in the order in which names come.
    pub fn number(&mut self, name: &str) -> u32 {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        let number = self.names.len() as u32;
        self.names.push(name.into());
        self.numbers.insert(name.into(), number);
        number
    }

    /// The name of a number.
    pub fn name(&self, number: u32) -> &str {
        &self.names[number as usize]
    }

    /// The names by number.
    pub fn names(&self) -> &[Box<str>] {
        &self.names
    }

    /// The names in order, and for each number so far its place among them.
    pub fn in_order(&self) -> (Vec<Box<str>>, Vec<u32>) {
        let mut order: Vec<u32> = (0..self.names.len() as u32).collect();
        order.sort_by(|&left, &right| self.names[left as usize].cmp(&self.names[right as usize]));
        let mut places = vec![0; order.len()];
        for (place, &number) in order.iter().enumerate() {
            places[number as usize] = place as u32;
        }
        let names = order
            .iter()
            .map(|&number| self.names[number as usize].clone())
            .collect();
        (names, places)
    }
}

/// A value of `declared`.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Text(Box<str>),
    Truth(bool),
    Whole(i64),
    Large(u64),
    Number(f64),
}

/// The `kind` of a purchase record.
#[derive(Clone, Copy, PartialEq)]
pub enum PurchaseKind {
    Order,
    OrderUpdated,
    Refund,
    Cancellation,
}

/// An order, its update, a refund or a cancellation.
pub struct Purchase {
    pub kind: PurchaseKind,
    pub order_id: Box<str>,
    pub currency: usize,
    pub total_micros: i64,
    pub cost_of_goods_micros: Option<i64>,
    /// Numbers of the items' categories, each once.
    pub categories: Vec<u32>,
}

/// An interaction, or a touch that costs money.
pub struct Engagement {
    pub kind: u32,
    /// The number of `channel.kind`.
    pub count_key: u32,
    pub is_automated: bool,
    pub cost_micros: Option<(i64, usize)>,
    pub declared: Vec<(Box<str>, Answer)>,
}

/// Consent given or withdrawn.
pub struct Consent {
    pub purpose: u32,
    pub granted: bool,
    pub expires_at_us: Option<i64>,
}

/// What a record is of.
pub enum Event {
    Purchase(Purchase),
    Engagement(Engagement),
    Consent(Consent),
    Erasure,
}

/// A record with what it says.
pub struct Record {
    pub occurred_at_us: i64,
    /// 0: consents, 1: purchases, 2: engagements; the order in which records of one instant are taken.
    pub topic: u8,
    pub customer: u32,
    pub event_id: Box<str>,
    pub attributes: Vec<(Box<str>, Box<str>)>,
    pub event: Event,
    pub value: Box<[u8]>,
}
