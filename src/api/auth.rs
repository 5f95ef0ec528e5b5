//! How we log in to Vault: which credential a method needs, and which login it makes. Data only; `vault/session.rs` carries it out.
//! A new method is one file under `auth/`, one variant and its arms here.

mod app_role;
mod token;

use secrecy::SecretString;

pub use app_role::AppRole;

use super::config::{KeyReference, SpecError};
use super::spec::AuthSpec;

/// A parsed login method and the credential it still needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// `auth.appRole`: a role id from the spec and a secret id from a Secret.
    AppRole(AppRole),
    /// `auth.tokenSecretRef`: a token that somebody else made.
    Token(KeyReference),
}

/// The credentials of one issuer, read and checked; they cannot be printed.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// Log in at `auth/<mount>/login`.
    AppRole {
        /// Where the AppRole method is mounted, without `auth/`.
        mount: String,
        /// Not a secret by itself.
        role_id: String,
        /// The secret id.
        secret_id: SecretString,
    },
    /// A token that is used as it is.
    Token(SecretString),
}

impl Auth {
    /// Picks the one method that the spec names.
    pub(super) fn parse(spec: &AuthSpec) -> Result<Self, SpecError> {
        match (&spec.app_role, &spec.token_secret_ref) {
            (Some(app_role), None) => AppRole::parse(app_role).map(Self::AppRole),
            (None, Some(reference)) => Ok(Self::Token(token::reference(reference))),
            (None, None) => Err(SpecError::new("spec.vault.auth", "names no method; set appRole or tokenSecretRef")),
            (Some(_), Some(_)) => Err(SpecError::new("spec.vault.auth", "names two methods; keep exactly one")),
        }
    }

    /// The key that holds the secret half.
    pub fn reference(&self) -> &KeyReference {
        match self {
            Self::AppRole(app_role) => &app_role.secret_id,
            Self::Token(reference) => reference,
        }
    }

    /// Completes the method with the bytes of its Secret.
    ///
    /// # Errors
    /// What is wrong with the bytes, never the bytes themselves.
    pub fn credentials(&self, bytes: &[u8]) -> Result<Credentials, &'static str> {
        let secret = line(bytes)?;
        Ok(match self {
            Self::AppRole(app_role) => Credentials::AppRole {
                mount: app_role.mount.clone(),
                role_id: app_role.role_id.clone(),
                secret_id: secret,
            },
            Self::Token(_) => Credentials::Token(secret),
        })
    }
}

/// One line of printable ASCII, which is what secret ids and tokens are. White space around it is dropped: files end in a
/// newline, and a newline inside an HTTP header is an error at best.
fn line(bytes: &[u8]) -> Result<SecretString, &'static str> {
    let text = std::str::from_utf8(bytes).map_err(|_| "the value is not text; was it encoded twice?")?.trim();
    if text.is_empty() {
        return Err("the value is empty");
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("the value holds white space or characters that no Vault credential has; was it encoded twice?");
    }
    Ok(SecretString::from(text))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn white_space_around_a_credential_is_dropped() {
        assert_eq!(line(b" abc-123\r\n").map(|secret| secret.expose_secret().to_owned()), Ok("abc-123".to_owned()));
    }

    #[test]
    fn rubbish_is_refused_without_being_shown() {
        for bytes in [&b""[..], b" \n", b"\xff\xfe\x00", b"a\nb", b"a b", b"a\x00b"] {
            assert!(line(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn credentials_cannot_be_printed() {
        let printed = format!("{:?}", Credentials::Token(SecretString::from("hvs.secret")));
        assert!(!printed.contains("hvs.secret"), "{printed}");
    }
}
