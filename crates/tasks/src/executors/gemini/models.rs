//! The known models of Gemini, by the beginnings of their names. Models come and go every few months, so an operator can
//! describe others by a setting, and nothing is refused for a model that is not known.

use platform::Config;
use serde::Deserialize;
use thiserror::Error;

use super::settings::GEMINI_MODELS;
use crate::executors::families::Families;

/// The parameters of the models whose names begin alike. A parameter that is not given here is not checked.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Family {
    /// The values of `image_size`; an empty list if they take none.
    pub(super) sizes: Option<Vec<String>>,
    /// The values of `aspect_ratio`.
    pub(super) ratios: Option<Vec<String>>,
    /// The most pictures that a task may refer to.
    pub(super) references: Option<usize>,
}

/// The ratios that every model takes.
const COMMON_RATIOS: &[&str] = &[
    "1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9",
];
/// The ratios that newer models take, too.
const LONG_RATIOS: &[&str] = &["1:4", "1:8", "4:1", "8:1"];

/// The setting is not a table of families.
#[derive(Debug, Error)]
#[error(
    "`{GEMINI_MODELS}` is not like {{\"gemini-4\": {{\"sizes\": [\"1K\"], \"ratios\": [\"1:1\"], \"references\": 3}}}}"
)]
pub(crate) struct NoTable;

/// The families by the beginnings of their models' names.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Models(Families<Family>);

impl Models {
    /// Reads the families of this release and of the setting. A family of the setting replaces the one of the same
    /// beginning.
    pub(super) fn read(config: &dyn Config) -> Result<Self, NoTable> {
        let families = Self::known().0.overridden_by(config, GEMINI_MODELS);
        families.map(Self).map_err(|_| NoTable)
    }

    /// The families of this release.
    pub(super) fn known() -> Self {
        let list = |all: &[&[&str]]| Some(all.concat().into_iter().map(str::to_owned).collect());
        let family = |sizes: &[&str], ratios, references| Family {
            sizes: list(&[sizes]),
            ratios,
            references,
        };
        let (common, all) = (list(&[COMMON_RATIOS]), list(&[COMMON_RATIOS, LONG_RATIOS]));
        let families = [
            (
                "gemini-nano-banana-2",
                family(&["1K", "2K", "4K"], all, Some(14)),
            ),
            (
                "gemini-3-pro-image",
                family(&["1K", "2K", "4K"], common.clone(), Some(14)),
            ),
            ("gemini-3.1-flash-lite-image", family(&["1K"], None, None)),
            ("gemini-2.5-flash-image", family(&[], common, None)),
        ];
        Self(families.into())
    }

    /// Finds the parameters of a model: those of the family with the longest beginning of its name.
    pub(super) fn family(&self, model: &str) -> Family {
        self.0.family(model)
    }
}

#[cfg(test)]
mod tests {
    use platform::native::MapConfig;

    use super::*;

    #[test]
    fn the_longest_beginning_of_a_name_counts_and_the_setting_comes_first() {
        let known = Models::known();
        assert_eq!(known.family("gemini-99-image"), Family::default());
        let banana = known.family("gemini-nano-banana-2.1");
        assert_eq!(banana.ratios.unwrap().len(), 14);
        let of = |text: &str| Models::read(&MapConfig::from_pairs(&[("gemini_models", text)]));
        let table =
            of(r#"{"gemini-99": {"sizes": ["8K"]}, "gemini-nano-banana-2.1": {"references": 3}}"#)
                .unwrap();
        assert_eq!(
            table.family("gemini-99-image").sizes,
            Some(vec!["8K".into()])
        );
        let overridden = table.family("gemini-nano-banana-2.1");
        assert_eq!(
            (overridden.references, overridden.ratios, overridden.sizes),
            (Some(3), None, None)
        );
        assert!(table.family("gemini-nano-banana-2").ratios.is_some());
        for wrong in [
            "[]",
            r#"{"gemini-99": {"size": ["8K"]}}"#,
            r#"{"gemini-99": 1}"#,
        ] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
        assert_eq!(of("").unwrap(), known);
    }
}
