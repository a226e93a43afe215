//! Reading what users send, and saying what is wrong with each field.

use serde_json::{Map, Value};

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FieldError {
    /// Its path, such as `params.duration`.
    pub field: String,
    /// What to send instead, in words for the sender.
    pub message: String,
}

/// The fields of a JSON object, read one by one. What is wrong is collected, so that a user hears of
/// all of it at once.
#[derive(Debug)]
pub struct Fields<'a> {
    values: &'a Map<String, Value>,
    prefix: &'static str,
    errors: Vec<FieldError>,
}

impl<'a> Fields<'a> {
    /// The fields of `values`, called `prefix` + name in errors.
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

    /// A field as it is; `None` where it is missing or null.
    pub fn value(&self, name: &str) -> Option<&'a Value> {
        self.values.get(name).filter(|value| !value.is_null())
    }

    /// A string of at most `longest` characters; an empty one counts as missing.
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

    /// A string that must be there.
    pub fn required_text(&mut self, name: &str, longest: usize) -> Option<&'a str> {
        let errors = self.errors.len();
        let text = self.text(name, longest);
        if text.is_none() && self.errors.len() == errors {
            self.wrong(name, "is missing");
        }
        text
    }

    /// One of these strings.
    pub fn one_of(&mut self, name: &str, choices: &[&str]) -> Option<&'a str> {
        let text = self.text(name, 1000)?;
        if choices.contains(&text) {
            return Some(text);
        }
        self.wrong(name, format!("must be one of {}", choices.join(", ")));
        None
    }

    /// A number, or a string that is one, within these bounds.
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

    /// A list of at most `most` strings; empty where it is missing.
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

    /// What was wrong. A field that nobody asked for is no error: agents keep notes of their own there.
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
