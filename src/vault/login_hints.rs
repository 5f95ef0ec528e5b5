//! Which field of the spec, or which option in Vault, a refused login is about: by the method, and by the words that Vault and
//! OpenBao have for it.

use crate::api::auth::Method;

/// What to look at; `text` is Vault's words in lower case.
pub fn login_hint(method: Method, text: &str) -> &'static str {
    let (rows, other) = hints(method);
    rows.iter().find(|(words, _)| text.contains(words)).map_or(other, |(_, hint)| hint)
}

/// Whether an answer of 500, which otherwise passes, is about the configuration; `text` is Vault's words in lower case.
pub fn is_configuration(text: &str) -> bool {
    ["failed to verify client's certificate", "could not load backend configuration"].iter().any(|it| text.contains(it))
}

/// Words and what they mean; the first that fits.
pub type Rows = &'static [(&'static str, &'static str)];

/// What a login by this method may be told, and what it is told where none of the words fit.
pub fn hints(method: Method) -> (Rows, &'static str) {
    match method {
        Method::AppRole => (APP_ROLE, APP_ROLE_OTHER),
        Method::Kubernetes => (KUBERNETES, KUBERNETES_OTHER),
        Method::ClientCertificate => (CLIENT_CERTIFICATE, CLIENT_CERTIFICATE_OTHER),
        Method::Jwt => (JWT, JWT_OTHER),
    }
}

const APP_ROLE: Rows = &[
    (
        "role or secret id",
        "One of the two is wrong: spec.vault.auth.appRole.roleId (or what its roleIdSecretRef holds), or the secret id in its \
         secretRef (it may also have expired or be used up)",
    ),
    (
        "secret id",
        "The secret id in spec.vault.auth.appRole.secretRef is wrong, expired, used up, or belongs to another role",
    ),
    (
        "role id",
        "spec.vault.auth.appRole.roleId names no role of this mount, or what its roleIdSecretRef holds does not",
    ),
];

const APP_ROLE_OTHER: &str = "One of three: spec.vault.auth.appRole.path names no AppRole mount, or spec.vault.namespace is wrong, or \
                              the secret id may not be used from here";

const KUBERNETES: Rows = &[
    ("invalid role name", "spec.vault.auth.kubernetes.role names no role of this mount"),
    (
        "service account name not authorized",
        "The role's bound_service_account_names does not hold this ServiceAccount: see serviceAccountRef.name in \
         spec.vault.auth.kubernetes, or whose token lies in its secretRef",
    ),
    (
        "namespace not authorized",
        "The role's bound_service_account_namespaces does not hold the ServiceAccount's namespace, which is the issuer's (of a cluster \
         issuer: the cluster resource namespace)",
    ),
    (
        "audience",
        "The role's audience is none of the token's: set it to vault://<namespace>/<issuer> (of a cluster issuer: vault://<issuer>) or \
         to spec.vault.server as it is written, or list it in spec.vault.auth.kubernetes.serviceAccountRef.audiences",
    ),
    ("expired", "The token in spec.vault.auth.kubernetes.secretRef has expired; serviceAccountRef needs none"),
    (
        "could not load backend configuration",
        "The mount has no configuration: write its kubernetes_host and kubernetes_ca_cert",
    ),
];

const KUBERNETES_OTHER: &str = "One of three: spec.vault.auth.kubernetes.mountPath names no kubernetes mount, or spec.vault.namespace is \
                                wrong, or Vault could not have the token reviewed (see the mount's kubernetes_host, kubernetes_ca_cert \
                                and token_reviewer_jwt, whose ServiceAccount needs system:auth-delegator)";

const CLIENT_CERTIFICATE: Rows = &[
    ("expired", "The certificate that spec.vault.auth.clientCertificate names has expired: renew it"),
    (
        "all constraints",
        "No role takes this certificate: spec.vault.auth.clientCertificate.name may be misspelt, and the certificate must fit what the \
         role allows (certificate, allowed_names, allowed_common_names, allowed_dns_sans, allowed_uri_sans, \
         allowed_organizational_units)",
    ),
    (
        "invalid certificate",
        "The CA of the certificate is not that of the role, or the certificate is not for client authentication, or \
         spec.vault.auth.clientCertificate.name names no role",
    ),
    (
        "client certificate",
        "Vault has not seen a client certificate: does something in between end the TLS connection, or is tls_disable_client_certs set?",
    ),
    ("tls connection", "Vault sees no TLS connection: something in between ends it"),
];

