//! Computes signatures without the code under test.

use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Computes the HMAC-SHA256 of a message.
pub fn code(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

/// Computes the signature in the callback address of a service's job, with the setting `webhook_key`.
pub fn callback(webhook_key: &str, service: &str, job: &str) -> String {
    let message = format!("webhook\n{service}\n{job}");
    let code = code(webhook_key.as_bytes(), message.as_bytes());
    code.iter().map(|byte| format!("{byte:02x}")).collect()
}
