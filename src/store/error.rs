//! What can go wrong in the database, sorted by what a caller can do about it.
//!
//! No text of these errors holds a URL, a password or a value of a row: they end up in status,
//! events and logs.

use std::fmt;

use super::SchemaState;
use crate::metrics::database::DATABASE;

/// A failure of the store.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be used now; the same call may succeed later.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// A unique key, reference or exclusion constraint forbids the rows as they are.
    #[error("the rows conflict with {constraint}")]
    Conflict {
        /// Name of the constraint or unique index.
        constraint: String,
    },
    /// A row does not mean what the program takes it to mean.
    #[error("{table}.{column} of {row} holds what this program cannot read")]
    Inconsistent {
        /// Table.
        table: &'static str,
        /// Column.
        column: String,
        /// Key of the row; ids only.
        row: String,
    },
    /// The program declines, and the sentence says what to do.
    #[error("{0}")]
    Refused(String),
    /// The schema is not this program's.
    #[error("{0}")]
    Schema(SchemaState),
    /// The database refused a statement: a defect of the program or of the database's set-up.
    #[error("the database refused: {0}")]
    Database(Box<Fault>),
}

/// What the database said, without values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fault {
    /// SQLSTATE; empty when the driver failed before the server was asked.
    pub code: String,
    /// The primary message; left out where it would quote a value.
    pub message: String,
    /// Table concerned.
    pub table: Option<String>,
    /// Constraint concerned.
    pub constraint: Option<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if !self.code.is_empty() {
            write!(f, " (SQLSTATE {})", self.code)?;
        }
        Ok(())
    }
}

impl StoreError {
    /// A value that this program cannot have written.
    pub fn inconsistent(
        table: &'static str,
        column: impl Into<String>,
        row: impl fmt::Display,
    ) -> Self {
        Self::Inconsistent {
            table,
            column: column.into(),
            row: row.to_string(),
        }
    }

    /// The class under which it is counted.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::Conflict { .. } => "conflict",
            Self::Inconsistent { .. } => "inconsistent",
            Self::Refused(_) => "refused",
            Self::Schema(_) => "schema",
            Self::Database(_) => "database",
        }
    }

    /// Whether waiting may help: the connection, the server or a concurrent transaction was in
    /// the way, not the request itself.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    /// Whether this constraint is what stood in the way.
    pub fn violates(&self, name: &str) -> bool {
        match self {
            Self::Conflict { constraint } => constraint == name,
            Self::Database(fault) => fault.constraint.as_deref() == Some(name),
            _ => false,
        }
    }

    /// SQLSTATE of a refused statement.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Database(fault) if !fault.code.is_empty() => Some(&fault.code),
            _ => None,
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let error = from_driver(error);
        DATABASE.failed(error.class());
        error
    }
}

fn from_driver(error: sqlx::Error) -> StoreError {
    use StoreError::{Inconsistent, Unavailable};
    match error {
        sqlx::Error::Database(error) => from_database(&*error),
        sqlx::Error::Io(error) => Unavailable(from_socket(&error)),
        sqlx::Error::PoolTimedOut => Unavailable("no connection became free in time".to_owned()),
        sqlx::Error::PoolClosed => Unavailable("the pool is closed".to_owned()),
        sqlx::Error::WorkerCrashed => Unavailable("the driver stopped".to_owned()),
        // A server that goes away between two messages.
        sqlx::Error::BeginFailed => Unavailable("no transaction began".to_owned()),
        sqlx::Error::ColumnDecode { index, .. } => Inconsistent {
            table: "result",
            column: index,
            row: "a query".to_owned(),
        },
        sqlx::Error::RowNotFound => driver("a row that must exist was not found"),
        sqlx::Error::Tls(_) => driver("the TLS connection could not be established"),
        sqlx::Error::Configuration(_) => driver("the connection options cannot be used"),
        sqlx::Error::Migrate(error) => StoreError::from(*error),
        sqlx::Error::ColumnNotFound(_) | sqlx::Error::ColumnIndexOutOfBounds { .. } => {
            driver("a column is missing from a result")
        }
        sqlx::Error::Encode(_) => driver("a value could not be encoded"),
        sqlx::Error::Decode(_) => driver("a value could not be decoded"),
        sqlx::Error::Protocol(text) if text.starts_with(GREETING) => greeted(&text),
        // Protocol texts and the rest may quote what was received.
        _ => driver("the driver failed"),
    }
}

