//! A client of the SigLIP service: every call with a deadline, retried where that helps, and streams that
//! outlive their connections.

mod channel;
mod client;
mod errors;
mod flow;
mod stream;
pub mod vectors;

pub use channel::{Access, MAX_MESSAGE_BYTES, MAX_RETRIES};
pub use client::{Client, TIMEOUT};
pub use errors::{code_name, Error, FieldViolation, Pushback};
pub use flow::{StreamCounts, StreamOptions};
pub use tonic::Code;

/// The messages and stubs of the service's contract.
pub mod v1 {
    tonic::include_proto!("siglip.v1");
}

impl v1::Vector {
    /// `dim` numbers, with the scale applied. None where the encoding is unknown, or the bytes are not
    /// `dim` numbers: never wrong numbers.
    pub fn numbers(&self) -> Option<Vec<f32>> {
        let encoding = match v1::Dtype::try_from(self.dtype).ok()? {
            v1::Dtype::F32 => vectors::Encoding::F32,
            v1::Dtype::F16 => vectors::Encoding::F16,
            v1::Dtype::Bf16 => vectors::Encoding::Bf16,
            v1::Dtype::I8 => vectors::Encoding::I8 { scale: self.scale },
            v1::Dtype::Unspecified => return None,
        };
        vectors::decode(&self.data, encoding, self.dim as usize)
    }
}

impl v1::Matrix {
    /// rows * cols numbers, row by row. None where the bytes are not so many.
    pub fn numbers(&self) -> Option<Vec<f32>> {
        let count = self.rows as usize * self.cols as usize;
        vectors::decode(&self.data, vectors::Encoding::F32, count)
    }
}
