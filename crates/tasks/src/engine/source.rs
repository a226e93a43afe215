//! A result on its way from its service.

use http::{Response, StatusCode, header::LOCATION};
use platform::http_client::Pieces;
use url::Url;

use super::keeping::Failed;

/// The address that an answer sends on to, if it does.
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
            // Its last byte was copied before.
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
