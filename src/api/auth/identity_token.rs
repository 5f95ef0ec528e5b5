//! A token that says who we are, signed by the cluster: stored in a Secret, or requested of the API server for a ServiceAccount.
//! Two methods log in with one; they differ in who verifies it.

use super::{Login, Method, SecretOf, login_path};
use crate::api::IssuerKey;
use crate::api::config::{KeyReference, SpecError};
use crate::api::key::is_object_name;
use crate::api::spec::{SecretKeySelector, ServiceAccountRefSpec};

/// A parsed `auth.kubernetes` or `auth.jwt`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenLogin {
    method: Method,
    /// The API path of the login.
    path: String,
    role: String,
    token: IdentityToken,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum IdentityToken {
    Stored(KeyReference),
    Requested {
        /// The naming field, from `spec` on.
        field: String,
        account: String,
        /// Those that the spec gives; the issuer's own is added.
        audiences: Vec<String>,
    },
}

/// Which token the API server is asked for. Its life is always 600 s, the shortest there is: it serves one login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRequest {
    /// The naming field, from `spec` on, for messages.
    pub field: String,
    /// The ServiceAccount's namespace.
    pub namespace: String,
    /// The ServiceAccount's name.
    pub account: String,
    /// For whom the token is meant.
    pub audiences: Vec<String>,
}

/// What the two methods have in common as they are written.
pub(super) struct Written<'a> {
    pub method: Method,
    pub mount: Option<&'a str>,
    pub role: &'a str,
    pub secret: Option<&'a SecretKeySelector>,
    pub account: Option<&'a ServiceAccountRefSpec>,
    /// `spec.vault.server`, to the letter: it is an audience.
    pub server: &'a str,
}

impl TokenLogin {
    pub(super) fn parse(written: &Written<'_>, mount_field: &str, default_mount: &str) -> Result<Self, SpecError> {
        let field = written.method.field();
        let path = login_path(&format!("{field}.{mount_field}"), written.mount, default_mount)?;
        let role = written.role.trim().to_owned();
        if role.is_empty() {
            return Err(SpecError::new(format!("{field}.role"), "is empty"));
        }
        let token = match (written.secret, written.account) {
            (Some(selector), None) => {
                IdentityToken::Stored(KeyReference::secret(&format!("{field}.secretRef"), selector, "token"))
            }
            (None, Some(account)) => {
                IdentityToken::requested(format!("{field}.serviceAccountRef"), account, written.server)?
            }
            (None, None) | (Some(_), Some(_)) => {
                return Err(SpecError::new(field, "set exactly one of secretRef and serviceAccountRef"));
            }
        };
        Ok(Self { method: written.method, path, role, token })
    }

    pub(super) fn references(&self) -> Vec<&KeyReference> {
        match &self.token {
            IdentityToken::Stored(reference) => vec![reference],
            IdentityToken::Requested { .. } => Vec::new(),
        }
    }

    /// What `issuer` names lies in `namespace`.
    pub(super) fn login<E>(&self, issuer: &IssuerKey, namespace: &str, secret: &SecretOf<'_, E>) -> Result<Login, E> {
        let mut login = Login::new(self.method, &self.path);
        login.open.push(("role", self.role.clone()));
        match &self.token {
            IdentityToken::Stored(reference) => login.secret.push(("jwt", secret(reference)?)),
            IdentityToken::Requested { field, account, audiences } => {
                // As cert-manager has it, so that a role that is bound to it fits us too.
                let own = match &issuer.namespace {
                    Some(namespace) => format!("vault://{namespace}/{}", issuer.name),
                    None => format!("vault://{}", issuer.name),
                };
                login.requested = Some(TokenRequest {
                    field: field.clone(),
                    namespace: namespace.to_owned(),
                    account: account.clone(),
                    audiences: audiences.iter().cloned().chain([own]).collect(),
                });
            }
        }
        Ok(login)
    }
}

impl IdentityToken {
    fn requested(field: String, spec: &ServiceAccountRefSpec, server: &str) -> Result<Self, SpecError> {
        if !is_object_name(&spec.name) {
            return Err(SpecError::new(format!("{field}.name"), "is no name of a ServiceAccount"));
        }
        let mut audiences = spec.audiences.clone().unwrap_or_default();
        // Where the API server is given an empty audience it may put its own in its place.
        if audiences.iter().any(|audience| audience.trim().is_empty()) {
            return Err(SpecError::new(format!("{field}.audiences"), "holds an empty audience; leave it out"));
        }
        audiences.push(server.to_owned());
        Ok(Self::Requested { field, account: spec.name.clone(), audiences })
    }
}
