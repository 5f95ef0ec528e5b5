//! A static token: made by somebody else, used as it is, never logged in for.

use crate::api::config::KeyReference;
use crate::api::spec::SecretKeySelector;

/// Where the token lies; cert-manager's default key is `token`.
pub(super) fn reference(spec: &SecretKeySelector) -> KeyReference {
    KeyReference::secret("spec.vault.auth.tokenSecretRef", spec, "token")
}
