//! The choice among the compressed copies of a file.

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Brotli,
    Gzip,
}

impl Encoding {
    /// The name in `Content-Encoding`.
    pub(crate) fn token(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }
}

/// The codings that an `Accept-Encoding` header allows, the smallest copy first.
pub(crate) fn accepted(header: Option<&str>) -> impl Iterator<Item = Encoding> {
    let header = header.unwrap_or_default();
    [Encoding::Brotli, Encoding::Gzip]
        .into_iter()
        .filter(move |encoding| accepts(header, encoding.token()))
}

fn accepts(header: &str, token: &str) -> bool {
    let weight = |wanted: &str| {
        header.split(',').find_map(|item| {
            let mut parts = item.split(';').map(str::trim);
            parts
                .next()
                .filter(|name| name.eq_ignore_ascii_case(wanted))?;
            let weight = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
            Some(weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0)))
        })
    };
    weight(token).or_else(|| weight("*")).unwrap_or(0.0) > 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_decides() {
        use Encoding::{Brotli, Gzip};
        let cases: [(Option<&str>, &[Encoding]); 10] = [
            (None, &[]),
            (Some(""), &[]),
            (Some("identity"), &[]),
            (Some("gzip, deflate, br, zstd"), &[Brotli, Gzip]),
            (Some("GZIP"), &[Gzip]),
            (Some("br;q=0, gzip;q=0.5"), &[Gzip]),
            (Some("br; q=0.000"), &[]),
            (Some("*"), &[Brotli, Gzip]),
            (Some("*;q=0.1, br;q=0"), &[Gzip]),
            (Some("brotli, xgzip, gzip;q=nonsense"), &[]),
        ];
        for (header, expected) in cases {
            assert_eq!(accepted(header).collect::<Vec<_>>(), expected, "{header:?}");
        }
    }
}
