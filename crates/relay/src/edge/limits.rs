//! How much one address, and one user, may ask.
//!
//! Token buckets: a bucket fills at a rate and holds a burst; a request takes one token, and where there is none it is
//! refused with the time until there will be. Memory is bounded: a bucket that is full again is as good as none.

use crate::settings::Settings;
use crate::socket::raw;
use http::{HeaderMap, HeaderName, header};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The most buckets, and the most credentials, that are kept.
const MOST: usize = 65_536;

/// How long it is believed whose a credential is.
const BELIEVED: Duration = Duration::from_secs(60);

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The limits of all requests.
pub(crate) struct Limits {
    addresses: Buckets<IpAddr>,
    users: Buckets<String>,
    principals: Mutex<HashMap<u64, (String, Instant)>>,
    hasher: RandomState,
}

impl Limits {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            addresses: Buckets::new(settings.rate_per_address, settings.burst_per_address),
            users: Buckets::new(settings.rate_per_user, settings.burst_per_user),
            principals: Mutex::default(),
            hasher: RandomState::new(),
        }
    }

    /// Takes a token of an address.
    ///
    /// # Errors
    /// With the time until there is one.
    pub(crate) fn take_address(&self, address: IpAddr) -> Result<(), Duration> {
        self.addresses.take(network(address), Instant::now())
    }

    /// Takes a token of a principal, such as `user:abc`. The backend and the user of a development, who is
    /// everybody, have no limit.
    ///
    /// # Errors
    /// With the time until there is one.
    pub(crate) fn take_user(&self, principal: &str) -> Result<(), Duration> {
        if matches!(principal, "server" | "user:dev") {
            return Ok(());
        }
        self.users.take(principal.to_owned(), Instant::now())
    }

    /// Names what a request is known by, without keeping it; `None` where that is nothing.
    pub(crate) fn credential(&self, headers: &HeaderMap, query: Option<&str>) -> Option<u64> {
        // As the app does: a token counts before cookies, so that none beside it make it another's.
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
            return Some(self.hasher.hash_one(("token", token)));
        }
        let cookies = headers.get_all(header::COOKIE).iter();
        let cookies: Vec<&[u8]> = cookies.map(|value| value.as_bytes()).collect();
        (!cookies.is_empty()).then(|| self.hasher.hash_one(("cookies", cookies)))
    }

    /// The app has told whose a credential is. Where that was not known, the request has not been counted yet: takes
    /// a token of the principal.
    ///
    /// # Errors
    /// With the time until there is one.
    pub(crate) fn told(&self, credential: u64, principal: &str) -> Result<(), Duration> {
        let was_known = self.principal_of(credential).is_some();
        self.learn(credential, principal);
        match was_known {
            true => Ok(()),
            false => self.take_user(principal),
        }
    }

    fn learn(&self, credential: u64, principal: &str) {
        let now = Instant::now();
        let mut known = self.principals();
        if known.len() >= MOST && !known.contains_key(&credential) {
            known.retain(|_, (_, told)| now - *told < BELIEVED);
            if known.len() > MOST / 2 {
                // Any half: what is forgotten is told again with the next answer.
                let mut keep = false;
                known.retain(|_, _| {
                    keep = !keep;
                    keep
                });
            }
        }
        known.insert(credential, (principal.to_owned(), now));
    }

    /// Whose a credential is, as far as is known.
    pub(crate) fn principal_of(&self, credential: u64) -> Option<String> {
        let known = self.principals();
        let (principal, told) = known.get(&credential)?;
        (told.elapsed() < BELIEVED).then(|| principal.clone())
    }

    fn principals(&self) -> MutexGuard<'_, HashMap<u64, (String, Instant)>> {
        self.principals
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a request comes from: the peer, or, where a proxy of our own is the peer, whom that one has named last.
pub(crate) fn client(peer: IpAddr, headers: &HeaderMap, trusted: bool) -> IpAddr {
    let named = headers.get_all(FORWARDED_FOR).iter().next_back();
    let named = named
        .filter(|_| trusted)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.rsplit(',').next());
    named.and_then(address).unwrap_or(peer)
}

/// An address, perhaps with a port.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    text.parse()
        .ok()
        .or_else(|| Some(text.parse::<std::net::SocketAddr>().ok()?.ip()))
        .or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
}

/// What is limited together: an address, or of IPv6, where everybody has many, its network.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

struct Buckets<K> {
    /// Tokens a second; 0: there is no limit.
    rate: f64,
    burst: f64,
    most: usize,
    buckets: Mutex<HashMap<K, Bucket>>,
}

