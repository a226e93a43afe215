//! Checks results and uploads in a bucket: a film is copied there in parts, in little memory, even if the host dies in the
//! middle.

use bytes::Bytes;
use e2e::agent::Agent;
use e2e::bucket::Bucket;
use e2e::host::Kind;
use e2e::http::Http;
use e2e::kling::{Course, Plan};
use e2e::raw::Client;
use e2e::tasks::{World, created, id};
use e2e::wait::until;
use http::Method;
use serde_json::json;

/// The size of the film in bytes, which is more than the memory of an instance.
const FILM: usize = 60 << 20;

/// The memory of an instance, in MiB.
const INSTANCE: &str = "48";

/// The part in the middle of which the host is killed.
const KILLED_AT: usize = 5;

/// Kills the host while a request to the bucket hangs, and starts it again with a bucket that answers.
async fn killed_while_the_bucket_hangs(world: World, bucket: &Bucket) -> World {
    let World {
        host,
        kling,
        gemini,
    } = world;
    let setup = host.setup();
    host.kill().await;
    bucket.hang_at(None);
    let host = setup.start().await;
    World {
        host,
        kling,
        gemini,
    }
}

/// The service calls back once, so the instance that dies is the only one that has received the callback.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_film_of_sixty_mib_reaches_the_bucket_once_though_the_host_is_killed_in_the_middle() {
    let (bucket, agent) = (Bucket::start().await, Agent::start(0).await);
    let film: Vec<u8> = (0..FILM).map(|n| (n / 1000) as u8).collect();
    let film = Bytes::from([b"\0\0\0\x18ftypisom".as_slice(), &film[12..]].concat());
    let served = film.clone();
    let plan = Plan::default().course(move |_, _| Course {
        film: Some(served.clone()),
        ..Course::default()
    });
    bucket.hang_at(Some(KILLED_AT));
    let world = World::start_with(Kind::Native, plan, |setup| {
        bucket.of(setup).option("--instance-memory", INSTANCE)
    })
    .await;
    let task = json!({
        "project_id": "p",
        "task_type": "kling_video",
        "params": { "prompt": "a storm" },
        "callback_url": agent.url(),
    });
    let id = id(&created(&world.host.http(), &task).await);
    until("a part is on its way", async || bucket.hung() > 0).await;
    let now = world.task(&id).await;
    assert_eq!(now["status"], "processing", "{now}");
    assert!(now["result_url"].is_null(), "{now}");

    let world = killed_while_the_bucket_hangs(world, &bucket).await;
    // The claim of the killed instance has run out.
    let changed = world.host.execute(
        "UPDATE aigc_tasks SET lease_until = 1, next_attempt_at = 1 WHERE has_product = 1",
    );
    assert_eq!(changed, 1);
    world.poll().await;
    let done = world.finished(&id).await;
    assert_eq!(done["status"], "completed", "{done}");
    assert!(done["result_expires_at"].is_null(), "{done}");
    // No part came twice, and nothing is left over.
    assert_eq!(bucket.parts(), (1..=12).collect::<Vec<_>>());
    assert_eq!((bucket.objects().len(), bucket.uploads()), (1, 0));
    assert!(bucket.objects()[0] == film);

    let path = world.asset_path(&done);
    let http = world.host.http();
    let head = http.send(Method::HEAD, &path, &[], Bytes::new()).await;
    assert_eq!(head.status, 200);
    assert_eq!(head.header("content-length"), FILM.to_string());
    let answer = http.get(&path).await;
    assert_eq!(answer.status, 307, "{answer:?}");
    assert_eq!(answer.header("cache-control"), "private, max-age=3000");
    let address = answer.header("location");
    let signed = address.strip_prefix(&format!("http://{}", bucket.address()));
    let shown = Http::new(bucket.address()).get(signed.unwrap()).await;
    assert_eq!(
        (shown.status.as_u16(), shown.header("content-type")),
        (200, "video/mp4")
    );
    assert!(shown.body == film);
    until("the agent is notified", async || {
        !agent.notifications().is_empty()
    })
    .await;
    world.poll().await;
    world.host.stop().await;
    assert_eq!(agent.notifications().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_old_pictures_the_one_that_the_document_shows_stays() {
    let bucket = Bucket::start().await;
    let world = World::start_with(Kind::Native, Plan::default(), |setup| {
        bucket.of(setup).env("SPIN_VARIABLE_KEEP_ASSETS_DAYS", "1")
    })
    .await;
    let http = world.host.http();
    let client = Client::join(&world.host.address, "p").await;
    let upload = async |byte: u8| {
        let picture = [b"\x89PNG\r\n\x1a\n".as_slice(), &[byte; 1000]].concat();
        let answer = http.post("/projects/p/assets", picture).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()["path"].as_str().unwrap().to_owned()
    };
    let (shown, other) = (upload(1).await, upload(2).await);
    let src = shown.clone();
    client
        .edit(move |doc| doc.get_map("nodes").insert("picture", src).unwrap())
        .await;
    until("the document shows the picture", async || {
        let accept = [("accept", "application/json")];
        let answer = http.get_with("/sync/p", &accept).await;
        String::from_utf8_lossy(&answer.body).contains(&shown)
    })
    .await;
    assert_eq!(
        (bucket.objects().len(), world.poll().await.status.as_u16()),
        (2, 202)
    );
    until("one of two is deleted", async || {
        world
            .host
            .execute("UPDATE asset_looks SET created_at = 1, needed_at = 1");
        world.poll().await;
        bucket.objects().len() < 2
    })
    .await;
    http.get(&other).await.assert_problem(404, "not-found");
    let kept = http.get(&shown).await;
    assert_eq!(kept.status, 200, "{kept:?}");
    assert!(kept.body == bucket.objects()[0]);
    world.host.stop().await;
}

/// The memory of an instance or a relay never holds all bytes of the film.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_of_sixty_mib_goes_to_the_bucket_in_parts_and_one_that_is_cut_leaves_nothing() {
    let bucket = Bucket::start().await;
    let world = World::start_with(Kind::Native, Plan::default(), |setup| {
        bucket
            .of(setup)
            .option("--instance-memory", INSTANCE)
            .env("SPIN_VARIABLE_MAX_UPLOAD_MIB", "61")
    })
    .await;
    let http = world.host.http();
    let client = Client::join(&world.host.address, "p").await;
    let film: Vec<u8> = (0..FILM).map(|n| (n / 1000) as u8).collect();
    let film = Bytes::from([b"\0\0\0\x18ftypisom".as_slice(), &film[12..]].concat());
    let answer = http.post("/projects/p/assets", film.clone()).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let told = answer.json();
    assert_eq!(
        (&told["media_type"], &told["length"]),
        (&json!("video/mp4"), &json!(FILM))
    );
    assert_eq!(bucket.parts(), (1..=12).collect::<Vec<_>>());
    assert_eq!((bucket.objects().len(), bucket.uploads()), (1, 0));
    assert!(bucket.objects()[0] == film);
    let path = told["path"].as_str().unwrap();
    let answer = http.get(path).await;
    assert_eq!(answer.status, 307, "{answer:?}");
    let signed = answer.header("location").to_owned();
    let signed = signed.strip_prefix(&format!("http://{}", bucket.address()));
    let shown = Http::new(bucket.address()).get(signed.unwrap()).await;
    assert!(shown.status == 200 && shown.body == film);

    let refused = http.post("/projects/p/assets", vec![0; 9 << 20]).await;
    refused.assert_problem(415, "unsupported-media-type");
    let refused = http
        .post("/projects/p/assets", vec![0; (61 << 20) + 1])
        .await;
    refused.assert_problem(413, "payload-too-large");
    assert!(refused.text().contains("`max_upload_mib`"), "{refused:?}");

    // A client goes away in the middle.
    let held = http.hold("POST", "/projects/p/assets", &[], &film[..11 << 20]);
    let held = held.await;
    until("two parts are there", async || bucket.parts().len() == 14).await;
    assert_eq!(bucket.uploads(), 1);
    drop(held);
    until("the parts are deleted", async || bucket.uploads() == 0).await;

    // The host is killed in the middle.
    bucket.hang_at(Some(2));
    let two_parts = &film[..(10 << 20) + 2];
    let held = http.hold("POST", "/projects/p/assets", &[], two_parts);
    let _held = held.await;
    until("a part is on its way", async || bucket.hung() > 0).await;
    client.leave().await;
    let world = killed_while_the_bucket_hangs(world, &bucket).await;
    assert_eq!(bucket.uploads(), 1);
    let changed = world
        .host
        .execute("UPDATE asset_uploads SET touched_at = 1");
    assert_eq!(changed, 1);
    world.poll().await;
    until("the parts are deleted", async || bucket.uploads() == 0).await;
    assert_eq!(bucket.objects().len(), 1);
    world.host.stop().await;
}
