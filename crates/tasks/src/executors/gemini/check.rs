//! The check of a new task's parameters: what Gemini would refuse, and what it would charge for in vain, is refused here.

use problem::Fields;
use serde_json::Value;

use super::models::Family;
use crate::task::MAX_TEXT;

/// The parameter that names the task whose picture is to be changed.
pub(super) const EDIT_OF: &str = "edit_of";
pub(super) const IMAGES: &[&str; 2] = &["reference_image_urls", "base64_images"];
/// The parameter for settings that this release does not know: its fields are added to Gemini's `generationConfig`.
pub(super) const GENERATION_CONFIG: &str = "generation_config";

/// The most characters of a task's id.
const MAX_NAME: usize = 128;

/// The most characters of a size or a ratio.
const MOST_CHOICE: usize = 32;

/// The most pictures of a model that is not known.
const MOST_IMAGES: usize = 14;

/// Checks the parameters of a new task for a model of this family.
pub(super) fn check(model: &str, family: &Family, params: &mut Fields<'_>) {
    // Agents send the prompt under one name or the other.
    if params.value("text").is_some() {
        params.required_text("text", MAX_TEXT);
    } else {
        params.required_text("prompt", MAX_TEXT);
    }
    params.text("system_prompt", MAX_TEXT);
    for (name, choices) in [
        ("aspect_ratio", &family.ratios),
        ("image_size", &family.sizes),
    ] {
        let text = params.text(name, MOST_CHOICE);
        check_choice(params, name, text, choices.as_deref(), model);
    }
    check_pictures(params, family, model);
    check_config(params, family, model);
}

/// Checks a text against the choices of the model, if they are known.
fn check_choice(
    params: &mut Fields<'_>,
    name: &str,
    text: Option<&str>,
    choices: Option<&[String]>,
    model: &str,
) {
    let (Some(text), Some(choices)) = (text, choices) else {
        return;
    };
    if choices.is_empty() {
        let words = format!("is not a parameter of `{model}`; leave it out");
        params.wrong(name, words);
    } else if !choices.iter().any(|choice| choice == text) {
        params.wrong(name, format!("must be one of {}", choices.join(", ")));
    }
}

/// Checks the number of pictures. The picture of an earlier task counts, too.
fn check_pictures(params: &mut Fields<'_>, family: &Family, model: &str) {
    let most = family.references.unwrap_or(MOST_IMAGES);
    let is_edit = params.text(EDIT_OF, MAX_NAME).is_some();
    let given: usize = IMAGES
        .iter()
        .map(|name| params.texts(name, MOST_IMAGES).len())
        .sum();
    if given + usize::from(is_edit) > most {
        let [first, _] = IMAGES;
        let words = format!(
            "`{model}` takes {most} pictures at most, all together and with that of `{EDIT_OF}`"
        );
        params.wrong(first, words);
    }
}

/// Checks the fields of `generation_config` that have the meaning of other parameters, or would make no picture that is
/// kept. Gemini reads each name in two spellings.
fn check_config(params: &mut Fields<'_>, family: &Family, model: &str) {
    let Some(config) = params.value(GENERATION_CONFIG) else {
        return;
    };
    if !config.is_object() {
        let words = "must be an object, which Gemini gets as it is";
        return params.wrong(GENERATION_CONFIG, words);
    }
    for outer in ["imageConfig", "image_config"] {
        for (inner, choices) in [
            ("imageSize", &family.sizes),
            ("image_size", &family.sizes),
            ("aspectRatio", &family.ratios),
            ("aspect_ratio", &family.ratios),
        ] {
            let name = format!("{GENERATION_CONFIG}.{outer}.{inner}");
            match &config[outer][inner] {
                Value::Null => {}
                Value::String(text) => {
                    check_choice(params, &name, Some(text), choices.as_deref(), model);
                }
                _ => params.wrong(&name, "must be a string"),
            }
        }
    }
    for name in ["responseModalities", "response_modalities"] {
        let has_image = |modes: &Vec<Value>| modes.iter().any(|mode| mode == "IMAGE");
        if !config[name].is_null() && !config[name].as_array().is_some_and(has_image) {
            let words = "must have IMAGE among its entries, because the result is a picture";
            params.wrong(&format!("{GENERATION_CONFIG}.{name}"), words);
        }
    }
    for name in ["candidateCount", "candidate_count"] {
        if !config[name].is_null() && config[name] != 1 {
            let words = "must be 1, because only the first candidate is kept";
            params.wrong(&format!("{GENERATION_CONFIG}.{name}"), words);
        }
    }
}
