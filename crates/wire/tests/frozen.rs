//! The bytes of every message of this release. The next release must read them, whatever becomes of the types.
//!
//! Bytes here are never changed. A new field is `None` in the line that is here, and is set in a line that is added.

#![allow(clippy::unwrap_used)]

use std::fmt::{Debug, Write};

use wire::{ByteVec, decode, encode};

fn blob(bytes: &[u8]) -> ByteVec {
    bytes.to_vec().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// Makes the same message as a later release would send it, with one more field: a text, after the others.
fn with_a_later_field(message: &[u8]) -> Vec<u8> {
    let mut later = message.to_vec();
    // A variant is its number and the array of its fields.
    let fields = match (message[0], message.get(1..3)) {
        (0x82, Some([0..=9, 0x80..=0x96])) => 2,
        _ => 0,
    };
    later[fields] += 1;
    later.extend(*b"\x63new");
    later
}

/// Checks that a message has these bytes, is read from them, and is read by a release that does not know a later field.
fn is<T>(message: &T, bytes: &str)
where
    T: minicbor::Encode<()> + minicbor::CborLen<()> + for<'b> minicbor::Decode<'b, ()>,
    T: Debug + PartialEq,
{
    let encoded = encode(message);
    assert_eq!(hex(&encoded), bytes, "{message:?}");
    assert_eq!(decode::<T>(&encoded).unwrap(), *message);
    let later = with_a_later_field(&encoded);
    assert_eq!(decode::<T>(&later).unwrap(), *message, "{}", hex(&later));
}

#[test]
fn appends() {
    let updates = vec![wire::Update {
        project: "p".into(),
        payload: blob(&[1, 2]),
        serial: Some(7),
    }];
    is(&updates[0], "83617042010207");
    is(
        &wire::AppendRequest {
            origin: "r1".into(),
            updates,
            defers: Some(true),
        },
        "836272318183617042010207f5",
    );
    let stored = wire::Outcome::Stored {
        rev: 3,
        waits: Some(true),
    };
    let refused = wire::Outcome::Refused {
        reason: "no".into(),
        code: Some(wire::DUPLICATE_PEER.into()),
    };
    is(&stored, "82008203f5");
    is(&refused, "820182626e6f6e6475706c69636174655f70656572");
    let outcomes = vec![stored, refused, wire::Outcome::Suspect];
    is(
        &wire::AppendResponse { outcomes },
        "818382008203f5820182626e6f6e6475706c69636174655f70656572820280",
    );
}

#[test]
fn access() {
    let check = wire::AccessCheck {
        project: "p".into(),
        cookie: Some("c".into()),
        authorization: Some("a".into()),
        token: Some("t".into()),
        origin: Some("o".into()),
        host: Some("h".into()),
        again: true,
        principal: Some("user:a".into()),
        client: Some("127.0.0.1".into()),
    };
    is(
        &check,
        "896170616361616174616f6168f566757365723a61693132372e302e302e31",
    );
    is(
        &wire::AccessRequest {
            checks: vec![check],
        },
        "8181896170616361616174616f6168f566757365723a61693132372e302e302e31",
    );
    let granted = wire::Verdict::Granted {
        principal: "user:a".into(),
        write: true,
        expires_at: Some(9),
        access_rev: 3,
    };
    let denied = wire::Verdict::Denied {
        status: 403,
        problem: "no".into(),
        header: Some(vec!["a".into(), "b".into()]),
        write: Some(true),
    };
    is(&granted, "82008466757365723a61f50903");
    is(&denied, "820184190193626e6f8261616162f5");
    let verdicts = vec![granted, denied];
    is(
        &wire::AccessResponse { verdicts },
        "818282008466757365723a61f50903820184190193626e6f8261616162f5",
    );
}

#[test]
fn rooms() {
    is(
        &wire::State {
            rev: 7,
            version: blob(&[0]),
            blobs: vec![blob(&[8, 9])],
            revs: Some(vec![7]),
        },
        "84074100814208098107",
    );
    is(
        &wire::StateRequest {
            version: blob(&[4]),
        },
        "814104",
    );
    is(
        &wire::HeadsRequest {
            projects: vec!["p".into()],
        },
        "81816170",
    );
    is(
        &wire::Heads {
            revs: vec![3, 4],
            access_revs: Some(vec![1, 2]),
            quarantined: Some(vec![0, 1]),
        },
        "83820304820102820001",
    );
    is(&wire::WaitingRequest { revs: vec![5] }, "818105");
    let waiting = wire::Waiting {
        rev: 5,
        peer: u64::MAX,
        counter: 6,
    };
    is(&waiting, "83051bffffffffffffffff06");
    is(
        &wire::WaitingAnswer {
            waiting: vec![waiting],
        },
        "818183051bffffffffffffffff06",
    );
}

#[test]
fn lines() {
    is(
        &wire::LineRequest {
            method: "POST".into(),
            target: "/internal/append".into(),
            body: blob(&[1]),
        },
        "8364504f5354702f696e7465726e616c2f617070656e644101",
    );
    is(
        &wire::LineAnswer {
            status: 200,
            media_type: "application/cbor".into(),
            body: blob(&[2]),
            is_last: true,
        },
        "8418c8706170706c69636174696f6e2f63626f724102f5",
    );
}

#[test]
fn notices() {
    is(
        &wire::Notice::Updates {
            origin: "r1".into(),
            first_rev: 7,
            last_rev: 8,
            payloads: vec![blob(&[9]), blob(&[])],
        },
        "820084627231070882410940",
    );
    is(
        &wire::Notice::Peers {
            relay: "r1".into(),
            count: 3,
        },
        "82018262723103",
    );
    is(&wire::Notice::Access { access_rev: 4 }, "82028104");
}

#[test]
fn waits_for_tasks() {
    is(
        &wire::MarksRequest {
            tasks: vec!["t".into()],
            projects: Some(vec!["p".into()]),
        },
        "82816174816170",
    );
    is(
        &wire::Marks {
            marks: vec![Some("m".into()), None],
            projects: Some(vec!["9".into()]),
        },
        "8282616df6816139",
    );
}

/// The instance that does a job has the release of the instance that asks for it, unless an upgrade comes in between.
#[test]
fn jobs() {
    let version = || blob(&[4]);
    for (job, bytes) in [
        (wire::Job::UpdatesSince { version: version() }, "8201814104"),
        (wire::Job::Until { rev: 9 }, "82048109"),
        (wire::Job::Compare { update: version() }, "8208814104"),
        (wire::Job::Snapshot, "820080"),
        (wire::Job::Json, "820280"),
        (wire::Job::Compact, "820380"),
        (wire::Job::Updates, "820580"),
        (wire::Job::Pack, "820680"),
        (wire::Job::Merge, "820780"),
        (wire::Job::Fold, "820980"),
    ] {
        is(&job, bytes);
    }
}
