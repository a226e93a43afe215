//! The files of the page, kept by the relay: a file that the app gives to every client is asked for once, and then
//! answered from here, however many clients take it, and however slowly.
//!
//! While one request asks for a file, others that want it wait for it, so that a crowd which comes before the file is
//! kept costs the app one instance, and not one for each.
//!
//! Only an answer that says `Cache-Control: public` and carries a tag is kept. If it is `immutable`, its name stands for
//! its content, so it holds for an hour. Any other is asked for again after a second, so that a new version of the app
//! shows at once. Memory is bounded: beyond that the file that was not used for the longest time goes.

use crate::edge::body::{Body, full, shared};
use crate::edge::file_key::{Key, is_of_the_page};
use crate::edge::shares::{Share, Shares};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// The largest file that is kept, in bytes.
pub(crate) const MAX_FILE: usize = 8 * 1024 * 1024;

/// The most bytes of all files.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// The bytes that a file counts in addition to its own, so that the number of files is bounded, too.
const ENVELOPE: usize = 64 * 1024;

/// The time that a file is kept if its name changes with its content.
const IMMUTABLE_FOR: Duration = Duration::from_secs(3600);

/// The time that any other file is kept.
const FRESH_FOR: Duration = Duration::from_secs(1);

/// The time that a request waits for another that asks for the same file. Then it asks for itself.
const TURN_PATIENCE: Duration = Duration::from_secs(1);

/// The headers of a file that an answer of 304 does not have, because they describe a body (RFC 9110, section 15.4.5).
const NOT_IN_304: [HeaderName; 3] = [
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::CONTENT_ENCODING,
];

/// The files that are kept.
pub(crate) struct Files {
    kept: Mutex<Kept>,
    /// The requests that ask the app, one for each file.
    asking: Shares<Key>,
    patience: Duration,
}

/// The next step of a request that found no file.
pub(crate) enum Turn {
    /// The request answers with this file, which another request has read meanwhile.
    Kept(Arc<File>),
    /// The request asks the app. Others wait until it drops this; `None` if none should wait for it.
    Ask(Option<Share<Key>>),
}

impl Default for Files {
    fn default() -> Self {
        Self {
            kept: Mutex::default(),
            asking: Shares::new(1),
            patience: TURN_PATIENCE,
        }
    }
}

#[derive(Default)]
struct Kept {
    files: HashMap<Key, (Arc<File>, Instant)>,
    bytes: usize,
}

/// A file.
pub(crate) struct File {
    headers: HeaderMap,
    body: Bytes,
    until: Instant,
}

/// Returns the time that the answer with these headers may be kept; `None` if it may not.
pub(crate) fn lifetime(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let control = text(header::CACHE_CONTROL)?;
    let says = |word: &str| {
        control
            .split(',')
            .any(|part| part.trim().eq_ignore_ascii_case(word))
    };
    let varies = headers.get_all(header::VARY).iter();
    let is_the_same_for_all = varies
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .all(|name| {
            ["accept-encoding", "origin"].contains(&name.trim().to_ascii_lowercase().as_str())
        });
    let may_be_kept = status == StatusCode::OK
        && says("public")
        && is_the_same_for_all
        && headers.contains_key(header::ETAG)
        && !headers.contains_key(header::SET_COOKIE);
    may_be_kept.then(|| {
        if says("immutable") {
            IMMUTABLE_FOR
        } else {
            FRESH_FOR
        }
    })
}

impl Files {
    /// The file, if it is kept and still holds.
    pub(crate) fn get(&self, key: &Key) -> Option<Arc<File>> {
        let now = Instant::now();
        let mut kept = self.kept.lock();
        let (file, used) = kept.files.get_mut(key)?;
        if file.until <= now {
            return None;
        }
        *used = now;
        Some(file.clone())
    }

