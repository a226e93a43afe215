//! The internal token, which marks the requests of the relay.

use http::{HeaderMap, header};
use subtle::ConstantTimeEq;

use crate::variables::shared::Variables;

/// The tokens that open the internal routes: the present one, and the previous one while it is being replaced.
#[derive(Debug)]
pub(crate) struct InternalTokens(Vec<String>);

impl InternalTokens {
    /// The tokens among the application's variables.
    pub(crate) fn of(variables: &Variables) -> Self {
        let names = ["internal_token", "internal_token_previous"];
        let tokens = names.map(|name| variables.get(name).to_owned());
        Self(
            tokens
                .into_iter()
                .filter(|token| !token.is_empty())
                .collect(),
        )
    }

    /// Returns whether a request has one of the tokens. This decides the lane of the request; the application itself
    /// decides whether it may use the route.
    pub(crate) fn are_in(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(header::AUTHORIZATION);
        let given = given.and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        given.is_some_and(|given| {
            let fits = |token: &String| bool::from(token.as_bytes().ct_eq(given));
            self.0.iter().any(fits)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_token_counts() {
        let tokens = InternalTokens(vec!["now".into(), "before".into()]);
        let has = |tokens: &InternalTokens, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            tokens.are_in(&headers)
        };
        for value in ["Bearer now", "Bearer before"] {
            assert!(has(&tokens, value), "{value}");
            assert!(!has(&InternalTokens(Vec::new()), value), "{value}");
        }
        for value in ["now", "Bearer ", "Bearer no", "Bearer nowx", "Basic now"] {
            assert!(!has(&tokens, value), "{value}");
        }
        assert!(!tokens.are_in(&HeaderMap::new()));
        assert!(!has(&InternalTokens(Vec::new()), "Bearer "));
    }
}
