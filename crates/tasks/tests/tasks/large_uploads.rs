//! The uploads that come in parts.

use platform::native::block_on;
use problem::Problem;
use tasks::{
    AssetStore, Upload, UploadError,
    large_upload::{Progress, begin, give_up, go_on},
};

use crate::shop::{MIB, Shop};

const PART: usize = wire::UPLOAD_PART;

fn film(length: usize) -> Vec<u8> {
    let bytes: Vec<u8> = (0..length).map(|n| (n / 7) as u8).collect();
    [b"\0\0\0\x18ftypisom".as_slice(), &bytes[12..]].concat()
}

/// Begins the upload of a film with its first part, and returns its id.
fn begun(shop: &Shop, film: &[u8]) -> String {
    let first = film[..PART].to_vec();
    match block_on(begin(shop.ports(), "p", film.len() as u64, first)).unwrap() {
        Progress::Partly { upload, next } => {
            assert_eq!(next, PART as u64);
            upload
        }
        other => panic!("{other:?}"),
    }
}

/// Ends the upload of a film with its last part.
fn ended(shop: &Shop, film: &[u8], id: &str) -> Result<Progress, UploadError> {
    let part = film[PART..].to_vec();
    block_on(go_on(shop.ports(), ("p", id), PART as u64, part, true))
}

