//! The memory of an instance, and what computing a document's state takes of it.

use platform::Config;

use crate::error::RoomError;

const MIB: u64 = 1024 * 1024;

/// The memory that the host gives an instance, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Memory(u64);

/// What an instance takes before it reads a room. These figures are the peaks of documents of 2 to
/// 5 MiB in the real component.
const ITSELF: u64 = 6 * MIB;

/// What it takes for each stored byte of the room: the rows, the history, the document, and its snapshot.
const STORED: u64 = 7;

/// What it takes in addition for each operation of the document's history: at worst, letters that clients type anywhere in
/// a text, and values of one large map.
const OPERATION: u64 = 240;

/// What it takes for each byte of updates while they are applied: at worst, small maps in a list, each of which becomes a
/// container with a state of its own.
const APPLIED: u64 = 50;

/// The least that is applied at a time, in bytes. With less, there would be too many stages.
const LEAST: u64 = 128 * 1024;

/// No operation is stored in less than about so many bytes, except letters that follow each other, which are one.
const BYTES_OF_OPERATION: u64 = 4;

impl Default for Memory {
    /// The memory that a host gives as a rule: 256 MiB.
    fn default() -> Self {
        Self::of_mib(256)
    }
}

impl Memory {
    /// The memory of an instance of the app, as the settings say.
    pub fn of_app(config: &dyn Config) -> Self {
        Self::of_mib(quota::instance_memory_mib(config))
    }

    /// The memory of so many MiB.
    pub fn of_mib(mib: u32) -> Self {
        Self(u64::from(mib) * MIB)
    }

    /// Whether Loro may read so many stored bytes and make one update of them. Like a state, what it reads takes many times
    /// the stored form.
    pub(crate) fn exports(self, stored: usize) -> bool {
        ITSELF + APPLIED.saturating_mul(stored as u64) <= self.0
    }

    /// The bytes of updates that may be applied at a time to a room of so many stored bytes, if its state fits the memory.
    /// `operations` counts those of its history, and is asked only if the room is large.
    ///
    /// # Errors
    /// [`RoomError::StateUnavailable`] if it does not fit; or that of `operations`.
    pub(crate) fn stage(
        self,
        stored: usize,
        operations: impl FnOnce() -> Result<u64, RoomError>,
    ) -> Result<usize, RoomError> {
        let stored = stored as u64;
        let beside = |operations: u64| {
            let taken = ITSELF + STORED * stored + OPERATION.saturating_mul(operations);
            self.0.saturating_sub(taken) / APPLIED
        };
        let mut bytes = beside(stored / BYTES_OF_OPERATION);
        if bytes < stored {
            bytes = beside(operations()?);
        }
        if bytes < LEAST {
            return Err(RoomError::StateUnavailable);
        }
        Ok(usize::try_from(bytes).unwrap_or(usize::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(mib: u32, stored: u64, operations: u64) -> Option<usize> {
        let stored = usize::try_from(stored).unwrap();
        let stage = Memory::of_mib(mib).stage(stored, || Ok(operations));
        stage.ok()
    }

    #[test]
    fn the_largest_document_fits_if_it_is_a_text() {
        for (memory, fits, is_too_large) in [(256, 32, 36), (128, 16, 18)] {
            assert!(stage(memory, fits * MIB, 10_000).is_some());
            assert_eq!(stage(memory, is_too_large * MIB, 10_000), None);
        }
    }

    #[test]
    fn a_canvas_fits_up_to_a_smaller_size() {
        // As many operations as nodes of two small maps have.
        let canvas = |memory, mib: u64| stage(memory, mib * MIB, mib * 59_000);
        for (memory, fits, is_too_large) in [(256, 11, 12), (128, 5, 6)] {
            assert!(canvas(memory, fits).is_some());
            assert_eq!(canvas(memory, is_too_large), None);
        }
    }

    #[test]
    fn a_twentieth_of_the_memory_is_exported() {
        for (mib, most) in [(256, 5), (128, 2)] {
            let memory = Memory::of_mib(mib);
            assert!(memory.exports((most * MIB) as usize));
            assert!(!memory.exports(((most + 1) * MIB) as usize));
        }
    }

    #[test]
    fn the_operations_of_a_small_document_are_not_counted() {
        let counted = || -> Result<u64, RoomError> { panic!("counted") };
        let small = Memory::default().stage(MIB as usize, counted).unwrap();
        assert!(small as u64 > MIB);
    }
}