    /// Waits while another request asks for the file.
    pub(crate) async fn turn(&self, key: &Key) -> Turn {
        // Requests for anything but the page don't wait for each other, because the app answers each client on its own, and
        // one that is slow must not hold up another.
        if !is_of_the_page(&key.path) && !self.kept.lock().files.contains_key(key) {
            return Turn::Ask(None);
        }
        let turn = timeout(self.patience, self.asking.take(key.clone())).await;
        match self.get(key) {
            Some(file) => Turn::Kept(file),
            None => Turn::Ask(turn.ok()),
        }
    }

    /// The kept file, if it is the version of these headers. It then holds as long as if it had come anew.
    pub(crate) fn renew(
        &self,
        key: &Key,
        headers: &HeaderMap,
        lifetime: Duration,
    ) -> Option<Arc<File>> {
        let now = Instant::now();
        let mut kept = self.kept.lock();
        let (file, used) = kept.files.get_mut(key)?;
        if file.headers.get(header::ETAG) != headers.get(header::ETAG) {
            return None;
        }
        *used = now;
        *file = Arc::new(File {
            headers: file.headers.clone(),
            body: file.body.clone(),
            until: now + lifetime,
        });
        Some(file.clone())
    }

    /// Keeps the answer of the app.
    pub(crate) fn keep(
        &self,
        key: Key,
        mut headers: HeaderMap,
        body: Bytes,
        lifetime: Duration,
    ) -> Arc<File> {
        let now = Instant::now();
        headers.insert(header::CONTENT_LENGTH, body.len().into());
        headers.remove(header::DATE);
        let file = Arc::new(File {
            headers,
            body,
            until: now + lifetime,
        });
        if file.body.len() <= MAX_FILE {
            self.kept.lock().insert(key, file.clone(), now);
        }
        file
    }
}

impl Kept {
    fn insert(&mut self, key: Key, file: Arc<File>, now: Instant) {
        self.bytes += size(&file);
        if let Some((before, _)) = self.files.insert(key, (file, now)) {
            self.bytes -= size(&before);
        }
        while self.bytes > MAX_BYTES {
            let oldest = self.files.iter().min_by_key(|(_, (_, used))| *used);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else {
                return;
            };
            if let Some((file, _)) = self.files.remove(&oldest) {
                self.bytes -= size(&file);
            }
        }
    }
}

fn size(file: &File) -> usize {
    file.body.len() + ENVELOPE
}

