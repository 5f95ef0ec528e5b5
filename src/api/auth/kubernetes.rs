//! Kubernetes: a ServiceAccount's token, which Vault has the API server review.

use super::Method;
use super::identity_token::{TokenLogin, Written};
use crate::api::config::SpecError;
use crate::api::spec::KubernetesSpec;

/// `server` is `spec.vault.server` as it is written.
pub(super) fn parse(spec: &KubernetesSpec, server: &str) -> Result<TokenLogin, SpecError> {
    let written = Written {
        method: Method::Kubernetes,
        mount: spec.mount_path.as_deref(),
        role: &spec.role,
        secret: spec.secret_ref.as_ref(),
        account: spec.service_account_ref.as_ref(),
        server,
    };
    TokenLogin::parse(&written, "mountPath", "/v1/auth/kubernetes")
}
