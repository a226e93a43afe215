//! The parameters of models, by families of them: a family is known by the beginning of its models' names.

use std::collections::BTreeMap;

use platform::{Config, setting::Setting};
use serde::de::DeserializeOwned;

/// The families by the beginnings of their models' names.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Families<F>(BTreeMap<String, F>);

impl<F, const N: usize> From<[(&str, F); N]> for Families<F> {
    fn from(families: [(&str, F); N]) -> Self {
        Self(families.map(|(name, of)| (name.to_owned(), of)).into())
    }
}

impl<F: Clone + Default + DeserializeOwned> Families<F> {
    /// Adds the families of a setting. Each replaces the family of the same beginning.
    ///
    /// # Errors
    /// If the setting is not a table of families.
    pub(super) fn overridden_by(
        mut self,
        config: &dyn Config,
        setting: Setting,
    ) -> serde_json::Result<Self> {
        if let Some(text) = config.get(setting) {
            self.0
                .extend(serde_json::from_str::<BTreeMap<String, F>>(&text)?);
        }
        Ok(self)
    }

    /// Finds the parameters of a model: those of the family with the longest beginning of its name.
    pub(super) fn family(&self, model: &str) -> F {
        let fitting = self.0.iter().filter(|(name, _)| model.starts_with(*name));
        let longest = fitting.max_by_key(|(name, _)| name.len());
        longest.map_or_else(F::default, |(_, family)| family.clone())
    }
}
