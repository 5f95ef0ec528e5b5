//! What the options of Vault's role mean for a mesh: which of them refuse the requests that meshes make, or bite later. An advice
//! names the option, what it does, and what to set; none of them keeps an issuer from being Ready.

use std::time::Duration;

use super::diagnosis::{Finding, Standing, Subject};
use super::policy::shown;
use super::usages::is_vaults_name;
use super::words::Words;
use crate::api::vault_path::{SignPath, SignVerb};

/// A role's options, as far as the server shows them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoleOptions {
    /// Refuses requests without a common name.
    pub require_cn: Option<bool>,
    /// `rsa`, `ec`, `ed25519` or `any`.
    pub key_type: Option<String>,
    /// Patterns of URIs that may be asked for.
    pub allowed_uri_sans: Option<Vec<String>>,
    /// Takes names from the CSR.
    pub use_csr_sans: Option<bool>,
    /// The longest life; zero: the mount's own limit.
    pub max_ttl: Option<Duration>,
    /// Makes a lease of every certificate.
    pub generate_lease: Option<bool>,
    /// Keeps no certificate in Vault's storage.
    pub no_store: Option<bool>,
    /// The usages of leaves, in Go's names.
    pub key_usage: Option<Vec<String>>,
    /// How far a certificate's beginning lies in the past.
    pub not_before_duration: Option<Duration>,
    /// The CA of the mount that signs for this role; `default` is the one that the mount shows.
    pub issuer_ref: Option<String>,
}

/// What to change in a role, or about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Advice {
    /// The workloads of most meshes have no common name.
    #[error("require_cn=true refuses requests without a common name, as workloads send them: set require_cn=false")]
    RequireCn,
    /// Proxies have keys of several types.
    #[error("key_type={0} refuses all other keys: set key_type=any")]
    KeyType(Words),
    /// A mesh's identities are URIs.
    #[error("allowed_uri_sans is empty and refuses SPIFFE IDs: set it, for example to spiffe://<trust domain>/*")]
    NoUris,
    /// The answers would be refused here.
    #[error("use_csr_sans=false leaves out every name that is asked for: set use_csr_sans=true")]
    DropsNames,
    /// Names of usages that Vault drops in silence.
    #[error(
        "key_usage holds {0}, which Vault does not know and leaves out: write DigitalSignature, KeyEncipherment and so on"
    )]
    KeyUsage(Words),
    /// Less than is asked for on behalf of those who name no duration.
    #[error(
        "max_ttl={max} cuts the {default} that requests without a duration are given: raise max_ttl, or lower \
         spec.certificates.defaultDuration"
    )]
    MaxTtl {
        /// The role's limit.
        max: String,
        /// The issuer's default.
        default: String,
    },
    /// Leases hang on the token.
    #[error(
        "generate_lease=true hangs every certificate on the token that it was signed with, and revokes it with that: set \
         generate_lease=false"
    )]
    Leases,
    /// Vault's default, which costs storage and standbys.
    #[error(
        "no_store=false keeps every certificate in Vault's storage, and no standby can sign: set no_store=true, unless you revoke \
         certificates by their serial numbers"
    )]
    Stored,
    /// No allowance for clocks.
    #[error(
        "not_before_duration=0s makes certificates that a clock a second late refuses: set not_before_duration=30s"
    )]
    NoAllowance,
    /// Not the role itself: the mount's CA does not lead to the anchors in force.
    #[error(
        "the CA that {mount} signs with, {ca}, does not lead to the trust anchors in force, so every certificate would be refused \
         unless the role has another CA (issuer_ref): put the root above this CA into spec.trust.anchors, or name the CA that is \
         meant in spec.vault.path (issuer/<ref>/sign/<role>)"
    )]
    Elsewhere {
        /// The mount.
        mount: String,
        /// Its CA.
        ca: String,
    },
}

/// What each option means for requests that are signed by `verb`; `default` is the life that those get who ask for none.
pub fn findings(options: &RoleOptions, verb: &SignVerb, default: Duration) -> Vec<Finding> {
    let of_every_verb = [lifetime(options, default), leases(options), storage(options)];
    let of_sign =
        [common_name(options), keys(options), uris(options), names(options), usages(options), beginning(options)];
    let standings: Vec<Standing> = match verb {
        SignVerb::Sign(_) => of_sign.into_iter().chain(of_every_verb).collect(),
        // What is asked for comes out as it stands; the role bounds its life only.
        SignVerb::SignVerbatim(_) => of_every_verb.into_iter().collect(),
        SignVerb::SignIntermediate | SignVerb::CelSign(_) => Vec::new(),
    };
    standings.into_iter().map(|standing| Finding { subject: Subject::Role, standing }).collect()
}

