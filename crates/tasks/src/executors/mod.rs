//! The services of this release.
//!
//! A service is one file or folder here, with an [`Executor`] and its settings, and its names in [`Registry::standard`]
//! and [`SETTINGS`]. `docs/adding-a-service.md` shows it with a complete example.

mod demo;
mod fal;
mod families;
mod gemini;
mod kling;

use std::rc::Rc;

use platform::{Config, setting::Declaration};

use crate::executor::Executor;

/// The settings of the services.
pub(crate) const SETTINGS: &[&[Declaration]] = &[kling::SETTINGS, gemini::SETTINGS, fal::SETTINGS];

/// Checks in the services' settings what their declared forms do not. An error is in words for the operator.
pub(crate) fn check_settings(config: &dyn Config) -> Result<(), String> {
    kling::check_settings(config)?;
    gemini::check_settings(config).map_err(|error| error.to_string())
}

/// The services that an engine knows.
#[derive(Clone)]
pub struct Registry(Vec<Rc<dyn Executor>>);

impl Registry {
    /// The services of this release; `demo` only in development.
    pub fn standard(config: &dyn Config) -> Self {
        let mut executors: Vec<Rc<dyn Executor>> = vec![
            Rc::new(kling::Kling::new(config)),
            Rc::new(gemini::Gemini::new(config)),
            Rc::new(fal::Fal),
        ];
        if config.is_development() {
            executors.push(Rc::new(demo::Demo));
        }
        Self(executors)
    }

    /// A registry of these services.
    pub fn of(executors: Vec<Rc<dyn Executor>>) -> Self {
        Self(executors)
    }

    /// The service of this name.
    pub fn service(&self, name: &str) -> Option<&dyn Executor> {
        self.iter().find(|executor| executor.service() == name)
    }

    /// The service that does tasks of this type.
    pub fn for_type(&self, task_type: &str) -> Option<&dyn Executor> {
        self.iter().find(|executor| executor.does(task_type))
    }

    /// Returns all services.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &dyn Executor> {
        self.0.iter().map(Rc::as_ref)
    }

    /// The types of tasks that the services do.
    pub(crate) fn task_types(&self) -> Vec<&'static str> {
        self.iter().flat_map(|e| e.task_types()).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use platform::native::MapConfig;

    use super::*;

    #[test]
    fn each_service_has_time_for_a_submission() {
        let registry = Registry::standard(&MapConfig::default());
        assert!(registry.iter().count() >= 3);
        for executor in registry.iter() {
            let seconds = Duration::from_secs(5)..=Duration::from_secs(150);
            assert!(
                seconds.contains(&executor.patience()),
                "{}",
                executor.service()
            );
        }
    }
}
