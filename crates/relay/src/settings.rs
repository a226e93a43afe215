//! The settings of the relay, each with its default.

use clap::builder::Resettable;
use clap::{Args, FromArgMatches};
use std::time::Duration;

/// The settings of a relay. A time is written as `20s`, `250ms` or `2m`, or in plain seconds; a size in bytes, or as
/// `4MiB`.
///
/// Each is a flag and an environment variable. A host that embeds the relay sets the fields that it knows, and takes
/// the others from [`Settings::default`].
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Settings {
    /// The address of the Spin app, as `http://HOST:PORT`.
    #[arg(long, env = "RELAY_APP", default_value = "http://127.0.0.1:3000")]
    pub app: String,
    /// The address of Redis, which carries the updates of other relays and of the app itself. Without it the relay
    /// compares heads with the app more often. `rediss://` is TLS, by the certificates of the system or of
    /// `SSL_CERT_FILE`; the Wasm build has no TLS.
    #[arg(long, env = "RELAY_REDIS")]
    pub redis: Option<String>,
    /// The bearer token that the relay sends to the app's internal routes, and that `/metrics` and the relay's own
    /// internal routes require. If it is empty, no token is sent, and the relay has no internal routes.
    #[arg(
        long,
        env = "RELAY_INTERNAL_TOKEN",
        default_value = "",
        hide_env_values = true
    )]
    pub internal_token: String,
    /// Believes the `X-Forwarded-*` headers of requests and appends to them, because the relay is behind a trusted proxy.
    /// Without this option the relay replaces them.
    #[arg(long, env = "RELAY_TRUST_FORWARDED")]
    pub trust_forwarded: bool,

    /// Asks the app every 10 s to do what is due, because its host has no cron trigger.
    #[arg(long, env = "RELAY_TICK")]
    pub tick: bool,

    /// The number of requests a month that the relay may send to the app, those of clients included, because the app's
    /// host counts requests. The relay then ticks, also without `--tick`, while a client is connected or sends
    /// requests, or a task is not finished, and no faster than what is left of the month allows; otherwise every hour.
    /// It compares heads every minute. Requests of clients are never refused for this. A month begins when the relay
    /// starts.
    #[arg(long, env = "RELAY_REQUESTS_A_MONTH", value_parser = clap::value_parser!(u64).range(1..))]
    pub requests_a_month: Option<u64>,

    /// The most WebSockets at once. A further one is answered with 503. The relay holds 1024 more connections for plain
    /// requests, and those of `--max-waiters`. It raises its limit of open files, and logs at its start how many
    /// connections it can hold.
    #[arg(long, env = "RELAY_MAX_CONNECTIONS", default_value = "10000", value_parser = count)]
    pub max_connections: usize,
    /// The time that a client may take to send a request's head.
    #[arg(long, env = "RELAY_HEADER_TIMEOUT", default_value = "10s", value_parser = duration)]
    pub header_timeout: Duration,
    /// The largest head of a request, in bytes.
    #[arg(long, env = "RELAY_MAX_HEADER_BYTES", default_value = "16KiB", value_parser = size)]
    pub max_header_bytes: usize,
    /// The time that the app may take to begin its answer to a client's request. Then the relay answers 504.
    #[arg(long, env = "RELAY_PROXY_TIMEOUT", default_value = "60s", value_parser = duration)]
    pub proxy_timeout: Duration,

    /// The most connections of one address (of IPv6, of one /64) whose clients the app has not let in yet, by an
    /// upgrade or by a request whose credentials hold. Further ones wait up to 5 s, and are then answered with 503. Behind a
    /// trusted proxy this limit counts upgrades alone, by the address that the proxy names, so the proxy must bound idle
    /// connections.
    #[arg(long, env = "RELAY_CONNECTIONS_PER_ADDRESS", default_value = "256", value_parser = count)]
    pub connections_per_address: usize,
    /// The most requests of clients that the app works on at once; the relay's own do not count. Further ones wait 5 s,
    /// and are then answered with 503. Clients whose credentials the app has not accepted within the last minute take
    /// half of the places at most. Files of the page do not count if the relay answers them from its memory (64 MiB).
    #[arg(long, env = "RELAY_MAX_REQUESTS", default_value = "128", value_parser = count)]
    pub max_requests: usize,
    /// The most requests of one address that the app works on at once.
    #[arg(long, env = "RELAY_REQUESTS_PER_ADDRESS", default_value = "32", value_parser = count)]
    pub requests_per_address: usize,
    /// The most requests of one user, or of one agent, that the app works on at once. Clients of one address whose
    /// credentials the app has not accepted within the last minute share as many.
    #[arg(long, env = "RELAY_REQUESTS_PER_USER", default_value = "16", value_parser = count)]
    pub requests_per_user: usize,
    /// The most requests that wait for a task (`?wait=`) and streams of events (`/tasks/{id}/events`,
    /// `/projects/{id}/tasks/events`) together, half of which may come from one address or one user. A further one is
    /// answered with 503.
    #[arg(long, env = "RELAY_MAX_WAITERS", default_value = "10000", value_parser = count)]
    pub max_waiters: usize,

    /// The number of requests a second that one address may send, on average (of IPv6, one /64). Further ones are
    /// answered with 429. An upgrade is one request. 0 means no limit.
    #[arg(long, env = "RELAY_RATE_PER_ADDRESS", default_value = "1000")]
    pub rate_per_address: u32,
    /// The number of requests that one address may send at once before that average holds.
    #[arg(long, env = "RELAY_BURST_PER_ADDRESS", default_value = "20000")]
    pub burst_per_address: u32,
    /// The number of requests a second that one user, or one token, may send, on average. Further ones are answered with
    /// 429. 0 means no limit.
    #[arg(long, env = "RELAY_RATE_PER_USER", default_value = "300")]
    pub rate_per_user: u32,
    /// The number of requests that one user, or one token, may send at once before that average holds.
    #[arg(long, env = "RELAY_BURST_PER_USER", default_value = "5000")]
    pub burst_per_user: u32,

    /// The interval at which the relay checks whether a WebSocket may still be in its room. It also checks whenever it
    /// learns of a change. Five minutes at most.
    #[arg(long, env = "RELAY_RECHECK_INTERVAL", default_value = "45s", value_parser = duration)]
    pub recheck_interval: Duration,
    /// The time for which that check may fail because the app does not answer, before the WebSocket is closed with 1013.
    #[arg(long, env = "RELAY_RECHECK_PATIENCE", default_value = "5m", value_parser = duration)]
    pub recheck_patience: Duration,

    /// The interval at which the server pings a WebSocket.
    #[arg(long, env = "RELAY_PING_INTERVAL", default_value = "20s", value_parser = duration)]
    pub ping_interval: Duration,
    /// The time that a WebSocket may send no frame, not even a pong, before it is dropped.
    #[arg(long, env = "RELAY_IDLE_TIMEOUT", default_value = "60s", value_parser = duration)]
    pub idle_timeout: Duration,
    /// The time that a client may read nothing while bytes wait for it, before the relay drops its connection.
    #[arg(long, env = "RELAY_WRITE_TIMEOUT", default_value = "30s", value_parser = duration)]
    pub write_timeout: Duration,
    /// The time that a closing handshake may take.
    #[arg(long, env = "RELAY_CLOSE_TIMEOUT", default_value = "5s", value_parser = duration)]
    pub close_timeout: Duration,
    /// The time within which a client must send its first frame if it announced its version for that. It is part of the
    /// protocol, and so no flag.
    #[arg(skip = Duration::from_secs(30))]
    pub version_timeout: Duration,
    /// The time that a stored update may wait for operations that the server lacks, before its sender is notified. It is
    /// part of the protocol, and so no flag.
    #[arg(skip = Duration::from_secs(5))]
    pub waiting_after: Duration,
    /// The most bytes that are queued for one WebSocket, besides the state that it gets when it joins. A WebSocket that
    /// needs more is closed with 4008.
    #[arg(long, env = "RELAY_MAX_SOCKET_QUEUE", default_value = "4MiB", value_parser = size)]
    pub max_socket_queue: usize,

    /// The most bytes of a body, of a message of a WebSocket, and so of an update; 16 MiB at most. If the app's host takes
    /// less, set it to the app's `max_body_mib`.
    #[arg(long, env = "RELAY_MAX_BODY", default_value = "16MiB", value_parser = body)]
    pub max_body: usize,

    /// The most bytes of updates that wait to be stored, over all WebSockets. While the app is away, a WebSocket that
    /// sends more is closed with 1013.
    #[arg(long, env = "RELAY_MAX_COMMIT_QUEUE", default_value = "64MiB", value_parser = size)]
    pub max_commit_queue: usize,
    /// The most bytes of updates of one WebSocket that wait to be stored. Beyond them the relay stops reading from it.
    #[arg(long, env = "RELAY_MAX_SOCKET_COMMIT", default_value = "4MiB", value_parser = size)]
    pub max_socket_commit: usize,
    /// The most updates of one WebSocket that wait to be stored. Beyond them the relay stops reading from it.
    #[arg(long, env = "RELAY_MAX_SOCKET_UPDATES", default_value = "256", value_parser = count)]
    pub max_socket_updates: usize,
    /// The most bytes of messages that have arrived in part, over all WebSockets. A WebSocket that sends more is closed
    /// with 1013.
    #[arg(long, env = "RELAY_MAX_PARTIAL", default_value = "256MiB", value_parser = size)]
    pub max_partial: usize,
    /// The most bytes of states on their way to clients that join, over all WebSockets; what several of them share
    /// counts once, and one room has a quarter of them. Another client that joins waits.
    #[arg(long, env = "RELAY_MAX_STATES", default_value = "256MiB", value_parser = size)]
    pub max_states: usize,
    /// The time that the app may take to answer an internal request.
    #[arg(long, env = "RELAY_APP_TIMEOUT", default_value = "15s", value_parser = duration)]
    pub app_timeout: Duration,
    /// The time that the app may be away before the WebSockets that wait for it are closed with 1013.
    #[arg(long, env = "RELAY_APP_PATIENCE", default_value = "30s", value_parser = duration)]
    pub app_patience: Duration,
    /// The time that a line to the app is open: one HTTP request that carries many, and whose body and answer both
    /// stream. 20 s at most. Set it below the time after which the app's host ends a request.
    #[arg(long, env = "RELAY_LINE_TIME", default_value = "20s", value_parser = duration)]
    pub line_time: Duration,
    /// The most bytes on one line, in each direction. Set it below the largest body that the app's host takes.
    #[arg(long, env = "RELAY_LINE_BYTES", default_value = "8MiB", value_parser = size)]
    pub line_bytes: usize,
    /// The most requests on one line. 0 means that no lines are opened, and each request goes by itself.
    #[arg(long, env = "RELAY_LINE_REQUESTS", default_value = "4096")]
    pub line_requests: usize,

    /// The bytes of recent updates that are kept for each room, for clients that join.
    #[arg(long, env = "RELAY_RECENT_BYTES", default_value = "1MiB", value_parser = size)]
    pub recent_bytes: usize,
    /// The number of recent updates that are kept for each room, for clients that join.
    #[arg(long, env = "RELAY_RECENT_UPDATES", default_value = "4096")]
    pub recent_updates: usize,
    /// The time that a state that was read serves clients that join later.
    #[arg(long, env = "RELAY_STATE_RETENTION", default_value = "2s", value_parser = duration)]
    pub state_retention: Duration,
    /// The time that the relay waits for a missing rev, which may be on its way, before it fetches it from the app.
    #[arg(long, env = "RELAY_GAP_WAIT", default_value = "50ms", value_parser = duration)]
    pub gap_wait: Duration,
    /// The interval at which the heads of rooms, and the permissions there, are compared with the app's. By default every
    /// 3 s with Redis, and every second without.
    #[arg(long, env = "RELAY_HEADS_INTERVAL", value_parser = duration)]
    pub heads_interval: Option<Duration>,
    /// The time after which the app is asked to compact a room that became empty.
    #[arg(long, env = "RELAY_COMPACT_DELAY", default_value = "2s", value_parser = duration)]
    pub compact_delay: Duration,
    /// The interval at which the app is asked to compact the rooms that are due.
    #[arg(long, env = "RELAY_SWEEP_INTERVAL", default_value = "60s", value_parser = duration)]
    pub sweep_interval: Duration,
    /// The interval at which a relay publishes how many sockets it has in a room. A relay that is silent for three times
    /// as long is no longer counted.
    #[arg(long, env = "RELAY_PEERS_INTERVAL", default_value = "10s", value_parser = duration)]
    pub peers_interval: Duration,

    /// The time that queued updates may take to be stored when the relay drains.
    #[arg(long, env = "RELAY_DRAIN_TIMEOUT", default_value = "10s", value_parser = duration)]
    pub drain_timeout: Duration,
}