/// Sends the parts after the first, and returns the finished upload.
fn rest(shop: &Shop, id: &str, film: &[u8]) -> Upload {
    let mut at = PART;
    loop {
        let part = film[at..film.len().min(at + PART)].to_vec();
        let (from, length) = (at as u64, part.len());
        at += length;
        let is_last = at == film.len();
        match block_on(go_on(shop.ports(), ("p", id), from, part, is_last)).unwrap() {
            Progress::Partly { next, .. } => assert_eq!((next, is_last), (at as u64, false)),
            Progress::Whole(upload) => {
                assert!(is_last);
                return upload;
            }
        }
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T, UploadError>) -> (u16, String) {
    let problem = Problem::from(result.unwrap_err());
    (problem.status(), problem.detail().to_owned())
}

fn sweep(shop: &Shop) {
    let ports = shop.ports();
    let store = AssetStore::open(ports.database, ports.http, ports.config).unwrap();
    let now = ports.clock.unix_seconds();
    block_on(store.drop_uploads(now)).unwrap();
    block_on(store.drop_leftovers(now)).unwrap();
}

#[test]
fn a_film_in_parts_becomes_an_asset_that_stays_and_is_read_from_the_bucket() {
    for length in [PART + 1, 2 * PART, 2 * PART + 1, 60 * MIB] {
        let shop = Shop::with_bucket();
        let film = film(length);
        let id = begun(&shop, &film);
        assert_eq!(
            shop.count("SELECT 1 FROM assets"),
            0,
            "nothing is listed yet"
        );
        let upload = rest(&shop, &id, &film);
        assert_eq!(upload.path, format!("/assets/{id}"));
        assert_eq!(
            (upload.media_type.as_str(), upload.length),
            ("video/mp4", length as u64)
        );
        assert!(id.ends_with(".mp4"), "{id}");
        assert!(shop.object(&upload.path) == film);
        assert!(shop.largest_body.get() <= PART);
        assert_eq!(shop.parts_sent.get(), length.div_ceil(PART));
        let is_large = length > 8 * MIB;
        assert_eq!(shop.signed_address(&upload.path).is_some(), is_large);
        shop.wait(7 * 24 * 3600);
        sweep(&shop);
        assert_eq!(shop.objects.borrow().len(), 1);
        assert_eq!(shop.count("SELECT 1 FROM asset_uploads"), 0);
    }
}

#[test]
fn an_upload_is_whole_only_if_the_bucket_has_completed_it() {
    let shop = Shop::with_bucket();
    let film = film(2 * PART);
    let id = begun(&shop, &film);
    let last = || ended(&shop, &film, &id);
    shop.fails_late.set(true);
    assert_eq!(refused(last()).0, 503);
    shop.fails_late.set(false);
    assert!(matches!(last(), Ok(Progress::Whole(_))));
    // A whole upload takes no more parts.
    let more = film[..PART].to_vec();
    let more = block_on(go_on(
        shop.ports(),
        ("p", &id),
        2 * PART as u64,
        more,
        false,
    ));
    assert_eq!(refused(more).0, 404);
}

/// A bucket may delete the parts of old uploads itself, and an instance may die after it has asked for that.
#[test]
fn an_upload_that_the_bucket_does_not_know_is_given_up_and_one_that_it_keeps_stays() {
    for (is_known, failures, is_gone) in [(true, 0, true), (false, 0, true), (true, 1, false)] {
        let shop = Shop::with_bucket();
        let id = begun(&shop, &film(2 * PART));
        if !is_known {
            shop.uploads.borrow_mut().clear();
        }
        shop.broken_bucket.set(failures);
        let given_up = block_on(give_up(shop.ports(), "p", &id));
        assert_eq!(given_up.is_ok(), is_gone, "{is_known} {given_up:?}");
        let left = shop.count("SELECT 1 FROM asset_uploads");
        assert_eq!(left, usize::from(!is_gone), "{is_known}");
    }
}

#[test]
fn a_part_that_comes_twice_is_stored_once_and_no_other_part_is_taken() {
    let shop = Shop::with_bucket();
    let film = film(3 * PART);
    let id = begun(&shop, &film);
    let send = |id: &str, from: usize, bytes: &[u8], is_last| {
        let named = ("p", id);
        block_on(go_on(
            shop.ports(),
            named,
            from as u64,
            bytes.to_vec(),
            is_last,
        ))
    };
    for _ in 0..2 {
        let sent = send(&id, PART, &film[PART..2 * PART], false).unwrap();
        let next = 2 * PART as u64;
        let upload = id.clone();
        assert_eq!(sent, Progress::Partly { upload, next });
    }
    assert_eq!(shop.parts_sent.get(), 2);
    for (id, from, length, is_last, status) in [
        (id.as_str(), 0, PART, false, 409),
        (&id, 3 * PART, PART, false, 409),
        (&id, 2 * PART, PART - 1, false, 400),
        (&id, 2 * PART, PART + 1, true, 400),
        (&id, 2 * PART, 0, true, 400),
        (&id, usize::MAX, PART, false, 409),
        ("asset_another", 2 * PART, PART, true, 404),
    ] {
        let sent = send(id, from, &vec![0; length], is_last);
        assert_eq!(refused(sent).0, status, "{id} {from} {length}");
    }
    let other = block_on(go_on(shop.ports(), ("q", &id), 0, vec![0], true));
    assert_eq!(refused(other).0, 404, "it is an upload of another project");
    let other = block_on(give_up(shop.ports(), "q", &id));
    assert_eq!(refused(other).0, 404);
    for _ in 0..2 {
        let sent = send(&id, 2 * PART, &film[2 * PART..], true).unwrap();
        assert!(matches!(sent, Progress::Whole(upload) if upload.id == id));
    }
    assert_eq!(shop.parts_sent.get(), 3);
    assert!(shop.object(&format!("/assets/{id}")) == film);
}

#[test]
fn what_is_too_large_or_no_film_is_refused_before_anything_is_stored() {
    let bytes = |mib: usize| format!("{} bytes", mib * MIB);
    let (seven, eight) = (bytes(7), bytes(8));
    for (shop, total, words) in [
        (Shop::without_bucket(), 2 * PART, ["`s3_bucket`", &eight]),
        (
            Shop::with(&[("max_body_mib", "7")]),
            2 * PART,
            ["`max_body_mib`", &seven],
        ),
        (
            Shop::with(&[("max_body_mib", "8")]),
            2 * PART,
            ["at most 8 MiB (8388608 bytes).", ""],
        ),
        (
            Shop::with_bucket(),
            512 * MIB + 1,
            ["512 MiB", "`max_upload_mib`"],
        ),
        (
            Shop::with_bucket_and(&[("max_upload_mib", "9")]),
            9 * MIB + 1,
            ["9 MiB", "`max_upload_mib`"],
        ),
    ] {
        let first = film(PART);
        let (status, told) = refused(block_on(begin(shop.ports(), "p", total as u64, first)));
        assert_eq!(status, 413);
        assert!(words.iter().all(|word| told.contains(word)), "{told}");
        assert_eq!(shop.count("SELECT 1 FROM asset_uploads"), 0);
    }
    let shop = Shop::with_bucket();
    let (status, _) = refused(block_on(begin(shop.ports(), "p", 99, vec![0; PART])));
    assert_eq!(status, 415);
    let (status, _) = refused(block_on(begin(shop.ports(), "p", 99, film(99))));
    assert_eq!(status, 400);
    assert!(shop.uploads.borrow().is_empty());
}

#[test]
fn an_upload_does_not_grow_beyond_the_limit_whatever_length_it_began_with() {
    let shop = Shop::with_bucket_and(&[("max_upload_mib", "9")]);
    let film = film(2 * PART);
    let id = begun(&shop, &film[..9 * MIB]);
    let second = film[PART..].to_vec();
    let sent = block_on(go_on(shop.ports(), ("p", &id), PART as u64, second, true));
    assert_eq!(refused(sent).0, 413);
}

#[test]
fn a_quota_counts_an_upload_before_and_while_it_comes() {
    let shop = Shop::with_bucket_and(&[("project_quota_mib", "16")]);
    let first = || film(PART);
    let refused_by_quota = |total: usize| {
        let begun = block_on(begin(shop.ports(), "p", total as u64, first()));
        let (status, words) = refused(begun);
        assert!(words.contains("16 MiB"), "{words}");
        status
    };
    assert_eq!(refused_by_quota(16 * MIB + 1), 507);
    assert_eq!(shop.count("SELECT 1 FROM asset_uploads"), 0);
    let film = film(16 * MIB);
    let ids = [begun(&shop, &film), begun(&shop, &film[..11 * MIB])];
    // The bytes of uploads under way count, also when they are counted anew.
    for wait in [0, 61] {
        shop.wait(wait);
        assert_eq!(refused_by_quota(7 * MIB), 507, "{wait}");
    }
    let part = || film[PART..2 * PART].to_vec();
    let go_on = |id: &str| block_on(go_on(shop.ports(), ("p", id), PART as u64, part(), false));
    go_on(&ids[0]).unwrap();
    assert_eq!(refused(go_on(&ids[1])).0, 507);
    // An upload that is given up counts no more.
    block_on(give_up(shop.ports(), "p", &ids[0])).unwrap();
    shop.wait(61);
    go_on(&ids[1]).unwrap();
}

#[test]
fn an_upload_that_is_given_up_or_left_alone_leaves_nothing() {
    let shop = Shop::with_bucket();
    let film = film(3 * PART);
    let id = begun(&shop, &film);
    block_on(give_up(shop.ports(), "p", &id)).unwrap();
    let gone = |shop: &Shop| {
        assert!(shop.uploads.borrow().is_empty() && shop.objects.borrow().is_empty());
        assert_eq!(shop.count("SELECT 1 FROM asset_uploads"), 0);
        assert_eq!(shop.count("SELECT 1 FROM assets"), 0);
    };
    gone(&shop);
    assert_eq!(refused(block_on(give_up(shop.ports(), "p", &id))).0, 404);

    let id = begun(&shop, &film);
    shop.wait(3599);
    sweep(&shop);
    let part = film[PART..2 * PART].to_vec();
    block_on(go_on(shop.ports(), ("p", &id), PART as u64, part, false)).unwrap();
    // Each part counts as a sign of life.
    shop.wait(3599);
    sweep(&shop);
    assert_eq!(shop.uploads.borrow().len(), 1);
    shop.wait(1);
    sweep(&shop);
    gone(&shop);
}

#[test]
fn an_upload_that_the_bucket_does_not_give_up_holds_up_no_other() {
    let shop = Shop::with_bucket();
    let film = film(2 * PART);
    let first = begun(&shop, &film);
    shop.wait(1);
    begun(&shop, &film);
    shop.wait(3600);
    let sweep = || {
        let ports = shop.ports();
        let store = AssetStore::open(ports.database, ports.http, ports.config).unwrap();
        block_on(store.drop_uploads(ports.clock.unix_seconds())).is_ok()
    };
    let left = |shop: &Shop| {
        let uploads = shop.uploads.borrow();
        let mut left = uploads.keys().map(|(path, _)| path.clone());
        (left.next(), left.count())
    };
    shop.broken_bucket.set(1);
    assert!(!sweep());
    assert_eq!(shop.uploads.borrow().len(), 2);
    assert!(sweep());
    assert_eq!(left(&shop), (Some(format!("/results/{first}")), 0));
    // An hour later the bucket is asked again.
    shop.wait(3600);
    assert!(sweep());
    assert_eq!(left(&shop), (None, 0));
    assert_eq!(shop.count("SELECT 1 FROM asset_uploads"), 0);
}

/// The bucket refuses the last part once.
#[test]
fn an_upload_that_breaks_at_its_end_can_be_ended_or_given_up() {
    for is_ended in [true, false] {
        let shop = Shop::with_bucket();
        let film = film(2 * PART);
        let id = begun(&shop, &film);
        let last = || ended(&shop, &film, &id);
        shop.broken_bucket.set(1);
        assert!(matches!(last(), Err(UploadError::Asset(_))));
        assert_eq!(shop.count("SELECT 1 FROM assets"), 0);
        if is_ended {
            assert!(matches!(last(), Ok(Progress::Whole(_))));
            assert_eq!(shop.objects.borrow().len(), 1);
        } else {
            block_on(give_up(shop.ports(), "p", &id)).unwrap();
            assert!(shop.uploads.borrow().is_empty());
            shop.wait(25 * 3600);
            sweep(&shop);
            assert_eq!(shop.count("SELECT 1 FROM assets"), 0);
        }
    }
}
