//! The bodies of requests: small JSON objects.

use platform::{Problem, spin::Incoming};
use serde_json::{Map, Value};

/// The largest body, in bytes.
const MAX_BYTES: usize = 64 * 1024;

/// The longest name, in characters.
const MAX_NAME: usize = 200;

/// The longest id of a user, in bytes.
const MAX_USER: usize = 255;

/// A body.
pub(crate) struct Body(Map<String, Value>);

impl Body {
    /// Reads it. An empty one is an object without fields.
    ///
    /// # Errors
    /// 400, where it is no JSON object, and 413.
    pub(crate) async fn read(request: Incoming) -> Result<Self, Problem> {
        let body = request.body(MAX_BYTES).await?;
        if body.is_empty() {
            return Ok(Self(Map::new()));
        }
        match serde_json::from_slice(&body) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            _ => Err(Problem::bad_request("The body must be a JSON object.")),
        }
    }

    /// A field that is text.
    ///
    /// # Errors
    /// 422, where it is something else.
    pub(crate) fn text(&self, field: &str) -> Result<Option<&str>, Problem> {
        match self.0.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(wrong(field, "must be text")),
        }
    }

    /// The field `name`.
    ///
    /// # Errors
    /// 422, where it is no name.
    pub(crate) fn name(&self) -> Result<Option<&str>, Problem> {
        let name = self.text("name")?.map(str::trim);
        match name {
            Some(name)
                if !(1..=MAX_NAME).contains(&name.chars().count())
                    || name.chars().any(char::is_control) =>
            {
                Err(wrong("name", "must have 1 to 200 characters, in one line"))
            }
            name => Ok(name),
        }
    }

    /// A field that is true or false; false where it is not there.
    ///
    /// # Errors
    /// 422, where it is something else.
    pub(crate) fn flag(&self, field: &str) -> Result<bool, Problem> {
        match self.0.get(field) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(wrong(field, "must be true or false")),
        }
    }

    /// A field that is a user's id.
    ///
    /// # Errors
    /// 422, where it cannot be one.
    pub(crate) fn user(&self, field: &str) -> Result<Option<&str>, Problem> {
        let id = self.text(field)?;
        id.map(|id| user_id(id, field)).transpose()
    }

    /// A field that is a time or a number of seconds.
    ///
    /// # Errors
    /// 422, where it is none, or not in the future.
    pub(crate) fn positive(&self, field: &str) -> Result<Option<i64>, Problem> {
        match self.0.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value
                .as_i64()
                .filter(|seconds| *seconds > 0)
                .map(Some)
                .ok_or_else(|| wrong(field, "must be a positive whole number of seconds")),
        }
    }
}

/// A text that can be a user's id.
///
/// # Errors
/// 422, where it cannot.
pub(crate) fn user_id<'a>(id: &'a str, field: &str) -> Result<&'a str, Problem> {
    if (1..=MAX_USER).contains(&id.len()) && !id.chars().any(char::is_control) {
        Ok(id)
    } else {
        Err(wrong(field, "must be the id of a user, of 1 to 255 bytes"))
    }
}

/// 422, naming a field and what is wrong with it.
pub(crate) fn wrong(field: &str, reason: &str) -> Problem {
    Problem::new(
        422,
        "invalid-fields",
        "Wrong fields",
        format!("`{field}` {reason}."),
    )
    .with_errors(serde_json::json!([{ "field": field, "reason": reason }]))
}
