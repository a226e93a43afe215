//! The memory of an instance, and the part of it that computing a document's state takes.

use platform::Config;

use crate::error::RoomError;

const MIB: u64 = 1024 * 1024;

/// The memory that the host gives an instance, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Memory(u64);

/// The bytes that an instance takes before it reads a room. These figures are the peaks of documents of 2 to 5 MiB in the
/// real component.
const ITSELF: u64 = 6 * MIB;

/// The bytes that it takes for each stored byte of the room: the rows, the history, the document, and its snapshot.
const STORED: u64 = 7;

/// The bytes that it takes in addition for each operation of the document's history: at worst, letters that clients type
/// anywhere in a text, and values of one large map.
const OPERATION: u64 = 240;

/// The bytes that it takes for each byte of updates while they are applied: at worst, small maps in a list, each of which
/// becomes a container with a state of its own.
const APPLIED: u64 = 50;

/// The bytes that it takes at worst for each operation, and for each stored byte, while all of a document is applied: a small
/// map in a list is two operations.
const APPLIED_OPERATION: u64 = 1000;
const APPLIED_BYTE: u64 = 16;

/// The fewest bytes that are applied at a time. With fewer, there would be too many stages.
const LEAST: u64 = 128 * 1024;

/// The fewest bytes in which an operation is stored, about. Letters that follow each other count as one operation.
const FEWEST_BYTES_OF_OPERATION: u64 = 4;

impl Default for Memory {
    /// Makes the memory that a host usually gives: 256 MiB.
    fn default() -> Self {
        Self::of_mib(256)
    }
}

impl Memory {
    /// Reads the memory of an instance of the app from the settings.
    pub fn of_app(config: &dyn Config) -> Self {
        Self::of_mib(quota::instance_memory_mib(config))
    }

    /// Makes the memory of this many MiB.
    pub fn of_mib(mib: u32) -> Self {
        Self(u64::from(mib) * MIB)
    }

    /// Returns whether Loro may read this many stored bytes and make one update of them. Like a state, that takes many
    /// times the memory of the stored form.
    pub(crate) fn exports(self, stored: usize) -> bool {
        ITSELF + APPLIED.saturating_mul(stored as u64) <= self.0
    }

    /// Returns whether the operations of a room of this many stored bytes count, because the room may be too large if
    /// they are small.
    pub(crate) fn counts_operations(self, stored: usize) -> bool {
        let stored = stored as u64;
        self.beside(stored, stored / FEWEST_BYTES_OF_OPERATION) < stored
    }

    /// Returns whether the history of a snapshot of this many bytes may be written out in parts, if `beside` bytes are
    /// stored beside it.
    pub(crate) fn writes_out(self, snapshot: usize, beside: usize) -> bool {
        let taken = STORED.saturating_mul(snapshot as u64) + 2 * beside as u64;
        ITSELF + taken <= self.0
    }

    /// The bytes of updates that may be applied at a time to a room of this many stored bytes, if its state fits the
    /// memory. `operations` is the number in its history, if they count.
    ///
    /// # Errors
    /// [`RoomError::TooLarge`] if it does not fit.
    pub(crate) fn stage(self, stored: usize, operations: Option<u64>) -> Result<usize, RoomError> {
        let stored = stored as u64;
        let operations = operations.unwrap_or(stored / FEWEST_BYTES_OF_OPERATION);
        let bytes = self.beside(stored, operations);
        if bytes < LEAST {
            return Err(RoomError::TooLarge { operations });
        }
        let whole = ITSELF + APPLIED_OPERATION.saturating_mul(operations) + APPLIED_BYTE * stored;
        let bytes = if whole <= self.0 {
            stored.max(bytes)
        } else {
            bytes
        };
        Ok(usize::try_from(bytes).unwrap_or(usize::MAX))
    }

    /// The bytes of updates that can be applied beside a room of these stored bytes and operations.
    fn beside(self, stored: u64, operations: u64) -> u64 {
        let taken = ITSELF + STORED * stored + OPERATION.saturating_mul(operations);
        self.0.saturating_sub(taken) / APPLIED
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use platform::native::MapConfig;

    fn stage(mib: u32, stored: u64, operations: u64) -> Option<usize> {
        let stored = usize::try_from(stored).unwrap();
        Memory::of_mib(mib).stage(stored, Some(operations)).ok()
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
    fn the_operations_of_a_small_document_do_not_count() {
        for (mib, most) in [(256, 2), (128, 1)] {
            let memory = Memory::of_mib(mib);
            let most = (most * MIB) as usize;
            assert!(!memory.counts_operations(most));
            assert!(memory.counts_operations(most + MIB as usize));
            assert!(memory.stage(most, None).unwrap() >= most);
        }
    }

    #[test]
    fn whatever_the_quota_takes_fits() {
        for mib in [128, 256] {
            let room = quota::largest_room(mib);
            for part in 0..=100 {
                let stored = room * part / 100;
                let operations = (room - stored) / quota::BYTES_OF_OPERATION;
                let fits = stage(mib, stored, operations);
                assert!(
                    fits.is_some(),
                    "{mib} MiB, {stored} bytes, {operations} operations"
                );
            }
        }
    }

    #[test]
    fn the_settings_say_how_much_memory_there_is() {
        let memory = |settings: &[_]| Memory::of_app(&MapConfig::from_pairs(settings));
        let small = memory(&[("instance_memory_mib", "128")]);
        assert_eq!(small, Memory::of_mib(128));
        assert_eq!(memory(&[]), Memory::default());
    }

    /// Checks each bound, to the byte.
    #[test]
    fn what_fits_to_the_byte_fits_and_one_more_does_not() {
        // Of 10 MiB, 4 MiB are for the room.
        let memory = Memory::of_mib(10);
        for (stored, counts) in [(35_849, false), (35_850, true)] {
            assert_eq!(memory.counts_operations(stored), counts, "{stored}");
        }
        for (stored, exports) in [(83_886, true), (83_887, false)] {
            assert_eq!(memory.exports(stored), exports, "{stored}");
        }
        for (snapshot, beside, fits) in [
            (599_186, 0, true),
            (599_187, 0, false),
            (0, 2 << 20, true),
            (0, (2 << 20) + 1, false),
            (300_000, 1_047_152, true),
            (300_000, 1_047_153, false),
        ] {
            let writes_out = memory.writes_out(snapshot, beside);
            assert_eq!(writes_out, fits, "{snapshot} {beside}");
        }
        // Of 20 MiB, 14 MiB are for the room.
        for (stored, operations, expected) in [
            (1_000_020, 4693, Some(128 * 1024)),
            (1_000_021, 4693, None),
            // All of it is applied at once, although that is more than fits beside the room.
            (855_004, 1000, Some(855_004)),
            (855_005, 1000, Some(169_100)),
            (855_004, 1001, Some(169_095)),
        ] {
            assert_eq!(stage(20, stored, operations), expected, "{stored}");
        }
        let counted = |stored| Memory::of_mib(20).stage(stored, Some(stored as u64 / 4));
        for stored in [0, 99_999, 121_000] {
            let not_counted = Memory::of_mib(20).stage(stored, None).unwrap();
            assert_eq!(not_counted, counted(stored).unwrap(), "{stored}");
        }
    }
}
