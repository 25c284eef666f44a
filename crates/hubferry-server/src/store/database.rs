//! SQLite: one connection that writes, a few that read, and the schema.

use std::path::Path;
use std::time::Duration;

use hubferry_core::error::{Error, Kind, Result};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Row, Sqlite, Transaction};

/// Schema steps in order; `user_version` counts how many a file has seen. A step is never edited once released.
const MIGRATIONS: &[&str] = &[include_str!("schema_1.sql"), include_str!("schema_2.sql")];

const READERS: u32 = 4;

/// The two pools. Writers queue in this process, so SQLite itself never answers "busy".
#[derive(Clone, Debug)]
pub(super) struct Database {
    writer: SqlitePool,
    readers: SqlitePool,
}

pub(super) type Tx = Transaction<'static, Sqlite>;

impl Database {
    pub(super) async fn open(file: &Path) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A commit that was answered must survive a power cut.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(10));
        // A connection to a file does not go away: asking it first, as the pools would, only doubles the way of every query.
        let pool = || SqlitePoolOptions::new().test_before_acquire(false);
        let writer = pool().max_connections(1).connect_with(options.clone()).await.map_err(failed)?;
        migrate(&writer).await?;
        let readers = pool().max_connections(READERS).connect_with(options.read_only(true)).await.map_err(failed)?;
        Ok(Self { writer, readers })
    }

    /// Starts a transaction that sees and changes everything; dropped without commit, it never happened.
    pub(super) async fn write(&self) -> Result<Tx> {
        self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(failed)
    }

    /// For reading what is committed.
    pub(super) fn read(&self) -> &SqlitePool {
        &self.readers
    }

    pub(super) async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    pub(super) async fn signing_key(&self) -> Result<[u8; 32]> {
        let mut fresh = [0; 32];
        getrandom::fill(&mut fresh).map_err(|e| Error::new(Kind::Io, format!("no random bytes from the operating system: {e}")))?;
        let mut tx = self.write().await?;
        sqlx::query("INSERT OR IGNORE INTO settings (name, value) VALUES ('signing_key', ?1)")
            .bind(&fresh[..])
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        let row = sqlx::query("SELECT value FROM settings WHERE name = 'signing_key'").fetch_one(&mut *tx).await.map_err(failed)?;
        tx.commit().await.map_err(failed)?;
        let key: Vec<u8> = row.try_get(0).map_err(failed)?;
        key.try_into().map_err(|_| damaged("the signing key has a wrong length"))
    }
}

async fn migrate(writer: &SqlitePool) -> Result<()> {
    let mut tx = writer.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    let seen: i64 = sqlx::query("PRAGMA user_version").fetch_one(&mut *tx).await.and_then(|row| row.try_get(0)).map_err(failed)?;
    let seen = usize::try_from(seen).unwrap_or(usize::MAX);
    if seen > MIGRATIONS.len() {
        return Err(Error::new(Kind::Unsupported, "this data folder was written by a newer hubferry")
            .hint("use the newer hubferry, or another --data folder"));
    }
    for step in &MIGRATIONS[seen..] {
        sqlx::raw_sql(*step).execute(&mut *tx).await.map_err(failed)?;
    }
    tx.commit().await.map_err(failed)
}

/// A failure of SQLite. A full disk is said as such, because the user can mend it.
pub(super) fn failed(error: sqlx::Error) -> Error {
    let full = error.as_database_error().is_some_and(|e| e.code().is_some_and(|code| code == "13"));
    let error = Error::new(Kind::Io, "the hub's database failed").caused_by(error);
    if full { error.hint("the disk is full: free some space, then try again") } else { error }
}

/// The database says something that cannot be.
pub(super) fn damaged(what: impl std::fmt::Display) -> Error {
    Error::new(Kind::Bug, format!("the hub's database is damaged: {what}"))
}

/// Whether an insert failed because the key is taken.
pub(super) fn is_taken(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}

/// Reads a column that holds a parsed value as text.
pub(super) fn parsed<T: std::str::FromStr<Err = Error>>(row: &sqlx::sqlite::SqliteRow, column: &str) -> Result<T> {
    let text: &str = row.try_get(column).map_err(failed)?;
    text.parse().map_err(|e: Error| damaged(e))
}

/// Sizes are stored as SQLite integers, which are signed.
pub(super) fn to_size(value: i64) -> Result<u64> {
    u64::try_from(value).map_err(|_| damaged("a size is negative"))
}

/// The way back; no file is that long.
pub(super) fn from_size(value: u64) -> Result<i64> {
    i64::try_from(value).map_err(|_| Error::invalid("the size is beyond what any file system takes"))
}

/// A list as JSON, for `json_each`: SQLite has no list parameters.
pub(super) fn list<T: ToString>(values: impl IntoIterator<Item = T>) -> String {
    serde_json::Value::from(values.into_iter().map(|v| v.to_string()).collect::<Vec<_>>()).to_string()
}
