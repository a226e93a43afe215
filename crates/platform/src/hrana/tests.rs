//! The adapter against its server, and against answers that are written down here.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::{
    migrations,
    native::{
        AnswerWith, Fault, HranaServer, HranaWorld, KillableDatabase, SetClock, SqliteFile,
        block_on,
    },
};

fn world() -> HranaWorld {
    let world = HranaWorld::of(HranaServer::open(":memory:".as_ref()).unwrap());
    block_on(world.execute("CREATE TABLE t (k PRIMARY KEY, v)", vec![])).unwrap();
    world
}

fn insert(world: &HranaWorld, key: i64, value: Value) -> Result<Vec<Row>, DatabaseError> {
    let sql = "INSERT INTO t (k, v) VALUES (?1, ?2) RETURNING v";
    block_on(world.execute(sql, vec![key.into(), value]))
}

fn fail(world: &HranaWorld, faults: &[Fault]) {
    world.server.borrow_mut().fail_next(faults.iter().copied());
}

fn count(world: &HranaWorld) -> u64 {
    let rows = block_on(world.execute("SELECT count(*) FROM t", vec![])).unwrap();
    rows[0].unsigned(0).unwrap()
}

#[test]
fn every_value_comes_back_as_it_was() {
    let world = world();
    let values = [
        Value::Null,
        Value::Integer(i64::MAX),
        Value::Integer(i64::MIN),
        Value::Real(0.1),
        Value::Real(-3.0),
        Value::Text("\"quoted\" \\ \u{0} line\n é 🦜".into()),
        Value::Text(String::new()),
        Value::Blob(vec![]),
        Value::Blob(vec![0]),
        Value::Blob(vec![255, 0]),
        Value::Blob((0..=255).collect()),
    ];
    for (key, value) in (0..).zip(values) {
        assert_eq!(
            insert(&world, key, value.clone()).unwrap(),
            [Row(vec![value])]
        );
    }
    let refused = insert(&world, 99, Value::Real(f64::INFINITY)).unwrap_err();
    assert!(refused.to_string().contains("cannot be sent"), "{refused}");
}

