//! A result on its way from its service.

use http::{Response, StatusCode, header::LOCATION};
use platform::http_client::Pieces;
use url::Url;

use super::keeping::Failed;

/// The address that an answer redirects to; `None` if it is no redirect.
pub(super) fn sent_on<T>(url: &Url, answer: &Response<T>) -> Option<Url> {
    if !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let next = answer.headers().get(LOCATION)?.to_str().ok()?;
    url.join(next).ok()
}

/// A result on its way.
pub(super) struct Source<'a> {
    body: Option<Box<dyn Pieces + 'a>>,
    /// The number of its bytes that have come.
    pub(super) at: u64,
    /// The first byte that is wanted.
    from: u64,
    total: Option<u64>,
    pub(super) media_type: String,
}

impl<'a> Source<'a> {
    /// Reads the head of an answer to a request from this byte on; `None` if the result is too large.
    pub(super) fn of(
        answer: Response<Box<dyn Pieces + 'a>>,
        from: u64,
        most: u64,
    ) -> Result<Option<Self>, Failed> {
        let (head, body) = answer.into_parts();
        let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
        let length: Option<u64> = header("content-length").and_then(|text| text.parse().ok());
        let skip = match head.status {
            StatusCode::PARTIAL_CONTENT if from > 0 => {
                let begins = format!("bytes {from}-");
                if !header("content-range").is_some_and(|range| range.starts_with(&begins)) {
                    return Err(Failed::For("the service sent another range".into()));
                }
                0
            }
            // The last byte of the result was copied before.
            StatusCode::RANGE_NOT_SATISFIABLE if from > 0 => return Ok(Some(Self::at_end(from))),
            StatusCode::OK => from,
            status => {
                let words = format!("the service answered {}", status.as_u16());
                return Err(Failed::For(words));
            }
        };
        let total = length.map(|length| length.saturating_add(from - skip));
        if total.is_some_and(|total| total > most) {
            return Ok(None);
        }
        Ok(Some(Self {
            body: Some(body),
            at: from - skip,
            from,
            total,
            media_type: header("content-type").unwrap_or_default().to_owned(),
        }))
    }

    fn at_end(at: u64) -> Self {
        Self {
            body: None,
            at,
            from: at,
            total: None,
            media_type: String::new(),
        }
    }

    /// Reads the next piece that is wanted, which may be empty; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, Failed> {
        let Some(body) = &mut self.body else {
            return Ok(None);
        };
        let Some(mut piece) = body.next().await? else {
            if self.total.is_some_and(|total| total != self.at) {
                return Err(Failed::For("the result broke off".into()));
            }
            return Ok(None);
        };
        let known = self.from.saturating_sub(self.at);
        self.at += piece.len() as u64;
        let known = usize::try_from(known).unwrap_or(usize::MAX);
        piece.drain(..known.min(piece.len()));
        Ok(Some(piece))
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use platform::{HttpError, native::block_on};

    use super::*;

    struct Bytes(Vec<Vec<u8>>);

    #[async_trait(?Send)]
    impl Pieces for Bytes {
        async fn next(&mut self) -> Result<Option<Vec<u8>>, HttpError> {
            Ok(self.0.pop())
        }
    }

    /// The bytes that are wanted of an answer to a request from byte `from` on, or the reason why there are none.
    fn read(
        status: u16,
        headers: &[(&str, &str)],
        body: &str,
        from: u64,
    ) -> Result<Option<String>, String> {
        let mut answer = Response::builder().status(status);
        for (name, value) in headers {
            answer = answer.header(*name, *value);
        }
        let pieces = body.bytes().rev().map(|byte| vec![byte]).collect();
        let body: Box<dyn Pieces> = Box::new(Bytes(pieces));
        let words = |failed| match failed {
            Failed::For(words) => words,
            Failed::Claim | Failed::TooLarge => "another failure".to_owned(),
        };
        let source = Source::of(answer.body(body).unwrap(), from, 10).map_err(words)?;
        let Some(mut source) = source else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        for _ in 0..20 {
            match block_on(source.next()).map_err(words)? {
                Some(piece) => bytes.extend(piece),
                None => return Ok(Some(String::from_utf8(bytes).unwrap())),
            }
        }
        panic!("it does not end");
    }

    #[test]
    fn a_copy_goes_on_at_its_byte_whatever_the_service_answers() {
        let range = ("content-range", "bytes 2-5/6");
        let long = |length| ("content-length", length);
        for (status, headers, body, from, expected) in [
            (200, &[long("6")][..], "abcdef", 0, Ok(Some("abcdef"))),
            (206, &[range, long("4")], "cdef", 2, Ok(Some("cdef"))),
            // A service without ranges sends the beginning again.
            (200, &[long("6")], "abcdef", 2, Ok(Some("cdef"))),
            (200, &[], "abcdef", 6, Ok(Some(""))),
            // The last byte of the result was copied before.
            (416, &[], "", 6, Ok(Some(""))),
            (416, &[], "", 0, Err("the service answered 416")),
            (206, &[range], "cdef", 0, Err("the service answered 206")),
            (
                206,
                &[range],
                "def",
                3,
                Err("the service sent another range"),
            ),
            (206, &[], "cdef", 2, Err("the service sent another range")),
            (404, &[], "", 2, Err("the service answered 404")),
            // The largest result that is allowed has ten bytes, including those that were copied before.
            (200, &[long("10")], "abcdefghij", 0, Ok(Some("abcdefghij"))),
            (200, &[long("11")], "", 0, Ok(None)),
            (
                206,
                &[range, long("8")],
                "cdefghij",
                2,
                Ok(Some("cdefghij")),
            ),
            (206, &[range, long("9")], "", 2, Ok(None)),
            (200, &[long("6")], "abc", 0, Err("the result broke off")),
            (
                206,
                &[range, long("4")],
                "cde",
                2,
                Err("the result broke off"),
            ),
        ] {
            let expected = expected.map(|found: Option<&str>| found.map(str::to_owned));
            let found = read(status, headers, body, from);
            assert_eq!(
                found,
                expected.map_err(str::to_owned),
                "{status} {headers:?} {from}"
            );
        }
    }
}
