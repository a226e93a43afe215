//! The forms of settings.

use std::{fmt, net::IpAddr};

use http::Uri;
use thiserror::Error;

use crate::Setting;

/// The form that the value of a setting must have, so that a mistake is noticed before it does harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A text that a header can carry.
    Text,
    /// An http(s) URL at which others can reach a server, with a path or without.
    Url,
    /// The same without a path.
    Origin,
    /// Origins, separated by commas.
    Origins,
    /// A path, which begins with a slash.
    Path,
    /// The address of a Redis server.
    Redis,
    /// A whole number from 1 to this one.
    Number(u32),
    /// `true` or `false`.
    Boolean,
}

/// The value of a setting does not have its form. The value is not in the words, because it may be secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("`{setting}` is not {form}")]
pub struct WrongForm {
    /// The setting.
    pub setting: Setting,
    /// The form that it must have.
    pub form: Form,
}

impl Form {
    /// Whether a value has this form. A setting that is empty is not set, and has any form.
    pub fn fits(self, value: &str) -> bool {
        if value.is_empty() {
            return true;
        }
        if value.contains(char::is_control) {
            return false;
        }
        match self {
            Self::Text => true,
            Self::Url => is_url(value, &["http", "https"]),
            Self::Origin => is_url(value, &["http", "https"]) && has_no_path(value),
            Self::Origins => value.split(',').all(|one| Self::Origin.fits(one.trim())),
            Self::Path => value.starts_with('/') && !value.contains([' ', '?', '#']),
            Self::Redis => is_url(value, &["redis", "rediss"]),
            Self::Number(most) => {
                let number = value.trim().parse();
                number.is_ok_and(|number: u32| (1..=most).contains(&number))
            }
            Self::Boolean => matches!(value, "true" | "false"),
        }
    }
}

fn is_url(value: &str, schemes: &[&str]) -> bool {
    let Ok(url) = value.parse::<Uri>() else {
        return false;
    };
    let host = url.host().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let is_unspecified = address
        .parse()
        .is_ok_and(|address: IpAddr| address.is_unspecified());
    url.scheme_str().is_some_and(|one| schemes.contains(&one))
        && !host.is_empty()
        && !host.contains('*')
        && !is_unspecified
        && url.query().is_none()
}

fn has_no_path(value: &str) -> bool {
    value.parse().is_ok_and(|url: Uri| url.path() == "/")
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "a text without line breaks",
            Self::Url => "an address that others can reach, such as https://canvas.example.com",
            Self::Origin => "like https://auth.example.com",
            Self::Origins => {
                "a list of origins such as https://canvas.example.com, separated by commas"
            }
            Self::Path => "a path such as /api/better-auth",
            Self::Redis => "an address of Redis such as redis://127.0.0.1:6379",
            Self::Number(most) => return write!(f, "a whole number from 1 to {most}"),
            Self::Boolean => "`true` or `false`",
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
                    "https://h.example/?a",
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
                &["redis://h:6379", "rediss://user:word@h.example/0"],
                &["h:6379", "https://h.example", "redis://"],
            ),
            (
                Form::Number(100),
                &["1", "100", " 7 "],
                &["0", "101", "-1", "1.5", "x"],
            ),
            (Form::Boolean, &["true", "false"], &["yes", "True", "1"]),
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
