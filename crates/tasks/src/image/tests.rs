use std::cell::RefCell;

use http::{Request, Response};
use platform::{
    Database, HttpError,
    native::{AnswerWith, MapConfig, MemoryKeyValue, SetClock, SqliteFile, block_on},
};

use super::*;
use crate::AssetStore;

const PIXEL: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

#[test]
fn three_forms_are_taken() {
    let inline = |text: &str| match read(text) {
        Ok(ImageSource::Inline(image)) => image.media_type,
        other => panic!("{other:?}"),
    };
    assert_eq!(inline(PIXEL), "image/png");
    assert_eq!(inline(PIXEL.trim_end_matches('=')), "image/png");
    assert_eq!(
        inline(&format!("data:image/png;base64,{PIXEL}")),
        "image/png"
    );
    // The content counts more than the declared type.
    assert_eq!(
        inline(&format!("data:image/jpeg;base64,{PIXEL}")),
        "image/png"
    );
    assert_eq!(
        read("https://example.com/a.png"),
        Ok(ImageSource::Address("https://example.com/a.png".into()))
    );
}

#[test]
fn base64_holds_at_most_the_largest_image() {
    let most = 10 * 1024 * 1024;
    for (bytes, is_taken) in [(most, true), (most + 3, false)] {
        let mut image = b"\x89PNG\r\n\x1a\n".to_vec();
        image.resize(bytes, 0);
        let taken = read(&BASE64.encode(image));
        match taken {
            Ok(_) => assert!(is_taken, "{bytes}"),
            Err(words) => assert!(!is_taken && words.contains("10485760 bytes"), "{words}"),
        }
    }
}

#[test]
fn anything_else_says_what_to_send() {
    for bad in [
        "",
        "/home/me/picture.png",
        "picture.png",
        "data:image/png,abc",
        "data:text/plain;base64,aGVsbG8=",
        "aGVsbG8=",
        "ftp://example.com/a.png",
        "http://127.0.0.1/a.png",
        "http://[::1]/a.png",
        // This is like a result of this server, but not by its path.
        "http://127.0.0.1/a.png?/assets/asset_1",
        "http://127.0.0.1/a.png#/assets/asset_1",
    ] {
        assert!(read(bad).is_err(), "{bad}");
    }
    let words = read("/home/me/picture.png").unwrap_err();
    assert!(words.contains("data: URL or base64"), "{words}");
}

/// The images that a task of project `a` names, in order, and the addresses that were called for them.
/// `{own}` in them stands for an asset of project `a`, `{most}` for one that is as large as allowed, `{large}` for one
/// that is larger, and `{other}` for one of project `b`.
struct Obtained {
    images: Vec<Result<Image, Failure>>,
    for_services: Vec<Result<Option<String>, Failure>>,
    called: Vec<String>,
}

fn obtained(given: &[&str]) -> Obtained {
    let (database, clock) = (SqliteFile::with_schema(), SetClock::default());
    let config = MapConfig::from_pairs(&[("public_url", "http://127.0.0.1:8787/base/")]);
    let called = RefCell::new(Vec::new());
    let answer = |request: Request<Vec<u8>>| -> Result<Response<Vec<u8>>, HttpError> {
        let uri = request.uri();
        called.borrow_mut().push(uri.to_string());
        let answer = match uri.path() {
            "/moved.png" => Response::builder()
                .status(302)
                .header("location", "http://127.0.0.1/"),
            path => Response::builder().status(path.strip_prefix("/status/").unwrap_or("200")),
        };
        let ImageSource::Inline(pixel) = read(PIXEL).unwrap() else {
            panic!("not inline");
        };
        Ok(answer.body(pixel.bytes).unwrap())
    };
    let client = AnswerWith(answer);
    let assets = AssetStore::open(&database, &client, &config).unwrap();
    let store = |project: &str| {
        let stored = assets.store(project, "t", "image/png", project.as_bytes().to_vec(), 7);
        block_on(stored).unwrap()
    };
    let (own, most, large, other) = (store("a"), store("a"), store("a"), store("b"));
    for (id, more) in [(&most, 0), (&large, 1)] {
        let sql = "UPDATE assets SET length = ?2 WHERE asset_id = ?1";
        let length = MAX_IMAGE_BYTES as u64 + more;
        let parameters = vec![id.as_str().into(), length.into()];
        block_on(database.execute(sql, parameters)).unwrap();
    }
    let context = Context {
        http: &client,
        config: &config,
        clock: &clock,
        key_value: &MemoryKeyValue::default(),
        assets: &assets,
        callback_url: "",
        earlier: None,
    };
    let given: Vec<ImageSource> = given
        .iter()
        .map(|text| text.replace("{own}", &own).replace("{other}", &other))
        .map(|text| text.replace("{large}", &large).replace("{most}", &most))
        .map(|text| read(&text).unwrap())
        .collect();
    let for_services = given
        .iter()
        .map(|given| public_address(given, &context))
        .collect();
    let images = given
        .into_iter()
        .map(|given| block_on(obtain(given, "a", &context)))
        .collect();
    Obtained {
        images,
        for_services,
        called: called.borrow().clone(),
    }
}

