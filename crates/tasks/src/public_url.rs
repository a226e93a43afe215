//! The address of this server.

use platform::{Config, config::PUBLIC_URL};

/// The base URL at which services and browsers reach this server, without a slash at its end.
pub(crate) fn public_url(config: &dyn Config) -> String {
    let url = config.get(PUBLIC_URL).unwrap_or_default();
    url.trim_end_matches('/').to_owned()
}
