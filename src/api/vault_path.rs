//! `spec.vault.path`: where in Vault's API the signing endpoint lies. Read from the right, because a mount may contain slashes.

use std::fmt;

/// A parsed signing path: `<mount>/sign/<role>` or `<mount>/issuer/<ref>/sign/<role>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignPath {
    mount: String,
    issuer: Option<String>,
    role: String,
}

/// Why a path cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignPathError {
    /// A segment that is empty, `.` or `..`, or holds other characters than Vault's names do.
    #[error("has an empty segment, `.`, `..` or a character that no Vault path holds; write <mount>/sign/<role>")]
    Segment,
    /// The verb `issue` makes Vault create the key itself: the certificate would not hold the request's key.
    #[error("ends in issue/<role>: that endpoint makes a key of its own. Write sign/<role> instead")]
    Issue,
    /// No `sign/<role>` at the end.
    #[error("does not end in sign/<role>; write <mount>/sign/<role> or <mount>/issuer/<ref>/sign/<role>")]
    Verb,
    /// Nothing in front of `sign`.
    #[error("names no mount; write <mount>/sign/<role>")]
    Mount,
}

impl SignPath {
    /// Parses what the user wrote; a leading `/` or `/v1/` is dropped.
    ///
    /// # Errors
    /// Says which rule the path breaks and what to write.
    pub fn parse(written: &str) -> Result<Self, SignPathError> {
        let path = written.strip_prefix('/').unwrap_or(written);
        let path = path.strip_prefix("v1/").unwrap_or(path);
        let segments: Vec<&str> = path.split('/').collect();
        if segments.iter().any(|segment| !is_name(segment)) {
            return Err(SignPathError::Segment);
        }
        let (mount, role) = match segments.as_slice() {
            [mount @ .., "sign", role] => (mount, *role),
            [.., "issue", _] => return Err(SignPathError::Issue),
            _ => return Err(SignPathError::Verb),
        };
        let (mount, issuer) = match mount {
            [mount @ .., "issuer", reference] if !mount.is_empty() => (mount, Some((*reference).to_owned())),
            mount => (mount, None),
        };
        if mount.is_empty() {
            return Err(SignPathError::Mount);
        }
        Ok(Self { mount: mount.join("/"), issuer, role: role.to_owned() })
    }

    /// The PKI mount, without slashes at its ends.
    pub fn mount(&self) -> &str {
        &self.mount
    }

    /// The issuer of the mount that the path names, if it names one.
    pub fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// The role.
    pub fn role(&self) -> &str {
        &self.role
    }
}

impl fmt::Display for SignPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.issuer {
            Some(issuer) => write!(f, "{}/issuer/{issuer}/sign/{}", self.mount, self.role),
            None => write!(f, "{}/sign/{}", self.mount, self.role),
        }
    }
}

/// Whether `segment` can be one segment of a path in Vault's API. What would need escaping in a URL is refused.
pub fn is_name(segment: &str) -> bool {
    !segment.is_empty()
        && segment != "."
        && segment != ".."
        && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~@:+=".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(written: &str, expected: Result<(&str, Option<&str>, &str), SignPathError>) {
        let parsed = SignPath::parse(written);
        let parsed = parsed.as_ref().map(|path| (path.mount(), path.issuer(), path.role())).map_err(|error| *error);
        assert_eq!(parsed, expected, "{written}");
    }

    #[test]
    fn paths_are_read_from_the_right() {
        check("istioca/sign/cluster-local", Ok(("istioca", None, "cluster-local")));
        check("/v1/pki/sign/web", Ok(("pki", None, "web")));
        check("/pki/sign/web", Ok(("pki", None, "web")));
        check("team/a/pki/sign/web", Ok(("team/a/pki", None, "web")));
        check("pki/issuer/blue/sign/web", Ok(("pki", Some("blue"), "web")));
        check("sign/sign/sign", Ok(("sign", None, "sign")));
        check("pki-issue/sign/issue", Ok(("pki-issue", None, "issue")));
        check("issuer/blue/sign/web", Ok(("issuer/blue", None, "web")));
    }

    #[test]
    fn what_can_never_sign_is_refused_in_words() {
        check("pki/issue/web", Err(SignPathError::Issue));
        check("pki/sign", Err(SignPathError::Verb));
        check("pki/sign-verbatim/web", Err(SignPathError::Verb));
        check("pki/root/sign-intermediate", Err(SignPathError::Verb));
        check("sign/web", Err(SignPathError::Mount));
        check("../sys/sign/web", Err(SignPathError::Segment));
        check("pki//sign/web", Err(SignPathError::Segment));
        check("pki/sign/web?x=1", Err(SignPathError::Segment));
        check("pki/sign/we%2fb", Err(SignPathError::Segment));
        check("", Err(SignPathError::Segment));
    }

    #[test]
    fn a_path_is_shown_as_it_is_called() {
        let shown = |written| SignPath::parse(written).map(|path| path.to_string());
        assert_eq!(shown("/v1/a/b/sign/c"), Ok("a/b/sign/c".to_owned()));
        assert_eq!(shown("a/issuer/x/sign/c"), Ok("a/issuer/x/sign/c".to_owned()));
    }
}
