//! A database that is opened when it is first needed.

use std::{cell::OnceCell, pin::Pin};

use async_trait::async_trait;

use crate::{Database, DatabaseError, Row, Value};

/// The opening of a database.
pub type Opening<D> = Pin<Box<dyn Future<Output = Result<D, DatabaseError>>>>;

/// A database that is opened at the first statement, so that a request that needs none costs none.
pub struct LazyDatabase<D, O> {
    opened: OnceCell<D>,
    open: O,
}

impl<D, O> LazyDatabase<D, O> {
    /// Makes a database that `open` opens.
    pub fn new(open: O) -> Self {
        Self {
            opened: OnceCell::new(),
            open,
        }
    }
}

#[async_trait(?Send)]
impl<D, O> Database for LazyDatabase<D, O>
where
    D: Database,
    O: Fn() -> Opening<D>,
{
    async fn execute(&self, sql: &str, parameters: Vec<Value>) -> Result<Vec<Row>, DatabaseError> {
        let database = match self.opened.get() {
            Some(database) => database,
            None => {
                let database = (self.open)().await?;
                // If two statements open it at once, the first stays.
                self.opened.get_or_init(|| database)
            }
        };
        database.execute(sql, parameters).await
    }
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;
    use crate::native::{SqliteFile, block_on};
    use std::{cell::Cell, rc::Rc};

    #[test]
    fn it_is_opened_once_and_again_if_that_failed() {
        let opened = Rc::new(Cell::new(0));
        let count = Rc::clone(&opened);
        let database = LazyDatabase::new(move || {
            count.set(count.get() + 1);
            let result = match count.get() {
                1 => Err(DatabaseError::Failed("away".into())),
                _ => SqliteFile::open(":memory:".as_ref()),
            };
            let opening: Opening<_> = Box::pin(async { result });
            opening
        });
        let ask = || block_on(database.execute("SELECT 1", vec![]));
        assert!(ask().is_err());
        assert!(ask().is_ok() && ask().is_ok());
        assert_eq!(opened.get(), 2);
    }
}
