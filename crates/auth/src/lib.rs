//! The callers of requests, and what they may do.
//!
//! The caller of a request is a [`Principal`]: a user with a session ([`sessions`]), an agent with a token of a project
//! ([`tokens`]), or the trusted backend. Their roles belong to the projects ([`projects`]). Pages of
//! other sites may do nothing ([`origins`]).
//!
//! The relay proves itself by a token ([`internal`]), and services by the signed address that they were given
//! ([`webhooks`]). The front door (`door`) checks all of these before a handler runs.

#![forbid(unsafe_code)]

mod access;
mod advice;
pub mod conditions;
mod credentials;
mod denied;
pub mod imports;
pub mod internal;
pub mod origins;
mod principal;
pub mod projects;
mod role;
pub mod secrets;
pub mod sessions;
pub mod standard_webhooks;
pub mod tokens;
pub mod webhooks;
#[cfg(all(test, not(target_arch = "wasm32")))]
mod world;

pub use advice::{Advice, REFUSED_PAGE};
pub use credentials::Credentials;
pub use denied::Denied;
pub use principal::{DEVELOPER, Principal};
pub use role::{Grant, Role};

/// The settings that protect access.
pub fn settings() -> impl Iterator<Item = &'static platform::setting::Declaration> {
    [
        sessions::SETTINGS,
        origins::SETTINGS,
        access::SETTINGS,
        credentials::SETTINGS,
        internal::SETTINGS,
        webhooks::SETTINGS,
    ]
    .into_iter()
    .flatten()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_settings_of_every_part_are_listed() {
        let names: Vec<&str> = super::settings().map(|one| one.setting.name()).collect();
        for name in [
            "better_auth_origin",
            "allowed_origins",
            "auto_create_projects",
            "agent_token",
            "internal_token_previous",
            "webhook_key",
        ] {
            assert!(names.contains(&name), "{name} is not among {names:?}");
        }
    }
}
