//! The messages as the release before declares them: those of commit b763aa6.

use minicbor::{CborLen, Decode, Encode};
use wire::ByteVec;

#[derive(Debug, PartialEq, Encode, Decode, CborLen)]
pub(crate) struct AppendRequest {
    #[n(0)]
    pub(crate) origin: String,
    #[n(1)]
    pub(crate) updates: Vec<Update>,
}

#[derive(Debug, PartialEq, Encode, Decode, CborLen)]
pub(crate) struct Update {
    #[n(0)]
    pub(crate) project: String,
    #[n(1)]
    pub(crate) payload: ByteVec,
}

#[derive(Debug, PartialEq, Encode, Decode, CborLen)]
pub(crate) struct AppendResponse {
    #[n(0)]
    pub(crate) outcomes: Vec<Outcome>,
}

#[derive(Debug, PartialEq, Encode, Decode, CborLen)]
pub(crate) enum Outcome {
    #[n(0)]
    Stored {
        #[n(0)]
        rev: u64,
    },
    #[n(1)]
    Refused {
        #[n(0)]
        reason: String,
    },
}

#[derive(Debug, PartialEq, Encode, Decode, CborLen)]
pub(crate) struct State {
    #[n(0)]
    pub(crate) rev: u64,
    #[n(1)]
    pub(crate) version: ByteVec,
    #[n(2)]
    pub(crate) blobs: Vec<ByteVec>,
}

#[derive(Debug, PartialEq, Encode, Decode, CborLen)]
pub(crate) struct AccessRequest {
    #[n(0)]
    pub(crate) checks: Vec<AccessCheck>,
}

#[derive(Debug, PartialEq, Encode, Decode, CborLen)]
pub(crate) struct AccessCheck {
    #[n(0)]
    pub(crate) project: String,
    #[n(1)]
    pub(crate) cookie: Option<String>,
    #[n(2)]
    pub(crate) authorization: Option<String>,
    #[n(3)]
    pub(crate) token: Option<String>,
    #[n(4)]
    pub(crate) origin: Option<String>,
    #[n(5)]
    pub(crate) host: Option<String>,
    #[n(6)]
    pub(crate) again: bool,
    #[n(7)]
    pub(crate) principal: Option<String>,
}

#[derive(Debug, PartialEq, Encode, Decode, CborLen)]
pub(crate) struct Heads {
    #[n(0)]
    pub(crate) revs: Vec<u64>,
    #[n(1)]
    pub(crate) access_revs: Option<Vec<u64>>,
}
