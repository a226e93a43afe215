//! The end of a connection: the closing handshake or the breach of the protocol, and the bytes that still come after it.

use super::{Connection, MESSAGES_PER_TURN, Phase, Step};
use crate::socket::close::Close;
use crate::socket::pipe::Pipe;
use std::io::ErrorKind;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::{Error, error::ProtocolError};

/// The bytes that a client may go on sending after the connection has failed.
const DISCARDED: usize = 64 * 1024 * 1024;

impl Connection {
    /// Fails the connection in the middle of a message, and keeps nothing more of it.
    pub(super) fn end_for(&mut self, close: Close) -> Step {
        if matches!(self.phase, Phase::Open) {
            self.close(close);
            self.socket.close(close);
        }
        self.fail();
        Step::Again
    }

    /// Begins the closing handshake.
    pub(super) fn close(&mut self, close: Close) {
        match close.code {
            4008 => self.shared.metrics.closed_slow_total.add(1),
            1013 => self.shared.metrics.closed_try_again_total.add(1),
            _ => {}
        }
        self.phase = Phase::Closing {
            until: Instant::now() + self.shared.settings.close_timeout,
        };
        self.send_close(close);
    }

    fn send_close(&mut self, close: Close) {
        let mut pipe = Pipe::new(&self.stream, &self.socket);
        let frame = close.frame(self.shared.settings.max_body);
        // Queueing cannot fail, and a context that is closed already has sent its close frame.
        let _ = self.context.close(&mut pipe, Some(frame));
    }

    /// Ends the protocol after a handshake or a breach.
    pub(super) fn end(&mut self, error: Error) -> Step {
        let close = match error {
            Error::ConnectionClosed | Error::AlreadyClosed => {
                // The reply to the client's close may still be queued; nothing may follow it.
                self.socket.close(Close::NORMAL);
                self.fail();
                return Step::Again;
            }
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) | Error::Io(_) => {
                return Step::Gone;
            }
            Error::Capacity(_) if self.joins.is_some() => Close::LARGE_VERSION,
            Error::Capacity(_) => Close::LARGE_MESSAGE,
            Error::Utf8(_) => Close::NOT_TEXT,
            _ => Close::NO_FRAME,
        };
        if matches!(self.phase, Phase::Open) {
            self.send_close(close);
            // Nothing is queued behind the close frame.
            self.socket.close(close);
        }
        self.fail();
        Step::Again
    }

    fn fail(&mut self) {
        self.open();
        let until = match self.phase {
            Phase::Open => Instant::now() + self.shared.settings.close_timeout,
            Phase::Closing { until } | Phase::Failed { until, .. } => until,
        };
        self.phase = Phase::Failed {
            until,
            discarded: 0,
        };
    }

    /// Sends a FIN after everything is written, and reads on until the client's FIN.
    pub(super) fn discard(&mut self) -> Step {
        let progress = self.socket.progress();
        if progress.empty && !progress.broken {
            self.socket.finish();
        }
        let Phase::Failed { discarded, until } = &mut self.phase else {
            return Step::Gone;
        };
        if Instant::now() >= *until {
            return Step::Gone;
        }
        let mut scrap = [0; 16 * 1024];
        for _ in 0..MESSAGES_PER_TURN {
            match self.stream.try_read(&mut scrap) {
                Ok(0) => return Step::Gone,
                Ok(read) => {
                    *discarded += read;
                    if *discarded > DISCARDED {
                        return Step::Gone;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Step::Wait,
                Err(_) => return Step::Gone,
            }
        }
        Step::Again
    }
}
