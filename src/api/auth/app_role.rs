//! AppRole: a role id, which is a name, and a secret id, which is the secret.

use crate::api::config::{KeyReference, SpecError};
use crate::api::spec::AppRoleSpec;
use crate::api::vault_path::is_name;

/// A parsed `auth.appRole`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppRole {
    /// Where the method is mounted, without `auth/`; cert-manager's default is `approle`.
    pub mount: String,
    /// The role id.
    pub role_id: String,
    /// Where the secret id lies; cert-manager has no default key here, ours is `secretId`, as the guides use it.
    pub secret_id: KeyReference,
}

impl AppRole {
    pub(super) fn parse(spec: &AppRoleSpec) -> Result<Self, SpecError> {
        let mount = spec.path.as_deref().unwrap_or("approle").trim_matches('/');
        let mount = mount.strip_prefix("v1/").unwrap_or(mount);
        let mount = mount.strip_prefix("auth/").unwrap_or(mount);
        if !mount.split('/').all(is_name) {
            return Err(SpecError::new(
                "spec.vault.auth.appRole.path",
                "is no mount path; write the name under auth/, for example approle",
            ));
        }
        let role_id = spec.role_id.trim();
        if role_id.is_empty() {
            return Err(SpecError::new("spec.vault.auth.appRole.roleId", "is empty"));
        }
        Ok(Self {
            mount: mount.to_owned(),
            role_id: role_id.to_owned(),
            secret_id: KeyReference::secret("spec.vault.auth.appRole.secretRef", &spec.secret_ref, "secretId"),
        })
    }
}
