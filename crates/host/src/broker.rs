//! The broker in this process: as much of a Redis server as publish and subscribe need.
//!
//! With it the Redis trigger, guests and the relay all use the real client against an address, and
//! nothing has a special case for running without Redis. It keeps no message: who isn't subscribed
//! misses it, as with Redis. A subscriber that doesn't read is cut off once [`QUEUE_BYTES`] wait for it.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

/// Most bytes that wait for one connection before it is cut off.
const QUEUE_BYTES: usize = 64 << 20;
/// Longest argument of a command.
const ARGUMENT_BYTES: usize = 64 << 20;
/// Most arguments of a command.
const ARGUMENTS: usize = 4096;

/// A running broker; it stops when this is dropped.
#[derive(Debug)]
pub struct Broker {
    address: SocketAddr,
    _task: JoinSet<()>,
}

impl Broker {
    /// Starts a broker on a loopback port that the system picks.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let mut task = JoinSet::new();
        task.spawn(accept(listener));
        Ok(Self {
            address,
            _task: task,
        })
    }

    /// Its address as a Redis URL.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }
}

async fn accept(listener: TcpListener) {
    let hub = Arc::new(Hub::default());
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let hub = Arc::clone(&hub);
                    connections.spawn(async move {
                        if let Err(error) = serve(stream, &hub).await {
                            tracing::debug!("broker connection ended: {error}");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!("the broker could not accept a connection: {error}");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Who is subscribed to what.
#[derive(Default)]
struct Hub {
    channels: Mutex<HashMap<Bytes, Vec<Arc<Outbox>>>>,
    ids: AtomicU64,
}

/// What waits to be written to one connection.
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
    fn channels(&self) -> MutexGuard<'_, HashMap<Bytes, Vec<Arc<Outbox>>>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, channel: &Bytes, payload: &Bytes) -> usize {
        let channels = self.channels();
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
        self.channels()
            .entry(channel)
            .or_default()
            .push(Arc::clone(outbox));
    }

    fn unsubscribe(&self, channel: &Bytes, outbox: &Outbox) {
        let mut channels = self.channels();
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

/// Takes one whole command off the front of `buffer`; `None` when more bytes are needed.
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
        // An inline command, as a person types it.
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
    let write = async {
        while let Some(frame) = queue.recv().await {
            writer.write_all(&frame).await?;
            outbox.waiting.fetch_sub(frame.len(), Relaxed);
        }
        Ok(())
    };
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
        result = write => result,
        () = outbox.overflow.notified() => {
            Err(io::Error::other(format!("a subscriber left more than {QUEUE_BYTES} bytes unread")))
        }
    };
    for channel in &channels {
        hub.unsubscribe(channel, &outbox);
    }
    result
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
        ("SUBSCRIBE", names) if !names.is_empty() => {
            for channel in names {
                if !channels.contains(channel) {
                    // A copy, for the name would keep its whole command's bytes alive.
                    let channel = Bytes::copy_from_slice(channel);
                    hub.subscribe(channel.clone(), outbox);
                    channels.push(channel);
                }
                outbox.push(array(&[
                    &bulk(b"subscribe"),
                    &bulk(channel),
                    &integer(channels.len()),
                ]));
            }
        }
        ("UNSUBSCRIBE", names) => {
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
                outbox.push(array(&[
                    &bulk(b"unsubscribe"),
                    &bulk(&channel),
                    &integer(channels.len()),
                ]));
            }
        }
        ("CLIENT" | "SELECT", _) => outbox.push(Bytes::from_static(b"+OK\r\n")),
        ("QUIT", _) => {
            outbox.push(Bytes::from_static(b"+OK\r\n"));
            return false;
        }
        ("PUBLISH" | "SUBSCRIBE", _) => {
            outbox.push(
                format!(
                    "-ERR wrong number of arguments for '{}'\r\n",
                    name.to_lowercase()
                )
                .into(),
            );
        }
        _ => {
            let name: String = name
                .chars()
                .filter(|c| c.is_ascii_graphic())
                .take(32)
                .collect();
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

#[cfg(test)]
mod tests;
