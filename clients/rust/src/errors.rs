//! A call that failed, in the service's own words.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// One broken rule: the field's name in the request, and what is wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldViolation {
    pub field: String,
    pub description: String,
}

/// Why a call has no answer.
#[derive(Clone, Debug)]
pub struct Error {
    pub code: Code,
    pub message: String,
    /// Stable, for programs. Empty where gRPC itself failed and not the service.
    pub reason: String,
    pub domain: String,
    pub metadata: HashMap<String, String>,
    pub violations: Vec<FieldViolation>,
    /// RetryInfo: when the service expects to have room again.
    pub retry_delay: Option<Duration>,
    pub pushback: Pushback,
}

/// What the service says of sending a call again that it did not serve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pushback {
    Untold,
    Never,
    After(Duration),
}

impl Error {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Status::new(code, message).into()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}: {}", code_name(self.code), self.message)
    }
}

impl std::error::Error for Error {}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        // What cannot be parsed is empty: it is not from the service, a proxy's perhaps.
        let details = status.get_error_details();
        let info = details.error_info();
        let violations = details.bad_request().map(|bad| {
            let each = bad.field_violations.iter();
            each.map(|one| FieldViolation { field: one.field.clone(), description: one.description.clone() })
                .collect()
        });
        Self {
            code: status.code(),
            message: status.message().to_string(),
            reason: info.map(|info| info.reason.clone()).unwrap_or_default(),
            domain: info.map(|info| info.domain.clone()).unwrap_or_default(),
            metadata: info.map(|info| info.metadata.clone()).unwrap_or_default(),
            violations: violations.unwrap_or_default(),
            retry_delay: details.retry_info().and_then(|info| info.retry_delay),
            pushback: pushback(&status),
        }
    }
}

/// gRPC's rule: what cannot be read, or is negative, means "do not send again".
fn pushback(status: &Status) -> Pushback {
    match status.metadata().get("grpc-retry-pushback-ms") {
        None => Pushback::Untold,
        Some(told) => match told.to_str().ok().and_then(|text| text.parse().ok()) {
            None => Pushback::Never,
            Some(milliseconds) => Pushback::After(Duration::from_millis(milliseconds)),
        },
    }
}

/// "INVALID_ARGUMENT" and so on.
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
