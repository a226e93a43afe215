//! The ports together, for tests that need several of them.

use crate::{
    Database, HttpError, Ports, Row,
    clock::SystemClock,
    migrations,
    native::{AnswerWith, MapConfig, MemoryKeyValue, Published, SetClock, block_on, database_in},
};

type Deaf = AnswerWith<fn(http::Request<Vec<u8>>) -> Result<http::Response<Vec<u8>>, HttpError>>;

/// An empty database with the newest schema, settings, a clock at 0, and an Internet that never answers.
pub struct World {
    database: Box<dyn Database>,
    config: MapConfig,
    key_value: MemoryKeyValue,
    http: Deaf,
    /// The messages that were published.
    pub pubsub: Published,
    /// The clock.
    pub clock: SetClock,
}

impl World {
    /// Makes a world with these settings.
    ///
    /// # Panics
    /// If SQLite fails.
    #[allow(clippy::expect_used)]
    pub fn new(config: MapConfig) -> Self {
        let database = database_in(":memory:".as_ref()).expect("SQLite opens in memory");
        block_on(migrations::apply(&database, &SystemClock)).expect("the schema is made");
        Self {
            database,
            config,
            key_value: MemoryKeyValue::default(),
            http: AnswerWith(|_| Err(HttpError::NoAnswer("no server answers".into()))),
            pubsub: Published::default(),
            clock: SetClock::default(),
        }
    }

    /// Returns the ports.
    pub fn ports(&self) -> Ports<'_> {
        Ports {
            database: &*self.database,
            key_value: &self.key_value,
            pubsub: &self.pubsub,
            http: &self.http,
            config: &self.config,
            clock: &self.clock,
        }
    }

    /// Runs a query and returns its rows.
    ///
    /// # Panics
    /// If the query fails.
    #[allow(clippy::expect_used)]
    pub fn rows(&self, sql: &str) -> Vec<Row> {
        block_on(self.database.execute(sql, vec![])).expect("the query succeeds")
    }
}
