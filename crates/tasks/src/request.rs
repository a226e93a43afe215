//! The body of a request for a task, read without a tree of the whole: first the few fields, then the parameters.

use std::{cell::Cell, fmt, marker::PhantomData};

use problem::FieldError;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::{Deserializer, Map, Value};

use crate::{
    bounded::{Bounded, Budget},
    create::CreateError,
    executor::Executor,
    params::{Params, ParamsSeed},
};

/// The names of the fields beside `params`. Agents may keep notes of their own under other names.
const FIELDS: &[&str] = &[
    "project_id",
    "task_type",
    "node_id",
    "max_retries",
    "callback_url",
    "events",
    "cancel_after",
    "tags",
    "metadata",
];

/// The most bytes of these fields.
const MAX_FIELDS: usize = 64 * 1024;

/// The most bytes of the parameters without their pictures.
pub(crate) const MAX_PARAMS: usize = 64 * 1024;

/// The body of a request for a task. Its few fields are read; the parameters are read when their task type is known.
pub struct TaskRequest<'a> {
    body: &'a [u8],
    pub(crate) fields: Map<String, Value>,
}

impl<'a> TaskRequest<'a> {
    /// Reads the fields of a body.
    ///
    /// # Errors
    /// [`CreateError::NotAnObject`] if it is not a JSON object, [`CreateError::Invalid`] if a field is too long.
    pub fn read(body: &'a [u8]) -> Result<Self, CreateError> {
        let budget = Budget::new(MAX_FIELDS);
        let failed = Cell::new(None);
        let read = whole(
            body,
            Fields {
                budget: &budget,
                failed: &failed,
            },
        );
        match read {
            Ok(fields) => Ok(Self { body, fields }),
            Err(_) if budget.is_spent() => {
                let words = format!("must have at most {MAX_FIELDS} bytes together");
                let field = FIELDS.join(", ");
                Err(CreateError::Invalid(vec![FieldError::new(field, words)]))
            }
            Err(error) => Err(match failed.get() {
                Some(field) if is_json(body) => {
                    CreateError::Invalid(vec![FieldError::new(field, unreadable(&error))])
                }
                _ => CreateError::NotAnObject,
            }),
        }
    }

    /// The project that the body names, if it names one.
    pub fn project_id(&self) -> Option<&str> {
        self.fields.get("project_id").and_then(Value::as_str)
    }

    /// Reads the parameters. `None` if the body has none.
    ///
    /// # Errors
    /// The fault of the parameters, in words for the user.
    pub(crate) fn params(&self, executor: Option<&dyn Executor>) -> Result<Option<Params>, String> {
        let budget = Budget::new(MAX_PARAMS);
        let pictures = executor.map_or(&[][..], |executor| executor.pictures());
        let seed = OnlyParams(ParamsSeed {
            budget: &budget,
            pictures,
            types: executor.and_then(|executor| executor.picture_types()),
        });
        whole(self.body, seed).map_err(|error| {
            if budget.is_spent() {
                format!("must have at most {MAX_PARAMS} bytes without its pictures")
            } else if error.is_syntax() {
                unreadable(&error)
            } else {
                "must be an object".to_owned()
            }
        })
    }
}

/// Reads the whole body.
fn whole<'a, S: DeserializeSeed<'a>>(body: &'a [u8], seed: S) -> serde_json::Result<S::Value> {
    let mut deserializer = Deserializer::from_slice(body);
    let value = seed.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// Returns whether a body has the grammar of JSON. It may still be unreadable, because a number in it is too large, or
/// half of a character is missing.
fn is_json(body: &[u8]) -> bool {
    whole(body, PhantomData::<IgnoredAny>).is_ok()
}

/// Says what is wrong with a value that cannot be read, in words for the user.
fn unreadable(error: &serde_json::Error) -> String {
    format!("has a value that cannot be read: {error}")
}

/// Reads [`FIELDS`] and passes over everything else.
struct Fields<'b> {
    budget: &'b Budget,
    /// The field that could not be read.
    failed: &'b Cell<Option<&'static str>>,
}

impl<'de> DeserializeSeed<'de> for Fields<'_> {
    type Value = Map<String, Value>;

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut fields = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let Some(name) = FIELDS.iter().find(|name| **name == key) else {
                entries.next_value::<IgnoredAny>()?;
                continue;
            };
            let value = entries.next_value_seed(Bounded(self.budget));
            let value = value.inspect_err(|_| self.failed.set(Some(name)))?;
            fields.insert(key, value);
        }
        Ok(fields)
    }
}

/// Reads `params` and passes over everything else.
struct OnlyParams<'b>(ParamsSeed<'b>);

impl<'de> DeserializeSeed<'de> for OnlyParams<'_> {
    type Value = Option<Params>;

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for OnlyParams<'_> {
    type Value = Option<Params>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut params = None;
        while let Some(key) = entries.next_key::<String>()? {
            if key == "params" {
                params = entries.next_value_seed(self.0)?;
            } else {
                entries.next_value::<IgnoredAny>()?;
            }
        }
        Ok(params)
    }
}
