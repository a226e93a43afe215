//! Checks storms: many callers that wait, are idle, read nothing, post much or join at once. While a storm goes on, users
//! in another room notice nothing, and afterwards the host has given back what the storm took.
//!
//! The small versions of all storms run at the same time. The whole ones take minutes; each prints what it saw:
//!
//! ```text
//! cargo xtask test --long
//! ```

#![allow(clippy::unwrap_used)]

mod kinds;
mod neighbours;
mod shapes;
mod sources;
mod terms;

use e2e::host::{Kind, Setup};

use crate::kinds::Storm;
use crate::terms::{Terms, hold};

/// A host whose service never answers, so that a task stays under way.
fn setup(service: &str, with_lanes: bool) -> Setup {
    let setup = Setup::new(Kind::Native)
        .variable("kling_base_url", service)
        .variable("kling_api_key", "a-key-for-tests");
    if with_lanes {
        setup
    } else {
        setup.flag("--no-lanes")
    }
}

/// Turns each storm into three tests: small, whole, and whole without the host's lanes, as on a real Spin.
macro_rules! storms {
    ($($name:ident: $storm:expr, small $small:literal, whole $whole:literal;)+) => {$(
        mod $name {
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn small() {
                hold($storm, $small, true, Terms::small()).await;
            }

            #[ignore = "takes minutes: cargo xtask test --long"]
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn whole() {
                hold($storm, $whole, true, Terms::whole()).await;
            }

            #[ignore = "takes minutes: cargo xtask test --long"]
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn whole_without_lanes() {
                hold($storm, $whole, false, Terms::whole()).await;
            }
        }
    )+};
}

storms! {
    waiting_agents: Storm::WaitingAgents, small 40, whole 5_000;
    unread_downloads: Storm::UnreadDownloads, small 30, whole 1_500;
    unread_answers: Storm::UnreadAnswers, small 30, whole 1_500;
    idle_connections: Storm::IdleConnections, small 100, whole 11_300;
    fat_posts: Storm::FatPosts, small 2, whole 40;
    joining_sockets: Storm::JoiningSockets, small 50, whole 1_000;
}