#[derive(Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl<K: Eq + Hash + Clone> Buckets<K> {
    fn new(rate: u32, burst: u32) -> Self {
        Self {
            rate: f64::from(rate),
            burst: f64::from(burst.max(1)),
            most: MOST,
            buckets: Mutex::default(),
        }
    }

    fn take(&self, key: K, now: Instant) -> Result<(), Duration> {
        if self.rate == 0.0 {
            return Ok(());
        }
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= self.most && !buckets.contains_key(&key) {
            self.make_room(&mut buckets, now);
        }
        let bucket = buckets.entry(key).or_insert(Bucket {
            tokens: self.burst,
            at: now,
        });
        bucket.tokens = self.tokens(*bucket, now);
        bucket.at = now;
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - bucket.tokens) / self.rate))
    }

    fn tokens(&self, bucket: Bucket, now: Instant) -> f64 {
        let since = now.saturating_duration_since(bucket.at).as_secs_f64();
        (bucket.tokens + since * self.rate).min(self.burst)
    }

    /// Drops half of the buckets: those that are fullest, so that who asks most is not forgotten. It takes as many
    /// new keys before that is to be done again.
    fn make_room(&self, buckets: &mut HashMap<K, Bucket>, now: Instant) {
        let mut all: Vec<(K, f64)> = buckets
            .iter()
            .map(|(key, bucket)| (key.clone(), self.tokens(*bucket, now)))
            .collect();
        all.sort_unstable_by(|a, b| b.1.total_cmp(&a.1));
        for (key, _) in all.into_iter().take(self.most.div_ceil(2)) {
            buckets.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_bucket_holds_a_burst_and_fills_at_its_rate() {
        let buckets = Buckets::new(2, 3);
        let start = Instant::now();
        for _ in 0..3 {
            assert_eq!(buckets.take("a", start), Ok(()));
        }
        let wait = buckets.take("a", start).unwrap_err();
        assert_eq!(wait, Duration::from_millis(500));
        // Another has a bucket of its own.
        assert_eq!(buckets.take("b", start), Ok(()));
        assert!(
            buckets
                .take("a", start + Duration::from_millis(499))
                .is_err()
        );
        assert!(buckets.take("a", start + wait).is_ok());
        let later = start + Duration::from_secs(60);
        let taken = (0..10).filter(|_| buckets.take("a", later).is_ok()).count();
        assert_eq!(taken, 3);
        let none = Buckets::new(0, 1);
        assert!((0..100).all(|_| none.take("a", start).is_ok()));
    }

    #[test]
    fn memory_is_bounded_and_who_asks_most_is_remembered() {
        let mut buckets = Buckets::new(1, 2);
        buckets.most = 8;
        let start = Instant::now();
        for _ in 0..3 {
            let _ = buckets.take(1000, start);
        }
        for key in 0..100 {
            let _ = buckets.take(key, start);
            assert!(buckets.buckets.lock().unwrap().len() <= 8);
        }
        assert!(buckets.take(1000, start).is_err());
    }

    #[test]
    fn addresses_are_limited_by_their_network() {
        for (a, b, together) in [
            ("2001:db8::1", "2001:db8::2:0:0:1", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
            ("10.0.0.1", "10.0.0.2", false),
            ("10.0.0.1", "::ffff:10.0.0.1", true),
        ] {
            let of = |text: &str| network(text.parse().unwrap());
            assert_eq!(of(a) == of(b), together, "{a} {b}");
        }
    }

    #[test]
    fn a_proxy_of_our_own_names_the_client() {
        let peer = IpAddr::from([10, 0, 0, 1]);
        let named = IpAddr::from([6, 6, 6, 6]);
        for (header, trusted, expected) in [
            ("6.6.6.6", true, named),
            ("6.6.6.6", false, peer),
            ("1.1.1.1, 6.6.6.6", true, named),
            ("6.6.6.6:4711", true, named),
            ("1.1.1.1, somebody", true, peer),
            ("[2001:db8::1]", true, "2001:db8::1".parse().unwrap()),
        ] {
            let value = HeaderValue::from_static(header);
            let headers = HeaderMap::from_iter([(FORWARDED_FOR, value)]);
            assert_eq!(client(peer, &headers, trusted), expected, "{header}");
        }
        assert_eq!(client(peer, &HeaderMap::new(), true), peer);
    }

    #[test]
    fn a_credential_is_known_once_it_was_told_of() {
        let limits = Limits::new(&Settings::default());
        let of = |cookie: &'static str, query: Option<&str>| {
            let value = HeaderValue::from_static(cookie);
            let headers = HeaderMap::from_iter([(header::COOKIE, value)]);
            limits.credential(&headers, query)
        };
        assert_eq!(limits.credential(&HeaderMap::new(), Some("a=b")), None);
        let ann = of("a=b", None).unwrap();
        assert_eq!(Some(ann), of("a=b", Some("x=y")));
        assert_ne!(Some(ann), of("a=c", None));
        assert_ne!(Some(ann), of("a=b", Some("token=t")));
        assert_eq!(limits.principal_of(ann), None);
        limits.learn(ann, "user:ann");
        assert_eq!(limits.principal_of(ann).as_deref(), Some("user:ann"));
    }
}