impl Default for Settings {
    /// The defaults of the flags, whatever the environment holds.
    fn default() -> Self {
        let command = Self::augment_args(clap::Command::new("relay"))
            .mut_args(|arg| arg.env(Resettable::Reset));
        command
            .try_get_matches_from(["relay"])
            .and_then(|matches| Self::from_arg_matches(&matches))
            .unwrap_or_else(|error| panic!("a default is not valid: {error}"))
    }
}

/// The reason why a setting is not valid.
#[derive(Debug, thiserror::Error)]
pub enum SettingError {
    /// The address in [`Settings::app`] has another form.
    #[error(
        "`--app` (RELAY_APP) is {0:?}, and not the address of an app such as http://127.0.0.1:3000"
    )]
    App(String),
    /// The token in [`Settings::internal_token`] cannot be sent in a header.
    #[error("`--internal-token` (RELAY_INTERNAL_TOKEN) has characters that a header cannot carry")]
    InternalToken,
    /// The value of [`Settings::redis`] is not an address. The error does not hold it, because a password may be in it.
    #[error("`--redis` (RELAY_REDIS) is not the address of Redis: {0}")]
    Redis(redis::RedisError),
}

impl Settings {
    /// Returns the interval at which heads are compared.
    pub(crate) fn heads_interval(&self) -> Duration {
        let usual = match (self.requests_a_month, &self.redis) {
            (Some(_), _) => 60,
            (None, Some(_)) => 3,
            (None, None) => 1,
        };
        self.heads_interval.unwrap_or(Duration::from_secs(usual))
    }

