//! The check of a new task's parameters: what Kling would refuse because of its form is refused here, and the
//! error says what to send instead.

mod second;

use problem::Fields;

use super::{
    models::{Family, Generation, Models, Sound},
    request::{DEFAULT_MODEL, DEFAULT_SCALE, IMAGES, NATIVE, OFF, resolution},
};
use crate::task::MAX_TEXT;

/// The most characters of a word such as a mode.
const MOST_CHOICE: usize = 32;

/// The longest name of a model, in characters.
const MOST_MODEL: usize = 100;

/// The most seconds of a video by a model that is not known.
const MOST_SECONDS: f64 = 3600.0;

/// Checks the parameters of a new task.
pub(super) fn check(models: &Models, params: &mut Fields<'_>) {
    let model = params.text("model", MOST_MODEL).unwrap_or(DEFAULT_MODEL);
    if !is_model(model) {
        let words =
            "must begin with a letter or a digit, and have letters, digits, `.`, `_` and `-` alone";
        params.wrong("model", words);
    }
    let family = models.family(model);
    let lower = model.to_ascii_lowercase();
    if lower != model && lower.starts_with("kling-") && !models.is_known(model) {
        let words = format!("is written in lower case at Kling: send `{lower}`");
        params.wrong("model", words);
    }
    if let Some(instead) = &family.instead {
        params.wrong("model", format!("cannot be used here; send `{instead}`"));
    }
    let has_image = params.value("image_path").is_some_and(|v| v != "");
    for name in IMAGES {
        params.text(name, MAX_TEXT);
    }
    if has_image {
        params.text("prompt", MAX_TEXT);
    } else {
        params.required_text("prompt", MAX_TEXT);
        one_of(params, "aspect_ratio", family.ratios.as_deref());
    }
    check_tail(params, &family, model, has_image);
    if params.text("negative_prompt", MAX_TEXT).is_some() && family.negative_prompt == Some(false) {
        let words = format!("is not a parameter of `{model}`; say it in `prompt`");
        params.wrong("negative_prompt", words);
    }
    one_of(params, "mode", family.modes.as_deref());
    check_scale(params, &family, model);
    check_duration(params, &family, model);
    if models.generation(model) == Generation::Second {
        second::check(params, &family, model);
    }
    check_sound(params, &family, model, models.generation(model));
}

/// Returns whether a name can stand in the path of an address as it is.
fn is_model(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|one| one.is_ascii_alphanumeric() || ".-_".contains(one))
}

fn one_of(params: &mut Fields<'_>, name: &str, choices: Option<&[String]>) {
    match choices {
        None => drop(params.text(name, MOST_CHOICE)),
        Some(choices) => {
            let choices: Vec<&str> = choices.iter().map(String::as_str).collect();
            params.one_of(name, &choices);
        }
    }
}

fn check_tail(params: &mut Fields<'_>, family: &Family, model: &str, has_image: bool) {
    let has_tail = params
        .value("image_tail")
        .is_some_and(|tail| tail.as_str().is_some_and(|tail| !tail.is_empty()));
    if !has_tail {
        return;
    }
    if family.image_tail == Some(false) {
        let words = format!(
            "is not a parameter of `{model}`, which takes the first picture alone, `image_path`"
        );
        params.wrong("image_tail", words);
    } else if !has_image {
        let words = "needs `image_path` too, the picture that the video begins with";
        params.wrong("image_tail", words);
    }
}

fn check_scale(params: &mut Fields<'_>, family: &Family, model: &str) {
    // A client that always sends Kling's own default asks for nothing special, so it is not refused.
    if let Some(scale) = params.number("cfg_scale", 0.0, 1.0)
        && family.cfg_scale == Some(false)
        && scale != DEFAULT_SCALE
    {
        let words = format!("is not a parameter of `{model}`; leave it out");
        params.wrong("cfg_scale", words);
    }
}

fn check_duration(params: &mut Fields<'_>, family: &Family, model: &str) {
    if let Some(duration) = params.number("duration", 1.0, MOST_SECONDS)
        && let Some(words) = wrong_duration(duration, family, model)
    {
        params.wrong("duration", words);
    }
}

/// Says what is wrong with a duration, if anything is.
fn wrong_duration(duration: f64, family: &Family, model: &str) -> Option<String> {
    let durations = family.durations.as_ref()?;
    let is_wrong = durations.iter().all(|one| f64::from(*one) != duration);
    is_wrong.then(|| format!("must be {}, with `{model}`", seconds(durations)))
}

/// The durations in words: `5 or 10`, or `a whole number from 3 to 15`.
fn seconds(durations: &[u32]) -> String {
    let follows = |pair: &[u32]| pair[0] + 1 == pair[1];
    match durations {
        [first, .., last] if durations.len() > 2 && durations.windows(2).all(follows) => {
            format!("a whole number from {first} to {last}")
        }
        _ => {
            let all: Vec<String> = durations.iter().map(u32::to_string).collect();
            all.join(" or ")
        }
    }
}

/// Checks each field that asks for sound, or for none. Sound may depend on the resolution, in whichever spelling.
fn check_sound(params: &mut Fields<'_>, family: &Family, model: &str, generation: Generation) {
    if params
        .value("sound")
        .is_some_and(|value| !value.is_boolean())
    {
        params.one_of("sound", &["on", "off"]);
    }
    let resolutions = second::resolutions(params, generation);
    let is_pro = resolutions.iter().any(|(_, one)| *one == resolution("pro"));
    for (name, wanted) in second::sounds(params, generation) {
        let (on, off) = if name == "sound" {
            ("on", "off")
        } else {
            (NATIVE, OFF)
        };
        let wrong = match family.sound {
            Some(Sound::Never) if wanted => {
                format!("{on} is not available with `{model}`; send {off}")
            }
            Some(Sound::Pro) if wanted && !is_pro => format!(
                "{on} is available with `{model}` in mode pro alone; send `mode` pro, or {off}"
            ),
            Some(Sound::Always) if !wanted => {
                format!("is part of every video of `{model}`; leave it out")
            }
            _ => continue,
        };
        if params.is_right(name) {
            params.wrong(name, wrong);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_listed_one_by_one_unless_each_follows_the_last() {
        for (durations, words) in [
            (&[7][..], "7"),
            (&[5, 6], "5 or 6"),
            (&[5, 10], "5 or 10"),
            (&[3, 5, 9], "3 or 5 or 9"),
            (&[3, 4, 5], "a whole number from 3 to 5"),
        ] {
            assert_eq!(seconds(durations), words);
        }
    }
}