/// The answers of servers that write numbers and padding in their own way.
#[test]
fn an_answer_is_read_in_each_way_of_writing_it() {
    let read = |cell: &str| {
        let text = format!(
            r#"{{"baton":null,"results":[{{"type":"ok","response":{{"type":"execute","result":{{"cols":[],"rows":[[{cell}]]}}}}}}]}}"#
        );
        match json::decode(text.as_bytes()) {
            Ok(Answered::Found(mut found)) => Ok(found.rows.remove(0).0.remove(0)),
            Ok(Answered::Refused(refused)) => Err(refused.message),
            Err(words) => Err(words),
        }
    };
    for (cell, value) in [
        (r#"{"type":"blob","base64":"/w"}"#, Value::Blob(vec![255])),
        (r#"{"type":"blob","base64":"/w=="}"#, Value::Blob(vec![255])),
        (r#"{"type":"integer","value":"-7"}"#, Value::Integer(-7)),
        (r#"{"type":"integer","value":7}"#, Value::Integer(7)),
        (r#"{"type":"float","value":2}"#, Value::Real(2.0)),
        (r#"{"type":"null"}"#, Value::Null),
        (
            r#"{"type":"text","value":"a\nb"}"#,
            Value::Text("a\nb".into()),
        ),
    ] {
        assert_eq!(read(cell).unwrap(), value, "{cell}");
    }
    for cell in [
        r#"{"type":"blob","base64":"!"}"#,
        r#"{"type":"integer","value":"9223372036854775808"}"#,
        r#"{"type":"text"}"#,
        r#"{"type":"picture","value":"x"}"#,
    ] {
        assert!(read(cell).is_err(), "{cell}");
    }
}

#[test]
fn a_read_is_sent_again_and_a_write_only_if_it_did_not_happen() {
    use Fault::{Away, Busy, Closed, Error, Lost, LostByError};
    for fault in [Away, Busy, Closed, Error, Lost, LostByError] {
        let world = world();
        fail(&world, &[fault, fault]);
        assert_eq!(count(&world), 0, "{fault:?}");
        fail(&world, &[fault]);
        let written = insert(&world, 1, Value::Null);
        match fault {
            Away | Busy => assert!(written.is_ok(), "{fault:?}"),
            _ => assert!(
                matches!(written, Err(DatabaseError::NoAnswer(_))),
                "{fault:?}"
            ),
        }
        let happened = !matches!(fault, Closed | Error);
        assert_eq!(count(&world), u64::from(happened), "{fault:?}");
    }
}

#[test]
fn a_statement_is_sent_three_times_at_most() {
    let world = world();
    fail(&world, &[Fault::Busy; 3]);
    let refused = insert(&world, 1, Value::Null).unwrap_err();
    assert!(refused.to_string().contains("locked"), "{refused}");
    fail(&world, &[Fault::Lost; 3]);
    let before = world.server.borrow().carried_out();
    assert!(block_on(world.execute("SELECT 1", vec![])).is_err());
    assert_eq!(world.server.borrow().carried_out(), before + 3);
    assert!(insert(&world, 1, Value::Null).is_ok());
}

#[test]
fn a_refusal_has_the_words_of_the_database() {
    let world = world();
    insert(&world, 1, Value::Null).unwrap();
    let here = SqliteFile::open(":memory:".as_ref()).unwrap();
    block_on(here.execute("CREATE TABLE t (k PRIMARY KEY, v)", vec![])).unwrap();
    let twice = "INSERT INTO t (k) VALUES (1), (1)";
    let expected = block_on(here.execute(twice, vec![]))
        .unwrap_err()
        .to_string();
    let refused = block_on(world.execute(twice, vec![]))
        .unwrap_err()
        .to_string();
    assert_eq!(refused, expected);
    assert!(refused.contains("constraint failed"), "{refused}");
    let refused = insert(&world, 2, Value::Blob(vec![0; 8 << 20])).unwrap_err();
    assert!(refused.to_string().contains("too large"), "{refused}");
    assert!(block_on(world.execute("PRAGMA journal_mode = WAL", vec![])).is_err());
}

#[test]
fn the_schema_is_made_on_a_server_that_refuses_pragmas_and_fails() {
    for seed in 1..20 {
        let world = HranaWorld::of(HranaServer::open(":memory:".as_ref()).unwrap());
        world.server.borrow_mut().fail_by(seed);
        block_on(migrations::apply(&world, &SetClock::default())).unwrap();
        let carried_out = world.server.borrow().carried_out();
        block_on(migrations::apply(&world, &SetClock::default())).unwrap();
        assert!(world.server.borrow().carried_out() <= carried_out + 3);
    }
}

#[test]
fn the_schema_is_made_whatever_answer_is_lost() {
    for statement in 1..500 {
        let empty = HranaWorld::of(HranaServer::open(":memory:".as_ref()).unwrap());
        let database = KillableDatabase::new(empty);
        database.kill_after(statement, true);
        let applied = block_on(migrations::apply(&database, &SetClock::default()));
        database.revive();
        block_on(migrations::apply(&database, &SetClock::default())).unwrap();
        if applied.is_ok() {
            assert!(statement > 20, "{statement}");
            return;
        }
    }
    panic!("the schema has too many statements");
}

#[test]
fn the_address_and_the_token_are_sent_as_the_server_wants_them() {
    let seen = std::cell::RefCell::new(Vec::new());
    let http = AnswerWith(|request: http::Request<Vec<u8>>| {
        seen.borrow_mut().push((
            request.uri().to_string(),
            request.headers().get("authorization").cloned(),
        ));
        Ok(http::Response::new(b"no JSON".to_vec()))
    });
    for (url, token) in [
        ("libsql://db.example", Some("secret")),
        ("https://db.example/", Some("secret")),
        ("https://db.example", None),
    ] {
        let send = |request| (http.0)(request);
        let database = HranaDatabase::new(AnswerWith(send), SetClock::default(), url, token);
        let failed = block_on(database.unwrap().execute("DELETE FROM t", vec![]));
        assert!(matches!(failed, Err(DatabaseError::Unexpected(_))), "{url}");
    }
    for (uri, authorization) in seen.borrow().iter() {
        assert_eq!(uri, "https://db.example/v3/pipeline");
        let is_known = authorization.as_ref().is_none_or(|a| a == "Bearer secret");
        assert!(is_known);
    }
    assert!(seen.borrow()[2].1.is_none());
    let deaf = |_| Err(HttpError::NoAnswer("not asked".into()));
    for url in ["", "db.example", "redis://db.example"] {
        let database =
            HranaDatabase::new(AnswerWith(deaf), SetClock::default(), url, Some("secret"));
        let words = database.err().unwrap().to_string();
        assert!(
            words.contains("database_url") && !words.contains("secret"),
            "{words}"
        );
    }
    let database = HranaDatabase::new(
        AnswerWith(deaf),
        SetClock::default(),
        "http://d",
        Some("a\nb"),
    );
    assert!(
        database
            .err()
            .unwrap()
            .to_string()
            .contains("database_token")
    );
}
