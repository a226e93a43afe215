//! The tasks: generation jobs that run at services, and their results.
//!
//! A task is a row in `aigc_tasks`; [`create`] makes it, the [`Engine`] carries it on, and an
//! [`Executor`] talks to the service that does the work. Nothing here knows documents: the crate
//! `projection` writes tasks into them.

#![forbid(unsafe_code)]

mod address;
mod asset_address;
mod assets;
mod bounded;
mod copies;
mod create;
mod delete;
mod earlier;
mod engine;
mod error;
mod event;
mod executor;
mod executors;
mod image;
pub mod large_upload;
mod leftovers;
mod media_type;
pub mod notification;
mod old_assets;
mod options;
mod params;
mod parts;
mod public_url;
pub mod range;
mod request;
mod result_address;
mod retention;
pub mod rows;
mod signing;
mod task;
mod upload;
mod webhook;

pub use asset_address::{addressed_data, is_asset_id};
pub use assets::{Asset, AssetError, AssetStore, ListedAsset, digest};
pub use create::{CreateError, create};
pub use delete::delete;
pub use engine::Engine;
pub use error::TaskError;
pub use event::project_of_event;
pub use executor::{
    Arrived, Authenticity, Callback, Context, Earlier, Executor, Failure, Media, POLL_PATIENCE,
    Product, Progress,
};
pub use executors::Registry;
pub use media_type::OCTET_STREAM;
pub use old_assets::OldAsset;
pub use options::may_be_columns;
pub use problem::{FieldError, Fields};
pub use request::TaskRequest;
pub use retention::Retention;
pub use task::{Status, Task, new_id as new_task_id, shortened};
pub use upload::{MAX_UPLOAD, Upload, UploadError, upload};

/// A setting has the right form, but a value that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WrongSetting {
    /// The settings of the bucket.
    #[error(transparent)]
    Bucket(#[from] AssetError),
    /// A setting of a service, in words for the operator.
    #[error("{0}")]
    Service(String),
}

/// Checks in the settings of the services and the bucket what their declared forms do not.
///
/// # Errors
/// If a setting is missing, or has a value that cannot be used.
pub fn check_settings(config: &dyn platform::Config) -> Result<(), WrongSetting> {
    assets::check_settings(config)?;
    executors::check_settings(config).map_err(WrongSetting::Service)
}

/// The settings of the services, of the store of assets, and of the times for which all this is kept.
pub fn settings() -> impl Iterator<Item = &'static platform::setting::Declaration> {
    let services = executors::SETTINGS.iter().copied().flatten();
    services
        .chain(assets::SETTINGS)
        .chain(large_upload::SETTINGS)
        .chain(retention::SETTINGS)
}

/// The page about adding a service. Its example is compiled as a test.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/adding-a-service.md")]
mod adding_a_service {}

#[cfg(test)]
mod tests {
    #[test]
    fn the_settings_of_every_service_and_of_the_bucket_are_listed() {
        let names: Vec<&str> = super::settings().map(|one| one.setting.name()).collect();
        for name in ["kling_base_url", "gemini_base_url", "s3_bucket"] {
            assert!(names.contains(&name), "{name} is not among {names:?}");
        }
    }

    #[test]
    fn a_number_may_be_as_large_as_a_service_or_a_bucket_allows() {
        for (name, most) in [
            // The size of 10,000 parts, which are all that S3 takes.
            ("max_asset_mib", 49_152),
            ("max_upload_mib", 49_152),
            // Kling keeps results for 30 days.
            ("kling_longest_job", 720),
        ] {
            let form = super::settings().find(|one| one.setting.name() == name);
            let form = form.map(|one| one.form);
            assert_eq!(form, Some(platform::Form::Number(most)), "{name}");
        }
    }
}
