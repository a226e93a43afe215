//! The entity tags of conditional requests (RFC 9110, sections 8.8.3 and 13.1.2).

use std::fmt;

/// The tag of one representation, as it stands in `ETag`: with its quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag(String);

impl Tag {
    /// Makes a strong tag. The name has no quotes and no blanks.
    pub fn new(name: impl fmt::Display) -> Self {
        Self(format!("\"{name}\""))
    }

    /// Returns whether an `If-None-Match` header lists this tag. A weak tag matches, too, as the RFC says.
    pub fn is_in(&self, header: &str) -> bool {
        header
            .split(',')
            .map(|given| given.trim().trim_start_matches("W/"))
            .any(|given| given == self.0 || given == "*")
    }

    /// Returns whether this is the tag of an `If-Range` header.
    pub fn is(&self, header: &str) -> bool {
        self.0 == header
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_tags_names_some() {
        let tag = Tag::new("a");
        assert_eq!(tag.to_string(), "\"a\"");
        for (header, named) in [
            ("\"a\"", true),
            ("W/\"a\"", true),
            ("\"b\" , \"a\"", true),
            ("*", true),
            ("\"ab\"", false),
            ("a", false),
            ("", false),
        ] {
            assert_eq!(tag.is_in(header), named, "{header:?}");
        }
        assert!(tag.is("\"a\"") && !tag.is("W/\"a\"") && !tag.is("*"));
    }
}
