//! What a path of Vault's lacks to serve us, and how that is mended: each kind has a reason of its own in the Ready condition.

/// Why nobody is served at a path, whatever the request; its words say what to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// The mount has no such role.
    #[error("The mount has no such role: correct the end of spec.vault.path, or create the role")]
    NoRole,
    /// The mount has no such CEL role.
    #[error("The mount has no such CEL role: correct the end of spec.vault.path, or create the role")]
    NoCelRole,
    /// Nothing is mounted there.
    #[error("No secrets engine is mounted there: correct spec.vault.path, or enable the PKI engine")]
    NoMount,
    /// Something is mounted there that does not sign.
    #[error("See spec.vault.path: <mount>/sign/<role>")]
    NoSuchPath,
    /// Vault has no such namespace.
    #[error("There is no such namespace: correct spec.vault.namespace")]
    NoNamespace,
    /// The mount has no such issuer.
    #[error("The mount has no such issuer: correct <ref> in spec.vault.path, or the role's issuer_ref")]
    NoIssuer,
    /// The mount has no default issuer, most often because it has none at all.
    #[error(
        "The mount has no CA certificate, or no default one: generate or import one, set the default, or name one in \
         spec.vault.path (<mount>/issuer/<ref>/sign/<role>)"
    )]
    NoDefaultIssuer,
    /// The mount has no CA certificate.
    #[error("The mount has no CA certificate yet: generate or import one")]
    NoCertificate,
    /// The CA may not issue.
    #[error("The mount's issuer may not issue: add issuing-certificates to its usages")]
    NotForIssuing,
    /// The CA's signatures cannot be checked.
    #[error(
        "Use a CA of RSA (2048 to 8192 bits, PKCS#1 v1.5), ECDSA P-256 or P-384, or Ed25519; if the role signs with another \
         one, name that in spec.vault.path (issuer/<ref>/sign/<role>)"
    )]
    Algorithm,
    /// The mount's root cannot carry trust.
    #[error("Renew or replace the CA of this mount, or name in spec.trust.anchors the root that your mesh trusts")]
    Root,
}