impl File {
    /// Answers a request for the file: 200, or 304 if the client has it.
    pub(crate) fn answer(&self, head: &Parts) -> Response<Body> {
        let mut headers = self.headers.clone();
        let is_known = head
            .headers
            .get_all(header::IF_NONE_MATCH)
            .iter()
            .any(|known| self.is_named_by(known));
        let (status, body) = if is_known {
            for name in NOT_IN_304 {
                headers.remove(name);
            }
            (StatusCode::NOT_MODIFIED, full(""))
        } else if head.method == Method::HEAD {
            (StatusCode::OK, full(""))
        } else {
            (StatusCode::OK, shared(self.body.clone()))
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }

    /// Returns whether a value of `If-None-Match` has the file's tag (RFC 9110, section 13.1.2).
    fn is_named_by(&self, known: &HeaderValue) -> bool {
        let (Ok(known), Some(Ok(tag))) = (
            known.to_str(),
            self.headers.get(header::ETAG).map(HeaderValue::to_str),
        ) else {
            return false;
        };
        let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
        known.trim() == "*" || known.split(',').any(|known| opaque(known) == opaque(tag))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::file_key::tests::head;

    fn answer(control: &'static str, tag: &'static str) -> HeaderMap {
        HeaderMap::from_iter([
            (header::CACHE_CONTROL, HeaderValue::from_static(control)),
            (header::ETAG, HeaderValue::from_static(tag)),
            (header::VARY, HeaderValue::from_static("accept-encoding")),
            (header::CONTENT_TYPE, HeaderValue::from_static("text/html")),
        ])
    }

    #[test]
    fn only_what_is_the_same_for_all_is_kept() {
        let of = |headers: &HeaderMap| lifetime(StatusCode::OK, headers);
        assert_eq!(
            of(&answer("public, max-age=9, immutable", "\"1\"")),
            Some(IMMUTABLE_FOR)
        );
        assert_eq!(of(&answer("public, no-cache", "\"1\"")), Some(FRESH_FOR));
        for control in ["no-cache", "private, immutable", ""] {
            assert_eq!(of(&answer(control, "\"1\"")), None, "{control}");
        }
        for (name, value) in [(header::SET_COOKIE, "a=b"), (header::VARY, "cookie")] {
            let mut headers = answer("public", "\"1\"");
            headers.append(name, HeaderValue::from_static(value));
            assert_eq!(of(&headers), None);
        }
        assert_eq!(
            lifetime(StatusCode::NOT_FOUND, &answer("public", "\"1\"")),
            None
        );
    }

    #[test]
    fn a_file_holds_for_its_time_and_is_known_by_its_tag() {
        let files = Files::default();
        let asked = head("/a", &[]);
        let key = Key::of(&asked).unwrap();
        let headers = answer("public, no-cache", "\"1\"");
        files.keep(
            key.clone(),
            headers.clone(),
            Bytes::from_static(b"hello"),
            FRESH_FOR,
        );
        let answered = files.get(&key).unwrap().answer(&asked);
        assert_eq!(answered.headers()[header::CONTENT_LENGTH], "5");
        for (known, status) in [
            ("\"1\"", 304),
            ("W/\"1\"", 304),
            ("\"0\", \"1\"", 304),
            ("*", 304),
            ("\"2\"", 200),
        ] {
            let asked = head("/a", &[("if-none-match", known)]);
            assert_eq!(
                files.get(&key).unwrap().answer(&asked).status(),
                status,
                "{known}"
            );
        }
        // Its time is over.
        files.keep(
            key.clone(),
            headers.clone(),
            Bytes::from_static(b"hello"),
            Duration::ZERO,
        );
        assert!(files.get(&key).is_none());
        assert!(
            files
                .renew(&key, &answer("public", "\"2\""), FRESH_FOR)
                .is_none()
        );
        assert!(files.renew(&key, &headers, FRESH_FOR).is_some());
        assert!(files.get(&key).is_some());
    }

    #[tokio::test]
    async fn one_request_asks_and_the_others_wait_for_its_file() {
        let mut files = Files {
            patience: Duration::from_millis(10),
            ..Files::default()
        };
        let key = Key::of(&head("/static/a.wasm", &[])).unwrap();
        let Turn::Ask(Some(first)) = files.turn(&key).await else {
            panic!("the first one asks");
        };
        // A request that has waited in vain asks for itself.
        assert!(matches!(files.turn(&key).await, Turn::Ask(None)));
        files.patience = TURN_PATIENCE;
        let keep = async {
            let headers = answer("public", "\"1\"");
            files.keep(key.clone(), headers, Bytes::from_static(b"a"), FRESH_FOR);
            drop(first);
        };
        let (second, third, ()) = tokio::join!(files.turn(&key), files.turn(&key), keep);
        assert!(matches!((second, third), (Turn::Kept(_), Turn::Kept(_))));
        // What may be different for each client isn't waited for.
        for path in ["/projects", "/sync/my.project", "/assets/asset_1.mp4"] {
            let own = Key::of(&head(path, &[])).unwrap();
            for _ in 0..2 {
                assert!(matches!(files.turn(&own).await, Turn::Ask(None)));
            }
        }
    }

    #[test]
    fn memory_is_bounded_and_what_is_used_stays() {
        let files = Files::default();
        let key = |n: usize| Key::of(&head(&format!("/{n}"), &[])).unwrap();
        for n in 0..20 {
            let body = Bytes::from(vec![0; MAX_FILE]);
            files.keep(key(n), answer("public", "\"1\""), body, IMMUTABLE_FOR);
            assert!(files.get(&key(0)).is_some());
            assert!(files.kept.lock().bytes <= MAX_BYTES);
        }
        assert!(files.get(&key(1)).is_none());
        let too_large = Bytes::from(vec![0; MAX_FILE + 1]);
        files.keep(key(30), answer("public", "\"1\""), too_large, IMMUTABLE_FOR);
        assert!(files.get(&key(30)).is_none());
    }
}
