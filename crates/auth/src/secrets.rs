//! Makes, names and compares secrets.

use rand::Rng;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Makes a word of `length` random characters of `a-z0-9`, each a little over 5 bits.
pub fn word(length: usize) -> String {
    const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut random = rand::rng();
    (0..length)
        .map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())]))
        .collect()
}

/// Writes bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The SHA-256 of a text, in hexadecimal. It is stored in place of a secret that is too long to guess.
pub fn digest(text: &str) -> String {
    hex(&Sha256::digest(text))
}

/// Returns whether two secrets are the same. It takes the same time wherever they differ; their lengths are not secret.
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
    fn secrets_are_compared_whole() {
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
