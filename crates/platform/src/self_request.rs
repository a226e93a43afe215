//! The requests of the app to itself.
//!
//! Work that may trap, or that may fill the memory of an instance, gets an instance of its own: the app
//! sends itself a request to one of its internal routes, with the internal token.
//!
//! ```text
//! ports.ask_self(path, body, limits) -> Result<http::Response<Vec<u8>>, AskError>
//! ```
//!
//! The method is always POST, and `path` begins with `/internal/`. Any status is an answer. If the host does
//! not let the app call itself, the error is [`AskError::Http`] with [`HttpError::NotSent`]
//! ([`AskError::is_not_sent`]); then nothing was done, and a caller may do the work in its own instance.

use thiserror::Error;

use crate::{HttpError, Ports, UnreadableSetting, http_client::Limits};

crate::settings! {
    /// The bearer token of the internal routes (`/internal/…`); the relay must have the same. In development, `cargo xtask
    /// up` makes one at each start
    pub INTERNAL_TOKEN = "internal_token", Secret;
    /// The app's address for the cron trigger. `cargo xtask up` sets it
    pub APP_URL = "app_url", Value("http://127.0.0.1:3000"), Origin;
}

/// The app did not get a whole answer from itself.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AskError {
    /// The setting `internal_token` cannot be read. Nothing was sent.
    #[error(transparent)]
    Token(#[from] UnreadableSetting),
    /// The request was not sent, or no whole answer came.
    #[error(transparent)]
    Http(#[from] HttpError),
}

impl AskError {
    /// Returns whether the host did not send the request, so that nothing was done.
    pub fn is_not_sent(&self) -> bool {
        matches!(self, Self::Http(HttpError::NotSent(_)))
    }
}

impl Ports<'_> {
    /// Sends a POST with this body to an internal route of the app itself, and reads the whole answer,
    /// whatever its status.
    ///
    /// # Errors
    /// If the internal token cannot be read, or if no whole answer comes within the limits.
    pub async fn ask_self(
        &self,
        path: &str,
        body: Vec<u8>,
        limits: Limits,
    ) -> Result<http::Response<Vec<u8>>, AskError> {
        let mut request = http::Request::post(path);
        if let Some(token) = self.config.read(INTERNAL_TOKEN)? {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request
            .body(body)
            .map_err(|error| HttpError::NotSent(error.to_string()))?;
        Ok(self.http.send(request, limits).await?)
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, time::Duration};

    use super::*;
    use crate::native::{
        AnswerWith, MapConfig, MemoryKeyValue, Published, SetClock, SqliteFile, block_on,
    };

    const LIMITS: Limits = Limits {
        timeout: Duration::from_secs(1),
        max_bytes: 1,
    };

    /// The answer to a request, and the headers `authorization` that came with it.
    fn ask(
        config: &MapConfig,
        status: Result<u16, HttpError>,
    ) -> (Result<u16, AskError>, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let sent = RefCell::new(Vec::new());
        let http = AnswerWith(|request: http::Request<Vec<u8>>| {
            assert_eq!(request.method(), http::Method::POST);
            assert_eq!(request.uri(), "/internal/poll");
            assert_eq!(request.body(), b"body");
            let token = request.headers().get("authorization");
            let token = token.map(|value| value.to_str().unwrap().to_owned());
            sent.borrow_mut().extend(token);
            let status = status.clone()?;
            Ok(http::Response::builder()
                .status(status)
                .body(Vec::new())
                .unwrap())
        });
        let ports = Ports {
            database: &SqliteFile::open(&folder.path().join("ask.db")).unwrap(),
            key_value: &MemoryKeyValue::default(),
            pubsub: &Published::default(),
            http: &http,
            config,
            clock: &SetClock::default(),
        };
        let answer = block_on(ports.ask_self("/internal/poll", b"body".to_vec(), LIMITS));
        let status = answer.map(|answer| answer.status().as_u16());
        (status, sent.take())
    }

    #[test]
    fn the_token_goes_along_if_there_is_one_and_any_status_is_an_answer() {
        let with_token = MapConfig::from_pairs(&[("internal_token", "secret")]);
        assert_eq!(
            ask(&with_token, Ok(500)),
            (Ok(500), vec!["Bearer secret".into()])
        );
        assert_eq!(ask(&MapConfig::default(), Ok(204)), (Ok(204), vec![]));
    }

    #[test]
    fn nothing_is_sent_without_the_token_and_the_host_may_refuse() {
        let unreadable = MapConfig::default().with_unreadable("internal_token");
        let (refused, sent) = ask(&unreadable, Ok(200));
        let error = refused.unwrap_err();
        assert!(matches!(error, AskError::Token(_)) && !error.is_not_sent());
        assert_eq!(sent, [""; 0]);
        for (error, is_not_sent) in [
            (HttpError::NotSent("forbidden".into()), true),
            (HttpError::NoAnswer("late".into()), false),
            (HttpError::TooLarge, false),
        ] {
            let (refused, _) = ask(&MapConfig::default(), Err(error));
            assert_eq!(refused.unwrap_err().is_not_sent(), is_not_sent);
        }
    }
}