const CLIENT_CERTIFICATE_OTHER: &str =
    "One of two: spec.vault.auth.clientCertificate.mountPath names no cert mount, or spec.vault.namespace is wrong";

const JWT: Rows = &[
    ("could not be found", "spec.vault.auth.jwt.role names no role of this mount"),
    (
        "no audiences bound",
        "The role has no bound_audiences, and the token has audiences: set it to vault://<namespace>/<issuer> (of a cluster issuer: \
         vault://<issuer>) or to spec.vault.server as it is written",
    ),
    (
        "audience",
        "The role's bound_audiences holds none of the token's: set it to vault://<namespace>/<issuer> (of a cluster issuer: \
         vault://<issuer>) or to spec.vault.server as it is written, or list it in spec.vault.auth.jwt.serviceAccountRef.audiences",
    ),
    (
        "subject",
        "The role's bound_subject is another ServiceAccount: system:serviceaccount:<namespace>:<name>, see serviceAccountRef.name in \
         spec.vault.auth.jwt, or whose token lies in its secretRef",
    ),
    ("issuer", "The mount's bound_issuer is not the issuer of this cluster's tokens"),
    (
        "signature",
        "The mount has not the keys of this cluster's tokens: see jwt_validation_pubkeys, jwks_url or oidc_discovery_url",
    ),
    ("expired", "The token in spec.vault.auth.jwt.secretRef has expired; serviceAccountRef needs none"),
    ("claim", "The role's bound_claims or user_claim do not fit the token of spec.vault.auth.jwt"),
    (
        "could not load configuration",
        "The mount has no configuration: write its jwt_validation_pubkeys, jwks_url or oidc_discovery_url",
    ),
];

const JWT_OTHER: &str = "One of three: spec.vault.auth.jwt.path names no jwt mount, or spec.vault.namespace is wrong, or the role's \
                         bounds do not fit the token";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_names_a_field_or_an_option() {
        for (method, words, named) in [
            (
                Method::AppRole,
                "invalid role or secret id",
                "roleId (or what its roleIdSecretRef holds), or the secret id",
            ),
            (Method::AppRole, "invalid role id", "roleIdSecretRef"),
            (Method::AppRole, "invalid secret id", "secretRef"),
            (Method::AppRole, "permission denied", "appRole.path"),
            (Method::Kubernetes, "invalid role name \"x\"", "kubernetes.role"),
            (Method::Kubernetes, "service account name not authorized", "bound_service_account_names"),
            (Method::Kubernetes, "namespace not authorized", "bound_service_account_namespaces"),
            (
                Method::Kubernetes,
                "invalid audience (aud) claim: audience claim does not match any expected audience",
                "serviceAccountRef.audiences",
            ),
            (Method::Kubernetes, "permission denied", "mountPath"),
            (
                Method::ClientCertificate,
                "invalid certificate or no client certificate supplied",
                "for client authentication",
            ),
            (
                Method::ClientCertificate,
                "no chain matching all constraints could be found for this login certificate",
                "allowed_names",
            ),
            (
                Method::ClientCertificate,
                "failed to match all constraints for this login certificate",
                "clientCertificate.name may be misspelt",
            ),
            (Method::ClientCertificate, "x509: certificate has expired or is not yet valid", "renew it"),
            (Method::ClientCertificate, "client certificate must be supplied", "tls_disable_client_certs"),
            (Method::ClientCertificate, "permission denied", "mountPath"),
            (Method::Jwt, "role \"x\" could not be found", "jwt.role"),
            (Method::Jwt, "audience claim found in jwt but no audiences bound to the role", "has no bound_audiences"),
            (
                Method::Jwt,
                "error validating token: invalid audience (aud) claim: audience claim does not match any expected audience",
                "serviceAccountRef.audiences",
            ),
            (Method::Jwt, "error validating token: invalid subject (sub) claim", "bound_subject"),
            (Method::Jwt, "error validating token: invalid issuer (iss) claim", "bound_issuer"),
            (Method::Jwt, "no known key successfully validated the token signature", "jwt_validation_pubkeys"),
            (
                Method::Jwt,
                "error validating claims: claim \"team\" does not match any associated bound claim values",
                "bound_claims",
            ),
            (Method::Jwt, "permission denied", "jwt.path"),
        ] {
            let hint = login_hint(method, words);
            assert!(hint.contains(named), "{method:?}, {words}: {hint}");
        }
    }
}
