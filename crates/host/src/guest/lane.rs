//! The lanes, which decide the instances that share places. A lane takes no place of another, so that a storm of users'
//! requests holds up neither the relay nor the app's own work.
//!
//! A real Spin has no lanes. There the relay's caps bound what users can hold.

use std::time::Duration;

use super::limits::Limits;

/// The kind of a call into a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// An internal request that stores updates, or a line. It does not wait for requests of other kinds; otherwise a
    /// thousand clients that join would hold up those that edit. A relay has one line for edits and one for joins.
    Append,
    /// Any other request to an internal route, with a valid internal token: the relay's, or that of the cron trigger.
    Internal,
    /// A request of the app to itself.
    Nested,
    /// A request to a route below [`MERGE`], which is internal or nested. It computes for a long time.
    Merge,
    /// A health check, which has places of its own so that a busy app is not taken for a broken one.
    Health,
    /// Any other request.
    Public,
    /// A message of Redis.
    Redis,
    /// A cron event.
    Cron,
}

/// The beginnings of the paths that store updates, or carry many requests: one batch, or a line.
const APPENDS: [&str; 2] = ["/internal/append", "/internal/line"];
/// The path of the routes that merge a document.
const MERGE: &str = "/internal/merge/";
/// The path of all internal routes.
const INTERNAL: &str = "/internal/";

/// The path of the health check.
const HEALTH: &str = "/health";

/// The most lines, and requests that store updates, at one time. A relay has a few; the database stores one batch after
/// another.
const APPENDERS: u32 = 32;
/// The most merges at one time. A single one leaves the other cores to the users.
const MERGES: u32 = 1;
/// The most health checks at one time. A relay makes one.
const QUESTIONS: u32 = 4;
/// The most calls for Redis messages at one time. A trigger takes one message after another, so this is the number of
/// components on one channel that run together; further ones wait.
const MESSAGES: u32 = 4;
/// The most cron events at one time; a trigger takes one after another.
const EVENTS: u32 = 4;

/// The bytes that an instance reserves before it starts, which is what a small request uses.
const SMALL: usize = 4 << 20;
/// The bytes that a merge reserves, which holds at least a document.
const LARGE: usize = 32 << 20;

impl Lane {
    /// The lanes, in the order of their indices.
    pub(crate) const ALL: [Self; 8] = [
        Self::Append,
        Self::Internal,
        Self::Nested,
        Self::Merge,
        Self::Health,
        Self::Public,
        Self::Redis,
        Self::Cron,
    ];

    /// The lane of a request that came over the network. `is_authorized` says whether it has the internal token.
    pub(crate) fn of_request(path: &str, is_authorized: bool) -> Self {
        if path == HEALTH {
            Self::Health
        } else if !is_authorized {
            Self::Public
        } else if path.starts_with(MERGE) {
            Self::Merge
        } else if APPENDS.iter().any(|append| path.starts_with(append)) {
            Self::Append
        } else if path.starts_with(INTERNAL) {
            Self::Internal
        } else {
            Self::Public
        }
    }

    /// The lane of a request of the app to itself.
    pub(crate) fn of_own_request(path: &str) -> Self {
        if path.starts_with(MERGE) {
            Self::Merge
        } else {
            Self::Nested
        }
    }

    /// The number of instances of this lane that may run at one time. Users have as many places as `limits` says. Other
    /// internal requests have a quarter of that, and so have requests of the app to itself.
    pub(crate) fn places(self, limits: &Limits) -> u32 {
        match self {
            Self::Append => APPENDERS,
            Self::Internal | Self::Nested => limits.instances.div_ceil(4),
            Self::Merge => MERGES,
            Self::Health => QUESTIONS,
            Self::Public => limits.instances,
            Self::Redis => MESSAGES,
            Self::Cron => EVENTS,
        }
    }

    /// Returns whether a call waits for a place. A user's request does not: each one that waits would hold a connection
    /// of the relay, so it is refused at once. The other callers are parts of the app or of the relay. They are few,
    /// and if such a call were refused, a user's request that is half done would fail.
    pub(crate) fn waits(self) -> bool {
        self != Self::Public
    }