fn common_name(options: &RoleOptions) -> Standing {
    unsuited_if(options.require_cn, |required| required.then_some(Advice::RequireCn))
}

fn keys(options: &RoleOptions) -> Standing {
    unsuited_if(options.key_type.as_deref(), |kind| (kind != "any").then(|| Advice::KeyType(Words::new(kind, &[]))))
}

fn uris(options: &RoleOptions) -> Standing {
    unsuited_if(options.allowed_uri_sans.as_ref(), |uris| uris.is_empty().then_some(Advice::NoUris))
}

fn names(options: &RoleOptions) -> Standing {
    unsuited_if(options.use_csr_sans, |taken| (!taken).then_some(Advice::DropsNames))
}

fn usages(options: &RoleOptions) -> Standing {
    unsuited_if(options.key_usage.as_ref(), |usages| {
        let unknown: Vec<_> = usages.iter().filter(|name| !is_vaults_name(name)).map(String::as_str).collect();
        (!unknown.is_empty()).then(|| Advice::KeyUsage(Words::new(&unknown.join(", "), &[])))
    })
}

fn leases(options: &RoleOptions) -> Standing {
    unsuited_if(options.generate_lease, |leases| leases.then_some(Advice::Leases))
}

/// A third is where the LifetimeShortened condition begins as well.
fn lifetime(options: &RoleOptions, default: Duration) -> Standing {
    let Some(max) = options.max_ttl else { return Standing::Unknown };
    if max.is_zero() || max >= default {
        return Standing::Right;
    }
    let advice = Advice::MaxTtl { max: shown(max), default: shown(default) };
    if max.saturating_mul(3) < default { Standing::Unsuited(advice) } else { Standing::Hint(advice) }
}

fn storage(options: &RoleOptions) -> Standing {
    hint_if(options.no_store, |not_stored| (!not_stored).then_some(Advice::Stored))
}

fn beginning(options: &RoleOptions) -> Standing {
    hint_if(options.not_before_duration, |before| before.is_zero().then_some(Advice::NoAllowance))
}

fn unsuited_if<T>(option: Option<T>, bites: impl FnOnce(T) -> Option<Advice>) -> Standing {
    option.map_or(Standing::Unknown, |value| bites(value).map_or(Standing::Right, Standing::Unsuited))
}

fn hint_if<T>(option: Option<T>, bites: impl FnOnce(T) -> Option<Advice>) -> Standing {
    option.map_or(Standing::Unknown, |value| bites(value).map_or(Standing::Right, Standing::Hint))
}

/// Where a role stands in Vault, for messages; none where the verb has no role.
pub fn place(path: &SignPath) -> Option<String> {
    Some(format!("{}/roles/{}", path.mount(), path.role()?))
}

/// What is said of a role that suits.
pub fn nothing_refused(place: &str) -> String {
    format!("nothing in {place} refuses what a mesh asks for")
}

/// What a role is worth to a mesh, in the words of a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suitability {
    /// None: it could not be looked at.
    pub suits: Option<bool>,
    /// For people.
    pub message: String,
}

