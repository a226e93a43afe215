//! The limits of the requests that one address, and one user, may send.

use crate::edge::address;
use crate::edge::buckets::Buckets;
use crate::edge::caps::Caller;
use crate::edge::credentials::{Credential, Credentials};
use crate::settings::Settings;
use http::{HeaderMap, Uri};
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::Instant;

/// The limits of all requests.
pub(crate) struct Limits {
    trust_forwarded: bool,
    addresses: Buckets<IpAddr>,
    users: Buckets<String>,
    credentials: Credentials,
}

impl Limits {
    /// The limits of the settings.
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            trust_forwarded: settings.trust_forwarded,
            addresses: Buckets::new(settings.rate_per_address, settings.burst_per_address),
            users: Buckets::new(settings.rate_per_user, settings.burst_per_user),
            credentials: Credentials::default(),
        }
    }

    /// Applies the limits to a request. The user's limit applies only if the app has lately named the user to whom the
    /// credential belongs; otherwise [`record_principal`](Self::record_principal) applies it.
    ///
    /// # Errors
    /// The time to wait, if a limit is reached.
    pub(crate) fn take(
        &self,
        peer: IpAddr,
        headers: &HeaderMap,
        uri: &Uri,
    ) -> Result<(), Duration> {
        self.addresses
            .take(self.network(peer, headers), Instant::now())?;
        match self.credentials.principal(self.credential(headers, uri)) {
            Some(principal) => self.take_user(&principal),
            None => Ok(()),
        }
    }

    /// The network of a client whose requests are counted together.
    pub(crate) fn network(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        address::network(address::client(peer, headers, self.trust_forwarded))
    }

    /// The client that a request from this network counts for.
    pub(crate) fn caller(&self, network: IpAddr, headers: &HeaderMap, uri: &Uri) -> Caller {
        let credential = self.credential(headers, uri);
        match self.credentials.principal(credential) {
            None if credential == Credential::Missing => Caller::Anonymous,
            None => Caller::Unknown(network),
            Some(principal) if is_exempt(&principal) => Caller::Exempt,
            Some(principal) => Caller::Known(principal),
        }
    }

    /// The credential of a request.
    pub(crate) fn credential(&self, headers: &HeaderMap, uri: &Uri) -> Credential {
        self.credentials.of(headers, uri.query())
    }

    /// Records the principal to which a credential belongs, as the app has named it. If that was not known, the request
    /// has not counted for the user yet, and counts now.
    ///
    /// # Errors
    /// The time to wait, if the user's limit is reached.
    pub(crate) fn record_principal(
        &self,
        credential: Credential,
        principal: &str,
    ) -> Result<(), Duration> {
        let was_known = self.credentials.principal(credential).is_some();
        self.credentials.learn(credential, principal);
        if was_known {
            Ok(())
        } else {
            self.take_user(principal)
        }
    }

    fn take_user(&self, principal: &str) -> Result<(), Duration> {
        if is_exempt(principal) {
            return Ok(());
        }
        self.users.take(principal.to_owned(), Instant::now())
    }
}

/// Returns whether a principal has no limit: the trusted backend, and the one user of a development server.
fn is_exempt(principal: &str) -> bool {
    matches!(principal, "server" | "user:dev")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderValue, header};

    #[test]
    fn cookies_written_in_many_ways_are_one_caller() {
        let limits = Limits::new(&Settings::default());
        let here = IpAddr::from([10, 0, 0, 1]);
        let uri = Uri::from_static("/");
        let cookie = |padding: u8| {
            let value = HeaderValue::from_str(&format!("sess=ann; x={padding}")).unwrap();
            HeaderMap::from_iter([(header::COOKIE, value)])
        };
        let callers = || (0..20).map(|padding| limits.caller(here, &cookie(padding), &uri));
        assert!(callers().all(|caller| caller == Caller::Unknown(here)));
        for padding in 0..20 {
            let credential = limits.credential(&cookie(padding), &uri);
            limits.record_principal(credential, "user:ann").unwrap();
        }
        assert!(callers().all(|caller| caller == Caller::Known("user:ann".into())));
        let nothing = limits.caller(here, &HeaderMap::new(), &uri);
        assert_eq!(nothing, Caller::Anonymous);
        let credential = limits.credential(&cookie(0), &uri);
        limits.record_principal(credential, "server").unwrap();
        assert_eq!(limits.caller(here, &cookie(0), &uri), Caller::Exempt);
    }

    #[test]
    fn clients_of_a_development_server_are_no_strangers_once_it_has_let_one_in() {
        let limits = Limits::new(&Settings::default());
        let here = IpAddr::from([10, 0, 0, 1]);
        let (uri, nothing) = (Uri::from_static("/"), HeaderMap::new());
        assert!(limits.caller(here, &nothing, &uri).is_stranger());
        let credential = limits.credential(&nothing, &uri);
        limits.record_principal(credential, "user:dev").unwrap();
        assert_eq!(limits.caller(here, &nothing, &uri), Caller::Exempt);
    }
}
