//! The bytes that may be kept.

use platform::{
    Config,
    config::{max_body, number},
};

/// The most MiB that a setting may allow: nearly a PiB, more than a disk has.
const MOST_MIB: u32 = 1_000_000_000;

platform::settings! {
    /// The most MiB that one project may keep: its document, its tasks and their results. Beyond that, new edits and
    /// tasks are refused (507); what was saved stays
    PROJECT_QUOTA_MIB = "project_quota_mib", Value("10240"), Number(MOST_MIB);
    /// The most MiB that all projects of one owner may keep together
    OWNER_QUOTA_MIB = "owner_quota_mib", Value("102400"), Number(MOST_MIB);
    /// The memory that the host gives an instance, in MiB. A document may be as large as an eighth of it, and 32 MiB at
    /// most. `loro-host` sets it by `--instance-memory`
    pub INSTANCE_MEMORY_MIB = "instance_memory_mib", Value("256"), Number(MOST_MEMORY_MIB);
}

/// The most memory that 32 bits can address.
const MOST_MEMORY_MIB: u32 = 4095;

/// The MiB of memory that the host gives an instance.
pub fn instance_memory_mib(config: &dyn Config) -> u32 {
    number(config, SETTINGS, INSTANCE_MEMORY_MIB)
}

const MIB: u64 = 1024 * 1024;

/// The most bytes of one document, if an instance has 256 MiB: 32 MiB. If it has less, the limit is lower in proportion, so
/// that the state can be computed. The bytes of the snapshot and of the updates in quarantine count once. The bytes
/// after the snapshot count twice, because the next snapshot holds state and history. Each operation of a large history
/// counts as [`BYTES_OF_OPERATION`] more.
pub const ROOM_BYTES: u64 = 32 * MIB;

/// The bytes that an operation of a large document counts in addition to its stored ones, because a state takes memory for
/// each.
pub const BYTES_OF_OPERATION: u64 = 35;

/// The part of an instance's memory that one document may have: an eighth.
const PART_OF_MEMORY: u64 = 8;

/// The most bytes of each kind of holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Allowed {
    pub(crate) project: u64,
    pub(crate) owner: u64,
    pub(crate) room: u64,
}

/// The most bytes of one document, if an instance has this many MiB.
pub fn largest_room(instance_mib: u32) -> u64 {
    ROOM_BYTES.min(MIB * u64::from(instance_mib) / PART_OF_MEMORY)
}

impl Allowed {
    /// Reads the settings.
    pub(crate) fn read(config: &dyn Config) -> Self {
        Self {
            room: largest_room(instance_memory_mib(config))
                // A document is read, and stored, as one body.
                .min(max_body(config) as u64),
            project: MIB * u64::from(number(config, SETTINGS, PROJECT_QUOTA_MIB)),
            owner: MIB * u64::from(number(config, SETTINGS, OWNER_QUOTA_MIB)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use platform::native::MapConfig;

    #[test]
    fn a_document_fits_the_memory_and_the_bodies_of_the_host() {
        for (memory, body, mib) in [
            ("256", "32", 32),
            ("512", "1024", 32),
            ("128", "32", 16),
            ("128", "9", 9),
            ("64", "9", 8),
        ] {
            let given = [("instance_memory_mib", memory), ("max_body_mib", body)];
            let allowed = Allowed::read(&MapConfig::from_pairs(&given));
            assert_eq!(allowed.room, mib * MIB, "{memory} {body}");
        }
    }
}
