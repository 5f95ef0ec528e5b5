//! Client certificate: nothing is sent but the name of a role; the proof is the TLS handshake. The key pair is the identity of
//! every connection of the issuer, so it is read as that ([`identity`]), and a change of it makes a new session.

use super::{Login, Method, login_path};
use crate::api::config::{KeyReference, SpecError};
use crate::api::spec::{ClientCertificateSpec, SecretKeySelector, VaultSpec};

const FIELD: &str = "spec.vault.auth.clientCertificate";

/// A parsed `auth.clientCertificate`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The API path of the login.
    path: String,
    /// The method's role; none: whichever the certificate fits.
    role: Option<String>,
}

impl ClientCertificate {
    pub(super) fn parse(spec: &ClientCertificateSpec, vault: &VaultSpec) -> Result<Self, SpecError> {
        let path = login_path(&format!("{FIELD}.mountPath"), spec.mount_path.as_deref(), "/v1/auth/cert")?;
        if !vault.server.starts_with("https://") {
            return Err(SpecError::new(FIELD, "works over https only: spec.vault.server must begin with https://"));
        }
        // cert-manager takes both, and which of them Vault sees depends on the server.
        if spec.secret_name.is_some() == vault.client_cert_secret_ref.is_some() {
            return Err(SpecError::new(
                FIELD,
                "needs exactly one certificate: name it in its secretName, or in spec.vault.clientCertSecretRef and clientKeySecretRef",
            ));
        }
        Ok(Self { path, role: spec.name.clone().filter(|name| !name.is_empty()) })
    }

    pub(super) fn login(&self) -> Login {
        let mut login = Login::new(Method::ClientCertificate, &self.path);
        login.open.extend(self.role.iter().map(|role| ("name", role.clone())));
        login
    }
}

/// The certificate and the key that the method itself names.
pub fn identity(spec: &ClientCertificateSpec) -> Option<(KeyReference, KeyReference)> {
    let selector = SecretKeySelector { name: spec.secret_name.clone()?, key: None };
    let reference = |key| KeyReference::secret(&format!("{FIELD}.secretName"), &selector, key);
    Some((reference("tls.crt"), reference("tls.key")))
}
