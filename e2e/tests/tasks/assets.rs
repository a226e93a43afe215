//! Checks assets: the results that the app keeps, and how it serves them.

use bytes::Bytes;
use e2e::both_relays;
use e2e::kling::{Course, Plan};
use e2e::tasks::World;
use http::Method;
use serde_json::Value;

both_relays! {
    async fn an_asset_is_served_whole_in_ranges_and_by_its_tag(relay: Kind) {
        let world = World::start_with(relay, Plan::default(), |setup| setup).await;
        let id = world.prompted("demo", "a <hill>").await;
        let done = world.finished(&id).await;
        let http = world.host.http();
        let path = &world.asset_path(&done);
        let asset = http.get(path).await;
        assert_eq!(asset.status, 200, "{asset:?}");
        assert_eq!(asset.header("content-type"), "image/svg+xml");
        assert_eq!(asset.header("content-length"), asset.body.len().to_string());
        assert_eq!(asset.header("cache-control"), "private, max-age=31536000, immutable");
        assert_eq!(asset.header("accept-ranges"), "bytes");
        assert!(asset.text().starts_with("<svg") && asset.text().contains("a &lt;hill&gt;"));
        let tag = asset.header("etag");
        assert!(tag.starts_with('"'), "{tag}");
        let same = http.get_with(path, &[("if-none-match", tag)]).await;
        assert_eq!((same.status.as_u16(), same.body.len(), same.header("etag")), (304, 0, tag));
        let length = asset.body.len();
        for (range, part) in [
            ("bytes=0-9", 0..10),
            ("bytes=5-", 5..length),
            ("bytes=-7", length - 7..length),
            ("bytes=1-999999", 1..length),
        ] {
            let answer = http.get_with(path, &[("range", range)]).await;
            assert_eq!(answer.status, 206, "{range}: {answer:?}");
            let expected = format!("bytes {}-{}/{length}", part.start, part.end - 1);
            assert_eq!(answer.header("content-range"), expected);
            assert_eq!(answer.body, asset.body[part], "{range}");
        }
        let beyond = http.get_with(path, &[("range", "bytes=999999-")]).await;
        beyond.assert_problem(416, "range-not-satisfiable");
        assert_eq!(beyond.header("content-range"), format!("bytes */{length}"));
        let head = http.send(Method::HEAD, path, &[], Bytes::new()).await;
        assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
        assert_eq!(head.header("content-length"), length.to_string());
        http.get("/assets/none").await.assert_problem(404, "not-found");
        world.host.stop().await;
    }
}

both_relays! {
    async fn an_upload_is_served_and_what_is_no_picture_is_refused(relay: Kind) {
        let world = World::start_with(relay, Plan::default(), |setup| setup).await;
        let http = world.host.http();
        world.prompted("demo", "a hill, which makes the project").await;
        let picture = [b"\x89PNG\r\n\x1a\n".as_slice(), &[7; 100_000]].concat();
        let answer = http.post("/projects/p/assets", picture.clone()).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let upload = answer.json();
        let path = upload["path"].as_str().unwrap();
        assert_eq!(upload["media_type"], "image/png");
        assert_eq!(upload["length"], picture.len());
        assert_eq!(path, format!("/assets/{}", upload["id"].as_str().unwrap()));
        assert!(upload["url"].as_str().unwrap().ends_with(path), "{upload}");
        assert_eq!(answer.header("location"), path);
        let shown = http.get(path).await;
        assert_eq!((shown.status.as_u16(), shown.header("content-type")), (200, "image/png"));
        assert_eq!(shown.body, picture);
        http.post("/projects/p/assets", "<svg/>").await.assert_problem(415, "unsupported-media-type");
        let film = [b"\0\0\0\x18ftypisom".as_slice(), &vec![0; 8 * 1024 * 1024]].concat();
        http.post("/projects/p/assets", film).await.assert_problem(413, "payload-too-large");
        world.host.stop().await;
    }
}

