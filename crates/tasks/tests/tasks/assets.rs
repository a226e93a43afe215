//! The asset store in SQLite, and with a bucket.

use std::{cell::RefCell, collections::HashMap};

use http::{Method, Request, Response};
use platform::{
    Database, HttpError,
    native::{AnswerWith, MapConfig, SqliteFile, block_on},
};
use tasks::{Asset, AssetStore};

fn bucket() -> MapConfig {
    MapConfig::from_pairs(&[
        ("s3_bucket", "results"),
        ("s3_endpoint", "https://s3.example"),
        ("s3_region", "auto"),
        ("s3_access_key", "access"),
        ("s3_secret_key", "secret"),
    ])
}

/// A bucket that keeps objects by path, and answers with the given faults first.
#[derive(Default)]
struct Bucket {
    objects: RefCell<HashMap<String, Vec<u8>>>,
    faults: RefCell<Vec<Result<u16, HttpError>>>,
}

impl Bucket {
    fn answer(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, HttpError> {
        if let Some(fault) = self.faults.borrow_mut().pop() {
            return fault.map(|status| Response::builder().status(status).body(vec![]).unwrap());
        }
        let uri = request.uri();
        assert_eq!(uri.host(), Some("s3.example"));
        assert!(uri.query().unwrap().contains("X-Amz-Signature="), "{uri}");
        assert!(!uri.to_string().contains("secret"), "{uri}");
        let path = uri.path().to_owned();
        assert!(path.starts_with("/results/asset_"), "{path}");
        let mut objects = self.objects.borrow_mut();
        let (status, body) = match *request.method() {
            Method::PUT => {
                objects.insert(path, request.into_body());
                (200, vec![])
            }
            Method::DELETE => {
                objects.remove(&path).unwrap();
                (204, vec![])
            }
            _ => {
                let range = request.headers()["range"].to_str().unwrap().to_owned();
                let (first, last) = range
                    .strip_prefix("bytes=")
                    .unwrap()
                    .split_once('-')
                    .unwrap();
                let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
                (206, objects[&path][first..=last].to_vec())
            }
        };
        Ok(Response::builder().status(status).body(body).unwrap())
    }
}

#[test]
fn an_asset_comes_back_whole_and_in_parts_from_either_store() {
    let database = SqliteFile::with_schema();
    let service = Bucket::default();
    let http = AnswerWith(|request| service.answer(request));
    for config in [MapConfig::default(), bucket()] {
        let store = AssetStore::open(&database, &http, &config).unwrap();
        let bytes: Vec<u8> = (0..=255).collect();
        let id = block_on(store.store("p", "t", "image/png", bytes.clone(), 7)).unwrap();
        let whole = block_on(store.read(&id, None)).unwrap().unwrap();
        assert_eq!(
            (whole.media_type.as_str(), whole.length),
            ("image/png", 256)
        );
        assert_eq!(whole.bytes, bytes);
        let sha256 = "40aff2e9d2d8922e47afd4648e6967497158785fbd1da870e7110266bf944880";
        assert_eq!(whole.digest, sha256);
        let is_in_bucket = service.objects.borrow().len() == 1;
        assert_eq!(whole.is_in_bucket, is_in_bucket);
        let part = block_on(store.read(&id, Some(10..20))).unwrap().unwrap();
        assert_eq!(part.bytes, bytes[10..20]);
        assert_eq!(part.digest, whole.digest);
        let none = block_on(store.read(&id, Some(10..10))).unwrap().unwrap();
        assert_eq!(none.bytes, [0; 0]);
        let listed = block_on(store.list("p")).unwrap();
        let listed = listed.iter().find(|asset| asset.id == id).unwrap();
        assert_eq!((listed.length, &listed.digest), (256, &whole.digest));
        assert_eq!(listed.task_id.as_deref(), Some("t"));
        assert_eq!(block_on(store.read("asset_none", None)).unwrap(), None);
    }
    assert_eq!(service.objects.borrow().len(), 1);
}

#[test]
fn a_fault_of_the_bucket_is_retried_once_and_then_reported() {
    let database = SqliteFile::with_schema();
    let config = bucket();
    for (faults, stored) in [
        (vec![Ok(503)], true),
        (vec![Err(HttpError::NoAnswer("cut".into()))], true),
        (vec![Ok(503), Ok(503)], false),
        (vec![Err(HttpError::NoAnswer("cut".into())); 2], false),
        (vec![Ok(403)], false),
        // The same answer would be too large again.
        (vec![Err(HttpError::TooLarge)], false),
    ] {
        let service = Bucket::default();
        *service.faults.borrow_mut() = faults.clone();
        let http = AnswerWith(|request| service.answer(request));
        let store = AssetStore::open(&database, &http, &config).unwrap();
        let result = block_on(store.store("p", "t", "image/png", vec![1], 7));
        assert_eq!(result.is_ok(), stored, "{faults:?}: {result:?}");
        if let (Err(error), Some(Err(fault))) = (result, faults.first()) {
            assert!(error.to_string().contains(&fault.to_string()), "{error}");
        }
    }
}

#[test]
fn an_asset_of_more_than_eight_mib_is_read_from_the_bucket_itself() {
    const MOST: u64 = 8 * 1024 * 1024;
    let database = SqliteFile::with_schema();
    let http = AnswerWith(|_| Err(HttpError::NotSent(String::new())));
    let config = bucket();
    let store = AssetStore::open(&database, &http, &config).unwrap();
    for (length, is_in_bucket, is_there) in [
        (MOST, true, false),
        (MOST + 1, true, true),
        (MOST + 1, false, false),
    ] {
        let asset = Asset {
            project_id: "p".into(),
            media_type: "video/mp4".into(),
            length,
            digest: String::new(),
            is_in_bucket,
            bytes: Vec::new(),
        };
        let address = store.signed_address("asset_a", &asset).unwrap();
        assert_eq!(address.is_some(), is_there, "{length} {is_in_bucket}");
    }
}

#[test]
fn half_a_bucket_is_an_error_that_names_the_setting() {
    let database = SqliteFile::with_schema();
    let http = AnswerWith(|_| Err(HttpError::NotSent(String::new())));
    let config = MapConfig::from_pairs(&[("s3_bucket", "results")]);
    let error = AssetStore::open(&database, &http, &config).err().unwrap();
    assert!(error.to_string().contains("s3_endpoint"), "{error}");
    let error = tasks::check_settings(&config).unwrap_err();
    assert!(error.to_string().contains("s3_endpoint"), "{error}");
    assert!(tasks::check_settings(&bucket()).is_ok());
}

#[test]
fn an_asset_to_which_no_task_refers_is_deleted_after_a_day_and_no_other_is() {
    const DAY: i64 = 24 * 3600;
    for config in [MapConfig::default(), bucket()] {
        let database = SqliteFile::with_schema();
        let service = Bucket::default();
        let http = AnswerWith(|request| service.answer(request));
        let store = AssetStore::open(&database, &http, &config).unwrap();
        let sql = |sql: &str| block_on(database.execute(sql, vec![])).unwrap();
        let columns = ["result_url", "result_data", "params"];
        let tasks = [
            "result_url",
            "result_data",
            "params",
            "lost",
            "at work",
            "never stored",
        ];
        let ids = tasks.map(|task| {
            let id = block_on(store.store("p", task, "image/png", vec![1], 7)).unwrap();
            let status = if task == "at work" { "processing" } else { "completed" };
            if task != "never stored" {
                sql(&format!(
                    "INSERT INTO aigc_tasks (task_id, project_id, task_type, status, params, created_at, updated_at)
                     VALUES ('{task}', 'p', 'demo', '{status}', '{{}}', 7, 7)"
                ));
            }
            if columns.contains(&task) {
                sql(&format!(
                    "UPDATE aigc_tasks SET {task} = '[\"/assets/{id}\"]' WHERE task_id = '{task}'"
                ));
            }
            id
        });
        // This asset is one of an earlier release.
        sql("INSERT INTO assets (asset_id, project_id, media_type, length, digest, bytes, created_at)
             VALUES ('asset_old', 'p', 'image/png', 1, '', x'01', 7)");
        let kept = |now: i64| {
            block_on(store.drop_leftovers(now)).unwrap();
            let is_kept = |id: &String| block_on(store.read(id, None)).unwrap().is_some();
            assert!(is_kept(&"asset_old".to_owned()));
            ids.each_ref().map(is_kept)
        };
        assert_eq!(kept(7 + DAY - 1), [true; 6]);
        assert_eq!(kept(7 + DAY), [true, true, true, false, true, false]);
        sql("UPDATE aigc_tasks SET status = 'failed' WHERE task_id = 'at work'");
        assert_eq!(
            kept(7 + 2 * DAY - 1),
            [true, true, true, false, true, false]
        );
        assert_eq!(kept(7 + 2 * DAY), [true, true, true, false, false, false]);
        assert_eq!(kept(7 + 90 * DAY), [true, true, true, false, false, false]);
    }
}

#[test]
fn an_object_that_the_bucket_does_not_delete_holds_up_no_other() {
    const DAY: i64 = 24 * 3600;
    let (database, config) = (SqliteFile::with_schema(), bucket());
    let service = Bucket::default();
    let refused = RefCell::new("none".to_owned());
    let http = AnswerWith(|request: Request<Vec<u8>>| {
        let is_refused = request.uri().path().ends_with(&*refused.borrow());
        if is_refused && *request.method() == Method::DELETE {
            return Ok(Response::builder().status(403).body(vec![]).unwrap());
        }
        service.answer(request)
    });
    let store = AssetStore::open(&database, &http, &config).unwrap();
    let [first, second] =
        [7, 8].map(|now| block_on(store.store("p", "none", "image/png", vec![1], now)).unwrap());
    refused.replace(first.clone());
    let sweep = |now| block_on(store.drop_leftovers(now)).is_ok();
    let kept = || [&first, &second].map(|id| block_on(store.describe(id)).unwrap().is_some());
    let later = 8 + DAY;
    assert!(!sweep(later));
    assert_eq!(kept(), [true, true]);
    assert!(sweep(later));
    assert_eq!(kept(), [true, false]);
    // A day later the bucket is asked again.
    assert!(!sweep(later + DAY));
    refused.replace("none".to_owned());
    assert!(sweep(later + 2 * DAY));
    assert_eq!(kept(), [false, false]);
    assert!(service.objects.borrow().is_empty());
}

#[test]
fn what_is_in_a_bucket_is_not_forgotten_while_the_bucket_is_not_set() {
    const DAY: i64 = 24 * 3600;
    let database = SqliteFile::with_schema();
    let service = Bucket::default();
    let http = AnswerWith(|request| service.answer(request));
    let (with, without) = (bucket(), MapConfig::default());
    let open = |config| AssetStore::open(&database, &http, config).unwrap();
    let id = block_on(open(&with).store("p", "none", "image/png", vec![1], 7)).unwrap();
    let error = block_on(open(&without).drop_leftovers(7 + DAY)).unwrap_err();
    assert!(error.to_string().contains("`s3_bucket`"), "{error}");
    assert!(block_on(open(&without).delete("p")).is_err());
    assert!(block_on(open(&with).describe(&id)).unwrap().is_some());
    block_on(open(&with).drop_leftovers(7 + 2 * DAY)).unwrap();
    assert!(block_on(open(&with).describe(&id)).unwrap().is_none());
    assert!(service.objects.borrow().is_empty());
}

/// Some stores answer 404 to the deletion of an object that is not there.
#[test]
fn an_object_that_is_gone_counts_as_deleted() {
    let (database, config) = (SqliteFile::with_schema(), bucket());
    let service = Bucket::default();
    for (status, code, is_deleted) in [
        (404, "NoSuchKey", true),
        (404, "", true),
        (404, "NoSuchBucket", false),
        (403, "AccessDenied", false),
    ] {
        let refusal = format!("<Error><Code>{code}</Code></Error>").into_bytes();
        let http = AnswerWith(|request: Request<Vec<u8>>| match *request.method() {
            Method::DELETE => Ok(Response::builder()
                .status(status)
                .body(refusal.clone())
                .unwrap()),
            _ => service.answer(request),
        });
        let store = AssetStore::open(&database, &http, &config).unwrap();
        for sweeps in [false, true] {
            let id = block_on(store.store("p", "none", "image/png", vec![1], 7)).unwrap();
            let done = if sweeps {
                block_on(store.drop_leftovers(7 + 24 * 3600))
            } else {
                block_on(store.delete("p"))
            };
            assert_eq!(done.is_ok(), is_deleted, "{code} {sweeps}");
            let is_there = block_on(store.describe(&id)).unwrap().is_some();
            assert_eq!(is_there, !is_deleted, "{code} {sweeps}");
        }
    }
}

/// The process dies after it has stored a picture, or the bucket fails.
#[test]
fn an_object_that_was_not_stored_whole_is_found_again() {
    let database = SqliteFile::with_schema();
    let config = bucket();
    let service = Bucket::default();
    *service.faults.borrow_mut() = vec![Ok(403)];
    let http = AnswerWith(|request: Request<Vec<u8>>| match *request.method() {
        // Like S3, it succeeds in deleting an object that is not there.
        Method::DELETE => Ok(Response::builder().status(204).body(vec![]).unwrap()),
        _ => service.answer(request),
    });
    let store = AssetStore::open(&database, &http, &config).unwrap();
    block_on(store.store("p", "t", "image/png", vec![1], 7)).unwrap_err();
    let assets = || {
        block_on(database.execute("SELECT 1 FROM assets", vec![]))
            .unwrap()
            .len()
    };
    assert_eq!(assets(), 1);
    block_on(store.drop_leftovers(7 + 24 * 3600)).unwrap();
    assert_eq!(assets(), 0);
}
