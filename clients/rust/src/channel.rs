//! How a channel is set up: who is called, limits, keepalive.

use std::time::Duration;

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::Code;

use crate::errors::Error;

/// As many as gRPC's other libraries allow: a call is sent at most five times.
pub const MAX_RETRIES: u32 = 4;
pub const MAX_MESSAGE_BYTES: usize = 32 * 1024 * 1024;

/// How a client shows who it is, and knows whom it calls.
#[derive(Clone, Debug, Default)]
pub struct Access {
    pub tls: bool,
    /// The authority that signed the service's certificate, as PEM; None: those of the machine. One that
    /// is given implies TLS.
    pub ca_pem: Option<String>,
    /// Shown with every call; refused in clear beyond this machine.
    pub token: Option<String>,
}

/// Connects with the first call, and again whenever that is needed. `address` is host:port.
pub(crate) fn open(address: &str, access: &Access) -> Result<Channel, Error> {
    let tls = access.tls || access.ca_pem.is_some();
    if access.token.is_some() && !tls && !is_local(address) {
        let why = format!("the token would travel in clear to {address}: set tls or ca_pem");
        return Err(unusable(why));
    }
    let scheme = if tls { "https" } else { "http" };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{address}")).map_err(unusable)?;
    let endpoint = endpoint
        .connect_timeout(Duration::from_secs(10))
        .http2_keep_alive_interval(Duration::from_secs(60))
        .keep_alive_timeout(Duration::from_secs(20));
    if !tls {
        return Ok(endpoint.connect_lazy());
    }
    let config = match &access.ca_pem {
        Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
        None => ClientTlsConfig::new().with_native_roots(),
    };
    Ok(endpoint.tls_config(config).map_err(unusable)?.connect_lazy())
}

fn is_local(address: &str) -> bool {
    // Only a numeric address: a name may begin with 127, too.
    address.starts_with("localhost:")
        || address.parse::<std::net::SocketAddr>().is_ok_and(|place| place.ip().is_loopback())
}

fn unusable(why: impl std::fmt::Display) -> Error {
    Error::new(Code::InvalidArgument, why.to_string())
}
