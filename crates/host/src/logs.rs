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
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") || self.line.len() >= LINE {
                self.log();
            }
        }
    }

    fn log(&mut self) {
        let line = String::from_utf8_lossy(&self.line);
        let line = line.trim_end();
        let component = self.output.component.as_str();
        if !line.is_empty() && !self.output.was_awaited(line) {
            if self.output.stderr {
                tracing::info!(target: "guest", component, stream = "stderr", "{line}");
            } else {
                tracing::info!(target: "guest", component, "{line}");
            }
        }
        self.line.clear();
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.log();
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
