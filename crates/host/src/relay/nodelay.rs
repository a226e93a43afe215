//! Sets TCP_NODELAY for the clients of the Wasm relay.
//!
//! WASI 0.2 cannot set it, and wasmtime-wasi gives no access to its sockets. On Linux a connection inherits the option
//! from the socket that accepts it, so it is enough to set it on that socket, which is found by its address. The relay
//! writes related data in one piece, so it works without the option; but then an update that follows another may wait
//! 40 ms for the client's acknowledgement of the first (Nagle's algorithm).

use std::net::SocketAddr;

/// Sets the option on the socket that listens on `address`, as far as the system lets it.
pub(crate) fn set(address: SocketAddr) {
    match try_set(address) {
        Ok(0) => tracing::debug!(%address, "no socket was found for TCP_NODELAY"),
        Ok(_) => {}
        Err(error) => tracing::debug!(%error, "TCP_NODELAY cannot be set for the relay's clients"),
    }
}

/// Returns the number of sockets on which the option was set.
#[cfg(target_os = "linux")]
fn try_set(address: SocketAddr) -> std::io::Result<usize> {
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
    use std::net::{TcpListener, TcpStream};

    let this = pidfd_open(getpid(), PidfdFlags::empty())?;
    let mut found = 0;
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        let is_socket = std::fs::read_link(entry.path())
            .is_ok_and(|target| target.to_string_lossy().starts_with("socket:"));
        let number = entry.file_name().to_string_lossy().parse();
        let (true, Ok(number)) = (is_socket, number) else {
            continue;
        };
        // This is a second descriptor of the same socket, because the first belongs to wasmtime-wasi.
        let Ok(socket) = pidfd_getfd(&this, number, PidfdGetfdFlags::empty()) else {
            continue;
        };
        let socket = TcpListener::from(socket);
        if socket.local_addr().is_ok_and(|local| local == address) {
            TcpStream::from(std::os::fd::OwnedFd::from(socket)).set_nodelay(true)?;
            found += 1;
        }
    }
    Ok(found)
}

/// Does nothing, because other systems do not pass the option on.
#[cfg(not(target_os = "linux"))]
fn try_set(_address: SocketAddr) -> std::io::Result<usize> {
    Ok(0)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn accepted_connections_have_the_option() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        match try_set(address) {
            Ok(found) => assert_eq!(found, 1),
            // A sandbox may forbid it.
            Err(error) => return eprintln!("not tried: {error}"),
        }
        let _client = TcpStream::connect(address).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert!(accepted.nodelay().unwrap());
    }
}
