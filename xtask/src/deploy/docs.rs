//! The tests that the pages about deployments name only metrics and options that exist.

use std::collections::BTreeSet;

use super::{metrics, options, read};

/// The text that follows a prefix in a page, as far as it is small letters, digits, `_` and `-`.
fn after(page: &str, prefix: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    page.split(prefix)
        .skip(1)
        .map(|rest| {
            rest.split(|c| !is_part(c))
                .next()
                .unwrap_or(rest)
                .to_owned()
        })
        .collect()
}

#[test]
fn operations_name_metrics_and_options_that_exist() {
    let page = read("docs/operations.md");
    let named = after(&page, "relay_");
    assert!(named.len() > 10, "{named:?}");
    let metrics = metrics();
    for metric in named {
        assert!(metrics.contains(&format!("relay_{metric}")), "{metric}");
    }
    let mut known = options("relay");
    known.extend(options("host"));
    let options = after(&page, "`--");
    assert!(options.len() > 5, "{options:?}");
    for option in options {
        assert!(known.contains(&option), "--{option}");
    }
}
