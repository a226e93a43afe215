//! The asset store in SQLite, and with a bucket.

#![allow(clippy::unwrap_used)]

use std::{cell::RefCell, collections::HashMap};

use http::{Method, Request, Response};
use platform::{
    HttpError,
    native::{AnswerWith, MapConfig, SqliteFile, block_on},
};
use tasks::AssetStore;

fn bucket() -> MapConfig {
    MapConfig::from_pairs(&[
        ("s3_bucket", "results"),
        ("s3_endpoint", "https://s3.example"),
        ("s3_region", "auto"),
        ("s3_access_key", "access"),
        ("s3_secret_key", "secret"),
    ])
}

/// A bucket that keeps objects by path, and answers faults first.
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
        let id = block_on(store.store("p", "image/png", bytes.clone(), 7)).unwrap();
        let whole = block_on(store.read(&id, None)).unwrap().unwrap();
        assert_eq!(
            (whole.media_type.as_str(), whole.length),
            ("image/png", 256)
        );
        assert_eq!(whole.bytes, bytes);
        let part = block_on(store.read(&id, Some(10..20))).unwrap().unwrap();
        assert_eq!(part.bytes, bytes[10..20]);
        assert_eq!(part.digest, whole.digest);
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
        (vec![Ok(403)], false),
    ] {
        let service = Bucket::default();
        *service.faults.borrow_mut() = faults.clone();
        let http = AnswerWith(|request| service.answer(request));
        let store = AssetStore::open(&database, &http, &config).unwrap();
        let result = block_on(store.store("p", "image/png", vec![1], 7));
        assert_eq!(result.is_ok(), stored, "{faults:?}: {result:?}");
    }
}

#[test]
fn half_a_bucket_is_an_error_that_names_the_setting() {
    let database = SqliteFile::with_schema();
    let http = AnswerWith(|_| Err(HttpError::NotSent(String::new())));
    let config = MapConfig::from_pairs(&[("s3_bucket", "results")]);
    let error = AssetStore::open(&database, &http, &config).err().unwrap();
    assert!(error.to_string().contains("s3_endpoint"), "{error}");
}
