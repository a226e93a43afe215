//! The pages that the app refuses for their origin, or for the name under which they reached the server. A browser does
//! not show its user why, so the relay logs it: once for each page, with the setting that lets the page in.

use parking_lot::Mutex;
use std::collections::HashSet;

/// The most refusals that are logged. Strangers choose the names in them.
const MOST: usize = 64;

/// The refusals that were logged.
#[derive(Default)]
pub(crate) struct RefusedPages {
    logged: Mutex<HashSet<String>>,
}

impl RefusedPages {
    /// Logs the app's words about a refusal, unless the log has them already.
    pub(crate) fn log(&self, words: &str) {
        if self.is_new(words) {
            tracing::warn!("a page was refused: {words}");
        }
    }

    fn is_new(&self, words: &str) -> bool {
        let mut logged = self.logged.lock();
        logged.len() < MOST && logged.insert(words.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_page_is_logged_once_and_strangers_do_not_fill_the_log() {
        let pages = RefusedPages::default();
        assert!(pages.is_new("a"));
        assert!(!pages.is_new("a"));
        let more = (0..1000).filter(|page| pages.is_new(&page.to_string()));
        assert_eq!(more.count(), MOST - 1);
    }
}
