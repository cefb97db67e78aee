//! What comes of a replay: lines of the three files in order, and what the summary counts.
//! Twin: `streams/replay/parts.py` and `fared.py`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use crate::documents::{direction, standing_name, Cause, DIMENSIONS};

/// A line of a part, and what it is sorted by: time, customer and sequence.
struct Line {
    key: (i64, u32, i64),
    start: usize,
    end: usize,
}

/// Lines of one file, one after another.
#[derive(Default)]
pub struct Lines {
    bytes: Vec<u8>,
    lines: Vec<Line>,
}

impl Lines {
    /// Take all lines out, without their ends.
    pub fn drain(&mut self) -> Vec<Vec<u8>> {
        let taken = std::mem::take(self);
        let line = |line: &Line| taken.bytes[line.start..line.end - 1].to_vec();
        taken.lines.iter().map(line).collect()
    }

    /// Add a line of these parts.
    pub fn push(&mut self, key: (i64, u32, i64), parts: &[&[u8]]) {
        let start = self.bytes.len();
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.bytes.push(b'\n');
        let end = self.bytes.len();
        self.lines.push(Line { key, start, end });
    }
}

/// Write the lines of all parts in order to a file; gives how many. Lines of one key stay as they are, and are all of
/// one part.
pub fn write_merged(parts: &[&Lines], path: &Path) -> std::io::Result<usize> {
    let mut places: Vec<(&Line, &Lines)> = parts
        .iter()
        .flat_map(|part| part.lines.iter().map(move |line| (line, *part)))
        .collect();
    places.sort_by_key(|(line, _)| line.key);
    let mut whole = BufWriter::with_capacity(1 << 18, File::create(path)?);
    for (line, part) in &places {
        whole.write_all(&part.bytes[line.start..line.end])?;
    }
    whole.flush()?;
    Ok(places.len())
}

/// How the customer of a re-activation fared: day, group, segment, value at stake, whether they bought, revenue.
pub struct Fared {
    pub at_us: i64,
    pub customer: u32,
    pub day: i64,
    pub is_control: bool,
    pub segment: &'static str,
    /// As the trigger has it.
    pub value_at_stake: String,
    pub bought: bool,
    pub revenue_micros: i64,
}

/// What one thread made.
#[derive(Default)]
pub struct Output {
    pub changes: Lines,
    pub triggers: Lines,
    pub profiles: Lines,
    pub triggers_dropped: u64,
    /// By topic and outcome.
    pub outcomes: BTreeMap<(u8, &'static str), u64>,
    /// By dimension, direction and trigger.
    pub change_counts: BTreeMap<(&'static str, &'static str, &'static str), u64>,
    /// By dimension and standing.
    pub standings: BTreeMap<(&'static str, &'static str), u64>,
    pub fared: Vec<Fared>,
}

impl Output {
    pub fn count_outcome(&mut self, topic: u8, outcome: &'static str) {
        *self.outcomes.entry((topic, outcome)).or_default() += 1;
    }

    pub fn count_change(
        &mut self,
        dimension: usize,
        previous: Option<u8>,
        current: Option<u8>,
        cause: Cause<'_>,
    ) {
        let key = (
            DIMENSIONS[dimension],
            direction(previous, current),
            cause.trigger,
        );
        *self.change_counts.entry(key).or_default() += 1;
    }

    pub fn count_standing(&mut self, dimension: usize, rank: Option<u8>) {
        let name = rank.map_or("none", |rank| standing_name(dimension, rank));
        *self
            .standings
            .entry((DIMENSIONS[dimension], name))
            .or_default() += 1;
    }
}
