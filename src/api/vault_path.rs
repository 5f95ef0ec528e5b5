//! `spec.vault.path`: where in Vault's API the signing endpoint lies. Read from the right, because a mount may contain slashes.

use std::fmt;

/// A parsed signing path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignPath {
    mount: String,
    issuer: Option<String>,
    verb: SignVerb,
}

/// What the path asks the mount to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignVerb {
    /// `sign/<role>`: the role decides what comes out.
    Sign(String),
    /// `sign-verbatim[/<role>]`: subject and extensions come out as the CSR has them; a role bounds the lifetime only.
    SignVerbatim(Option<String>),
    /// `root/sign-intermediate` or `issuer/<ref>/sign-intermediate`: makes CA certificates, and nothing else.
    SignIntermediate,
    /// OpenBao's `cel/sign/<role>`: a CEL program decides what comes out.
    CelSign(String),
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
    /// No verb that signs a CSR at the end.
    #[error(
        "does not end in sign/<role>; write <mount>/sign/<role>, <mount>/issuer/<ref>/sign/<role>, or one of the verbs \
         sign-verbatim, root/sign-intermediate, issuer/<ref>/sign-intermediate and cel/sign/<role>"
    )]
    Verb,
    /// Nothing in front of the verb.
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
        let role = |role: &str| role.to_owned();
        let (before, verb) = match segments.as_slice() {
            [mount @ .., "cel", "sign", name] if !mount.is_empty() => (mount, SignVerb::CelSign(role(name))),
            [before @ .., "sign", name] => (before, SignVerb::Sign(role(name))),
            [before @ .., "sign-verbatim", name] => (before, SignVerb::SignVerbatim(Some(role(name)))),
            [before @ .., "sign-verbatim"] => (before, SignVerb::SignVerbatim(None)),
            [mount @ .., "root", "sign-intermediate"] => (mount, SignVerb::SignIntermediate),
            [_, .., "issuer", _, "sign-intermediate"] => {
                (segments.split_last().map_or(&[][..], |(_, before)| before), SignVerb::SignIntermediate)
            }
            [.., "issue", _] => return Err(SignPathError::Issue),
            _ => return Err(SignPathError::Verb),
        };
        let (mount, issuer) = match before {
            [mount @ .., "issuer", reference] if !mount.is_empty() => (mount, Some((*reference).to_owned())),
            mount => (mount, None),
        };
        if mount.is_empty() {
            return Err(SignPathError::Mount);
        }
        Ok(Self { mount: mount.join("/"), issuer, verb })
    }

    /// The PKI mount, without slashes at its ends.
    pub fn mount(&self) -> &str {
        &self.mount
    }

    /// The issuer of the mount that the path names, if it names one.
    pub fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// What the mount is asked to do.
    pub fn verb(&self) -> &SignVerb {
        &self.verb
    }

    /// The role below `<mount>/roles/` whose options bound what is signed, if there is one. A CEL role is a program, and has none.
    pub fn role(&self) -> Option<&str> {
        match &self.verb {
            SignVerb::Sign(role) | SignVerb::SignVerbatim(Some(role)) => Some(role),
            SignVerb::SignVerbatim(None) | SignVerb::SignIntermediate | SignVerb::CelSign(_) => None,
        }
    }

    /// The path of the same mount and issuer that makes CA certificates.
    #[must_use]
    pub fn for_ca(&self) -> Self {
        Self { mount: self.mount.clone(), issuer: self.issuer.clone(), verb: SignVerb::SignIntermediate }
    }
}

