//! The adapter for SQLite of the host.

use async_trait::async_trait;
use platform::{Config, Database, DatabaseError, Row, Value};
use spin_sdk::sqlite;

/// The database `default`.
pub(crate) struct SpinDatabase(sqlite::Connection);

/// Opens the database. It has no settings.
pub(crate) fn open(_: &dyn Config) -> Result<SpinDatabase, DatabaseError> {
    let database = sqlite::Connection::open_default().map_err(database_failed)?;
    Ok(SpinDatabase(database))
}

fn database_failed(error: sqlite::Error) -> DatabaseError {
    DatabaseError::Failed(match error {
        sqlite::Error::Io(words) => words,
        other => other.to_string(),
    })
}

#[async_trait(?Send)]
impl Database for SpinDatabase {
    async fn execute(&self, sql: &str, parameters: Vec<Value>) -> Result<Vec<Row>, DatabaseError> {
        let parameters: Vec<sqlite::Value> = parameters
            .into_iter()
            .map(|value| match value {
                Value::Integer(value) => sqlite::Value::Integer(value),
                Value::Real(value) => sqlite::Value::Real(value),
                Value::Text(value) => sqlite::Value::Text(value),
                Value::Blob(value) => sqlite::Value::Blob(value),
                Value::Null => sqlite::Value::Null,
            })
            .collect();
        let result = self.0.execute(sql, &parameters).map_err(database_failed)?;
        Ok(result
            .rows
            .into_iter()
            .map(|row| {
                Row(row
                    .values
                    .into_iter()
                    .map(|value| match value {
                        sqlite::Value::Integer(value) => Value::Integer(value),
                        sqlite::Value::Real(value) => Value::Real(value),
                        sqlite::Value::Text(value) => Value::Text(value),
                        sqlite::Value::Blob(value) => Value::Blob(value),
                        sqlite::Value::Null => Value::Null,
                    })
                    .collect())
            })
            .collect())
    }
}
