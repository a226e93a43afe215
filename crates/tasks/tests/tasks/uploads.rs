//! The pictures and films that users upload.

use base64::{Engine, prelude::BASE64_STANDARD};
use platform::native::{AnswerWith, MapConfig, World, block_on};
use problem::Problem;
use tasks::{AssetStore, UploadError, upload};

use crate::fake::PIXEL;

fn world() -> World {
    World::new(MapConfig::from_pairs(&[]))
}

fn pixel() -> Vec<u8> {
    BASE64_STANDARD.decode(PIXEL).unwrap()
}

fn assets(world: &World) -> i64 {
    world.rows("SELECT count(*) FROM assets")[0]
        .integer(0)
        .unwrap()
}

#[test]
fn an_upload_is_an_asset_of_its_project_that_stays() {
    let world = world();
    let ports = world.ports();
    let store = AssetStore::open(ports.database, ports.http, ports.config).unwrap();
    for (bytes, media_type, end) in [
        (pixel(), "image/png", ""),
        (b"\0\0\0\x18ftypisom".to_vec(), "video/mp4", ".mp4"),
    ] {
        let stored = block_on(upload(ports, "p", bytes.clone())).unwrap();
        assert_eq!(stored.path, format!("/assets/{}", stored.id));
        assert!(stored.id.ends_with(end), "{stored:?}");
        assert_eq!(
            (stored.media_type.as_str(), stored.length),
            (media_type, bytes.len() as u64)
        );
        // Nothing refers to it for days.
        let later = ports.clock.unix_seconds() + 7 * 24 * 3600;
        block_on(store.drop_leftovers(later)).unwrap();
        let asset = block_on(store.read(&stored.id, None)).unwrap().unwrap();
        assert_eq!((asset.project_id.as_str(), asset.bytes), ("p", bytes));
    }
}

#[test]
fn what_is_neither_picture_nor_film_is_refused() {
    let world = world();
    for bytes in [&b""[..], b"<svg xmlns='x'/>", b"<!doctype html>", b"%PDF"] {
        let error = block_on(upload(world.ports(), "p", bytes.to_vec())).unwrap_err();
        assert!(matches!(error, UploadError::UnknownType), "{error}");
        assert_eq!(Problem::from(error).status(), 415);
    }
    assert_eq!(assets(&world), 0);
}

#[test]
fn a_quota_bounds_uploads() {
    let world = World::new(MapConfig::from_pairs(&[("project_quota_mib", "1")]));
    let mut picture = pixel();
    picture.resize(1024 * 1024, 0);
    block_on(upload(world.ports(), "p", picture)).unwrap();
    let error = block_on(upload(world.ports(), "p", pixel())).unwrap_err();
    assert_eq!(Problem::from(error).status(), 507);
}

#[test]
fn an_upload_that_the_bucket_lost_is_deleted_a_day_later() {
    let world = world();
    let ports = world.ports();
    let config = MapConfig::from_pairs(&[
        ("s3_bucket", "b"),
        ("s3_endpoint", "https://s3.example"),
        ("s3_region", "auto"),
        ("s3_access_key", "a"),
        ("s3_secret_key", "s"),
    ]);
    let status = |status| {
        AnswerWith(move |_: http::Request<Vec<u8>>| {
            Ok(http::Response::builder()
                .status(status)
                .body(Vec::new())
                .unwrap())
        })
    };
    let (broken, well) = (status(500), status(204));
    let at = |http| platform::Ports {
        http,
        config: &config,
        ..ports
    };
    let error = block_on(upload(at(&broken), "p", pixel())).unwrap_err();
    assert!(matches!(error, UploadError::Asset(_)), "{error}");
    assert_eq!(assets(&world), 1);
    let store = AssetStore::open(ports.database, &well, &config).unwrap();
    let now = ports.clock.unix_seconds();
    block_on(store.drop_leftovers(now + 3600)).unwrap();
    assert_eq!(assets(&world), 1);
    block_on(store.drop_leftovers(now + 25 * 3600)).unwrap();
    assert_eq!(assets(&world), 0);
}
