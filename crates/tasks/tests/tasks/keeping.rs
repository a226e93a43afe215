//! The copies of results: to the database, and in parts to a bucket.

use serde_json::json;
use tasks::Status;

use crate::shop::{MIB, Shop};

const FILM: &str = "https://cdn.example.com/film.mp4";

#[test]
fn without_a_bucket_a_result_of_eight_mib_is_kept_and_a_larger_one_has_an_end() {
    for (length, is_kept) in [(8 * MIB, true), (8 * MIB + 1, false), (60 * MIB, false)] {
        for tells_length in [true, false] {
            let shop = Shop::without_bucket();
            shop.source(FILM, length);
            shop.tells_length.set(tells_length);
            let task = shop.posted();
            shop.call_back(&task, FILM);
            shop.keep(&task);
            let (now, data) = shop.read(&task);
            assert_eq!(now.status, Status::Completed, "{length}");
            assert_eq!(data, json!({ "source_url": FILM }));
            let url = now.result_url.unwrap();
            assert_eq!(url.starts_with("/assets/"), is_kept, "{length}: {url}");
            assert_eq!(now.result_expires_at.is_none(), is_kept, "{length}");
            assert_eq!(shop.count("SELECT 1 FROM aigc_products"), 0);
            if is_kept {
                assert!(url.ends_with(".mp4"), "{url}");
                assert!(shop.asset(&url) == shop.bytes(FILM));
            } else {
                assert_eq!(url, FILM);
            }
        }
    }
}

#[test]
fn with_a_bucket_a_result_of_sixty_mib_goes_there_in_parts() {
    for length in [1, 5 * MIB, 5 * MIB + 1, 10 * MIB, 60 * MIB] {
        let shop = Shop::with_bucket();
        shop.source(FILM, length);
        let task = shop.posted();
        shop.call_back(&task, FILM);
        assert_eq!(shop.read(&task).0.status, Status::Processing);
        shop.keep(&task);
        let (now, data) = shop.read(&task);
        assert_eq!(now.status, Status::Completed, "{length}");
        let url = now.result_url.unwrap();
        assert!(url.starts_with("/assets/"), "{length}: {url}");
        assert_eq!(now.result_expires_at, None);
        assert_eq!(data, json!({ "source_url": FILM }));
        assert!(shop.object(&url) == shop.bytes(FILM), "{length}");
        assert!(shop.largest_body.get() <= 5 * MIB);
        // A result that fits into one part is no upload in parts.
        let parts = length.div_ceil(5 * MIB);
        let sent = if parts == 1 { 0 } else { parts };
        assert_eq!(shop.parts_sent.get(), sent, "{length}");
        let address = shop.signed_address(&url);
        assert_eq!(address.is_some(), length > 8 * MIB, "{length}");
        if let Some(address) = address {
            let signed = [
                "X-Amz-Expires=3600",
                "response-content-type=video%2Fmp4",
                "X-Amz-Signature=",
            ];
            assert!(
                signed.iter().all(|part| address.contains(part)),
                "{address}"
            );
        }
        // A browser only saves a picture that may run scripts.
        shop.count("UPDATE assets SET media_type = 'image/svg+xml'");
        let saved = shop.signed_address(&url);
        assert!(saved.is_none_or(|address| address.contains("content-disposition=attachment")));
        assert_eq!(shop.count("SELECT 1 FROM asset_uploads"), 0);
        assert_eq!(shop.uploads.borrow().len(), 0);
        let stored = shop.count(&format!("SELECT 1 FROM assets WHERE length = {length}"));
        assert_eq!(stored, 1);
    }
}

#[test]
fn a_copy_goes_on_in_another_instance_when_its_time_is_up() {
    for has_ranges in [true, false] {
        let shop = Shop::with_bucket();
        shop.source(FILM, 60 * MIB);
        shop.has_ranges.set(has_ranges);
        // A piece has one MiB, so an instance copies 18 at most.
        shop.seconds_a_piece.set(1);
        let task = shop.posted();
        shop.call_back(&task, FILM);
        let mut rounds = 0;
        while shop.read(&task).0.status == Status::Processing {
            shop.keep(&task);
            shop.wait(130);
            rounds += 1;
            assert!(rounds < 100, "the copy does not end");
        }
        let (now, _) = shop.read(&task);
        let url = now.result_url.unwrap();
        if has_ranges {
            assert!(rounds > 3, "{rounds}");
            assert!(shop.object(&url) == shop.bytes(FILM));
            let sent: usize = shop.parts_sent.get();
            assert_eq!(sent, 12, "no part is sent twice");
        } else {
            // The service sends the same beginning again each time, so the copy never gets further.
            assert_eq!(url, FILM);
            assert!(now.result_expires_at.is_some());
        }
    }
}

