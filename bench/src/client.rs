//! A client of either server. Only the contents of the frames differ.

use std::net::SocketAddr;

use anyhow::Result;
use bytes::Bytes;

use crate::connection::{JoinOptions, Joined};
use crate::{client_official, client_raw};

/// The protocol that a client and a server speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// The protocol of our server: a binary frame is a Loro blob.
    Raw,
    /// The protocol `loro-protocol`, in the version that the official server speaks.
    Official,
}

impl Dialect {
    /// Connects, joins a room and receives its state.
    ///
    /// # Errors
    /// If the server refuses, or sends no state.
    pub(crate) async fn join(
        self,
        address: SocketAddr,
        room: &str,
        options: JoinOptions,
    ) -> Result<Joined> {
        match self {
            Self::Raw => client_raw::join(address, room, options).await,
            Self::Official => client_official::join(address, room, options).await,
        }
    }

    /// Encodes one update as a frame.
    ///
    /// # Errors
    /// If the update is too large for a frame.
    pub(crate) fn frame(self, room: &str, update: &[u8]) -> Result<Bytes> {
        match self {
            Self::Raw => Ok(Bytes::copy_from_slice(update)),
            Self::Official => client_official::frame(room, update),
        }
    }
}