impl From<sqlx::migrate::MigrateError> for StoreError {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        use sqlx::migrate::MigrateError;
        match error {
            MigrateError::Execute(error) => Self::from(error),
            MigrateError::ExecuteMigration(error, version) => match Self::from(error) {
                Self::Database(fault) => Self::Database(Box::new(Fault {
                    message: format!("migration {version}: {}", fault.message),
                    ..*fault
                })),
                other => other,
            },
            MigrateError::VersionMissing(version) => {
                Self::Schema(SchemaState::Newer { found: version })
            }
            MigrateError::VersionMismatch(version) => {
                Self::Schema(SchemaState::Diverged { version })
            }
            _ => driver("the migrations could not be applied"),
        }
    }
}

/// A kind is enough, but for TLS: which certificate is not trusted is what must be known.
fn from_socket(error: &std::io::Error) -> String {
    let inner = error.get_ref();
    match inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(error) => format!("no TLS connection came about: {error}"),
        None => error.kind().to_string(),
    }
}

/// How the driver begins when the answer to its first question, whether TLS is spoken, is no answer.
const GREETING: &str = "unexpected response from SSLRequest: ";

/// The driver takes an end for a zero. A proxy whose server is away ends what it has just accepted;
/// a server without room for another process answers with an error at once.
fn greeted(text: &str) -> StoreError {
    // What follows the byte is where in the driver's code this was said.
    let byte = text.trim_start_matches(GREETING).split_whitespace().next();
    match byte.unwrap_or_default() {
        "0x00" => StoreError::Unavailable("the connection ended before a server answered".into()),
        "0x45" => StoreError::Unavailable("the server takes no connection now".into()),
        _ => driver("what answers at its address is no Postgres server"),
    }
}

fn driver(message: &str) -> StoreError {
    StoreError::Database(Box::new(Fault {
        message: message.to_owned(),
        ..Fault::default()
    }))
}

fn from_database(error: &dyn sqlx::error::DatabaseError) -> StoreError {
    let code = error
        .code()
        .map(std::borrow::Cow::into_owned)
        .unwrap_or_default();
    if is_transient_code(&code) {
        return StoreError::Unavailable(format!("{} (SQLSTATE {code})", error.message()));
    }
    let constraint = error.constraint().map(str::to_owned);
    if let (true, Some(constraint)) = (is_conflict_code(&code), &constraint) {
        return StoreError::Conflict {
            constraint: constraint.clone(),
        };
    }
    // Class 22 (data) and 2200x/P0001 quote the offending value; the code says enough.
    let message = if code.starts_with("22") || code.starts_with("P0") {
        "a value was not accepted".to_owned()
    } else {
        error.message().to_owned()
    };
    StoreError::Database(Box::new(Fault {
        code,
        message,
        table: error.table().map(str::to_owned),
        constraint,
    }))
}

/// Connection lost or refused, server starting, stopping or in recovery, no room, a lock or
/// transaction of somebody else.
fn is_transient_code(code: &str) -> bool {
    code.starts_with("08")
        || code.starts_with("53")
        || matches!(
            code,
            "57P01" | "57P02" | "57P03" | "57P05" | "40001" | "40P01" | "25006" | "55P03"
        )
}

fn is_conflict_code(code: &str) -> bool {
    matches!(code, "23505" | "23503" | "23001" | "23P01")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_that_waiting_can_cure() {
        for code in [
            "08006", "57P01", "57P03", "53300", "40001", "40P01", "25006",
        ] {
            assert!(is_transient_code(code), "{code}");
        }
        for code in ["57014", "23505", "42501", "22P02", "28P01", "3D000"] {
            assert!(!is_transient_code(code), "{code}");
        }
    }
}
