//! The tests of SQLite and of key-value stores.

use crate::support::TestHost;

#[tokio::test(flavor = "multi_thread")]
async fn databases_that_are_named_are_open_to_a_component_and_no_other() {
    let host = TestHost::start("sqlite_databases = [\"default\", \"extra\"]").await;
    let sql = "CREATE TABLE t (a)\nINSERT INTO t VALUES (1), ('x')\nSELECT a FROM t";
    assert_eq!(
        host.post("/g/sqlite/default", sql).await.ok(),
        "[Value::Integer(1)]\n[Value::Text(\"x\")]"
    );
    assert!(
        host.post("/g/sqlite/extra", "SELECT * FROM t")
            .await
            .error()
            .contains("no such table")
    );
    for name in ["other", "..%2fdefault", "DEFAULT"] {
        let error = host
            .post(&format!("/g/sqlite/{name}"), "SELECT 1")
            .await
            .error();
        assert!(error.contains("AccessDenied"), "{name:?}: {error}");
    }
    assert!(
        host.post("/g/sqlite/default", "SELEC")
            .await
            .error()
            .contains("syntax error")
    );
    assert_eq!(
        host.get("/g/values").await.ok(),
        "[\"a\", \"b\", \"c\", \"d\", \"e\"] [Value::Integer(-7), Value::Real(1.5), Value::Text(\"ü\"), Value::Blob([0, 255]), Value::Null]"
    );
    let folder = host.stop().await;
    for (file, there) in [
        ("sqlite_db.db", true),
        ("sqlite_extra.db", true),
        ("sqlite_other.db", false),
        ("sqlite_db.db-wal", false),
    ] {
        assert_eq!(
            folder.path().join("state").join(file).exists(),
            there,
            "{file}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_leaves_nothing_behind_on_its_connection() {
    let host = TestHost::start("sqlite_databases = [\"default\"]").await;
    host.post("/g/sqlite/default", "CREATE TABLE t (a)")
        .await
        .ok();
    let count = async || {
        host.post("/g/sqlite/default", "SELECT count(*) FROM t")
            .await
            .ok()
    };
    // An open transaction is rolled back, and its lock is gone.
    host.post("/g/sqlite/default", "BEGIN\nINSERT INTO t VALUES (1)")
        .await
        .ok();
    assert_eq!(count().await, "[Value::Integer(0)]");
    host.post(
        "/g/sqlite/default",
        "BEGIN\nINSERT INTO t VALUES (1)\nCOMMIT",
    )
    .await
    .ok();
    assert_eq!(count().await, "[Value::Integer(1)]");
    // A change to the connection does not outlive the instance.
    host.post("/g/sqlite/default", "CREATE TEMP TABLE mine (a)")
        .await
        .ok();
    host.post("/g/sqlite/default", "PRAGMA case_sensitive_like = 1")
        .await
        .ok();
    for _ in 0..4 {
        let error = host
            .post("/g/sqlite/default", "SELECT * FROM mine")
            .await
            .error();
        assert!(error.contains("no such table"), "{error}");
        assert_eq!(
            host.post("/g/sqlite/default", "SELECT 'a' LIKE 'A'")
                .await
                .ok(),
            "[Value::Integer(1)]"
        );
    }
    // Other files are out of reach.
    let other = host.folder.path().join("state/other.db");
    let attach = format!("ATTACH '{}' AS other", other.display());
    assert!(
        host.post("/g/sqlite/default", attach)
            .await
            .error()
            .contains("not authorized")
    );
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_take_turns_and_none_is_refused() {
    let host = TestHost::start("sqlite_databases = [\"default\"]").await;
    host.post("/g/sqlite/default", "CREATE TABLE t (a)")
        .await
        .ok();
    let one = "INSERT INTO t VALUES (1)\n".repeat(10);
    let replies =
        futures_util::future::join_all((0..32).map(|_| host.post("/g/sqlite/default", &one))).await;
    for reply in replies {
        reply.ok();
    }
    assert_eq!(
        host.post("/g/sqlite/default", "SELECT count(*) FROM t")
            .await
            .ok(),
        "[Value::Integer(320)]"
    );
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_was_answered_survives_without_a_clean_end() {
    let host = TestHost::start("sqlite_databases = [\"default\"]").await;
    host.post(
        "/g/sqlite/default",
        "CREATE TABLE t (a)\nINSERT INTO t VALUES ('kept')",
    )
    .await
    .ok();
    // A crash would leave the file and its WAL as they are now.
    let (state, copy) = (
        host.folder.path().join("state"),
        tempfile::tempdir().unwrap(),
    );
    for file in ["sqlite_db.db", "sqlite_db.db-wal"] {
        std::fs::copy(state.join(file), copy.path().join(file)).unwrap();
    }
    let database = rusqlite::Connection::open(copy.path().join("sqlite_db.db")).unwrap();
    let kept: String = database
        .query_row("SELECT a FROM t", [], |row| row.get(0))
        .unwrap();
    assert_eq!(kept, "kept");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_write_ahead_log_stays_small_under_steady_writes() {
    let host = TestHost::start("sqlite_databases = [\"default\"]").await;
    host.post("/g/sqlite/default", "CREATE TABLE t (a)")
        .await
        .ok();
    let ten = "INSERT INTO t VALUES (zeroblob(100000))\n".repeat(10);
    let writers = (0..4).map(|_| async {
        for _ in 0..60 {
            host.post("/g/sqlite/default", &ten).await.ok();
        }
    });
    futures_util::future::join_all(writers).await;
    // 240 MB were written. The WAL may have 16,000 pages of 4 KiB, and those that are written while a checkpoint waits
    // for a slow disk.
    let wal = std::fs::metadata(host.folder.path().join("state/sqlite_db.db-wal"))
        .unwrap()
        .len();
    assert!(wal < 200 << 20, "the WAL has {wal} bytes");
    let folder = host.stop().await;
    assert!(!folder.path().join("state/sqlite_db.db-wal").exists());
    assert!(
        std::fs::metadata(folder.path().join("state/sqlite_db.db"))
            .unwrap()
            .len()
            > 120_000_000
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn key_value_stores_keep_apart_and_only_named_ones_open() {
    let host = TestHost::start("key_value_stores = [\"default\", \"extra\"]").await;
    host.post("/g/kv/default/set/a", "one").await.ok();
    host.post("/g/kv/default/set/a", "two").await.ok();
    host.post("/g/kv/default/set/b", vec![0, 255]).await.ok();
    host.post("/g/kv/extra/set/a", "other").await.ok();
    assert_eq!(host.get("/g/kv/default/get/a").await.ok(), "two");
    assert_eq!(
        host.get("/g/kv/default/get/b").await.body.as_ref(),
        [0, 255]
    );
    assert_eq!(host.get("/g/kv/extra/get/a").await.ok(), "other");
    host.get("/g/kv/default/delete/a").await.ok();
    host.get("/g/kv/default/delete/a").await.ok();
    assert!(
        host.get("/g/kv/default/get/a")
            .await
            .error()
            .contains("no such key")
    );
    assert!(
        host.get("/g/kv/other/get/a")
            .await
            .error()
            .contains("AccessDenied")
    );
    host.stop().await;
}
