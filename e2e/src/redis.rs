//! A real Redis server for one test.

use std::net::SocketAddr;
use std::path::PathBuf;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::port::Port;
use crate::process::Process;
use crate::wait::until;

/// The user and password of [`Lock::Password`], as a URL has them, and as the server's option `--user` does.
const USER: (&str, &str) = ("app:p%40ss%3Aword", "app on >p@ss:word ~* &* +@all");

/// The credentials that a server requires of its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// Requires nothing.
    None,
    /// Requires TLS. [`Redis::authority`] vouches for the server.
    Tls,
    /// Requires a user and a password.
    Password,
}

/// A Redis server. Dropping it kills it.
pub struct Redis {
    process: Option<Process>,
    lock: Lock,
    port: Port,
    folder: TempDir,
}

impl Redis {
    /// Starts a server on a free port, and waits until it answers.
    pub async fn start() -> Self {
        Self::start_with(Lock::None).await
    }

    /// Starts a server with this lock.
    pub async fn start_with(lock: Lock) -> Self {
        let mut redis = Self {
            process: None,
            lock,
            port: Port::free(),
            folder: tempfile::tempdir().unwrap(),
        };
        if lock == Lock::Tls {
            redis.certify().await;
        }
        assert!(redis.run().await, "redis-server does not come up");
        redis
    }

    /// The address as a URL, with the user and the password if the server requires them.
    pub fn url(&self) -> String {
        let address = self.port.address();
        match self.lock {
            Lock::None => format!("redis://{address}"),
            Lock::Tls => format!("rediss://{address}"),
            Lock::Password => format!("redis://{}@{address}", USER.0),
        }
    }

    /// The certificate of the authority that signed the server's certificate.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    /// Makes an authority, and a certificate for 127.0.0.1.
    async fn certify(&self) {
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
        let script = format!(
            "openssl req -x509 {key} -keyout authority.key -out authority.pem -subj /CN=authority &&
             openssl req -x509 {key} -keyout redis.key -out redis.pem -subj /CN=redis -CA authority.pem \
               -CAkey authority.key -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=IP:127.0.0.1"
        );
        let made = Command::new("sh")
            .current_dir(self.folder.path())
            .args(["-c", &script])
            .output()
            .await
            .unwrap();
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
    }

    /// Stops it, which cuts its connections.
    pub async fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().await;
        }
    }

    /// Starts it again at the same address.
    pub async fn start_again(&mut self) {
        assert!(self.run().await, "redis-server does not come up again");
    }

    async fn run(&mut self) -> bool {
        let address = self.port.address();
        let port = address.port().to_string();
        let mut command = Command::new("/usr/bin/redis-server");
        command
            .current_dir(self.folder.path())
            .args(["--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--logfile", "redis.log"]);
        if self.lock == Lock::Tls {
            command
                .args([
                    "--port",
                    "0",
                    "--tls-port",
                    &port,
                    "--tls-auth-clients",
                    "no",
                ])
                .args([
                    "--tls-cert-file",
                    "redis.pem",
                    "--tls-key-file",
                    "redis.key",
                ])
                .args(["--tls-ca-cert-file", "authority.pem"]);
        } else {
            command.args(["--port", &port]);
        }
        if self.lock == Lock::Password {
            command.arg("--user").args(USER.1.split(' '));
            command.args(["--user", "default", "off"]);
        }
        let log = self.folder.path().join("stderr.log");
        let mut process = Process::spawn("redis-server", &mut command, &log);
        let mut up = false;
        until("redis-server answers or ends", async || {
            up = if self.lock == Lock::Tls {
                TcpStream::connect(address).await.is_ok()
            } else {
                answers(address).await
            };
            up || process.has_ended()
        })
        .await;
        if up && !process.has_ended() {
            self.process = Some(process);
        }
        self.process.is_some()
    }
}

async fn answers(address: SocketAddr) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"PING\r\n").await?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    ask.await
        .is_ok_and(|answer| [b"+PONG\r\n", b"-NOAUTH"].contains(&&answer))
}
