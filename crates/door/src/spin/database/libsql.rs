//! The adapter for libSQL over HTTP, at the address in the setting `database_url`.

use platform::{
    Config, DatabaseError,
    clock::SystemClock,
    hrana::{DATABASE_TOKEN, DATABASE_URL, HranaDatabase},
};

use crate::spin::http_client::SpinHttpClient;

/// The database server.
pub(crate) type SpinDatabase = HranaDatabase<SpinHttpClient, SystemClock>;

/// Makes the adapter. Nothing is sent before the first statement.
pub(crate) fn open(config: &dyn Config) -> Result<SpinDatabase, DatabaseError> {
    let read = |setting| {
        let value = config.read(setting);
        value.map_err(|error| DatabaseError::Failed(error.to_string()))
    };
    let url = read(DATABASE_URL)?.unwrap_or_default();
    let token = read(DATABASE_TOKEN)?;
    HranaDatabase::new(SpinHttpClient, SystemClock, &url, token.as_deref())
}
