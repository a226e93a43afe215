//! The logs of this process, and the output of guests.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use tokio::sync::oneshot;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// Sends logs to stderr. `RUST_LOG` chooses them; by default they are info of this project and warnings of others.
pub fn start() {
    relay::start_logs(&["loro_host", "relay", "guest"]);
}

/// The bytes after which a line of a guest is logged, even if it has not ended.
const LINE: usize = 8192;

/// A guest's stdout or stderr. Each line becomes a log line with the component's name.
#[derive(Clone)]
pub(crate) struct GuestOutput {
    component: String,
    stderr: bool,
    watch: Option<Arc<Watch>>,
}

/// A line with an address for which the host waits.
struct Watch {
    prefix: &'static str,
    found: Mutex<Option<oneshot::Sender<SocketAddr>>>,
}

impl GuestOutput {
    /// The output of `component`.
    pub(crate) fn new(component: &str, stderr: bool) -> Self {
        Self {
            component: component.to_owned(),
            stderr,
            watch: None,
        }
    }

    /// The stdout of `component`. The first address after `prefix` goes to `found`.
    pub(crate) fn watched(
        component: &str,
        prefix: &'static str,
        found: oneshot::Sender<SocketAddr>,
    ) -> Self {
        let watch = Watch {
            prefix,
            found: Mutex::new(Some(found)),
        };
        Self {
            watch: Some(Arc::new(watch)),
            ..Self::new(component, false)
        }
    }

    /// Returns whether `line` has the address that the host waits for, and passes the address on.
    fn was_awaited(&self, line: &str) -> bool {
        let Some(watch) = &self.watch else {
            return false;
        };
        let Some(Ok(address)) = line.strip_prefix(watch.prefix).map(str::parse) else {
            return false;
        };
        let found = watch.found.lock().take();
        found.is_some_and(|found| found.send(address).is_ok())
    }

    fn log(&self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        let line = line.trim_end();
        let component = self.component.as_str();
        if !line.is_empty() && !self.was_awaited(line) {
            if self.stderr {
                tracing::info!(target: "guest", component, stream = "stderr", "{line}");
            } else {
                tracing::info!(target: "guest", component, "{line}");
            }
        }
    }
}

/// Adds bytes to the unfinished `line`, and hands out each line that ends or is as long as a logged line may be.
fn split(line: &mut Vec<u8>, bytes: &[u8], mut hand_out: impl FnMut(&[u8])) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let most = rest.len().min(LINE - line.len());
        let end = rest[..most].iter().position(|byte| *byte == b'\n');
        let (piece, after) = rest.split_at(end.map_or(most, |end| end + 1));
        line.extend_from_slice(piece);
        rest = after;
        if end.is_some() || line.len() == LINE {
            hand_out(line);
            line.clear();
        }
    }
}

impl IsTerminal for GuestOutput {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestOutput {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(Lines {
            output: self.clone(),
            line: Vec::new(),
        })
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(Lines {
            output: self.clone(),
            line: Vec::new(),
        })
    }
}

/// An open stream with its unfinished line.
struct Lines {
    output: GuestOutput,
    line: Vec<u8>,
}

impl Lines {
    fn take(&mut self, bytes: &[u8]) {
        let Self { output, line } = self;
        split(line, bytes, |line| output.log(line));
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.output.log(&self.line);
    }
}

impl OutputStream for Lines {
    fn write(&mut self, bytes: bytes::Bytes) -> StreamResult<()> {
        self.take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 * 1024)
    }
}

#[async_trait::async_trait]
impl Pollable for Lines {
    async fn ready(&mut self) {}
}

impl AsyncWrite for Lines {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.take(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_logged_as_they_end_or_in_pieces_if_they_are_long() {
        let long = [b'x'; 2 * LINE + 3];
        let writes: [&[u8]; 5] = [b"one\ntw", b"o\n", b"unfinished ", &long, b"\nrest"];
        let (mut line, mut lines) = (Vec::new(), Vec::new());
        for bytes in writes {
            split(&mut line, bytes, |line| lines.push(line.to_vec()));
        }
        let lengths: Vec<usize> = lines.iter().map(Vec::len).collect();
        // The long line has 11 bytes before the others, and a line feed behind them.
        assert_eq!(lengths, [4, 4, LINE, LINE, 11 + 3 + 1]);
        assert_eq!(
            (&lines[0][..], &lines[1][..]),
            (&b"one\n"[..], &b"two\n"[..])
        );
        assert_eq!(line, b"rest");
    }
}
