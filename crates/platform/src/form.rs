//! The forms of settings.

use std::fmt;

use http::Uri;
use thiserror::Error;

use crate::{Setting, networks};

/// The form that the value of a setting must have, so that a mistake is noticed before it does harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A text that a header can carry.
    Text,
    /// An http(s) URL at which others can reach a server, with a path or without.
    Url,
    /// An http(s) URL of the same kind, without a path.
    Origin,
    /// A list of origins, separated by commas.
    Origins,
    /// A path, which begins with a slash.
    Path,
    /// The address of a Redis server, with a user and a password or without.
    Redis,
    /// The scheme, host and port of such an address.
    RedisOrigin,
    /// A whole number from 1 to this one.
    Number(u32),
    /// `true` or `false`.
    Boolean,
    /// A JSON object.
    JsonObject,
}

/// The error of a value that does not have the form of its setting. It leaves out the value, which may be secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("`{setting}` is not {form}")]
pub struct WrongForm {
    /// The setting.
    pub setting: Setting,
    /// The form that it must have.
    pub form: Form,
}

impl Form {
    /// Returns whether a value has this form. A setting that is empty is not set, and has any form.
    pub fn fits(self, value: &str) -> bool {
        if value.is_empty() {
            return true;
        }
        if value.contains(char::is_control) {
            return false;
        }
        match self {
            Self::Text => true,
            Self::Url => is_url(value, &["http", "https"]) && !value.contains('@'),
            Self::Origin => Self::Url.fits(value) && has_no_path(value),
            Self::Origins => value.split(',').all(|one| Self::Origin.fits(one.trim())),
            Self::Path => value.starts_with('/') && !value.contains([' ', '?', '#']),
            Self::Redis => is_url(value, &["redis", "rediss"]),
            // Spin has no default port for `rediss`, so the value must name one.
            Self::RedisOrigin => {
                Self::Redis.fits(value)
                    && !value.contains('@')
                    && has_no_path(value)
                    && (value.starts_with("redis://") || has_port(value))
            }
            Self::Number(most) => {
                let number = value.trim().parse();
                number.is_ok_and(|number: u32| (1..=most).contains(&number))
            }
            Self::Boolean => matches!(value, "true" | "false"),
            Self::JsonObject => value.starts_with('{') && value.ends_with('}'),
        }
    }
}

fn is_url(value: &str, schemes: &[&str]) -> bool {
    let Ok(url) = value.parse::<Uri>() else {
        return false;
    };
    let host = url.host().unwrap_or_default();
    url.scheme_str().is_some_and(|one| schemes.contains(&one))
        && !host.is_empty()
        && !host.contains('*')
        && !networks::is_unspecified_host(host)
        && !value.contains(['?', '#'])
}

fn has_port(value: &str) -> bool {
    value.parse().is_ok_and(|url: Uri| url.port().is_some())
}

fn has_no_path(value: &str) -> bool {
    value.parse().is_ok_and(|url: Uri| url.path() == "/")
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "a text without line breaks",
            Self::Url => {
                "an address that others can reach, such as https://canvas.example.com, without a user, a `?` or a `#`"
            }
            Self::Origin => "an address without a path, such as https://service.example.com",
            Self::Origins => {
                "a list of origins such as https://canvas.example.com, separated by commas"
            }
            Self::Path => "a path such as /api/better-auth",
            Self::Redis => "an address of Redis such as redis://127.0.0.1:6379",
            Self::RedisOrigin => {
                "the scheme, host and port of an address of Redis, such as redis://127.0.0.1:6379"
            }
            Self::Number(most) => return write!(f, "a whole number from 1 to {most}"),
            Self::Boolean => "`true` or `false`",
            Self::JsonObject => "a JSON object, which begins with `{` and ends with `}`",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_forms() {
        for (form, fits, others) in [
            (
                Form::Text,
                &["a", "a b", "\u{e9}"][..],
                &["a\nb", "a\r"][..],
            ),
            (
                Form::Url,
                &[
                    "http://localhost:1",
                    "https://h.example/a/b",
                    "http://[::1]:1/",
                ],
                &[
                    "h.example",
                    "ftp://h.example",
                    "http://",
                    "http://0.0.0.0:1",
                    "http://[::]",
                    "http://0:1",
                    "http://0x0.0",
                    "https://h.example/?a",
                    "https://h.example/?",
                    "https://h.example/#a",
                    "https://h.example#",
                    "https://user:p@h.example",
                    "https://user@h.example/a",
                    "/a",
                ],
            ),
            (
                Form::Origin,
                &[
                    "https://h.example",
                    "https://h.example/",
                    "http://127.0.0.1:1",
                ],
                &[
                    "https://h.example/a",
                    "h.example",
                    "https://*.h.example",
                    "https://user:p@h.example",
                    "https://h.example/#a",
                    "*",
                ],
            ),
            (
                Form::Origins,
                &["https://a.example", "https://a.example, http://b.example:1"],
                &["https://a.example b", "*", "a.example"],
            ),
            (
                Form::Path,
                &["/", "/a/b"],
                &["a", "/a?b", "https://a.example/a"],
            ),
            (
                Form::Redis,
                &[
                    "redis://h:6379",
                    "rediss://user:word@h.example/0",
                    "redis://:word@127.0.0.1:6379",
                ],
                &["h:6379", "https://h.example", "redis://"],
            ),
            (
                Form::RedisOrigin,
                &["redis://h:6379", "redis://h", "rediss://h.example:6379/"],
                &[
                    "redis://user:word@h:6379",
                    "redis://h:6379/0",
                    "rediss://h.example",
                    "h:6379",
                ],
            ),
            (
                Form::Number(100),
                &["1", "100", " 7 "],
                &["0", "101", "-1", "1.5", "x"],
            ),
            (Form::Boolean, &["true", "false"], &["yes", "True", "1"]),
            (Form::JsonObject, &["{}", "{\"a\": 1}"], &["[]", "a"]),
        ] {
            for value in fits.iter().chain(&[""]) {
                assert!(form.fits(value), "{form:?}: {value:?}");
            }
            for value in others {
                assert!(!form.fits(value), "{form:?}: {value:?}");
            }
        }
    }
}
