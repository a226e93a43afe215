//! The check of the parameters that only the second generation has. It takes some wishes in several spellings: this
//! server's own (`mode`), Kling's (`resolution`), and Kling's in `settings`. Each is checked, and none may contradict
//! another.

use problem::Fields;
use serde_json::Value;

use super::{MOST_SECONDS, one_of, wrong_duration};
use crate::{
    executors::kling::{
        models::{Family, Generation},
        request::{NATIVE, OFF, read_number, resolution},
    },
    media_type,
};

/// Checks the parameters that the second generation alone has.
pub(super) fn check(params: &mut Fields<'_>, family: &Family, model: &str) {
    for name in ["settings", "options"] {
        if params.value(name).is_some_and(|value| !value.is_object()) {
            let words = "must be an object, whose fields Kling gets as they are";
            params.wrong(name, words);
        }
    }
    let allowed: Option<Vec<String>> = family.modes.as_ref().map(|modes| {
        let of_modes = modes.iter().map(|mode| resolution(mode).to_owned());
        of_modes.collect()
    });
    one_of(params, "resolution", allowed.as_deref());
    check_choice(params, "settings.resolution", allowed.as_deref());
    check_choice(params, "settings.aspect_ratio", family.ratios.as_deref());
    if family.sound.is_some() {
        let audios = [NATIVE, OFF].map(str::to_owned);
        check_choice(params, "audio", Some(&audios));
        check_choice(params, "settings.audio", Some(&audios));
    }
    check_numbers(params, family, model);
    check_contents(params, family, model);
    let resolutions = resolutions(params, Generation::Second);
    check_agreement(params, &resolutions);
    let sounds = sounds(params, Generation::Second);
    check_agreement(params, &sounds);
    let durations: Vec<(&str, f64)> = ["duration", "settings.duration"]
        .into_iter()
        .filter_map(|name| Some((name, read_number(at(params, name)?)?)))
        .collect();
    check_agreement(params, &durations);
}

/// The resolutions that a task asks for, each with its field.
pub(super) fn resolutions<'a>(
    params: &Fields<'a>,
    generation: Generation,
) -> Vec<(&'static str, &'a str)> {
    let spellings = match generation {
        Generation::First => &["mode"][..],
        Generation::Second => &["mode", "resolution", "settings.resolution"],
    };
    let said = spellings.iter().filter_map(|name| {
        let text = at(params, name)?.as_str().filter(|text| !text.is_empty())?;
        Some((
            *name,
            if *name == "mode" {
                resolution(text)
            } else {
                text
            },
        ))
    });
    said.collect()
}

/// The fields in which a task asks for sound (`true`) or for none (`false`).
pub(super) fn sounds(params: &Fields<'_>, generation: Generation) -> Vec<(&'static str, bool)> {
    let spellings = match generation {
        Generation::First => &["sound"][..],
        Generation::Second => &["sound", "audio", "settings.audio"],
    };
    let said = spellings.iter().filter_map(|name| {
        let wanted = match at(params, name)? {
            Value::Bool(wanted) => *wanted,
            Value::String(word) if word == "on" || word == NATIVE => true,
            Value::String(word) if word == OFF => false,
            _ => return None,
        };
        Some((*name, wanted))
    });
    said.collect()
}

/// The value of a parameter, or of a field of `settings`.
fn at<'a>(params: &Fields<'a>, name: &str) -> Option<&'a Value> {
    match name.split_once('.') {
        None => params.value(name),
        Some((outer, inner)) => params
            .value(outer)?
            .get(inner)
            .filter(|value| !value.is_null()),
    }
}

/// Checks that a text is one of these choices, if they are known.
fn check_choice(params: &mut Fields<'_>, name: &str, choices: Option<&[String]>) {
    let (Some(value), Some(choices)) = (at(params, name), choices) else {
        return;
    };
    if value != "" && choices.iter().all(|choice| value != choice.as_str()) {
        params.wrong(name, format!("must be one of {}", choices.join(", ")));
    }
}

/// Checks the numbers in `settings`, which Kling gets as they are.
fn check_numbers(params: &mut Fields<'_>, family: &Family, model: &str) {
    if let Some(value) = at(params, "settings.duration") {
        let wrong = match read_number(value).filter(|one| (1.0..=MOST_SECONDS).contains(one)) {
            None => Some(format!("must be a number from 1 to {MOST_SECONDS}")),
            Some(duration) => wrong_duration(duration, family, model),
        };
        if let Some(words) = wrong {
            params.wrong("settings.duration", words);
        }
    }
    if at(params, "settings.cfg_scale").is_some() && family.cfg_scale == Some(false) {
        let words = format!("is not a parameter of `{model}`; leave it out");
        params.wrong("settings.cfg_scale", words);
    }
}

/// Checks `contents`, which may hold pictures as well.
fn check_contents(params: &mut Fields<'_>, family: &Family, model: &str) {
    let Some(contents) = params.value("contents") else {
        return;
    };
    let Some(entries) = contents.as_array() else {
        let words = "must be a list, whose entries Kling gets as they are";
        return params.wrong("contents", words);
    };
    for (n, entry) in entries.iter().enumerate() {
        let name = format!("contents[{n}]");
        if !entry.is_object() {
            params.wrong(&name, "must be an object");
        } else if entry["type"] == "last_frame" && family.image_tail == Some(false) {
            let words = format!("has a last frame, and `{model}` takes the first picture alone");
            params.wrong(&name, words);
        }
        let ending = entry["url"].as_str().and_then(media_type::by_ending);
        if let Some(media_type) = ending {
            let words = format!("is {media_type}, which Kling does not take; send png or jpeg");
            params.wrong(&format!("{name}.url"), words);
        }
    }
}

/// Checks that a wish is the same in each field that has it.
fn check_agreement<T: PartialEq>(params: &mut Fields<'_>, said: &[(&str, T)]) {
    let Some(((first, wanted), others)) = said.split_first() else {
        return;
    };
    for (name, other) in others {
        if other != wanted && params.is_right(name) {
            let words = format!("contradicts `{first}`; send one of the two");
            params.wrong(name, words);
        }
    }
}