    /// Returns the longest time that a drain takes, so that a host which embeds the relay can wait for it.
    pub fn longest_drain(&self) -> Duration {
        self.drain_timeout.saturating_add(self.longest_close())
    }

    /// Returns the longest time in which a relay that drains closes its connections. The closing handshakes end by
    /// themselves; the second more is for plain requests.
    pub(crate) fn longest_close(&self) -> Duration {
        self.close_timeout.saturating_add(Duration::from_secs(1))
    }
}

/// Reads `20s`, `250ms`, `2m` or `1.5`.
fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_unit(text);
    let scale = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("{unit:?} is not a unit of time: use ms, s, m or h")),
    };
    number
        .parse::<f64>()
        .ok()
        .and_then(|number| Duration::try_from_secs_f64(number * scale).ok())
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "not a time such as 20s or 250ms".to_owned())
}

/// Reads a number from 1.
fn count(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "not a whole number from 1".to_owned())
}

/// Reads the size of a body.
fn body(text: &str) -> Result<usize, String> {
    match size(text)? {
        0 => Err("must be more than 0".into()),
        body if body <= wire::MAX_UPDATE_BYTES => Ok(body),
        _ => Err("must be 16MiB at most, because the app takes no more".into()),
    }
}

/// Reads `4096`, `16KiB` or `4MiB`.
fn size(text: &str) -> Result<usize, String> {
    let (number, unit) = split_unit(text);
    let scale: usize = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => {
            return Err(format!(
                "{unit:?} is not a unit of size: use KiB, MiB or GiB"
            ));
        }
    };
    number
        .parse::<usize>()
        .ok()
        .and_then(|number| number.checked_mul(scale))
        .ok_or_else(|| "not a size such as 4096 or 4MiB".to_owned())
}

