//! The part of the JSON of Hrana 3 that one statement for each request needs. Integers are strings there, and bytes are
//! Base64, which a server may send with or without padding.

use std::{borrow::Cow, fmt};

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::{DatabaseError, Row, Value};

/// The Base64 that is written without padding, and read with or without it.
pub(crate) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[derive(Serialize)]
struct Pipeline<'a> {
    baton: Option<&'a str>,
    requests: [Request<'a>; 2],
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Request<'a> {
    Execute { stmt: Statement<'a> },
    Close,
}

#[derive(Serialize)]
struct Statement<'a> {
    sql: &'a str,
    args: Vec<Argument>,
    want_rows: bool,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Argument {
    Null,
    Integer { value: String },
    Float { value: f64 },
    Text { value: String },
    Blob { base64: String },
}

impl TryFrom<Value> for Argument {
    type Error = DatabaseError;

    fn try_from(value: Value) -> Result<Self, DatabaseError> {
        Ok(match value {
            Value::Null => Self::Null,
            Value::Integer(value) => Self::Integer {
                value: value.to_string(),
            },
            // JSON has neither infinity nor NaN.
            Value::Real(value) if !value.is_finite() => {
                return Err(DatabaseError::Failed(format!("{value} cannot be sent")));
            }
            Value::Real(value) => Self::Float { value },
            Value::Text(value) => Self::Text { value },
            Value::Blob(bytes) => Self::Blob {
                base64: BASE64.encode(bytes),
            },
        })
    }
}

/// Writes the request that executes one statement and closes its stream.
///
/// # Errors
/// If a parameter is a number that JSON does not have.
pub(super) fn encode(sql: &str, parameters: Vec<Value>) -> Result<Vec<u8>, DatabaseError> {
    let args = parameters
        .into_iter()
        .map(Argument::try_from)
        .collect::<Result<_, _>>()?;
    let statement = Statement {
        sql,
        args,
        want_rows: true,
    };
    let pipeline = Pipeline {
        baton: None,
        requests: [Request::Execute { stmt: statement }, Request::Close],
    };
    serde_json::to_vec(&pipeline).map_err(|error| DatabaseError::Failed(error.to_string()))
}

/// The result of a statement.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The names of the columns; the name is empty if a column has none.
    pub columns: Vec<String>,
    /// The rows of the result.
    pub rows: Vec<Row>,
}

/// The server's answer to a statement.
pub(super) enum Answered {
    /// The statement has this result.
    Found(Found),
    /// The statement failed, and changed nothing.
    Refused(Refused),
}

/// The reason why a statement failed.
#[derive(Deserialize)]
pub(super) struct Refused {
    /// The error in the database's words.
    pub(super) message: String,
    /// The code of the error, such as `SQLITE_BUSY`.
    #[serde(default)]
    pub(super) code: String,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    results: Vec<Outcome<'a>>,
}

#[derive(Deserialize)]
struct Outcome<'a> {
    #[serde(borrow)]
    response: Option<Response<'a>>,
    error: Option<Refused>,
}

#[derive(Deserialize)]
struct Response<'a> {
    #[serde(borrow)]
    result: Option<Rows<'a>>,
}

#[derive(Deserialize)]
struct Rows<'a> {
    #[serde(default)]
    cols: Vec<Column>,
    #[serde(borrow)]
    rows: Vec<Vec<Cell<'a>>>,
}

#[derive(Deserialize)]
struct Column {
    name: Option<String>,
}

#[derive(Deserialize)]
struct Cell<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    value: Option<Scalar<'a>>,
    #[serde(borrow)]
    base64: Option<Scalar<'a>>,
}

