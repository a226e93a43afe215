//! An answer on its way out.

use spin_sdk::http::{Fields, OutgoingResponse, ResponseOutparam};

use crate::{Problem, problem::MEDIA_TYPE};

/// Status, headers and a whole body.
pub struct Reply {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    body: Option<Vec<u8>>,
}

impl Reply {
    /// An answer without headers, with an empty body.
    pub fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Some(Vec::new()),
        }
    }

    /// A JSON answer.
    pub fn json(status: u16, body: &impl serde::Serialize) -> Self {
        let body = serde_json::to_vec(body).unwrap_or_default();
        Self::new(status).media_type("application/json").body(body)
    }

    /// With this media type.
    pub fn media_type(self, media_type: &str) -> Self {
        self.header("content-type", media_type)
    }

    /// With one more header.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers
            .push((name.to_owned(), value.into().into_bytes()));
        self
    }

    /// With this body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// The answer to a HEAD, or one whose status has no body: its length is not told.
    pub fn without_body(mut self) -> Self {
        self.body = None;
        self
    }

    /// Sends it. When this returns, the answer has left, and the instance may go on working.
    pub async fn send(mut self, out: ResponseOutparam) {
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

impl From<Problem> for Reply {
    fn from(problem: Problem) -> Self {
        let reply = Self::new(problem.status())
            .media_type(MEDIA_TYPE)
            .body(problem.body().to_string());
        match problem.header() {
            Some((name, value)) => reply.header(name, value),
            None => reply,
        }
    }
}
