//! An answer on its way out.

use spin_sdk::http::{Fields, OutgoingResponse, ResponseOutparam};

/// Status, headers and a whole body.
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    body: Option<Vec<u8>>,
}

impl Reply {
    pub(crate) fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Some(Vec::new()),
        }
    }

    /// A message of the internal routes.
    pub(crate) fn cbor(body: Vec<u8>) -> Self {
        Self::new(200)
            .header("content-type", wire::CONTENT_TYPE)
            .body(body)
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers
            .push((name.to_owned(), value.into().into_bytes()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// The answer to a HEAD, or one whose status has no body: its length is not told.
    pub(crate) fn without_body(mut self) -> Self {
        self.body = None;
        self
    }

    /// Sends it. When this returns, the answer has left, and the instance may go on working.
    pub(crate) async fn send(mut self, out: ResponseOutparam) {
        if let Some(body) = &self.body {
            let length = body.len().to_string().into_bytes();
            self.headers.push(("content-length".into(), length));
        }
        let Ok(headers) = Fields::from_list(&self.headers) else {
            tracing::error!("an answer has a header that is not one");
            return;
        };
        let response = OutgoingResponse::new(headers);
        if response.set_status_code(self.status).is_err() {
            tracing::error!(status = self.status, "not a status");
            return;
        }
        if let Err(error) = out
            .set_with_body(response, self.body.unwrap_or_default())
            .await
        {
            // The client has hung up: nothing of what was done is undone by that.
            tracing::debug!(?error, "answer not taken");
        }
    }
}
