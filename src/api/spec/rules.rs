//! CEL rules that several fields share, each with the sentence that whoever breaks it reads.

use kube::core::cel::Rule;

/// A path of Vault's API does not climb.
pub(super) fn no_dot_segments() -> Rule {
    Rule::new("!self.matches('(^|/)[.][.]?(/|$)')").message("must not hold the segments . or ..")
}

/// A DNS-1123 subdomain, as Kubernetes names Secrets, ConfigMaps and ServiceAccounts.
pub(super) fn object_name() -> Rule {
    Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')")
        .message("must be an object's name: lower-case letters, digits, '-' and '.'")
}

/// A duration as Go writes it, with the units that make sense for a certificate.
pub(super) fn duration() -> Rule {
    Rule::new("self.matches('^([0-9]+([.][0-9]+)?(h|m|s|ms))+$') && duration(self) >= duration('1s')")
        .message("must be a duration of at least one second, for example 24h")
}

/// A login's token comes from one place.
pub(super) fn one_token_source() -> Rule {
    Rule::new("has(self.secretRef) != has(self.serviceAccountRef)")
        .message("set exactly one of secretRef and serviceAccountRef")
}
