//! The version of the messages that a relay sends.

use problem::Problem;

use crate::Head;

/// Refuses a relay whose messages this app may misunderstand. After a 503 the relay keeps the updates that it has
/// taken, and tries again.
///
/// # Errors
/// 503 that names both versions.
pub(crate) fn check(head: &Head) -> Result<(), Problem> {
    let told = head.header(wire::VERSION_HEADER);
    wire::check_version(told).map_err(|error| {
        tracing::error!(%error, "a relay is refused");
        Problem::unavailable(format!("In this deployment {error}."))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_of_a_newer_relay_says_what_to_do() {
        let told = |version: Option<&str>| {
            let header = version.map(|version| {
                let (name, value) = (wire::VERSION_HEADER, version.as_bytes());
                (name.to_owned(), value.to_vec())
            });
            let head = Head::new(
                "POST",
                "/internal/append",
                header.into_iter().collect(),
                None,
            );
            check(&head).map_err(|problem| (problem.status(), problem.body().to_string()))
        };
        assert_eq!(told(None), Ok(()));
        assert_eq!(told(Some(&wire::VERSION.to_string())), Ok(()));
        for newer in [wire::VERSION + 1, u32::MAX] {
            let (status, body) = told(Some(&newer.to_string())).unwrap_err();
            assert_eq!(status, 503, "so the relay keeps what it has taken");
            assert!(body.contains("replace the app before its relays"), "{body}");
        }
    }
}
