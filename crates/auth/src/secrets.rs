//! Secrets: making, naming and comparing them.

use rand::Rng;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// So many random characters of `a-z0-9`, a little over 5 bits each.
pub fn word(length: usize) -> String {
    const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut random = rand::rng();
    (0..length)
        .map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())]))
        .collect()
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The SHA-256 of a text, in hexadecimal: what is kept in place of a secret that nobody can guess.
pub fn digest(text: &str) -> String {
    hex(&Sha256::digest(text))
}

/// Whether two secrets are the same. Takes the same time wherever they differ; their lengths are no
/// secret.
pub fn same(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_long_enough_and_not_alike() {
        assert_eq!(word(43).len(), 43);
        assert_ne!(word(16), word(16));
    }

    #[test]
    fn only_the_same_is_the_same() {
        for (a, b, same_) in [
            ("", "", true),
            ("a", "a", true),
            ("a", "b", false),
            ("a", "ab", false),
        ] {
            assert_eq!(same(a, b), same_, "{a:?} {b:?}");
        }
        assert_eq!(digest("").len(), 64);
    }
}
