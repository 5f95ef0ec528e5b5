//! AppRole: a role id, which is a name, and a secret id, which is the secret.

use super::{Login, Method, SecretOf, login_path};
use crate::api::config::{KeyReference, SpecError};
use crate::api::spec::AppRoleSpec;

/// A parsed `auth.appRole`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppRole {
    /// The API path of the login.
    path: String,
    role_id: RoleId,
    /// Where the secret id lies; cert-manager has no default key here, ours is `secretId`, as the guides use it.
    secret_id: KeyReference,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum RoleId {
    Inline(String),
    Stored(KeyReference),
}

impl AppRole {
    pub(super) fn parse(spec: &AppRoleSpec) -> Result<Self, SpecError> {
        let path = login_path("spec.vault.auth.appRole.path", spec.path.as_deref(), "approle")?;
        let role_id = match (&spec.role_id, &spec.role_id_secret_ref) {
            (Some(role_id), None) if role_id.trim().is_empty() => {
                return Err(SpecError::new("spec.vault.auth.appRole.roleId", "is empty"));
            }
            (Some(role_id), None) => RoleId::Inline(role_id.trim().to_owned()),
            (None, Some(selector)) => {
                RoleId::Stored(KeyReference::secret("spec.vault.auth.appRole.roleIdSecretRef", selector, "roleId"))
            }
            (None, None) | (Some(_), Some(_)) => {
                return Err(SpecError::new("spec.vault.auth.appRole", "set exactly one of roleId and roleIdSecretRef"));
            }
        };
        let secret_id = KeyReference::secret("spec.vault.auth.appRole.secretRef", &spec.secret_ref, "secretId");
        Ok(Self { path, role_id, secret_id })
    }

    pub(super) fn references(&self) -> Vec<&KeyReference> {
        match &self.role_id {
            RoleId::Inline(_) => vec![&self.secret_id],
            RoleId::Stored(role_id) => vec![role_id, &self.secret_id],
        }
    }

    pub(super) fn login<E>(&self, secret: &SecretOf<'_, E>) -> Result<Login, E> {
        let mut login = Login::new(Method::AppRole, &self.path);
        match &self.role_id {
            RoleId::Inline(role_id) => login.open.push(("role_id", role_id.clone())),
            // Whoever keeps it in a Secret does not want to see it elsewhere.
            RoleId::Stored(reference) => login.secret.push(("role_id", secret(reference)?)),
        }
        login.secret.push(("secret_id", secret(&self.secret_id)?));
        Ok(login)
    }
}
