//! The principals to which credentials belong, as far as the app has named them lately.

use crate::socket::raw;
use http::{HeaderMap, header};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;
use tokio::time::Instant;

/// The most credentials that are kept.
const MOST: usize = 65_536;

/// The time that the app's word about a credential is believed.
const BELIEVED: Duration = Duration::from_secs(60);

/// A credential of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Credential {
    /// The request has none. A development server lets such clients in all the same, as one user.
    Missing,
    /// The hash of a token or of cookies, with a key that is new at every start, so no secret is kept.
    Hash(u64),
}

/// A cache of the principals of credentials.
#[derive(Default)]
pub(crate) struct Credentials {
    principals: Mutex<HashMap<Credential, (String, Instant)>>,
    hasher: RandomState,
}

impl Credentials {
    /// The credential of a request.
    pub(crate) fn of(&self, headers: &HeaderMap, query: Option<&str>) -> Credential {
        // As in the app, a token counts before cookies, so a cookie beside it does not make it another credential.
        let bearer = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim());
        let token = bearer
            .map(str::to_owned)
            .or_else(|| raw::token(query.unwrap_or_default()));
        if let Some(token) = token {
            return Credential::Hash(self.hasher.hash_one(("token", token)));
        }
        let cookies = headers.get_all(header::COOKIE).iter();
        let cookies: Vec<&[u8]> = cookies.map(|value| value.as_bytes()).collect();
        if cookies.is_empty() {
            return Credential::Missing;
        }
        Credential::Hash(self.hasher.hash_one(("cookies", cookies)))
    }

    /// Records the principal to which a credential belongs, as the app has named it.
    pub(crate) fn learn(&self, credential: Credential, principal: &str) {
        let now = Instant::now();
        let mut known = self.principals.lock();
        if known.len() >= MOST && !known.contains_key(&credential) {
            known.retain(|_, (_, told)| now - *told < BELIEVED);
            if known.len() > MOST / 2 {
                // Evicts an arbitrary half. The app's next answers bring them back.
                let mut keep = false;
                known.retain(|_, _| {
                    keep = !keep;
                    keep
                });
            }
        }
        known.insert(credential, (principal.to_owned(), now));
    }

    /// The principal of a credential, if the app has named it lately.
    pub(crate) fn principal(&self, credential: Credential) -> Option<String> {
        let known = self.principals.lock();
        let (principal, told) = known.get(&credential)?;
        (told.elapsed() < BELIEVED).then(|| principal.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_credential_is_known_after_the_app_has_named_its_principal() {
        let credentials = Credentials::default();
        let of = |cookie: &'static str, query: Option<&str>| {
            let value = HeaderValue::from_static(cookie);
            let headers = HeaderMap::from_iter([(header::COOKIE, value)]);
            credentials.of(&headers, query)
        };
        let none = credentials.of(&HeaderMap::new(), Some("a=b"));
        assert_eq!(none, Credential::Missing);
        let ann = of("a=b", None);
        assert_eq!(ann, of("a=b", Some("x=y")));
        assert_ne!(ann, of("a=c", None));
        assert_ne!(ann, of("a=b", Some("token=t")));
        assert_eq!(credentials.principal(ann), None);
        credentials.learn(ann, "user:ann");
        assert_eq!(credentials.principal(ann).as_deref(), Some("user:ann"));
    }
}
