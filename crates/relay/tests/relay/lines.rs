//! The lines to the app: edits and joins go by them, and whatever becomes of a line, each edit is stored once.

use crate::client::Client;
use crate::fake_app::Lines;
use crate::{Relay, until, within};
use std::time::{Duration, Instant};

/// Sends this many edits by turns from two clients, each after a third has got the one before. Checks that the third
/// gets each once and in order, and that no sender gets its own back.
async fn edit(relay: &Relay, clients: &mut [Client; 3], edits: usize) {
    let before = relay.app.room("p").len();
    for n in 0..edits {
        let update = format!("{} of {before}", n);
        clients[n % 2].update(update.clone()).await;
        assert_eq!(clients[2].binary().await, update.as_bytes());
        assert_eq!(clients[1 - n % 2].binary().await, update.as_bytes());
    }
    assert_eq!(
        relay.app.room("p").len(),
        before + edits,
        "each is stored once"
    );
}

async fn join_three(relay: &Relay) -> [Client; 3] {
    [
        relay.join("p").await,
        relay.join("p").await,
        relay.join("p").await,
    ]
}

/// Edits until they go by a line.
async fn edit_on_a_line(relay: &Relay, clients: &mut [Client; 3]) {
    let before = relay.app.log().line_requests;
    within("a line", async {
        while relay.app.log().line_requests < before + 3 {
            edit(relay, clients, 2).await;
        }
    })
    .await;
}

#[tokio::test]
async fn edits_and_joins_go_by_one_line_each() {
    let relay = Relay::start(|_| {}).await;
    let mut clients = join_three(&relay).await;
    edit_on_a_line(&relay, &mut clients).await;
    let (requests, appends) = {
        let log = relay.app.log();
        (log.line_requests, log.appends.len())
    };
    edit(&relay, &mut clients, 200).await;
    let joins = requests + 200;
    relay.join("q").await;
    {
        let log = relay.app.log();
        assert_eq!(log.appends.len() - appends, 200);
        assert!(log.line_requests > joins, "a join asks on a line, too");
        assert_eq!(log.lines_opened, 2, "one for edits, one for joins");
    }
    relay.stop().await;
}

/// The next line is open before one ends, and every bound of a line holds.
#[tokio::test]
async fn a_line_is_replaced_before_it_ends() {
    for bound in ["requests", "bytes", "the app's"] {
        let relay = Relay::start(|settings| match bound {
            "requests" => settings.line_requests = 16,
            "bytes" => settings.line_bytes = 8 * 1024,
            _ => {}
        })
        .await;
        let mut clients = join_three(&relay).await;
        edit_on_a_line(&relay, &mut clients).await;
        if bound == "the app's" {
            relay.app.log().lines = Lines::Short;
        }
        let opened = relay.app.log().lines_opened;
        within(bound, async {
            while relay.app.log().lines_opened < opened + 5 {
                edit(&relay, &mut clients, 10).await;
            }
        })
        .await;
        let single = |relay: &Relay| {
            let log = relay.app.log();
            log.appends.len().saturating_sub(log.line_requests)
        };
        let before = single(&relay);
        edit(&relay, &mut clients, 100).await;
        if bound != "the app's" {
            assert_eq!(single(&relay), before, "{bound}: an edit went by itself");
        }
        relay.stop().await;
    }
}

/// The edits flow, in order, each once, whatever becomes of a line.
#[tokio::test]
async fn a_line_fails() {
    for lines in [
        Lines::Unknown,
        Lines::Buffered,
        Lines::Die,
        Lines::DieStored,
        Lines::Mute,
        Lines::Short,
    ] {
        let relay = Relay::start(|_| {}).await;
        relay.app.log().lines = lines;
        let mut clients = join_three(&relay).await;
        let start = Instant::now();
        edit(&relay, &mut clients, 10).await;
        if !matches!(lines, Lines::Short | Lines::Mute) {
            within("it is noticed", async {
                while relay.metric("lines_failed_total").await == 0 {
                    edit(&relay, &mut clients, 2).await;
                }
            })
            .await;
        }
        edit(&relay, &mut clients, 30).await;
        assert!(
            start.elapsed() < Duration::from_secs(8),
            "{lines:?}: {:?}",
            start.elapsed()
        );
        assert_eq!(relay.metric("updates_refused_total").await, 0);
        if matches!(lines, Lines::Unknown | Lines::Buffered) {
            let failed = relay.metric("lines_failed_total").await;
            assert!(
                (1..=2).contains(&failed),
                "{lines:?}: tried {failed} times in a minute"
            );
        }
        relay.stop().await;
    }
}

