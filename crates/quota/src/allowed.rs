//! The bytes that may be kept.

use platform::{Config, setting::number};

/// The most MiB that a setting may allow: nearly a PiB, more than a disk has.
const MOST_MIB: u32 = 1_000_000_000;

platform::settings! {
    /// The most MiB that one project may keep: its document, its tasks and their results. Beyond it, edits and tasks are
    /// refused (507); what was saved stays
    PROJECT_QUOTA_MIB = "project_quota_mib", Value("10240"), Number(MOST_MIB);
    /// The most MiB that all projects of one owner may keep together
    OWNER_QUOTA_MIB = "owner_quota_mib", Value("102400"), Number(MOST_MIB);
}

const MIB: u64 = 1024 * 1024;

/// The most bytes of one document as it is stored, snapshot and log together: 32 MiB. A compaction of it fits an
/// instance of 256 MiB, and one of half of it fits 128 MiB.
pub const ROOM_BYTES: u64 = 32 * MIB;

/// The most bytes of each kind of holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Allowed {
    pub(crate) project: u64,
    pub(crate) owner: u64,
}

impl Allowed {
    /// Reads the settings.
    pub(crate) fn read(config: &dyn Config) -> Self {
        Self {
            project: MIB * u64::from(number(config, SETTINGS, PROJECT_QUOTA_MIB)),
            owner: MIB * u64::from(number(config, SETTINGS, OWNER_QUOTA_MIB)),
        }
    }
}