impl fmt::Display for SignPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mount, issuer, verb } = self;
        write!(f, "{mount}")?;
        match (issuer, verb) {
            (Some(issuer), _) => write!(f, "/issuer/{issuer}")?,
            (None, SignVerb::SignIntermediate) => write!(f, "/root")?,
            (None, SignVerb::Sign(_) | SignVerb::SignVerbatim(_) | SignVerb::CelSign(_)) => {}
        }
        match verb {
            SignVerb::Sign(role) => write!(f, "/sign/{role}"),
            SignVerb::SignVerbatim(Some(role)) => write!(f, "/sign-verbatim/{role}"),
            SignVerb::SignVerbatim(None) => write!(f, "/sign-verbatim"),
            SignVerb::SignIntermediate => write!(f, "/sign-intermediate"),
            SignVerb::CelSign(role) => write!(f, "/cel/sign/{role}"),
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

    fn sign(role: &str) -> SignVerb {
        SignVerb::Sign(role.to_owned())
    }

    #[track_caller]
    fn check(written: &str, expected: Result<(&str, Option<&str>, SignVerb), SignPathError>) {
        let parsed = SignPath::parse(written);
        let parsed = parsed.as_ref().map(|path| (path.mount(), path.issuer(), path.verb().clone()));
        assert_eq!(parsed.map_err(|error| *error), expected, "{written}");
    }

    #[test]
    fn paths_are_read_from_the_right() {
        check("istioca/sign/cluster-local", Ok(("istioca", None, sign("cluster-local"))));
        check("/v1/pki/sign/web", Ok(("pki", None, sign("web"))));
        check("/pki/sign/web", Ok(("pki", None, sign("web"))));
        check("team/a/pki/sign/web", Ok(("team/a/pki", None, sign("web"))));
        check("pki/issuer/blue/sign/web", Ok(("pki", Some("blue"), sign("web"))));
        check("sign/sign/sign", Ok(("sign", None, sign("sign"))));
        check("pki-issue/sign/issue", Ok(("pki-issue", None, sign("issue"))));
        check("issuer/blue/sign/web", Ok(("issuer/blue", None, sign("web"))));
        check("cel/sign/web", Ok(("cel", None, sign("web"))));
        check("root/sign/sign-intermediate", Ok(("root", None, sign("sign-intermediate"))));
    }

    #[test]
    fn the_other_verbs_are_told_apart() {
        let verbatim = |role: Option<&str>| SignVerb::SignVerbatim(role.map(str::to_owned));
        check("pki/sign-verbatim", Ok(("pki", None, verbatim(None))));
        check("pki/sign-verbatim/web", Ok(("pki", None, verbatim(Some("web")))));
        check("a/b/issuer/blue/sign-verbatim/web", Ok(("a/b", Some("blue"), verbatim(Some("web")))));
        check("pki/issuer/blue/sign-verbatim", Ok(("pki", Some("blue"), verbatim(None))));
        check("a/pki/root/sign-intermediate", Ok(("a/pki", None, SignVerb::SignIntermediate)));
        check("pki/issuer/blue/sign-intermediate", Ok(("pki", Some("blue"), SignVerb::SignIntermediate)));
        check("pki/cel/sign/web", Ok(("pki", None, SignVerb::CelSign("web".to_owned()))));
    }

    #[test]
    fn what_can_never_sign_is_refused_in_words() {
        check("pki/issue/web", Err(SignPathError::Issue));
        check("pki/sign", Err(SignPathError::Verb));
        check("pki/sign-intermediate", Err(SignPathError::Verb));
        check("issuer/blue/sign-intermediate", Err(SignPathError::Verb));
        check("root/sign-intermediate", Err(SignPathError::Mount));
        check("sign-verbatim/web", Err(SignPathError::Mount));
        check("sign/web", Err(SignPathError::Mount));
        check("../sys/sign/web", Err(SignPathError::Segment));
        check("pki//sign/web", Err(SignPathError::Segment));
        check("pki/sign/web?x=1", Err(SignPathError::Segment));
        check("pki/sign/we%2fb", Err(SignPathError::Segment));
        check("", Err(SignPathError::Segment));
    }

    #[test]
    fn a_path_is_shown_as_it_is_called() {
        for written in [
            "a/b/sign/c",
            "a/issuer/x/sign/c",
            "a/sign-verbatim",
            "a/issuer/x/sign-verbatim/c",
            "a/root/sign-intermediate",
            "a/issuer/x/sign-intermediate",
            "a/cel/sign/c",
        ] {
            assert_eq!(SignPath::parse(&format!("/v1/{written}")).map(|path| path.to_string()), Ok(written.to_owned()));
        }
        let ca = |written| SignPath::parse(written).map(|path| path.for_ca().to_string());
        assert_eq!(ca("a/sign/c"), Ok("a/root/sign-intermediate".to_owned()));
        assert_eq!(ca("a/issuer/x/sign/c"), Ok("a/issuer/x/sign-intermediate".to_owned()));
    }
}
