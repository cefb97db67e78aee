//! Ebbtide's core, compiled: a log of events in, the lines of a replay's files out, byte for byte as the Python core
//! writes them; and a first load, as states and what is published of them. README.md says which Python file is each
//! module's twin, and what is declined.

mod consent;
mod customer;
mod days;
mod decision;
mod decode;
mod documents;
mod engagement;
mod enter;
mod events;
mod fold;
mod identity;
mod json;
mod lifetime;
mod live;
mod log;
mod model;
mod numbers;
mod orders;
mod outgoing;
mod output;
mod part;
mod python;
mod record_batch;
mod restore;
mod scores;
mod state;
mod walk;

/// Customers are many small pieces, made and freed with each part of a log; the system's allocator took a third of the
/// time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Something that only the Python core knows, in a few words.
#[derive(Clone, Copy, Debug)]
pub struct Declined(pub &'static str);

#[pyo3::pymodule]
mod _kernel {
    #[pymodule_export]
    use crate::python::checksum;
    #[pymodule_export]
    use crate::python::predictions;
    #[pymodule_export]
    use crate::python::Core;
    #[pymodule_export]
    use crate::python::DeclinedError;
    #[pymodule_export]
    use crate::python::Outgoing;
    #[pymodule_export]
    use crate::python::Part;
    #[pymodule_export]
    use crate::python::RecordBatch;
    #[pymodule_export]
    use crate::python::Replay;
    #[pymodule_export]
    use crate::python::Restorer;
}
