//! Ports for the tests of this crate.

#![allow(clippy::unwrap_used)]

use platform::{
    HttpError, Ports, Row,
    clock::SystemClock,
    migrations,
    native::{AnswerWith, MapConfig, MemoryKeyValue, Published, SetClock, SqliteFile, block_on},
};

use crate::projects::{self, NewProject};

type NoHttp = AnswerWith<fn(http::Request<Vec<u8>>) -> Result<http::Response<Vec<u8>>, HttpError>>;

/// An empty database, a clock at 0, and nobody to answer.
pub(crate) struct World {
    _folder: tempfile::TempDir,
    database: SqliteFile,
    config: MapConfig,
    key_value: MemoryKeyValue,
    pubsub: Published,
    http: NoHttp,
    pub(crate) clock: SetClock,
}

impl World {
    pub(crate) fn new(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = SqliteFile::open(&folder.path().join("db")).unwrap();
        block_on(migrations::apply(&database, &SystemClock)).unwrap();
        Self {
            _folder: folder,
            database,
            config: MapConfig::from_pairs(settings),
            key_value: MemoryKeyValue::default(),
            pubsub: Published::default(),
            http: AnswerWith(|_| Err(HttpError::NoAnswer("nobody".into()))),
            clock: SetClock::default(),
        }
    }

    /// With settings of which one cannot be read.
    pub(crate) fn with_unreadable(settings: &[(&str, &str)], unreadable: &str) -> Self {
        let mut world = Self::new(settings);
        world.config = std::mem::take(&mut world.config).with_unreadable(unreadable);
        world
    }

    /// Makes a project, named after its id.
    pub(crate) fn project(&self, project_id: &str, owner_id: &str) {
        let new = NewProject {
            project_id,
            name: project_id,
            owner_id,
        };
        block_on(projects::create(&self.database, &self.clock, new)).unwrap();
    }

    pub(crate) fn ports(&self) -> Ports<'_> {
        Ports {
            database: &self.database,
            key_value: &self.key_value,
            pubsub: &self.pubsub,
            http: &self.http,
            config: &self.config,
            clock: &self.clock,
        }
    }

    pub(crate) fn rows(&self, sql: &str) -> Vec<Row> {
        use platform::Database;
        block_on(self.database.execute(sql, vec![])).unwrap()
    }
}
