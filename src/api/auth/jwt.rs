//! JWT: a ServiceAccount's token, which Vault verifies by itself with the keys of its issuer.

use super::Method;
use super::identity_token::{TokenLogin, Written};
use crate::api::config::SpecError;
use crate::api::spec::JwtSpec;

/// `server` is `spec.vault.server` as it is written.
pub(super) fn parse(spec: &JwtSpec, server: &str) -> Result<TokenLogin, SpecError> {
    let written = Written {
        method: Method::Jwt,
        mount: spec.path.as_deref(),
        role: &spec.role,
        secret: spec.secret_ref.as_ref(),
        account: spec.service_account_ref.as_ref(),
        server,
    };
    TokenLogin::parse(&written, "path", "jwt")
}