#[test]
fn a_copy_that_fails_is_tried_again_and_finally_leaves_the_service_s_address() {
    for (failures, is_kept) in [(7, true), (8, false)] {
        let shop = Shop::with_bucket();
        shop.source(FILM, 7 * MIB);
        shop.broken_bucket.set(failures);
        let task = shop.posted();
        shop.call_back(&task, FILM);
        let mut waits = Vec::new();
        for _ in 0..failures {
            shop.keep(&task);
            let (now, _) = shop.read(&task);
            if now.status != Status::Processing {
                break;
            }
            let words = now.message.unwrap();
            assert!(words.contains("could not be copied"), "{words}");
            // Nothing is tried before the wait is over.
            let tried = shop.broken_bucket.get();
            shop.keep(&task);
            assert_eq!(shop.broken_bucket.get(), tried);
            waits.push(shop.wait_until_due(&task));
        }
        shop.keep(&task);
        let (now, _) = shop.read(&task);
        assert_eq!(now.status, Status::Completed, "{failures}");
        assert_eq!(now.result_expires_at.is_none(), is_kept, "{failures}");
        assert_eq!(now.message, None);
        assert!(
            waits.is_sorted() && waits[0] < waits[waits.len() - 1],
            "{waits:?}"
        );
    }
}

#[test]
fn an_instance_that_dies_at_any_statement_leaves_one_result_and_nothing_in_the_bucket() {
    for statements in 1..30 {
        for last_happens in [false, true] {
            let shop = Shop::with_bucket();
            shop.source(FILM, 12 * MIB);
            let task = shop.posted();
            shop.call_back(&task, FILM);
            shop.database.kill_after(statements, last_happens);
            shop.keep(&task);
            shop.database.revive();
            let what = format!("killed at {statements}, {last_happens}");
            let mut rounds = 0;
            while shop.read(&task).0.status == Status::Processing {
                shop.wait(61);
                shop.keep(&task);
                rounds += 1;
                assert!(rounds < 10, "{what}");
            }
            let url = shop.read(&task).0.result_url.unwrap();
            assert!(shop.object(&url) == shop.bytes(FILM), "{what}");
            // Uploads and objects that were begun in vain are deleted.
            shop.wait(2 * 24 * 3600);
            shop.tick();
            assert_eq!(shop.objects.borrow().len(), 1, "{what}");
            let parts: usize = shop
                .uploads
                .borrow()
                .values()
                .map(|parts| parts.len())
                .sum();
            assert_eq!(parts, 0, "{what}");
            assert_eq!(shop.count("SELECT 1 FROM asset_uploads"), 0, "{what}");
            assert_eq!(shop.count("SELECT 1 FROM aigc_products"), 0, "{what}");
        }
    }
}

#[test]
fn a_copy_in_which_eight_instances_die_is_given_up_and_each_part_counts_anew() {
    // An instance dies before its first part, or after one.
    for (statements, is_kept) in [(5, false), (10, true)] {
        let shop = Shop::with_bucket();
        shop.source(FILM, 60 * MIB);
        let task = shop.posted();
        shop.call_back(&task, FILM);
        let mut rounds = 0;
        while shop.read(&task).0.status == Status::Processing {
            if is_kept || rounds < 8 {
                shop.database.kill_after(statements, false);
            }
            shop.keep(&task);
            shop.database.revive();
            shop.wait(61);
            rounds += 1;
            assert!(rounds < 20, "the copy does not end");
        }
        assert_eq!(rounds > 9, is_kept, "{rounds}");
        let now = shop.read(&task).0;
        assert_eq!(now.status, Status::Completed);
        assert_eq!(now.result_expires_at.is_none(), is_kept);
        let url = now.result_url.unwrap();
        assert_eq!(url == FILM, !is_kept, "{url}");
        assert_eq!(shop.parts_sent.get() > 0, is_kept);
    }
}

#[test]
fn a_round_of_the_poller_copies_every_result_that_is_due() {
    let shop = Shop::without_bucket();
    shop.source(FILM, MIB);
    let tasks = [(); 2].map(|()| {
        let task = shop.posted();
        shop.call_back(&task, FILM);
        task
    });
    shop.tick();
    for task in &tasks {
        let now = shop.read(task).0;
        assert_eq!(now.status, Status::Completed);
        assert!(now.result_url.unwrap().starts_with("/assets/"));
    }
}

#[test]
fn a_result_that_is_being_copied_takes_no_place_at_its_service() {
    let shop = Shop::with_bucket();
    shop.source(FILM, 7 * MIB);
    let (first, second) = (shop.posted(), shop.posted());
    assert_eq!(shop.read(&second).0.external_task_id, None);
    shop.broken_bucket.set(1);
    shop.call_back(&first, FILM);
    shop.tick();
    assert_eq!(shop.read(&first).0.status, Status::Processing);
    assert!(shop.read(&second).0.external_task_id.is_some());
}

