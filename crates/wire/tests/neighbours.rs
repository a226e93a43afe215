//! The messages of the release before, as bytes: this release reads them, and the release before reads those of this one.
//!
//! The bytes, and the types in [`before`], are those of commit b763aa6. `e2e/tests/relays/neighbours.rs` sends such messages
//! to a whole app, and has a relay ask an app that knows no others.

#![allow(clippy::unwrap_used)]

mod before;

use wire::{ByteVec, decode, encode};

fn bytes(hex: &str) -> Vec<u8> {
    let hex: String = hex.split_whitespace().collect();
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

fn blob(bytes: &[u8]) -> ByteVec {
    bytes.to_vec().into()
}

const APPEND: &str = "82 62 7231 81 82 61 70 42 0102";
const APPENDED: &str = "81 82 82 00 81 03 82 01 81 62 6e6f";
const STATE: &str = "83 07 41 00 81 42 0809";
const HEADS: &str = "82 82 03 04 82 01 02";
const NOTICE: &str = "82 00 84 62 7231 07 08 82 41 09 40";
const ACCESS: &str = "81 81 88 61 70 63 613d62 f6 f6 f6 f6 f5 f6";
const ACCESS_OF_ALL: &str = "81 81 88 61 70 61 63 61 61 61 74 61 6f 61 68 f5 61 75";
const DENIED: &str = "81 82 82 01 84 19 0193 62 6e6f 82 61 61 61 62 f5 82 01 82 19 0191 61 78";
const HEADS_REQUEST: &str = "81 82 61 70 61 71";
const PEERS: &str = "82 01 82 62 7231 03";
const ACCESS_CHANGED: &str = "82 02 81 04";
const GRANTED: &str = "81 81 82 00 84 66 757365723a61 f5 f6 03";

#[test]
fn an_app_of_this_release_understands_a_relay_of_the_one_before() {
    let request: wire::AppendRequest = decode(&bytes(APPEND)).unwrap();
    let update = wire::Update {
        project: "p".into(),
        payload: blob(&[1, 2]),
        serial: None,
    };
    let expected = wire::AppendRequest {
        origin: "r1".into(),
        updates: vec![update],
        defers: None,
    };
    assert_eq!(request, expected);

    let request: wire::AccessRequest = decode(&bytes(ACCESS)).unwrap();
    let check = &request.checks[0];
    assert_eq!((check.project.as_str(), check.again), ("p", true));
    assert_eq!(check.cookie.as_deref(), Some("a=b"));
    assert_eq!(check.client, None);
}

#[test]
fn a_relay_of_this_release_understands_an_app_of_the_one_before() {
    let answer: wire::AppendResponse = decode(&bytes(APPENDED)).unwrap();
    let expected = [
        wire::Outcome::Stored {
            rev: 3,
            waits: None,
        },
        wire::Outcome::Refused {
            reason: "no".into(),
            code: None,
        },
    ];
    assert_eq!(answer.outcomes, expected);

    let state: wire::State = decode(&bytes(STATE)).unwrap();
    assert_eq!((state.rev, state.blobs.len(), state.revs), (7, 1, None));

    let heads: wire::Heads = decode(&bytes(HEADS)).unwrap();
    assert_eq!(heads.revs, [3, 4]);
    assert_eq!(
        (heads.access_revs, heads.quarantined),
        (Some(vec![1, 2]), None)
    );

    let answer: wire::AccessResponse = decode(&bytes(GRANTED)).unwrap();
    let granted = wire::Verdict::Granted {
        principal: "user:a".into(),
        write: true,
        expires_at: None,
        access_rev: 3,
    };
    assert_eq!(answer.verdicts, [granted]);

    // Relays of both releases send each other notices.
    let notice: wire::Notice = decode(&bytes(NOTICE)).unwrap();
    let updates = wire::Notice::Updates {
        origin: "r1".into(),
        first_rev: 7,
        last_rev: 8,
        payloads: vec![blob(&[9]), blob(&[])],
    };
    assert_eq!(notice, updates);
    assert_eq!(encode(&updates), bytes(NOTICE));
}

#[test]
fn the_release_before_understands_this_one() {
    // A relay of this release asks an app of the one before.
    let request = wire::AppendRequest {
        origin: "r1".into(),
        updates: vec![wire::Update {
            project: "p".into(),
            payload: blob(&[1, 2]),
            serial: Some(7),
        }],
        defers: Some(true),
    };
    let read: before::AppendRequest = decode(&encode(&request)).unwrap();
    let known = before::AppendRequest {
        origin: "r1".into(),
        updates: vec![before::Update {
            project: "p".into(),
            payload: blob(&[1, 2]),
        }],
    };
    assert_eq!(read, known);
    assert_eq!(
        encode(&known),
        bytes(APPEND),
        "the bytes are that release's"
    );

    // A relay of the release before asks an app of this one, which leaves nothing undecided, because that relay defers
    // nothing.
    let answer = wire::AppendResponse {
        outcomes: vec![
            wire::Outcome::Stored {
                rev: 3,
                waits: Some(true),
            },
            wire::Outcome::Refused {
                reason: "no".into(),
                code: Some(wire::DUPLICATE_PEER.into()),
            },
        ],
    };
    let read: before::AppendResponse = decode(&encode(&answer)).unwrap();
    let known = before::AppendResponse {
        outcomes: vec![
            before::Outcome::Stored { rev: 3 },
            before::Outcome::Refused {
                reason: "no".into(),
            },
        ],
    };
    assert_eq!(read, known);
    assert_eq!(encode(&known), bytes(APPENDED));

    let state = wire::State {
        rev: 7,
        version: blob(&[0]),
        blobs: vec![blob(&[8, 9])],
        revs: Some(vec![7]),
    };
    let read: before::State = decode(&encode(&state)).unwrap();
    assert_eq!(encode(&read), bytes(STATE));

    let heads = wire::Heads {
        revs: vec![3, 4],
        access_revs: Some(vec![1, 2]),
        quarantined: Some(vec![0, 1]),
    };
    let read: before::Heads = decode(&encode(&heads)).unwrap();
    assert_eq!(encode(&read), bytes(HEADS));
}

/// Checks the messages that have not changed since the release before, and the access check, which has one more field.
#[test]
fn access_heads_and_notices_are_understood_both_ways() {
    let check = wire::AccessCheck {
        project: "p".into(),
        cookie: Some("c".into()),
        authorization: Some("a".into()),
        token: Some("t".into()),
        origin: Some("o".into()),
        host: Some("h".into()),
        again: true,
        principal: Some("u".into()),
        client: None,
    };
    let mut request = wire::AccessRequest {
        checks: vec![check],
    };
    let read: wire::AccessRequest = decode(&bytes(ACCESS_OF_ALL)).unwrap();
    assert_eq!(read, request);
    request.checks[0].client = Some("127.0.0.1".into());
    let read: before::AccessRequest = decode(&encode(&request)).unwrap();
    assert_eq!(encode(&read), bytes(ACCESS_OF_ALL));

    let denied = |status, problem: &str, header, write| wire::Verdict::Denied {
        status,
        problem: problem.into(),
        header,
        write,
    };
    let header = Some(vec!["a".into(), "b".into()]);
    let verdicts = vec![
        denied(403, "no", header, Some(true)),
        denied(401, "x", None, None),
    ];
    let projects = vec!["p".into(), "q".into()];
    let (answer, heads) = (
        wire::AccessResponse { verdicts },
        wire::HeadsRequest { projects },
    );
    assert_eq!(
        decode::<wire::AccessResponse>(&bytes(DENIED)).unwrap(),
        answer
    );
    assert_eq!(encode(&answer), bytes(DENIED));
    assert_eq!(
        decode::<wire::HeadsRequest>(&bytes(HEADS_REQUEST)).unwrap(),
        heads
    );
    assert_eq!(encode(&heads), bytes(HEADS_REQUEST));

    let peers = wire::Notice::Peers {
        relay: "r1".into(),
        count: 3,
    };
    let access = wire::Notice::Access { access_rev: 4 };
    for (notice, known) in [(peers, PEERS), (access, ACCESS_CHANGED)] {
        assert_eq!(decode::<wire::Notice>(&bytes(known)).unwrap(), notice);
        assert_eq!(encode(&notice), bytes(known));
    }
}

/// A message that only a later release knows is an error in words, and is never taken for another message.
#[test]
fn what_a_later_release_invents_is_a_clear_error() {
    // An outcome number 9 with one field.
    let error = decode::<wire::AppendResponse>(&bytes("81 81 82 09 81 01")).unwrap_err();
    assert!(
        error.to_string().contains("not the expected CBOR"),
        "{error}"
    );
    let error = decode::<wire::Notice>(&bytes("82 09 80")).unwrap_err();
    assert!(
        error.to_string().contains("not the expected CBOR"),
        "{error}"
    );
    let later = (wire::VERSION + 1).to_string();
    let error = wire::check_version(Some(&later)).unwrap_err();
    assert!(error.to_string().contains(&format!("{later:?}")), "{error}");
}