/// The end of one job comes by a callback, and that of another by a poll.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_film_is_copied_before_its_task_completes_and_a_larger_one_stays_with_its_end_date() {
    let film = |length: usize| {
        let head = b"\0\0\0\x18ftypisom".as_slice();
        Bytes::from([head, &vec![9; length - head.len()]].concat())
    };
    let (small, large) = (film(7 << 20), film(60 << 20));
    let films = [small.clone(), large];
    let course = move |_, prompt: &str| Course {
        film: Some(films[usize::from(prompt == "large")].clone()),
        callbacks: usize::from(prompt != "polled"),
        ..Course::default()
    };
    let world = World::start(Plan::default().course(course)).await;
    let polled = world.video("polled").await;
    let (called, large) = (world.video("called").await, world.video("large").await);
    for id in [called, polled] {
        let done = world.finished(&id).await;
        assert_eq!(done["status"], "completed", "{done}");
        let source = world.kling.job(&id).unwrap().result_url();
        let data: Value = serde_json::from_str(done["result_data"].as_str().unwrap()).unwrap();
        assert_eq!(data["source_url"], source, "{done}");
        assert!(done["result_expires_at"].is_null(), "{done}");
        let shown = world.host.http().get(&world.asset_path(&done)).await;
        assert_eq!(shown.status, 200);
        assert_eq!(shown.header("content-type"), "video/mp4");
        assert!(shown.body == small, "{} bytes", shown.body.len());
    }
    let done = world.finished(&large).await;
    let source = world.kling.job(&large).unwrap().result_url();
    assert_eq!(done["result_url"], source, "{done}");
    let (ended, expires) = (&done["completed_at"], &done["result_expires_at"]);
    assert!(expires.as_i64() > ended.as_i64(), "{done}");
    world.host.stop().await;
}

/// Reproduces the report "There was a log-in form at our own address": a browser must not believe the media type that a
/// service claims for a result.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_is_a_picture_or_a_file_and_never_a_page() {
    let world = World::start(Plan::default()).await;
    let http = world.host.http();
    let mut paths = Vec::new();
    for (claimed, served) in [
        ("text/html", None),
        ("text/html; charset=utf-8", None),
        ("image/png\r\nset-cookie: a=b", None),
        ("image/", None),
        ("", None),
        ("application/pdf", None),
        ("IMAGE/PNG; x=y", Some("image/png")),
        ("image/svg+xml", Some("image/svg+xml")),
        ("video/mp4", Some("video/mp4")),
        ("audio/wav", Some("audio/wav")),
    ] {
        let prompt = format!("a picture as {claimed}");
        let task = world.prompted("nano_banana", &prompt).await;
        let done = world.finished(&task).await;
        assert_eq!(done["status"], "completed", "{claimed:?}: {done}");
        paths.push((world.asset_path(&done), claimed, served));
    }
    let check = async |path: &str, claimed: &str, served: Option<&str>| {
        for method in [Method::GET, Method::HEAD] {
            let asset = http.send(method, path, &[], Vec::new().into()).await;
            assert_eq!(asset.status, 200, "{claimed:?}: {asset:?}");
            let media_type = served.unwrap_or("application/octet-stream");
            assert_eq!(asset.header("content-type"), media_type, "{claimed:?}");
            let disposition = if served.is_some() { "" } else { "attachment" };
            assert_eq!(
                asset.header("content-disposition"),
                disposition,
                "{claimed:?}"
            );
            assert_eq!(asset.header("x-content-type-options"), "nosniff");
            // A drawing that is opened by itself must not run scripts.
            let policy = asset.header("content-security-policy");
            assert!(
                policy.contains("sandbox") && policy.contains("default-src 'none'"),
                "{policy}"
            );
            assert_eq!(asset.header("set-cookie"), "");
        }
    };
    for (path, claimed, served) in &paths {
        check(path, claimed, *served).await;
    }
    // An earlier release stored the media types as claimed.
    for claimed in ["text/html", "image/png\r\nset-cookie: a=b", "video/mp4\n"] {
        let changed = world
            .host
            .execute(&format!("UPDATE assets SET media_type = '{claimed}'"));
        assert_eq!(changed, paths.len());
        let served = (claimed == "video/mp4\n").then_some("video/mp4");
        check(&paths[0].0, claimed, served).await;
    }
    world.host.stop().await;
}