#[test]
fn a_task_that_is_cancelled_while_its_result_is_copied_leaves_nothing() {
    let shop = Shop::with_bucket();
    shop.source(FILM, 60 * MIB);
    shop.seconds_a_piece.set(1);
    let task = shop.posted();
    shop.call_back(&task, FILM);
    shop.keep(&task);
    shop.cancel(&task);
    assert_eq!(shop.read(&task).0.status, Status::Cancelled);
    assert_eq!(shop.uploads.borrow().len(), 1);
    shop.wait(3601);
    shop.tick();
    assert_eq!(shop.uploads.borrow().len(), 0);
    assert_eq!(shop.objects.borrow().len(), 0);
    assert_eq!(shop.count("SELECT 1 FROM aigc_products"), 0);
}

#[test]
fn an_address_of_a_private_network_is_never_fetched() {
    for url in [
        "http://10.0.0.1/a.mp4",
        "https://cdn.test/a.mp4",
        "http://self/a",
    ] {
        let shop = Shop::with_bucket();
        let task = shop.posted();
        shop.call_back(&task, url);
        let (now, _) = shop.read(&task);
        assert_eq!(now.status, Status::Completed);
        assert_eq!(now.result_url.as_deref(), Some(url));
    }
}

#[test]
fn an_address_may_redirect_three_times_and_never_to_a_private_network() {
    let hop = |n: usize| format!("https://cdn.example.com/hop-{n}");
    let with = |hops: usize, end: &str| {
        let shop = Shop::with_bucket();
        // The result is there in every case, although nothing should ask for it in some.
        shop.source(end, 6 * MIB);
        for n in 1..hops {
            // The address may be a path.
            shop.send_on(&hop(n), &format!("/hop-{}", n + 1));
        }
        shop.send_on(&hop(hops), end);
        let task = shop.posted();
        shop.call_back(&task, &hop(1));
        shop.keep(&task);
        (shop, task)
    };
    for hops in [1, 3] {
        let (shop, task) = with(hops, FILM);
        let (now, data) = shop.read(&task);
        assert_eq!(now.status, Status::Completed, "{hops}");
        let url = now.result_url.unwrap();
        assert!(shop.object(&url) == shop.bytes(FILM), "{hops}");
        assert_eq!(data, json!({ "source_url": hop(1) }));
    }
    for (hops, end, words) in [
        (4, FILM, "too often"),
        (1, "http://10.0.0.1/film.mp4", "not public"),
        (3, "http://169.254.169.254/a", "not public"),
        (1, "https://cdn.test/film.mp4", "not public"),
    ] {
        let (shop, task) = with(hops, end);
        let (now, _) = shop.read(&task);
        assert_eq!(now.status, Status::Processing, "{end}");
        let told = now.message.unwrap();
        assert!(told.contains(words), "{end}: {told}");
        assert_eq!(shop.objects.borrow().len(), 0, "{end}");
    }
}

#[test]
fn a_result_of_another_kind_is_kept_as_its_service_calls_it_and_an_empty_one_is_not_kept() {
    for (bytes, told, kept) in [
        (&b"ID3\x04"[..], "audio/mpeg", Some("audio/mpeg")),
        (b"ID3\x04", "", Some("application/octet-stream")),
        (b"\x1a\x45\xdf\xa3", "audio/mpeg", Some("video/webm")),
        (b"not found", "text/html", None),
        (b"", "audio/mpeg", None),
    ] {
        for shop in [Shop::without_bucket(), Shop::with_bucket()] {
            shop.place(FILM, bytes);
            shop.media_type.replace(told.to_owned());
            let task = shop.posted();
            shop.call_back(&task, FILM);
            shop.keep(&task);
            let now = shop.read(&task).0;
            let Some(kept) = kept else {
                assert_eq!(now.status, Status::Processing, "{told}");
                assert!(now.message.is_some());
                continue;
            };
            assert_eq!(now.status, Status::Completed, "{told}");
            let sql = format!("SELECT 1 FROM assets WHERE media_type = '{kept}'");
            assert_eq!(shop.count(&sql), 1, "{told}");
        }
    }
}

/// A service may answer with a page and status 200 while a film is not there yet.
#[test]
fn a_page_is_no_result_and_its_copy_is_tried_again() {
    const PAGE: &[u8] = b"<!doctype html><title>Not yet</title>";
    for shop in [Shop::without_bucket(), Shop::with_bucket()] {
        shop.place(FILM, PAGE);
        let task = shop.posted();
        shop.call_back(&task, FILM);
        shop.keep(&task);
        assert_eq!(shop.read(&task).0.status, Status::Processing);
        shop.wait_until_due(&task);
        shop.source(FILM, MIB);
        shop.keep(&task);
        let now = shop.read(&task).0;
        assert_eq!(now.status, Status::Completed);
        assert!(now.result_url.unwrap().starts_with("/assets/"));
    }
    let shop = Shop::without_bucket();
    shop.place(FILM, PAGE);
    let task = shop.posted();
    shop.call_back(&task, FILM);
    for _ in 0..4 {
        shop.keep(&task);
        shop.wait(129);
    }
    let now = shop.read(&task).0;
    assert_eq!(now.status, Status::Completed);
    assert_eq!(now.result_url.as_deref(), Some(FILM));
    assert!(now.result_expires_at.is_some());
}
