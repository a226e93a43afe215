//! The reads of one room's state. All clients that join with one version at about the same time share one.

use crate::app::error::AppError;
use crate::room::stored::Snapshot;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// The answer to a read.
pub(crate) type Read = Result<Arc<Snapshot>, AppError>;

/// A read that any number of joins wait for.
pub(crate) type Reading = Shared<BoxFuture<'static, Read>>;

/// The version vector with which a client joins; `None` if it has nothing.
pub(crate) type Version = Option<Bytes>;

/// Reads what a client gives as its version: nothing, if it is empty or the version vector of a new document.
pub(crate) fn version(given: Bytes) -> Version {
    let has_nothing = matches!(given[..], [] | [0]);
    (!has_nothing).then_some(given)
}

/// The reads that are under way or were just done, one for each version with which clients join.
#[derive(Default)]
pub(crate) struct Reads(Mutex<HashMap<Version, Reading>>);

impl Reads {
    /// The read for this version, if it is under way or its snapshot is still of use.
    /// Otherwise the result of `begin`, which becomes that read; the second value is then true.
    pub(crate) fn share(
        &self,
        version: &Version,
        is_usable: impl Fn(&Snapshot) -> bool,
        begin: impl FnOnce() -> BoxFuture<'static, Read>,
    ) -> (Reading, bool) {
        let mut reads = self.0.lock();
        if let Some(reading) = reads.get(version) {
            let is_usable = match reading.peek() {
                None => true,
                Some(Ok(snapshot)) => is_usable(snapshot),
                Some(Err(_)) => false,
            };
            if is_usable {
                return (reading.clone(), false);
            }
        }
        let reading = begin().shared();
        reads.insert(version.clone(), reading.clone());
        (reading, true)
    }

    /// Forgets a read, unless another one has taken its place.
    pub(crate) fn forget(&self, version: &Version, reading: &Reading) {
        let mut reads = self.0.lock();
        if reads.get(version).is_some_and(|kept| kept.ptr_eq(reading)) {
            reads.remove(version);
        }
    }
}