#[test]
fn results_of_this_server_are_there_for_their_project_alone() {
    let obtained = obtained(&[
        "http://127.0.0.1:8787/base/assets/{own}",
        "HTTP://127.1:8787/base/./assets/{own}",
        "/assets/{own}",
        "/assets/{most}",
        "http://0.0.0.0:1/assets/{own}",
        "http://localhost:8787/assets/{own}",
        "https://any.tunnel.example/assets/{own}",
        "http://127.0.0.1:8787/base/assets/{other}",
        "http://127.0.0.1:8787/base/assets/asset_nnnnnnnnnnnnnnnnnnnnnnnnnn",
        "/assets/{other}",
        "/assets/{large}",
    ]);
    for image in &obtained.images[..7] {
        assert_eq!(image.as_ref().unwrap().bytes, b"a");
    }
    for (n, image) in obtained.images.iter().enumerate().skip(7) {
        let end = if n == 10 { "bytes" } else { "does not exist" };
        assert!(
            matches!(image, Err(Failure::Permanent(words)) if words.ends_with(end)),
            "{image:?}"
        );
    }
    assert!(obtained.for_services.iter().all(|a| *a == Ok(None)));
    assert_eq!(obtained.called, [""; 0]);
}

#[test]
fn what_only_looks_like_a_result_of_this_server_is_not_called() {
    let obtained = obtained(&[
        "http://127.0.0.1:8787/assets/asset_1/internal",
        "http://self.alt/assets/asset_1",
        "http://poller.spin.internal/assets/asset_1",
    ]);
    for (image, address) in obtained.images.iter().zip(&obtained.for_services) {
        assert!(matches!(image, Err(Failure::Permanent(_))), "{image:?}");
        assert!(matches!(address, Err(Failure::Permanent(_))), "{address:?}");
    }
    assert_eq!(obtained.called, [""; 0]);
}

/// Checks that a user cannot find out from the errors which hosts exist in the server's network.
#[test]
fn a_failed_fetch_says_the_same_whatever_the_cause() {
    let database = SqliteFile::with_schema();
    let (clock, config) = (SetClock::default(), MapConfig::default());
    let given = || ImageSource::Address("https://db.corp.example/a.png".into());
    let mut told = Vec::new();
    for error in [
        HttpError::NotSent("DnsError(DnsErrorPayload { rcode: NXDOMAIN })".into()),
        HttpError::NotSent("ConnectionRefused".into()),
        HttpError::NotSent("DestinationIpProhibited".into()),
        HttpError::NoAnswer("nothing within 10 s".into()),
        HttpError::NoAnswer("TlsProtocolError".into()),
    ] {
        let client = AnswerWith(|_: Request<Vec<u8>>| Err(error.clone()));
        let assets = AssetStore::open(&database, &client, &config).unwrap();
        let context = Context {
            http: &client,
            config: &config,
            clock: &clock,
            key_value: &MemoryKeyValue::default(),
            assets: &assets,
            callback_url: "",
            earlier: None,
        };
        told.push(block_on(obtain(given(), "a", &context)));
    }
    let expected = Failure::retry("https://db.corp.example/a.png cannot be fetched");
    for told in told {
        assert_eq!(told, Err(expected.clone()));
    }
}

#[test]
fn a_picture_is_asked_for_again_only_if_that_may_help() {
    for (status, is_retried) in [
        (400, false),
        (404, false),
        (408, true),
        (425, true),
        (429, true),
        (499, false),
        (500, true),
        (503, true),
    ] {
        let address = format!("https://example.com/status/{status}");
        let words = format!("{address} answers with status {status}");
        let expected = if is_retried {
            Failure::retry(words)
        } else {
            Failure::Permanent(words)
        };
        assert_eq!(obtained(&[&address]).images, [Err(expected)]);
    }
}

#[test]
fn public_images_are_fetched_and_redirects_not_followed() {
    let obtained = obtained(&[
        "https://example.com/a.png",
        "https://example.com/assets/asset_1",
        "https://example.com/moved.png",
        PIXEL,
    ]);
    assert!(obtained.images[0].is_ok() && obtained.images[1].is_ok());
    assert!(matches!(obtained.images[2], Err(Failure::Permanent(_))));
    let addresses = [
        "https://example.com/a.png",
        "https://example.com/assets/asset_1",
        "https://example.com/moved.png",
    ];
    assert_eq!(obtained.called, addresses);
    for (address, expected) in obtained.for_services.iter().zip(addresses) {
        assert_eq!(*address, Ok(Some(expected.to_owned())));
    }
    assert_eq!(obtained.for_services[3], Ok(None));
}
