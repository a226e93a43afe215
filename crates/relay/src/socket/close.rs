//! The reasons for which the relay closes a socket.

use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// A close code and the reason that goes with it in the close frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Close {
    pub(crate) code: u16,
    pub(crate) reason: &'static str,
}

impl Close {
    pub(crate) const NORMAL: Self = Self::new(1000, "");
    pub(crate) const DRAIN: Self = Self::new(1001, "the server is shutting down: connect again");
    pub(crate) const NO_FRAME: Self = Self::new(1002, "this is not a WebSocket frame");
    pub(crate) const NOT_TEXT: Self = Self::new(1007, "text must be UTF-8");
    pub(crate) const BAD_VERSION: Self = Self::new(1008, "version is not a Loro version vector");
    pub(crate) const LARGE_VERSION: Self = Self::new(1008, "a version vector is at most 1 MiB");
    pub(crate) const NO_VERSION: Self =
        Self::new(1008, "the first frame, with the version, did not come");
    pub(crate) const LARGE_MESSAGE: Self = Self::new(1009, "a message is too large");
    pub(crate) const INTERNAL: Self = Self::new(1011, "the server failed: join again");
    pub(crate) const TRY_AGAIN_LATER: Self = Self::new(
        1013,
        "the app cannot store updates at the moment: try again later",
    );
    pub(crate) const UNKNOWN: Self = Self::new(
        1013,
        "access cannot be checked at the moment: try again later",
    );
    pub(crate) const TOO_SLOW: Self = Self::new(4008, "too slow to follow the room: join again");
    pub(crate) const SIGNED_OUT: Self = Self::new(4401, "the session has ended: sign in");
    pub(crate) const NO_ACCESS: Self = Self::new(4403, "no access to this project");
    pub(crate) const NO_PROJECT: Self = Self::new(4404, "there is no such project");

    pub(crate) const fn new(code: u16, reason: &'static str) -> Self {
        Self { code, reason }
    }

    /// Makes the close frame for a client whose messages may have `most` bytes.
    pub(crate) fn frame(self, most: usize) -> CloseFrame {
        let reason = match self {
            Self::LARGE_MESSAGE if most.is_multiple_of(1 << 20) => {
                format!("a message is at most {} MiB", most >> 20).into()
            }
            Self::LARGE_MESSAGE => format!("a message is at most {most} bytes").into(),
            _ => self.reason.into(),
        };
        let code = self.into();
        CloseFrame { code, reason }
    }
}

impl From<Close> for CloseCode {
    fn from(close: Close) -> Self {
        Self::from(close.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_close_of_a_message_that_is_too_large_names_the_limit() {
        for (close, most, reason) in [
            (
                Close::LARGE_MESSAGE,
                16 << 20,
                "a message is at most 16 MiB",
            ),
            (
                Close::LARGE_MESSAGE,
                9_000_000,
                "a message is at most 9000000 bytes",
            ),
            (Close::NO_FRAME, 16 << 20, Close::NO_FRAME.reason),
        ] {
            let frame = close.frame(most);
            assert_eq!(frame.code, CloseCode::from(close.code));
            assert_eq!(frame.reason.as_str(), reason);
        }
    }
}
