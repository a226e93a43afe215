//! The check of a JSON body's fields: every field that is wrong is reported, not just the first.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::Problem;

/// A field that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// The field's path, such as `params.duration`.
    pub field: String,
    /// The words for the sender about what to change. They complete the sentence that begins with the field's name.
    pub message: String,
}

impl FieldError {
    /// Reports this field.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            message: message.into(),
        }
    }
}

/// Reads the fields of a JSON object one by one and collects what is wrong with them.
#[derive(Debug)]
pub struct Fields<'a> {
    values: &'a Map<String, Value>,
    prefix: &'static str,
    errors: Vec<FieldError>,
}

impl<'a> Fields<'a> {
    /// Reads the fields of `values`. Errors call a field `prefix` + its name.
    pub fn new(values: &'a Map<String, Value>, prefix: &'static str) -> Self {
        Self {
            values,
            prefix,
            errors: Vec::new(),
        }
    }

    /// Reports a field.
    pub fn wrong(&mut self, name: &str, message: impl Into<String>) {
        let field = format!("{}{name}", self.prefix);
        self.errors.push(FieldError::new(field, message));
    }

    /// The value of a field; `None` if it is missing or null.
    pub fn value(&self, name: &str) -> Option<&'a Value> {
        self.values.get(name).filter(|value| !value.is_null())
    }

    /// A string of at most `longest` characters; an empty string counts as missing.
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

    /// A string that is required.
    pub fn required_text(&mut self, name: &str, longest: usize) -> Option<&'a str> {
        let errors = self.errors.len();
        let text = self.text(name, longest);
        if text.is_none() && self.errors.len() == errors {
            self.wrong(name, "is missing");
        }
        text
    }

    /// A string that names a person or a thing: 1 to `longest` characters in one line, not counting blanks around them.
    pub fn name(&mut self, name: &str, longest: usize) -> Option<&'a str> {
        let Value::String(text) = self.value(name)? else {
            self.wrong(name, "must be a string");
            return None;
        };
        let text = text.trim();
        if (1..=longest).contains(&text.chars().count()) && !text.chars().any(char::is_control) {
            return Some(text);
        }
        self.wrong(
            name,
            format!("must have 1 to {longest} characters, in one line"),
        );
        None
    }

    /// Reads a string that must be one of these.
    pub fn one_of(&mut self, name: &str, choices: &[&str]) -> Option<&'a str> {
        let text = self.text(name, 1000)?;
        if choices.contains(&text) {
            return Some(text);
        }
        self.wrong(name, format!("must be one of {}", choices.join(", ")));
        None
    }

    /// Reads `true` or `false`; false if the field is missing.
    pub fn flag(&mut self, name: &str) -> bool {
        match self.value(name) {
            None => false,
            Some(Value::Bool(flag)) => *flag,
            Some(_) => {
                self.wrong(name, "must be true or false");
                false
            }
        }
    }

    /// A positive whole number of seconds.
    pub fn seconds(&mut self, name: &str) -> Option<i64> {
        let seconds = self.value(name)?.as_i64().filter(|seconds| *seconds > 0);
        if seconds.is_none() {
            self.wrong(name, "must be a positive whole number of seconds");
        }
        seconds
    }

    /// A number, or a string that holds one, within these bounds.
    pub fn number(&mut self, name: &str, least: f64, most: f64) -> Option<f64> {
        let number = match self.value(name)? {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        let number = number.filter(|number| (least..=most).contains(number));
        if number.is_none() {
            self.wrong(name, format!("must be a number from {least} to {most}"));
        }
        number
    }

    /// A list of at most `most` strings; empty if the field is missing.
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

    /// Returns whether nothing is wrong with a field so far.
    pub fn is_right(&self, name: &str) -> bool {
        let field = format!("{}{name}", self.prefix);
        self.errors.iter().all(|error| error.field != field)
    }

    /// The fields that were wrong. A field that was never read is not an error, because agents keep notes of their own
    /// there.
    pub fn finish(self) -> Vec<FieldError> {
        self.errors
    }

    /// Ends the check.
    ///
    /// # Errors
    /// 422 if a field was wrong.
    pub fn check(self) -> Result<(), Problem> {
        if self.errors.is_empty() {
            Ok(())
        } else {
            Err(Problem::invalid_fields(self.errors))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(values) => values,
            _ => unreachable!(),
        }
    }

    fn names(fields: Fields<'_>) -> Vec<String> {
        fields.finish().into_iter().map(|e| e.field).collect()
    }

    #[test]
    fn each_wrong_field_is_named_once() {
        let values = object(json!({
            "mode": "fast", "duration": "11", "prompt": 7, "images": ["a", 1], "note": "mine",
            "empty": "", "fine": "5", "null": null, "many": ["a", "b"], "long": "äöü",
        }));
        let mut fields = Fields::new(&values, "params.");
        assert_eq!(fields.one_of("mode", &["std", "pro"]), None);
        assert_eq!(fields.number("duration", 5.0, 10.0), None);
        assert_eq!(fields.number("fine", 5.0, 10.0), Some(5.0));
        assert_eq!(fields.required_text("prompt", 10), None);
        assert_eq!(fields.required_text("empty", 10), None);
        assert_eq!(fields.text("null", 10), None);
        assert_eq!(fields.text("long", 3), Some("äöü"));
        assert_eq!(fields.text("long", 2), None);
        assert!(fields.texts("images", 3).is_empty());
        assert_eq!(fields.texts("many", 2), ["a", "b"]);
        assert!(fields.texts("many", 1).is_empty());
        let expected = [
            "mode", "duration", "prompt", "empty", "long", "images", "many",
        ];
        assert_eq!(names(fields), expected.map(|name| format!("params.{name}")));
    }

    #[test]
    fn names_flags_and_seconds_are_checked() {
        let values = object(json!({
            "name": " Anna ", "blank": "  ", "lines": "a\nb", "five": 5, "long": "abcdef", "on": true, "off": false,
            "zero": 0, "half": 1.5, "soon": 60,
        }));
        let mut fields = Fields::new(&values, "");
        assert_eq!(fields.name("name", 4), Some("Anna"));
        assert_eq!(fields.name("missing", 4), None);
        for wrong in ["blank", "lines", "five", "long"] {
            assert_eq!(fields.name(wrong, 5), None, "{wrong}");
        }
        assert!(fields.flag("on") && !fields.flag("off") && !fields.flag("missing"));
        assert!(!fields.flag("soon"));
        assert_eq!(fields.seconds("soon"), Some(60));
        assert_eq!(fields.seconds("missing"), None);
        for wrong in ["zero", "half", "name"] {
            assert_eq!(fields.seconds(wrong), None, "{wrong}");
        }
        let problem = fields.check().unwrap_err();
        let told: Value = serde_json::from_str(&problem.body()).unwrap();
        let told: Vec<_> = told["errors"].as_array().into_iter().flatten().collect();
        let told: Vec<_> = told.iter().map(|error| error["field"].as_str()).collect();
        let expected = [
            "blank", "lines", "five", "long", "soon", "zero", "half", "name",
        ];
        assert_eq!(told, expected.map(Some));
        assert_eq!(Fields::new(&values, "").check(), Ok(()));
    }
}
