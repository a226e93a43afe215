//! Reading the JSON that users send, and naming each wrong field.

use serde_json::{Map, Value};

/// The longest text of a task, such as a prompt, in characters.
pub(crate) const MAX_TEXT: usize = 16 * 1024;

/// An error in one field.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FieldError {
    /// The path of the field, such as `params.duration`.
    pub field: String,
    /// The form that is expected, in words for the sender.
    pub message: String,
}

/// The fields of a JSON object, read one by one. Errors are collected, so that a user learns all of them at
/// once.
#[derive(Debug)]
pub struct Fields<'a> {
    values: &'a Map<String, Value>,
    prefix: &'static str,
    errors: Vec<FieldError>,
}

impl<'a> Fields<'a> {
    /// Begins to read the fields of `values`. Errors name a field by `prefix` and its name.
    pub fn new(values: &'a Map<String, Value>, prefix: &'static str) -> Self {
        Self {
            values,
            prefix,
            errors: Vec::new(),
        }
    }

    /// Notes an error of a field.
    pub fn wrong(&mut self, name: &str, message: impl Into<String>) {
        self.errors.push(FieldError {
            field: format!("{}{name}", self.prefix),
            message: message.into(),
        });
    }

    /// The value of a field; `None` if it is missing or null.
    pub fn value(&self, name: &str) -> Option<&'a Value> {
        self.values.get(name).filter(|value| !value.is_null())
    }

    /// Reads a string of at most `longest` characters; an empty one counts as missing.
    pub fn text(&mut self, name: &str, longest: usize) -> Option<&'a str> {
        match self.value(name)? {
            Value::String(text) if text.chars().count() <= longest => {
                Some(text.as_str()).filter(|text| !text.is_empty())
            }
            Value::String(_) => {
                self.wrong(name, format!("has more than {longest} characters"));
                None
            }
            _ => {
                self.wrong(name, "must be a string");
                None
            }
        }
    }

    /// Reads a string that must be there.
    pub fn required_text(&mut self, name: &str, longest: usize) -> Option<&'a str> {
        let errors = self.errors.len();
        let text = self.text(name, longest);
        if text.is_none() && self.errors.len() == errors {
            self.wrong(name, "is missing");
        }
        text
    }

    /// Reads one of these strings.
    pub fn one_of(&mut self, name: &str, choices: &[&str]) -> Option<&'a str> {
        let text = self.text(name, 1000)?;
        if choices.contains(&text) {
            return Some(text);
        }
        self.wrong(name, format!("must be one of {}", choices.join(", ")));
        None
    }

    /// Reads a number, or a string that holds one, within these bounds.
    pub fn number(&mut self, name: &str, least: f64, most: f64) -> Option<f64> {
        let number = match self.value(name)? {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        match number {
            Some(number) if (least..=most).contains(&number) => Some(number),
            _ => {
                self.wrong(name, format!("must be a number from {least} to {most}"));
                None
            }
        }
    }

    /// Reads a list of at most `most` strings; empty if it is missing.
    pub fn texts(&mut self, name: &str, most: usize) -> Vec<&'a str> {
        let Some(value) = self.value(name) else {
            return Vec::new();
        };
        let texts: Option<Vec<&str>> = value
            .as_array()
            .map(|values| values.iter().map(Value::as_str).collect())
            .unwrap_or_default();
        match texts {
            Some(texts) if texts.len() <= most => texts,
            Some(_) => {
                self.wrong(name, format!("has more than {most} entries"));
                Vec::new()
            }
            None => {
                self.wrong(name, "must be a list of strings");
                Vec::new()
            }
        }
    }

    /// The errors. A field that was not read is no error, because agents keep notes of their own there.
    pub fn finish(self) -> Vec<FieldError> {
        self.errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_wrong_field_is_named_once() {
        let Value::Object(values) = json!({
            "mode": "fast", "duration": "11", "prompt": 7, "images": ["a", 1], "note": "mine",
            "empty": "", "fine": "5", "null": null,
        }) else {
            unreachable!()
        };
        let mut fields = Fields::new(&values, "params.");
        assert_eq!(fields.one_of("mode", &["std", "pro"]), None);
        assert_eq!(fields.number("duration", 5.0, 10.0), None);
        assert_eq!(fields.number("fine", 5.0, 10.0), Some(5.0));
        assert_eq!(fields.required_text("prompt", 10), None);
        assert_eq!(fields.required_text("empty", 10), None);
        assert_eq!(fields.text("null", 10), None);
        assert!(fields.texts("images", 3).is_empty());
        let wrong: Vec<String> = fields.finish().into_iter().map(|e| e.field).collect();
        assert_eq!(
            wrong,
            [
                "params.mode",
                "params.duration",
                "params.prompt",
                "params.empty",
                "params.images"
            ]
        );
    }
}