/// A line that dies with its first append is opened ever more rarely.
#[tokio::test]
async fn lines_that_die_at_once_are_tried_more_rarely() {
    let relay = Relay::start(|_| {}).await;
    relay.app.log().lines = Lines::Die;
    let mut clients = join_three(&relay).await;
    let mut failed = Vec::new();
    within("three lines die", async {
        while failed.len() < 3 {
            edit(&relay, &mut clients, 2).await;
            if relay.metric("lines_failed_total").await > failed.len() as u64 {
                failed.push(Instant::now());
            }
        }
    })
    .await;
    // A look may come a little late.
    let late = Duration::from_millis(200);
    let waits = [failed[1] - failed[0], failed[2] - failed[1]];
    assert!(waits[0] + late >= Duration::from_secs(1), "{waits:?}");
    assert!(waits[1] + late >= Duration::from_secs(2), "{waits:?}");
    relay.stop().await;
}

/// A line that stops answering costs a quarter of a second, because the batch is sent once more.
#[tokio::test]
async fn a_late_answer_is_not_waited_for() {
    let relay = Relay::start(|_| {}).await;
    let mut clients = join_three(&relay).await;
    edit_on_a_line(&relay, &mut clients).await;
    edit(&relay, &mut clients, 40).await;
    relay.app.log().lines = Lines::Mute;
    let start = Instant::now();
    edit(&relay, &mut clients, 1).await;
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(240), "{took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(relay.metric("append_repeats_total").await, 1);
    assert_eq!(relay.metric("updates_suspected_total").await, 0);
    relay.app.log().lines = Lines::Answered;
    edit(&relay, &mut clients, 40).await;
    relay.stop().await;
}

/// The room fetches an update before its append is answered: it goes to all others, and not back to its sender.
#[tokio::test]
async fn an_update_that_is_found_before_its_answer_does_not_come_back() {
    let relay =
        Relay::start(|settings| settings.heads_interval = Some(Duration::from_millis(20))).await;
    let mut clients = join_three(&relay).await;
    edit_on_a_line(&relay, &mut clients).await;
    edit(&relay, &mut clients, 40).await;
    relay.app.log().lines = Lines::Mute;
    let fetches = relay.app.log().fetches;
    clients[0].update("own").await;
    assert_eq!(clients[1].binary().await, b"own");
    assert!(relay.app.log().fetches > fetches, "it came by its answer");
    clients[1].update("another's").await;
    assert_eq!(clients[0].binary().await, b"another's");
    relay.stop().await;
}

/// The way to the app carries the proof, and then nothing.
#[tokio::test]
async fn a_join_does_not_wait_long_for_a_silent_line() {
    let relay = Relay::start(|_| {}).await;
    relay.app.log().lines = Lines::Silent;
    within("a silent line", async {
        while relay.app.log().lines_opened == 0 {
            relay.join("p").await;
        }
    })
    .await;
    let start = Instant::now();
    for _ in 0..3 {
        relay.join("p").await;
    }
    assert!(
        start.elapsed() < Duration::from_secs(8),
        "{:?}",
        start.elapsed()
    );
    relay.stop().await;
}

/// A relay without edits and joins keeps no line, although the app would keep it. Checking sockets again opens none.
#[tokio::test]
async fn an_idle_relay_holds_no_line() {
    let relay = Relay::start(|settings| {
        settings.line_time = Duration::from_millis(500);
        settings.recheck_interval = Duration::from_millis(50);
    })
    .await;
    let mut clients = join_three(&relay).await;
    edit_on_a_line(&relay, &mut clients).await;
    until("no line is left", async || relay.app.log().lines_open == 0).await;
    let questions = || {
        let log = relay.app.log();
        let asked = log.seen.iter();
        asked
            .filter(|seen| *seen == "POST /internal/access")
            .count()
    };
    let opened = relay.app.log().lines_opened;
    let before = questions();
    until("sockets are looked at", async || questions() > before + 3).await;
    assert_eq!(relay.app.log().lines_opened, opened);
    edit(&relay, &mut clients, 10).await;
    relay.stop().await;
}

/// A large update takes long, here for ever: only its sender waits for it.
#[tokio::test]
async fn a_large_update_goes_beside_the_line() {
    let relay = Relay::start(|_| {}).await;
    let mut clients = join_three(&relay).await;
    edit_on_a_line(&relay, &mut clients).await;
    let mut large = relay.join("p").await;
    for n in 0..3u8 {
        large.update(vec![n; 3]).await;
        large.update(vec![n; 300 * 1024]).await;
        large.update(vec![n; 4]).await;
    }
    for n in 0..3u8 {
        for length in [3, 300 * 1024, 4] {
            for client in &mut clients {
                assert_eq!(client.binary().await, vec![n; length]);
            }
        }
    }
    let mut stuck = b"hang".to_vec();
    stuck.resize(300 * 1024, 0);
    large.update(stuck).await;
    let start = Instant::now();
    edit(&relay, &mut clients, 20).await;
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
    drop((large, clients, relay));
}
