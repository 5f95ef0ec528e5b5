//! Facts about certificates and requests (RFC 5280, RFC 2986), read with a library and kept as owned values.

mod blocks;
mod certificate;
mod constraints;
mod csr;
mod extensions;
mod names;
pub mod path;
mod signature;
#[cfg(test)]
pub(crate) mod testing;

pub use blocks::PemError;
pub use certificate::{Certificate, CertificateError};
pub use csr::{Csr, CsrError};
pub use extensions::{CERT_SIGN, Usages};
pub use names::SubjectAltNames;
pub use path::{CertificationPath, PathError};
pub use signature::Verification;