impl Suitability {
    /// The sum of what was found out about the role; none where the verb has no role whose options could matter.
    pub fn of(findings: &[Finding], path: &SignPath) -> Option<Self> {
        let place = place(path)?;
        let of_role = || findings.iter().filter(|finding| finding.subject == Subject::Role);
        let advice = |pick: fn(&Standing) -> Option<&Advice>| {
            of_role()
                .filter_map(|finding| pick(&finding.standing))
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("; ")
        };
        let (unsuited, hints) = (advice(Standing::unsuited), advice(Standing::hint));
        let seen = of_role().any(|finding| !matches!(finding.standing, Standing::Unknown));
        if !seen {
            let message = format!(
                "not known: this login may not read {place}, and need not; with `read` on it, what would refuse a mesh's requests is \
                 named here"
            );
            return Some(Self { suits: None, message });
        }
        let hints = if hints.is_empty() { hints } else { format!(". Worth a thought: {hints}") };
        Some(match unsuited.is_empty() {
            true => Self { suits: Some(true), message: format!("{}{hints}", nothing_refused(&place)) },
            false => Self { suits: Some(false), message: format!("{place}: {unsuited}{hints}") },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn good() -> RoleOptions {
        RoleOptions {
            require_cn: Some(false),
            key_type: Some("any".to_owned()),
            allowed_uri_sans: Some(vec!["spiffe://cluster.local/*".to_owned()]),
            use_csr_sans: Some(true),
            max_ttl: Some(DAY),
            generate_lease: Some(false),
            no_store: Some(true),
            key_usage: Some(vec!["DigitalSignature".to_owned(), " keyencipherment".to_owned()]),
            not_before_duration: Some(Duration::from_secs(30)),
            issuer_ref: Some("default".to_owned()),
        }
    }

    fn of(path: &str, options: &RoleOptions) -> Option<Suitability> {
        let path = SignPath::parse(path).expect("the test's path is one");
        Suitability::of(&findings(options, path.verb(), DAY), &path)
    }

    #[track_caller]
    fn found(change: impl FnOnce(&mut RoleOptions), suits: bool, words: &str) {
        let mut options = good();
        change(&mut options);
        let found = of("pki/sign/mesh", &options).expect("sign has a role");
        assert_eq!(found.suits, Some(suits), "{}", found.message);
        assert!(found.message.contains(words) && found.message.contains("pki/roles/mesh"), "{}", found.message);
    }

    #[test]
    fn each_option_that_bites_is_named_with_what_to_set() {
        found(|_| (), true, "nothing in pki/roles/mesh refuses");
        found(|role| role.require_cn = Some(true), false, "set require_cn=false");
        found(|role| role.key_type = Some("rsa".to_owned()), false, "key_type=rsa refuses all other keys");
        found(|role| role.allowed_uri_sans = Some(Vec::new()), false, "allowed_uri_sans is empty");
        found(|role| role.use_csr_sans = Some(false), false, "set use_csr_sans=true");
        found(|role| role.generate_lease = Some(true), false, "set generate_lease=false");
        let go = vec!["KeyUsageDigitalSignature".to_owned(), "DigitalSignature".to_owned()];
        found(|role| role.key_usage = Some(go), false, "key_usage holds KeyUsageDigitalSignature, which");
        found(|role| role.max_ttl = Some(DAY / 4), false, "max_ttl=6h cuts the 24h");
        found(|role| role.max_ttl = Some(DAY / 2), true, "Worth a thought: max_ttl=12h");
        found(|role| role.max_ttl = Some(Duration::ZERO), true, "asks for");
        found(|role| role.no_store = Some(false), true, "Worth a thought: no_store=false");
        found(|role| role.not_before_duration = Some(Duration::ZERO), true, "set not_before_duration=30s");
        let both = |role: &mut RoleOptions| (role.require_cn, role.key_type) = (Some(true), Some("ec".to_owned()));
        found(both, false, "require_cn=false; key_type=ec");
    }

    #[test]
    fn what_an_old_server_does_not_show_is_unknown_and_not_wrong() {
        let some = RoleOptions { require_cn: Some(false), ..RoleOptions::default() };
        assert_eq!(of("pki/sign/mesh", &some).and_then(|found| found.suits), Some(true));
        let none = of("pki/sign/mesh", &RoleOptions::default()).expect("sign has a role");
        assert!(none.suits.is_none() && none.message.contains("`read` on it"), "{}", none.message);
    }

    #[test]
    fn a_verb_that_takes_what_is_asked_for_is_judged_by_lifetimes_only() {
        let strict = RoleOptions { require_cn: Some(true), key_type: Some("rsa".to_owned()), ..good() };
        assert_eq!(of("pki/sign-verbatim/mesh", &strict).and_then(|found| found.suits), Some(true));
        let leases = RoleOptions { generate_lease: Some(true), ..good() };
        assert_eq!(of("pki/sign-verbatim/mesh", &leases).and_then(|found| found.suits), Some(false));
        for path in ["pki/sign-verbatim", "pki/root/sign-intermediate", "pki/cel/sign/mesh"] {
            assert_eq!(of(path, &good()), None, "{path}");
        }
    }
}