/// A string or a number, without a copy if JSON has it without escapes.
enum Scalar<'a> {
    Text(Cow<'a, str>),
    Integer(i64),
    Real(f64),
}

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Scalar<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a number")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Scalar::Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Scalar::Text(Cow::Owned(text.to_owned())))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
                Ok(Scalar::Integer(number))
            }

            #[allow(clippy::cast_precision_loss)]
            // Only a float is that large.
            fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
                Ok(i64::try_from(number).map_or(Scalar::Real(number as f64), Scalar::Integer))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
                Ok(Scalar::Real(number))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl Cell<'_> {
    fn into_value(self) -> Result<Value, String> {
        let wrong = || format!("a value of type {:?} is not as it should be", self.kind);
        Ok(match (self.kind.as_ref(), self.value, self.base64) {
            ("null", _, _) => Value::Null,
            ("integer", Some(Scalar::Text(text)), _) => {
                Value::Integer(text.parse().map_err(|_| wrong())?)
            }
            ("integer", Some(Scalar::Integer(number)), _) => Value::Integer(number),
            ("float", Some(Scalar::Real(number)), _) => Value::Real(number),
            #[allow(clippy::cast_precision_loss)]
            // A whole number may be written without its point.
            ("float", Some(Scalar::Integer(number)), _) => Value::Real(number as f64),
            ("text", Some(Scalar::Text(text)), _) => Value::Text(text.into_owned()),
            ("blob", _, Some(Scalar::Text(text))) => {
                Value::Blob(BASE64.decode(text.as_bytes()).map_err(|_| wrong())?)
            }
            _ => return Err(wrong()),
        })
    }
}

/// Reads the answer to a request of [`encode`].
///
/// # Errors
/// If the body is not such an answer.
pub(super) fn decode(body: &[u8]) -> Result<Answered, String> {
    let answer: Answer<'_> = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let outcome = answer.results.into_iter().next();
    let outcome = outcome.ok_or("the answer has no result")?;
    if let Some(refused) = outcome.error {
        return Ok(Answered::Refused(refused));
    }
    let rows = outcome.response.and_then(|response| response.result);
    let Rows { cols, rows } = rows.ok_or("the answer has no rows")?;
    let rows = rows.into_iter().map(|row| {
        let values = row.into_iter().map(Cell::into_value);
        values.collect::<Result<_, _>>().map(Row)
    });
    let columns = cols.into_iter();
    Ok(Answered::Found(Found {
        columns: columns
            .map(|column| column.name.unwrap_or_default())
            .collect(),
        rows: rows.collect::<Result<_, _>>()?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_have_their_names() {
        let answer = br#"{"results":[{"type":"ok","response":{"type":"execute","result":{
            "cols":[{"name":"a","decltype":"TEXT"},{"name":null}],
            "rows":[[{"type":"text","value":"x"},{"type":"integer","value":"7"}]]}}}]}"#;
        let Ok(Answered::Found(found)) = decode(answer) else {
            panic!("refused");
        };
        assert_eq!(found.columns, ["a", ""]);
        let row = Row(vec![Value::Text("x".into()), Value::Integer(7)]);
        assert_eq!(found.rows, [row]);
    }

    #[test]
    fn a_whole_number_may_lack_its_point_whatever_its_size() {
        let value = |cell: &str| {
            let answer = format!(
                r#"{{"results":[{{"type":"ok","response":{{"result":{{"rows":[[{cell}]]}}}}}}]}}"#
            );
            match decode(answer.as_bytes()) {
                Ok(Answered::Found(found)) => Ok(found.rows),
                Ok(Answered::Refused(refused)) => Err(refused.message),
                Err(error) => Err(error),
            }
        };
        for (written, expected) in [
            ("7", 7.0),
            ("-7", -7.0),
            ("9223372036854775807", 2_f64.powi(63)),
            ("9223372036854775808", 2_f64.powi(63)),
            ("18446744073709551615", 2_f64.powi(64)),
            ("18446744073709551616", 2_f64.powi(64)),
            ("-9223372036854775809", -(2_f64.powi(63))),
        ] {
            let found = value(&format!(r#"{{"type":"float","value":{written}}}"#));
            assert_eq!(
                found,
                Ok(vec![Row(vec![Value::Real(expected)])]),
                "{written}"
            );
        }
        let error = value(r#"{"type":"integer","value":9223372036854775808}"#).unwrap_err();
        assert!(error.contains("\"integer\""), "{error}");
    }
}
