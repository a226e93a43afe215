//! The SQL database (SQLite, or libSQL over HTTP).

use async_trait::async_trait;
use problem::Problem;
use thiserror::Error;

/// Runs SQL statements.
///
/// A statement is a transaction of its own: it happens whole or not at all, and it is on disk when the call returns.
/// There are no interactive transactions, because a database over HTTP has none.
#[async_trait(?Send)]
pub trait Database {
    /// Runs one statement with its parameters (`?1`, `?2` …) and returns its rows.
    ///
    /// # Errors
    /// If the statement failed, or if it is not known whether it happened.
    async fn execute(&self, sql: &str, parameters: Vec<Value>) -> Result<Vec<Row>, DatabaseError>;
}

/// A value in SQLite.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A 64-bit integer.
    Integer(i64),
    /// A floating-point number.
    Real(f64),
    /// A string.
    Text(String),
    /// A sequence of bytes.
    Blob(Vec<u8>),
    /// The value NULL.
    Null,
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<u64> for Value {
    /// Turns a value that is too large for SQLite's signed integers into the largest one.
    fn from(value: u64) -> Self {
        Self::Integer(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Blob(value)
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// A condition of a statement: a boolean SQL expression with parameters of its own, `?1` and so on. A statement that
/// contains it numbers its own parameters after these.
#[derive(Debug, Clone)]
pub struct Condition {
    /// The expression.
    pub sql: String,
    /// The parameters of the expression.
    pub parameters: Vec<Value>,
}

impl Default for Condition {
    /// A condition that always holds.
    fn default() -> Self {
        Self {
            sql: "1".to_owned(),
            parameters: Vec::new(),
        }
    }
}

/// A row of a result.
#[derive(Debug, Clone, PartialEq)]
pub struct Row(pub Vec<Value>);

impl Row {
    fn take(&mut self, column: usize) -> Value {
        self.0
            .get_mut(column)
            .map_or(Value::Null, |value| std::mem::replace(value, Value::Null))
    }

    fn wrong(&self, column: usize, wanted: &str) -> DatabaseError {
        DatabaseError::Unexpected(format!("column {column} is not {wanted}"))
    }

    /// Reads the integer in a column; NULL counts as 0.
    ///
    /// # Errors
    /// If the column is missing or holds another type.
    pub fn integer(&self, column: usize) -> Result<i64, DatabaseError> {
        match self.0.get(column) {
            Some(Value::Integer(value)) => Ok(*value),
            Some(Value::Null) => Ok(0),
            _ => Err(self.wrong(column, "an integer")),
        }
    }

    /// Reads the non-negative integer in a column, such as a rev; NULL counts as 0.
    ///
    /// # Errors
    /// If the column is missing, negative, or holds another type.
    pub fn unsigned(&self, column: usize) -> Result<u64, DatabaseError> {
        u64::try_from(self.integer(column)?).map_err(|_| self.wrong(column, "a count"))
    }

    /// Takes the string out of a column.
    ///
    /// # Errors
    /// If the column is missing or holds another type.
    pub fn text(&mut self, column: usize) -> Result<String, DatabaseError> {
        match self.take(column) {
            Value::Text(value) => Ok(value),
            _ => Err(self.wrong(column, "a string")),
        }
    }

    /// Reads the integer in a column; NULL is `None`.
    ///
    /// # Errors
    /// If the column is missing or holds another type.
    pub fn optional_integer(&self, column: usize) -> Result<Option<i64>, DatabaseError> {
        match self.0.get(column) {
            Some(Value::Null) => Ok(None),
            _ => self.integer(column).map(Some),
        }
    }

    /// Takes the string out of a column; NULL is `None`.
    ///
    /// # Errors
    /// If the column is missing or holds another type.
    pub fn optional_text(&mut self, column: usize) -> Result<Option<String>, DatabaseError> {
        match self.0.get(column) {
            Some(Value::Null) => Ok(None),
            _ => self.text(column).map(Some),
        }
    }

    /// Takes the bytes out of a column; NULL counts as no bytes.
    ///
    /// # Errors
    /// If the column is missing or holds another type.
    pub fn blob(&mut self, column: usize) -> Result<Vec<u8>, DatabaseError> {
        match self.take(column) {
            Value::Blob(value) => Ok(value),
            Value::Null => Ok(Vec::new()),
            _ => Err(self.wrong(column, "bytes")),
        }
    }
}

/// A failed statement.
#[derive(Debug, Error)]
pub enum DatabaseError {
    /// The database refused the statement or failed, with this message.
    #[error("database: {0}")]
    Failed(String),
    /// The answer did not come, so it is not known whether the statement happened.
    #[error("database: no answer: {0}")]
    NoAnswer(String),
    /// The database answered with something that the statement does not ask for.
    #[error("unexpected answer of the database: {0}")]
    Unexpected(String),
}

impl From<DatabaseError> for Problem {
    fn from(error: DatabaseError) -> Self {
        tracing::error!(%error, "the database failed");
        Self::unavailable("The database does not answer as it should.")
    }
}