fn split_unit(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_has_a_default() {
        let settings = Settings::default();
        assert_eq!(settings.max_partial, 256 << 20);
        assert_eq!(settings.gap_wait, Duration::from_millis(50));
        assert_eq!(settings.heads_interval(), Duration::from_secs(1));
        let thrifty = Settings {
            requests_a_month: Some(100_000),
            ..settings
        };
        assert_eq!(thrifty.heads_interval(), Duration::from_secs(60));
    }

    #[test]
    fn times_and_sizes() {
        for (text, expected) in [
            ("20s", Some(20_000)),
            ("20", Some(20_000)),
            ("250ms", Some(250)),
            ("1.5", Some(1500)),
            ("2m", Some(120_000)),
            ("0", None),
            ("-1s", None),
            ("s", None),
            ("5 parsecs", None),
        ] {
            assert_eq!(
                duration(text).ok(),
                expected.map(Duration::from_millis),
                "{text}"
            );
        }
        for (text, expected) in [
            ("4096", Some(4096)),
            ("16KiB", Some(16 << 10)),
            ("4 MiB", Some(4 << 20)),
            ("4MB", None),
            ("MiB", None),
            ("99999999999999999999GiB", None),
        ] {
            assert_eq!(size(text).ok(), expected, "{text}");
        }
    }
}
