//! The known models of Kling, by the beginnings of their names. Models come and go every few months, so an operator can
//! describe others by a setting, and nothing is refused for a model that is not known.

use platform::Config;
use serde::Deserialize;
use thiserror::Error;

use super::settings::KLING_MODELS;
use crate::executors::families::Families;

/// The form of Kling's API, of which there are two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u8")]
pub(super) enum Generation {
    /// The model is in the body, and each job is asked about alone.
    First,
    /// The model is in the path, and one question may be about many jobs.
    Second,
}

impl TryFrom<u8> for Generation {
    type Error = &'static str;

    fn try_from(number: u8) -> Result<Self, Self::Error> {
        match number {
            1 => Ok(Self::First),
            2 => Ok(Self::Second),
            _ => Err("there are generations 1 and 2"),
        }
    }
}

/// Says whether a model makes sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Sound {
    /// A video has no sound.
    Never,
    /// A video can have sound in mode `pro` alone.
    Pro,
    /// A task may ask for sound.
    Optional,
    /// A video always has sound.
    Always,
}

/// The parameters of the models whose names begin alike. A parameter that is not given here is not checked.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Family {
    /// The form of the API. If it is not given, a model whose name goes on with a digit, such as `kling-4.0`, is of the
    /// second form.
    generation: Option<Generation>,
    /// The seconds that a video may have.
    pub(super) durations: Option<Vec<u32>>,
    /// Says whether they make sound.
    pub(super) sound: Option<Sound>,
    /// The values of `mode`.
    pub(super) modes: Option<Vec<String>>,
    /// The values of `aspect_ratio`.
    pub(super) ratios: Option<Vec<String>>,
    /// Says whether they take `cfg_scale`.
    pub(super) cfg_scale: Option<bool>,
    /// Says whether they take `negative_prompt`.
    pub(super) negative_prompt: Option<bool>,
    /// Says whether they take `image_tail`.
    pub(super) image_tail: Option<bool>,
    /// The model to send in place of these, because this server cannot use them.
    pub(super) instead: Option<String>,
}

/// The setting is not a table of families.
#[derive(Debug, Error)]
#[error(
    "`{KLING_MODELS}` is not like {{\"kling-4\": {{\"generation\": 2, \"durations\": [5, 10], \"sound\": \"optional\", \"modes\": [\"std\", \"pro\"]}}}}"
)]
pub(crate) struct NoTable;

/// The families by the beginnings of their models' names.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Models(Families<Family>);

impl Models {
    /// Reads the families of this release and of the setting. A family of the setting replaces the one of the same
    /// beginning.
    pub(super) fn read(config: &dyn Config) -> Result<Self, NoTable> {
        let families = Self::known().0.overridden_by(config, KLING_MODELS);
        families.map(Self).map_err(|_| NoTable)
    }

    /// The families of this release.
    pub(super) fn known() -> Self {
        let list = |all: &[&str]| Some(all.iter().map(|one| (*one).to_owned()).collect());
        let family = |durations: Vec<u32>, sound, modes: &[&str]| Family {
            durations: Some(durations),
            sound: Some(sound),
            modes: list(modes),
            ratios: list(&["16:9", "9:16", "1:1"]),
            ..Family::default()
        };
        let (short, long) = (vec![5, 10], (3..=15).collect::<Vec<u32>>());
        let (two, with_4k) = (["std", "pro"], ["std", "pro", "4k"]);
        let without_scale = |family: Family| Family {
            cfg_scale: Some(false),
            ..family
        };
        // The second generation takes neither a negative prompt nor `cfg_scale`.
        let of_second = |family: Family| Family {
            negative_prompt: Some(false),
            ..without_scale(family)
        };
        let old = family(short.clone(), Sound::Never, &two);
        let turbo_2_5 = without_scale(old.clone());
        let of_2_6 = without_scale(family(short, Sound::Pro, &two));
        let of_3 = family(long.clone(), Sound::Optional, &with_4k);
        let turbo = Family {
            image_tail: Some(false),
            ..of_second(family(long, Sound::Always, &two))
        };
        let o1 = Family {
            ratios: None,
            ..family((3..=10).collect(), Sound::Never, &two)
        };
        let instead = |model: &str| Family {
            instead: Some(model.to_owned()),
            ..Family::default()
        };
        let families = [
            ("kling-v1", old.clone()),
            ("kling-v2", old),
            ("kling-v2-5-turbo", turbo_2_5.clone()),
            ("kling-v2-6", of_2_6.clone()),
            ("kling-v3", without_scale(of_3.clone())),
            ("kling-v3-omni", instead("kling-v3")),
            ("kling-video-o1", without_scale(o1)),
            ("kling-2.5-turbo", of_second(turbo_2_5)),
            ("kling-2.6", of_second(of_2_6)),
            ("kling-3.0", of_second(of_3)),
            ("kling-3.0-turbo", turbo),
            ("kling-3.0-omni", instead("kling-3.0")),
        ];
        Self(families.into())
    }

    /// Finds the parameters of a model: those of the family with the longest beginning of its name.
    pub(super) fn family(&self, model: &str) -> Family {
        self.0.family(model)
    }

    /// Returns whether the parameters of a model are known.
    pub(super) fn is_known(&self, model: &str) -> bool {
        self.family(model) != Family::default()
    }

    /// The form of the API that a model has.
    pub(super) fn generation(&self, model: &str) -> Generation {
        let by_number = |rest: &str| rest.starts_with(|first: char| first.is_ascii_digit());
        let by_name = match model.strip_prefix("kling-") {
            Some(rest) if by_number(rest) => Generation::Second,
            _ => Generation::First,
        };
        self.family(model).generation.unwrap_or(by_name)
    }
}

#[cfg(test)]
mod tests {
    use platform::native::MapConfig;

    use super::*;

    #[test]
    fn the_longest_beginning_of_a_name_counts_and_the_setting_comes_first() {
        let known = Models::known();
        assert_eq!(known.family("veo-7"), Family::default());
        assert_eq!(
            known.family("kling-v2-6-fast").sound,
            Some(Sound::Pro),
            "not that of kling-v2"
        );
        assert_eq!(known.family("kling-v2-master").sound, Some(Sound::Never));
        let of = |text: &str| Models::read(&MapConfig::from_pairs(&[("kling_models", text)]));
        let table = of(
            r#"{"kling-4": {"durations": [30]}, "kling-v2-6": {"generation": 2}, "kling-5": {"generation": 1}}"#,
        );
        let table = table.unwrap();
        assert_eq!(table.family("kling-4.1").durations, Some(vec![30]));
        assert_eq!(table.family("kling-v2-6").durations, None);
        assert_eq!(table.generation("kling-v2-6"), Generation::Second);
        assert_eq!(table.generation("kling-5"), Generation::First);
        for wrong in [
            "[]",
            r#"{"kling-4": {"duration": [30]}}"#,
            r#"{"kling-4": {"generation": 3}}"#,
            r#"{"kling-4": {"sound": "loud"}}"#,
        ] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
        assert_eq!(of("").unwrap(), known);
    }

    #[test]
    fn a_model_that_is_called_by_a_number_is_of_the_second_generation() {
        let known = Models::known();
        for (model, generation) in [
            ("kling-v1", Generation::First),
            ("kling-v3", Generation::First),
            ("kling-video-o1", Generation::First),
            ("my-own", Generation::First),
            ("kling-", Generation::First),
            ("kling-2.6", Generation::Second),
            ("kling-3.0-turbo", Generation::Second),
            ("kling-9.0", Generation::Second),
        ] {
            assert_eq!(known.generation(model), generation, "{model}");
        }
    }
}
