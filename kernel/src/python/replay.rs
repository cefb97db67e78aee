//! Replays: lines in, files out.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use super::{caught, Asked, PANICKED};
use crate::lifetime::Predictor;
use crate::log::{Log, OrderedLog, Taken};
use crate::model::{GivenModel, Model};
use crate::output::{write_merged, Lines, Output};
use crate::walk::Walker;
use crate::Declined;

const FILES: [&str; 3] = [
    "segment-changes.jsonl",
    "reactivation-triggers.jsonl",
    "customer-profiles.jsonl",
];
const TOPICS: [&str; 3] = ["consents", "purchases", "engagements"];

/// A replay: lines in, files out.
#[pyclass]
pub struct Replay {
    model: Model,
    until_us: Option<i64>,
    log: Option<Log>,
    after_until: [u64; 3],
}

#[pymethods]
impl Replay {
    #[new]
    fn new(model: GivenModel, until_us: Option<i64>) -> PyResult<Self> {
        let model = Model::new(model).ok_or(Declined("a model of another shape"))?;
        Ok(Replay {
            log: Some(Log::new(&model)),
            model,
            until_us,
            after_until: [0; 3],
        })
    }

    /// Take lines of a topic (0: consents, 1: purchases, 2: engagements); gives the places of those that are not
    /// plainly valid.
    fn take(&mut self, topic: u8, lines: Vec<Bound<'_, PyBytes>>) -> PyResult<Vec<usize>> {
        let mut others = Vec::new();
        for (at, line) in lines.iter().enumerate() {
            if !self.take_one(topic, line.as_bytes(), None)? {
                others.push(at);
            }
        }
        Ok(others)
    }

    /// Take a line that Python has read, in plain words.
    fn take_as(&mut self, topic: u8, line: &[u8], plain: &[u8]) -> PyResult<()> {
        if !self.take_one(topic, line, Some(plain))? {
            return Err(Declined("a record that is valid and unusual").into());
        }
        Ok(())
    }

    /// Replay what was taken, on so many threads; writes the three files into a folder, and gives the counters.
    ///
    /// `purchasing(repeats, to_last_days, tenure_days, recent)`, `chance_of_return` of the same, and
    /// `points_of_answer(key, answer)` ask the Python core.
    fn run<'py>(
        &mut self,
        py: Python<'py>,
        folder: PathBuf,
        threads: usize,
        purchasing: Py<PyAny>,
        chance_of_return: Py<PyAny>,
        points_of_answer: Py<PyAny>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let log = self.log.take().ok_or(Declined("a replay that has run"))?;
        let asked = Asked {
            purchasing,
            chance_of_return,
            points_of_answer,
        };
        let (model, until_us) = (&self.model, self.until_us);
        let (parts, lines, end_us) = py.detach(|| {
            let (parts, end_us) = caught(|| {
                let log = log.ordered(until_us, model)?;
                Ok((replayed(&log, model, &asked, threads.max(1))?, log.end_us))
            })?;
            let lines = written(&parts, &folder)?;
            Ok::<_, PyErr>((parts, lines, end_us))
        })?;
        self.told(py, &parts, lines, end_us)
    }
}

impl Replay {
    fn take_one(&mut self, topic: u8, line: &[u8], plain: Option<&[u8]>) -> PyResult<bool> {
        let (model, until_us) = (&self.model, self.until_us);
        let log = self.log.as_mut().ok_or(Declined("a replay that has run"))?;
        let after_until = self
            .after_until
            .get_mut(usize::from(topic))
            .ok_or(Declined("a topic that there is not"))?;
        match caught(|| Ok(log.take(topic, line, plain, until_us, model)))? {
            Taken::Record => Ok(true),
            Taken::AfterUntil => {
                *after_until += 1;
                Ok(true)
            }
            Taken::NotPlain => Ok(false),
        }
    }

    fn told<'py>(
        &self,
        py: Python<'py>,
        parts: &[Output],
        lines: [usize; 3],
        end_us: i64,
    ) -> PyResult<Bound<'py, PyDict>> {
        let told = PyDict::new(py);
        for (name, count) in FILES.iter().zip(lines) {
            told.set_item(name, count)?;
        }
        let mut outcomes: HashMap<(&str, &str), u64> = HashMap::new();
        let mut change_counts: HashMap<(&str, &str, &str), u64> = HashMap::new();
        let mut standings: HashMap<(&str, &str), u64> = HashMap::new();
        for (topic, count) in TOPICS.iter().zip(self.after_until) {
            if count > 0 {
                outcomes.insert((topic, "after_until"), count);
            }
        }
        for part in parts {
            for ((topic, outcome), count) in &part.outcomes {
                *outcomes
                    .entry((TOPICS[usize::from(*topic)], outcome))
                    .or_default() += count;
            }
            for (key, count) in &part.change_counts {
                *change_counts.entry(*key).or_default() += count;
            }
            for (key, count) in &part.standings {
                *standings.entry(*key).or_default() += count;
            }
        }
        let mut fared: Vec<_> = parts.iter().flat_map(|part| &part.fared).collect();
        fared.sort_by_key(|each| (each.at_us, each.customer));
        let fared: Vec<_> = fared
            .into_iter()
            .map(|each| {
                (
                    each.day,
                    if each.is_control {
                        "control"
                    } else {
                        "treatment"
                    },
                    each.segment,
                    &*each.value_at_stake,
                    each.bought,
                    each.revenue_micros,
                )
            })
            .collect();
        let dropped: u64 = parts.iter().map(|part| part.triggers_dropped).sum();
        told.set_item("outcomes", outcomes)?;
        told.set_item("change_counts", change_counts)?;
        told.set_item("standings", standings)?;
        told.set_item("fared", fared)?;
        told.set_item("triggers_dropped", dropped)?;
        told.set_item("end_us", end_us)?;
        Ok(told)
    }
}

/// Write the files of FILES; gives how many lines each has.
fn written(parts: &[Output], folder: &Path) -> std::io::Result<[usize; 3]> {
    let of = |lines_of: &dyn Fn(&Output) -> &Lines, name: &str| {
        let lines: Vec<&Lines> = parts.iter().map(lines_of).collect();
        write_merged(&lines, &folder.join(name))
    };
    Ok([
        of(&|part| &part.changes, FILES[0])?,
        of(&|part| &part.triggers, FILES[1])?,
        of(&|part| &part.profiles, FILES[2])?,
    ])
}

fn replayed(
    log: &OrderedLog,
    model: &Model,
    asked: &Asked,
    threads: usize,
) -> Result<Vec<Output>, Declined> {
    let work = |first: usize| {
        caught(|| {
            let mut predictor = Predictor::new();
            let mut walker = Walker {
                model,
                catalogue: &log.catalogue,
                exactly: asked,
                end_us: log.end_us,
                predictor: &mut predictor,
                points: Default::default(),
                output: Output::default(),
            };
            for number in (first..log.customers.len()).step_by(threads) {
                let records = &log.records[log.starts[number]..log.starts[number + 1]];
                walker.walk(number as u32, &log.customers[number], records)?;
            }
            Ok(walker.output)
        })
    };
    if threads == 1 {
        return Ok(vec![work(0)?]);
    }
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|first| scope.spawn(move || work(first)))
            .collect();
        running
            .into_iter()
            .map(|thread| thread.join().unwrap_or(Err(PANICKED)))
            .collect()
    })
}
