//! The broker in this process, which is the part of a Redis server that publish and subscribe need.
//!
//! With it the Redis trigger, guests and the relay all use the real client against an address, and none of them has a
//! special case for running without Redis. It keeps no messages: a client that is not subscribed misses them, as with
//! Redis. A subscriber that does not read is cut off once [`QUEUE_BYTES`] wait for it.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

/// The most bytes that wait for one connection before it is cut off.
const QUEUE_BYTES: usize = 64 << 20;
/// The longest argument of a command.
const ARGUMENT_BYTES: usize = 64 << 20;
/// The most arguments of a command.
const ARGUMENTS: usize = 4096;
/// The time that a client which has ended its commands may take to read the last replies.
const LAST_REPLIES: Duration = Duration::from_secs(5);

/// A broker that listens; it serves while [`Broker::serve`] runs.
pub(crate) struct Broker {
    listener: TcpListener,
    address: SocketAddr,
}

impl Broker {
    /// Listens on a loopback port that the system picks.
    pub(crate) async fn open() -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// The address of the broker, as a Redis URL.
    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Serves until the future is dropped.
    pub(crate) async fn serve(self) {
        let hub = Arc::new(Hub::default());
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let hub = Arc::clone(&hub);
                        connections.spawn(async move {
                            if let Err(error) = serve(stream, &hub).await {
                                tracing::debug!("a connection to the broker ended: {error}");
                            }
                        });
                    }
                    Err(error) => {
                        tracing::warn!("the broker could not accept a connection: {error}");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

/// The subscribers of each channel.
#[derive(Default)]
struct Hub {
    channels: Mutex<HashMap<Bytes, Vec<Arc<Outbox>>>>,
    ids: AtomicU64,
}

/// The replies that wait to be written to one connection.
struct Outbox {
    id: u64,
    frames: mpsc::UnboundedSender<Bytes>,
    waiting: AtomicUsize,
    overflow: Notify,
}

impl Outbox {
    fn push(&self, frame: Bytes) {
        let waiting = self.waiting.fetch_add(frame.len(), Relaxed) + frame.len();
        if waiting > QUEUE_BYTES {
            self.overflow.notify_one();
        } else if self.frames.send(frame).is_err() {
            tracing::trace!("a subscriber is gone");
        }
    }
}

impl Hub {
    fn publish(&self, channel: &Bytes, payload: &Bytes) -> usize {
        let channels = self.channels.lock();
        let Some(subscribers) = channels.get(channel) else {
            return 0;
        };
        let frame = array(&[&bulk(b"message"), &bulk(channel), &bulk(payload)]);
        for subscriber in subscribers {
            subscriber.push(frame.clone());
        }
        subscribers.len()
    }

    fn subscribe(&self, channel: Bytes, outbox: &Arc<Outbox>) {
        self.channels
            .lock()
            .entry(channel)
            .or_default()
            .push(Arc::clone(outbox));
    }

    fn unsubscribe(&self, channel: &Bytes, outbox: &Outbox) {
        let mut channels = self.channels.lock();
        if let Some(subscribers) = channels.get_mut(channel) {
            subscribers.retain(|subscriber| subscriber.id != outbox.id);
            if subscribers.is_empty() {
                channels.remove(channel);
            }
        }
    }
}

fn bulk(bytes: &[u8]) -> Vec<u8> {
    let mut frame = format!("${}\r\n", bytes.len()).into_bytes();
    frame.extend_from_slice(bytes);
    frame.extend_from_slice(b"\r\n");
    frame
}

fn integer(number: usize) -> Vec<u8> {
    format!(":{number}\r\n").into_bytes()
}

fn array(parts: &[&[u8]]) -> Bytes {
    let mut frame = format!("*{}\r\n", parts.len()).into_bytes();
    for part in parts {
        frame.extend_from_slice(part);
    }
    frame.into()
}

/// Takes one whole command off the front of `buffer`; `None` if more bytes are needed.
fn parse(buffer: &mut BytesMut) -> io::Result<Option<Vec<Bytes>>> {
    let malformed = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let number = |line: &[u8]| {
        std::str::from_utf8(line)
            .ok()
            .and_then(|text| text.parse::<usize>().ok())
    };
    let mut rest: &[u8] = buffer;
    let line = |rest: &mut &[u8]| -> io::Result<Option<Vec<u8>>> {
        match rest.iter().position(|byte| *byte == b'\n') {
            Some(end) => {
                let line = rest[..end]
                    .strip_suffix(b"\r")
                    .unwrap_or(&rest[..end])
                    .to_vec();
                *rest = &rest[end + 1..];
                Ok(Some(line))
            }
            None if rest.len() > 4096 => Err(malformed("a line is too long")),
            None => Ok(None),
        }
    };
    let Some(first) = line(&mut rest)? else {
        return Ok(None);
    };
    let Some(count) = first.strip_prefix(b"*") else {
        // An inline command, as an operator types it.
        let words = first
            .split(|byte| *byte == b' ')
            .filter(|word| !word.is_empty());
        let words = words.map(Bytes::copy_from_slice).collect();
        let used = buffer.len() - rest.len();
        buffer.advance(used);
        return Ok(Some(words));
    };
    let count = number(count)
        .filter(|count| *count <= ARGUMENTS)
        .ok_or_else(|| malformed("a bad count"))?;
    let mut spans = Vec::with_capacity(count);
    for _ in 0..count {
        let Some(header) = line(&mut rest)? else {
            return Ok(None);
        };
        let length = header
            .strip_prefix(b"$")
            .and_then(number)
            .filter(|length| *length <= ARGUMENT_BYTES);
        let length = length.ok_or_else(|| malformed("a bad length"))?;
        if rest.len() < length + 2 {
            return Ok(None);
        }
        let start = buffer.len() - rest.len();
        spans.push(start..start + length);
        rest = &rest[length + 2..];
    }
    let used = buffer.len() - rest.len();
    let command = buffer.split_to(used).freeze();
    Ok(Some(
        spans.into_iter().map(|span| command.slice(span)).collect(),
    ))
}

async fn serve(stream: TcpStream, hub: &Hub) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut reader, mut writer) = stream.into_split();
    let (frames, mut queue) = mpsc::unbounded_channel::<Bytes>();
    let outbox = Arc::new(Outbox {
        id: hub.ids.fetch_add(1, Relaxed),
        frames,
        waiting: AtomicUsize::new(0),
        overflow: Notify::new(),
    });
    let last = Notify::new();
    let mut write = pin!(async {
        loop {
            let frame = tokio::select! {
                biased;
                Some(frame) = queue.recv() => frame,
                // Nothing is queued any more.
                () = last.notified() => return Ok(()),
            };
            writer.write_all(&frame).await?;
            outbox.waiting.fetch_sub(frame.len(), Relaxed);
        }
    });
    let mut channels = Vec::new();
    let read = async {
        let mut buffer = BytesMut::with_capacity(16 * 1024);
        loop {
            while let Some(command) = parse(&mut buffer)? {
                if !answer(hub, &outbox, &mut channels, &command) {
                    return Ok(());
                }
            }
            if reader.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
    };
    let result = tokio::select! {
        result = read => result,
        result = &mut write => result,
        () = outbox.overflow.notified() => {
            Err(io::Error::other(format!("a subscriber left more than {QUEUE_BYTES} bytes unread")))
        }
    };
    for channel in &channels {
        hub.unsubscribe(channel, &outbox);
    }
    result?;
    // The client has ended its commands, and gets the replies to them.
    last.notify_one();
    tokio::time::timeout(LAST_REPLIES, write)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Answers one command; `false` ends the connection.
fn answer(hub: &Hub, outbox: &Arc<Outbox>, channels: &mut Vec<Bytes>, command: &[Bytes]) -> bool {
    let Some((name, arguments)) = command.split_first() else {
        return true;
    };
    let name = String::from_utf8_lossy(name).to_ascii_uppercase();
    match (name.as_str(), arguments) {
        ("PING", []) if !channels.is_empty() => outbox.push(array(&[&bulk(b"pong"), &bulk(b"")])),
        ("PING", []) => outbox.push(Bytes::from_static(b"+PONG\r\n")),
        ("PING", [text]) => outbox.push(bulk(text).into()),
        ("PUBLISH", [channel, payload]) => {
            let count = hub.publish(channel, payload);
            outbox.push(integer(count).into());
        }
        ("SUBSCRIBE", names) if !names.is_empty() => subscribe(hub, outbox, channels, names),
        ("UNSUBSCRIBE", names) => unsubscribe(hub, outbox, channels, names),
        ("CLIENT" | "SELECT", _) => outbox.push(Bytes::from_static(b"+OK\r\n")),
        ("QUIT", _) => {
            outbox.push(Bytes::from_static(b"+OK\r\n"));
            return false;
        }
        ("PUBLISH" | "SUBSCRIBE", _) => {
            let name = name.to_lowercase();
            outbox.push(format!("-ERR wrong number of arguments for '{name}'\r\n").into());
        }
        _ => {
            let shown = name.chars().filter(|c| c.is_ascii_graphic()).take(32);
            let name: String = shown.collect();
            outbox.push(
                format!(
                    "-ERR unknown command '{name}': this broker publishes and subscribes only\r\n"
                )
                .into(),
            );
        }
    }
    true
}

fn subscribe(hub: &Hub, outbox: &Arc<Outbox>, channels: &mut Vec<Bytes>, names: &[Bytes]) {
    for channel in names {
        if !channels.contains(channel) {
            // A copy, because the name would keep the bytes of its whole command alive.
            let channel = Bytes::copy_from_slice(channel);
            hub.subscribe(channel.clone(), outbox);
            channels.push(channel);
        }
        let count = integer(channels.len());
        outbox.push(array(&[&bulk(b"subscribe"), &bulk(channel), &count]));
    }
}

fn unsubscribe(hub: &Hub, outbox: &Arc<Outbox>, channels: &mut Vec<Bytes>, names: &[Bytes]) {
    let names = if names.is_empty() {
        channels.clone()
    } else {
        names.to_vec()
    };
    if names.is_empty() {
        outbox.push(array(&[&bulk(b"unsubscribe"), b"$-1\r\n", &integer(0)]));
    }
    for channel in names {
        channels.retain(|name| *name != channel);
        hub.unsubscribe(&channel, outbox);
        let count = integer(channels.len());
        outbox.push(array(&[&bulk(b"unsubscribe"), &bulk(&channel), &count]));
    }
}

#[cfg(test)]
mod tests;
