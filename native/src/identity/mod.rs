//! The identity stage's work on plain events: from a slice of records to changes, ledger rows and the state's new keys
//! (docs/adr/0016).

mod demote;
mod draft;
mod event;
mod fields;
mod graph;
mod ids;
mod index;
mod instants;
mod marks;
mod output;
mod owners;
mod pending;
mod plan;
mod prefetch;
mod profiles;
mod records;
mod resolve;
mod rules;
mod slices;
mod store;
mod stored;
mod table;
mod texts;
mod wire;

use pyo3::prelude::*;

/// Make the classes known to Python.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<draft::IdentityGraph>()?;
    module.add_class::<slices::SliceWalk>()
}