    /// The processor time of one instance.
    pub(crate) fn processor_time(self, limits: &Limits) -> Duration {
        match self {
            Self::Merge => limits.cpu.max(limits.merge_cpu),
            _ => limits.cpu,
        }
    }

    /// The bytes that an instance reserves before it starts.
    pub(crate) fn reservation(self) -> usize {
        match self {
            Self::Merge => LARGE,
            _ => SMALL,
        }
    }

    /// The most bytes of a budget of `total` that may be in use after an instance of this lane has taken more. The rest
    /// is kept for the lanes that must go on while users fill theirs.
    pub(crate) fn ceiling(self, total: usize) -> usize {
        match self {
            Self::Public => total / 4 * 3,
            Self::Nested | Self::Merge => total / 8 * 7,
            Self::Append | Self::Internal | Self::Health | Self::Redis | Self::Cron => total,
        }
    }

    /// Returns whether an instance runs at a low priority.
    pub(crate) fn is_background(self) -> bool {
        self == Self::Merge
    }

    /// Returns whether the processor time of an instance is counted from zero again whenever the caller takes a part of
    /// its answer. Such an instance answers many messages in one long request, and only the relay can make one.
    pub(crate) fn counts_between_answers(self) -> bool {
        matches!(self, Self::Append | Self::Internal)
    }

    /// The name in logs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Internal => "internal",
            Self::Nested => "nested",
            Self::Merge => "merge",
            Self::Health => "health",
            Self::Public => "public",
            Self::Redis => "redis",
            Self::Cron => "cron",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_a_lane_by_its_path_its_token_and_its_sender() {
        for (path, with_token, without, own) in [
            ("/health", Lane::Health, Lane::Health, Lane::Nested),
            ("/healthy", Lane::Public, Lane::Public, Lane::Nested),
            ("/internal", Lane::Public, Lane::Public, Lane::Nested),
            ("/internals/x", Lane::Public, Lane::Public, Lane::Nested),
            (
                "/internal/heads",
                Lane::Internal,
                Lane::Public,
                Lane::Nested,
            ),
            ("/internal/line", Lane::Append, Lane::Public, Lane::Nested),
            ("/internal/append", Lane::Append, Lane::Public, Lane::Nested),
            (
                "/internal/merge",
                Lane::Internal,
                Lane::Public,
                Lane::Nested,
            ),
            ("/internal/merge/p", Lane::Merge, Lane::Public, Lane::Merge),
        ] {
            assert_eq!(Lane::of_request(path, true), with_token, "{path}");
            assert_eq!(Lane::of_request(path, false), without, "{path}");
            assert_eq!(Lane::of_own_request(path), own, "{path}");
        }
    }

    #[test]
    fn a_merge_has_a_budget_of_its_own_and_no_less_than_others() {
        for (cpu, merge_cpu, expected) in [(30, 120, 120), (30, 200, 200), (30, 1, 30)] {
            let limits = Limits {
                cpu: Duration::from_secs(cpu),
                merge_cpu: Duration::from_secs(merge_cpu),
                ..Limits::default()
            };
            let expected = Duration::from_secs(expected);
            assert_eq!(Lane::Merge.processor_time(&limits), expected);
            for lane in Lane::ALL.into_iter().filter(|lane| *lane != Lane::Merge) {
                assert_eq!(lane.processor_time(&limits), limits.cpu, "{lane:?}");
            }
        }
    }

    #[test]
    fn every_lane_has_a_place_and_the_order_is_that_of_the_indices() {
        let limits = Limits {
            instances: 1,
            ..Limits::default()
        };
        for (index, lane) in Lane::ALL.into_iter().enumerate() {
            assert!(lane.places(&limits) >= 1, "{lane:?}");
            assert_eq!(lane as usize, index);
            assert!(lane.ceiling(1 << 30) > lane.reservation(), "{lane:?}");
        }
    }
}
