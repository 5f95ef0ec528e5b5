//! What Vault's refusals mean: the one table from (step, status, errors) to [`SignError`]. Texts are those of OpenBao 2.7 and
//! Vault 1.14; newer Vault adds `invalid token` to the 403 for a dead token (hashicorp/vault#25953).

use super::login_hints::{is_configuration, login_hint};
use crate::api::auth::Method;
use crate::issuance::signer::{Beyond, Fault, Obstacle, Outage, Refusal, SignError};
use crate::issuance::words::Words;

/// One refusal, as it was heard.
#[derive(Clone, Copy)]
pub struct Heard<'a> {
    /// Host and port of whoever said it.
    pub server: &'a str,
    /// The API path that was called.
    pub path: &'a str,
    /// HTTP status.
    pub status: u16,
    /// Vault's `errors`.
    pub errors: &'a [String],
    /// What must not be shown.
    pub secrets: &'a [&'a str],
}

/// What a refusal at the signing path means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// The token has expired, was revoked or is used up: a new one will do.
    TokenDead(Words),
    /// The token is good and may not do this; an empty CSR at the same path tells whether path or parameters are meant.
    Forbidden(Words),
    /// Vault looked at the CSR and found none: what the probe hopes for.
    EmptyCsr(Words),
    /// Anything else.
    Error(SignError),
}

/// What a refusal to renew a token means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unrenewed {
    /// There is no such token any more.
    Dead,
    /// The policy of this login does not let a token renew itself.
    Forbidden,
    /// This token is not renewed, now or later.
    Refused,
    /// Vault is not able to answer now.
    Passing,
}

impl Heard<'_> {
    /// A refused renewal.
    pub fn renewal(self) -> Unrenewed {
        match self.status {
            403 if self.is_dead_token() => Unrenewed::Dead,
            403 => Unrenewed::Forbidden,
            400 | 401 | 404 | 405 => Unrenewed::Refused,
            // So a login method says no: its role is gone, or has other policies now.
            500 if self.text().contains("failed to renew entry") => Unrenewed::Refused,
            _ => Unrenewed::Passing,
        }
    }

    /// A refused login by this method.
    pub fn login(self, method: Method) -> SignError {
        match self.status {
            404 if self.text().contains(NO_NAMESPACE) => self.obstructed(Obstacle::NoNamespace).into(),
            400 | 401 | 403 | 404 | 405 => self.login_refused(method),
            500 if is_configuration(&self.text()) => self.login_refused(method),
            _ => self.passing(),
        }
    }

    fn login_refused(self, method: Method) -> SignError {
        let hint = login_hint(method, &self.text()).to_owned();
        Fault::LoginRefused { path: self.path.to_owned(), status: self.status, words: self.words(), hint }.into()
    }

    /// A refusal at the signing path.
    pub fn sign(self) -> Meaning {
        let text = self.text();
        match self.status {
            // A 400 quotes names out of the CSR: only its beginning is Vault's own, or one request could flip the issuer.
            400 if let Some(obstacle) = obstacle(|words| text.starts_with(words)) => self.mount(obstacle),
            500 if self.path.contains("/cel/sign/") => self.cel(&text),
            404 | 500 if let Some(obstacle) = obstacle(|words| text.contains(words)) => self.mount(obstacle),
            400 if text == "missing client token" => Meaning::TokenDead(self.words()),
            // Nobody mends this by editing the issuer, and a shorter-lived request may still pass.
            400 if text.starts_with(BEYOND_CA.0) && text.contains(BEYOND_CA.1) => {
                let (path, words) = (self.path.to_owned(), self.words());
                Meaning::Error(Outage::BeyondCa { path, words, dates: self.dates() }.into())
            }
            400 if EMPTY_CSR.iter().any(|words| text.starts_with(words)) => Meaning::EmptyCsr(self.words()),
            400 | 413 | 422 => Meaning::Error(self.refused().into()),
            403 if self.is_dead_token() => Meaning::TokenDead(self.words()),
            403 => Meaning::Forbidden(self.words()),
            404 | 405 => self.mount(Obstacle::NoSuchPath),
            _ => Meaning::Error(self.passing()),
        }
    }

    /// OpenBao's CEL roles answer 500 to everything, with the words of the program itself where it refuses.
    fn cel(self, text: &str) -> Meaning {
        let said = text.trim_start_matches("1 error occurred:").trim_start();
        let Some(said) = said.strip_prefix("* ") else { return Meaning::Error(self.passing()) };
        if said.starts_with("failed to parse csr: invalid csr format") {
            return Meaning::EmptyCsr(self.words());
        }
        if let Some(obstacle) = obstacle(|words| said.starts_with(words)) {
            return self.mount(obstacle);
        }
        if said.starts_with("internal error") {
            return Meaning::Error(self.passing());
        }
        let hint = "The CEL program of the role decides".to_owned();
        Meaning::Error(Refusal::Role { path: self.path.to_owned(), words: self.words(), hint }.into())
    }

    /// The role's refusal of one request.
    pub fn refused(self) -> Refusal {
        Refusal::Role { path: self.path.to_owned(), words: self.words(), hint: role_hint(&self.text()).to_owned() }
    }

    fn mount(self, obstacle: Obstacle) -> Meaning {
        Meaning::Error(self.obstructed(obstacle).into())
    }

    fn obstructed(self, obstacle: Obstacle) -> Fault {
        Fault::Mount { path: self.path.to_owned(), words: self.words(), obstacle }
    }

    /// What mends itself: sealed, standby, rate limit, storage trouble, and whatever we do not know.
    fn passing(self) -> SignError {
        let (server, text) = (self.server.to_owned(), self.text());
        if self.status == 503 && text.contains("sealed") {
            return Outage::Sealed { server }.into();
        }
        // 472 and 473 are what sys/health calls a standby; a load balancer may hand them on.
        if matches!(self.status, 472 | 473) || STANDBY.iter().any(|words| text.contains(words)) {
            return Outage::Standby { server, words: self.words() }.into();
        }
        Outage::Status { server, status: self.status, words: self.words() }.into()
    }

    fn is_dead_token(self) -> bool {
        let exactly = matches!(self.errors, [only] if only.trim() == "permission denied");
        exactly || self.text().contains("invalid token")
    }

    /// The two moments of "… would result in notAfter of X that is beyond … at Y".
    fn dates(self) -> Option<Beyond> {
        let (_, said) = self.errors.first()?.split_once(" notAfter of ")?;
        let ((wanted, _), (_, ends)) = (said.split_once(' ')?, said.rsplit_once(" at ")?);
        Some(Beyond { wanted: wanted.parse().ok()?, ends: ends.trim().parse().ok()? })
    }

    /// Vault's words to look into.
    fn text(self) -> String {
        self.errors.join("; ").to_ascii_lowercase()
    }

    /// Vault's words to show.
    fn words(self) -> Words {
        // Vault's lists come as "1 error occurred:\n\t* …\n\n".
        let text = self.errors.join("; ");
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        // The sentence around them ends in a full stop of its own.
        Words::new(line.trim_end_matches('.'), self.secrets)
    }
}

/// How the refusal of a lifetime begins, and what it says when the CA's own end is in the way.
const BEYOND_CA: (&str, &str) = ("cannot satisfy request", "beyond the expiration of the ca certificate");
/// How the refusal of an empty CSR begins.
const EMPTY_CSR: [&str; 3] = ["\"csr\" is empty", "csr is empty", "csr contains no data"];

/// How a namespace is refused that does not exist.
const NO_NAMESPACE: &str = "namespace not found";
/// What a standby says that cannot forward: it knows no leader, or the call was not to be forwarded.
const STANDBY: [&str; 4] = [
    "local node not active but active cluster node not found",
    "no active vault instance found",
    "node is not active",
    "is in standby mode",
];

/// Refusals that are about the mount, the role, the issuer or the namespace, never about a request.
fn obstacle(holds: impl Fn(&str) -> bool) -> Option<Obstacle> {
    const ROWS: [(&str, Obstacle); 9] = [
        ("cel role not found", Obstacle::NoCelRole),
        ("unknown role", Obstacle::NoRole),
        ("no handler for route", Obstacle::NoMount),
        ("route entry not found", Obstacle::NoMount),
        (NO_NAMESPACE, Obstacle::NoNamespace),
        ("no default issuer", Obstacle::NoDefaultIssuer),
        ("unable to find pki issuer", Obstacle::NoIssuer),
        ("requested usage issuing-certificates", Obstacle::NotForIssuing),
        // The three above are its usual ends, with a better hint.
        ("could not fetch the ca certificate", Obstacle::NoCertificate),
    ];
    ROWS.iter().find(|(words, _)| holds(words)).map(|(_, obstacle)| *obstacle)
}

/// Which option of the role decides, by the words in which Vault's PKI engine refuses; the first that fits.
fn role_hint(text: &str) -> &'static str {
    let row = ROLE_HINTS.iter().find(|(words, _)| words.iter().all(|word| text.contains(word)));
    row.map_or(OTHER_ROLE_HINT, |(_, hint)| *hint)
}

/// Words, all of which a refusal holds in lower case, and the option that they are about.
pub const ROLE_HINTS: [(&[&str], &str); 17] = [
    (&["common_name", "require_cn"], "The role needs a common name: set its require_cn=false"),
    (&["require_cn"], "The role needs a common name: set its require_cn=false"),
    (&["uri subject alternative name"], "The role's allowed_uri_sans decides, for example spiffe://<trust domain>/*"),
    (&["uri_sans"], "The role's allowed_uri_sans decides, for example spiffe://<trust domain>/*"),
    (&["ip subject alternative name"], "The role's allow_ip_sans decides"),
    (&["other san"], "The role's allowed_other_sans decides"),
    (&["other_sans"], "The role's allowed_other_sans decides"),
    (&["email"], "The role's allowed_domains and allow_subdomains decide about e-mail names too"),
    (&["subject alternate name"], DOMAINS),
    (&["subject alternative name"], DOMAINS),
    (&["common name"], DOMAINS),
    (&["serial_number"], "The role's allowed_serial_numbers decides"),
    (&["user_ids"], "The role's allowed_user_ids decides"),
    (&["minimum of a", "key"], "The role's key_bits decides"),
    (&["key"], "The role's key_type and key_bits decide; key_type=any accepts all"),
    (&["ttl"], "The role's ttl and max_ttl decide"),
    (&["path length"], "The CA's own max_path_length forbids it"),
];

/// Where none of them fits.
pub const OTHER_ROLE_HINT: &str = "See the options of the role in spec.vault.path";

const DOMAINS: &str = "The role's allowed_domains decides, with allow_bare_domains, allow_subdomains, allow_glob_domains, \
                       allow_any_name and enforce_hostnames";

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "pki/sign/web";

    fn heard<'a>(status: u16, errors: &'a [String]) -> Heard<'a> {
        Heard { server: "vault:8200", path: PATH, status, errors, secrets: &["hvs.secret"] }
    }

    fn sign(status: u16, errors: &[&str]) -> Meaning {
        let errors: Vec<String> = errors.iter().map(|error| (*error).to_owned()).collect();
        heard(status, &errors).sign()
    }

    fn login(status: u16, errors: &[&str]) -> SignError {
        let errors: Vec<String> = errors.iter().map(|error| (*error).to_owned()).collect();
        heard(status, &errors).login(Method::AppRole)
    }

    #[track_caller]
    fn refused_with_hint(words: &str, option: &str) {
        match sign(400, &[words]) {
            Meaning::Error(SignError::Request(Refusal::Role { hint, .. })) => {
                assert!(hint.contains(option), "{words}: {hint}");
            }
            other => panic!("{words}: {other:?}"),
        }
    }

    #[track_caller]
    fn configuration(status: u16, words: &str, expected: Obstacle) {
        match sign(status, &[words]) {
            Meaning::Error(SignError::Issuer(Fault::Mount { path, obstacle, .. })) => {
                assert_eq!((path.as_str(), obstacle), (PATH, expected), "{words}");
            }
            other => panic!("{words}: {other:?}"),
        }
    }

    #[track_caller]
    fn passes(meaning: Meaning) {
        assert!(matches!(meaning, Meaning::Error(SignError::Transient(_))), "{meaning:?}");
    }

    #[test]
    fn a_dead_token_is_told_from_a_policy() {
        assert!(matches!(sign(403, &["permission denied"]), Meaning::TokenDead(_)));
        assert!(matches!(
            sign(403, &["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"]),
            Meaning::TokenDead(_)
        ));
        assert!(matches!(sign(403, &["permission denied", "invalid token"]), Meaning::TokenDead(_)));
        assert!(matches!(sign(400, &["missing client token"]), Meaning::TokenDead(_)));
        assert!(matches!(sign(403, &["1 error occurred:\n\t* permission denied\n\n"]), Meaning::Forbidden(_)));
        assert!(matches!(sign(403, &[]), Meaning::Forbidden(_)));
    }

    #[test]
    fn a_refused_renewal_is_told_from_a_dead_token_and_from_what_passes() {
        let renewal = |status, error: &str| heard(status, &[error.to_owned()]).renewal();
        assert_eq!(renewal(403, "permission denied"), Unrenewed::Dead);
        assert_eq!(renewal(403, "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"), Unrenewed::Dead);
        assert_eq!(renewal(403, "1 error occurred:\n\t* permission denied\n\n"), Unrenewed::Forbidden);
        assert_eq!(renewal(400, "lease is not renewable"), Unrenewed::Refused);
        let gone = "1 error occurred:\n\t* failed to renew entry: role \"r\" does not exist during renewal\n\n";
        assert_eq!(renewal(500, gone), Unrenewed::Refused);
        for (status, error) in [(500, "internal error"), (503, "Vault is sealed"), (429, ""), (412, ""), (472, "")] {
            assert_eq!(renewal(status, error), Unrenewed::Passing, "{status}");
        }
    }

    #[test]
    fn configuration_is_not_blamed_on_a_request() {
        configuration(400, "unknown role: web", Obstacle::NoRole);
        configuration(404, "no handler for route \"pki/sign/web\". route entry not found.", Obstacle::NoMount);
        configuration(404, "namespace not found", Obstacle::NoNamespace);
        configuration(404, "", Obstacle::NoSuchPath);
        configuration(405, "unsupported operation", Obstacle::NoSuchPath);
        configuration(
            500,
            "could not fetch the CA certificate (was one set?): no default issuer currently configured",
            Obstacle::NoDefaultIssuer,
        );
        configuration(
            500,
            "1 error occurred:\n\t* could not fetch the CA certificate (was one set?): unable to find PKI issuer for reference: nope\n\n",
            Obstacle::NoIssuer,
        );
        configuration(500, "could not fetch the CA certificate (was one set?): storage", Obstacle::NoCertificate);
        configuration(
            500,
            "error fetching CA certificate: no default issuer currently configured",
            Obstacle::NoDefaultIssuer,
        );
        configuration(500, "unable to find PKI issuer for reference: blue", Obstacle::NoIssuer);
        configuration(
            500,
            "unable to fetch bundle: issuer lacks requested usage issuing-certificates",
            Obstacle::NotForIssuing,
        );
    }

    #[test]
    fn a_cel_role_answers_500_to_everything() {
        let cel = |words: &str| {
            let errors = [format!("1 error occurred:\n\t* {words}\n\n")];
            Heard { path: "pki/cel/sign/web", ..heard(500, &errors) }.sign()
        };
        assert!(matches!(cel("failed to parse CSR: invalid CSR format"), Meaning::EmptyCsr(_)));
        assert!(matches!(cel("CEL role not found"), Meaning::Error(SignError::Issuer(Fault::Mount { .. }))));
        for words in ["no: you may not", "no: \"CEL role not found\" is no name", "error evaluating mainProgram: x"] {
            let meaning = cel(words);
            assert!(matches!(meaning, Meaning::Error(SignError::Request(Refusal::Role { .. }))), "{meaning:?}");
        }
        passes(cel("internal error"));
        passes(Heard { path: "pki/cel/sign/web", ..heard(500, &["internal error".to_owned()]) }.sign());
    }

    #[test]
    fn a_name_out_of_a_csr_is_not_taken_for_vaults_own_words() {
        for name in ["unknown role", "no default issuer", "\"csr\" is empty", "missing client token", "invalid token"] {
            refused_with_hint(&format!("common name {name} not allowed by this role"), "allowed_domains");
        }
    }

    #[test]
    fn a_role_refuses_one_request_and_the_hint_names_its_option() {
        refused_with_hint("role requires keys of type rsa", "key_type");
        refused_with_hint("role requires a minimum of a 2048-bit key", "key_bits");
        refused_with_hint(
            "the common_name field is required, or must be provided in a CSR with \"use_csr_common_name\" set to true, unless \"require_cn\" is set to false",
            "require_cn",
        );
        refused_with_hint("common name evil.example not allowed by this role", "allowed_domains");
        refused_with_hint("subject alternate name a.b not allowed by this role", "allowed_domains");
        refused_with_hint(
            "URI Subject Alternative Names were provided via the CSR which are not valid for this role",
            "allowed_uri_sans",
        );
        refused_with_hint(
            "IP Subject Alternative Names are not allowed in this role, but was provided some via the CSR",
            "allow_ip_sans",
        );
        refused_with_hint("email address a@b not allowed by this role", "allowed_domains");
        refused_with_hint("something new", "options of the role");
    }

    #[test]
    fn the_probe_is_answered_by_what_an_empty_csr_meets() {
        assert!(matches!(sign(400, &["\"csr\" is empty"]), Meaning::EmptyCsr(_)));
        assert!(matches!(sign(400, &["csr contains no data"]), Meaning::EmptyCsr(_)));
    }

    #[test]
    fn what_passes_by_itself_is_no_fault() {
        passes(sign(
            400,
            &[
                "cannot satisfy request, as TTL would result in notAfter of x that is beyond the expiration of the CA certificate at y",
            ],
        ));
        for status in [412, 429, 500, 502, 503, 599] {
            passes(sign(status, &["internal error"]));
            assert!(matches!(login(status, &["internal error"]), SignError::Transient(_)), "{status}");
        }
        let sealed = SignError::Transient(Outage::Sealed { server: "vault:8200".to_owned() });
        assert_eq!(sign(503, &["Vault is sealed"]), Meaning::Error(sealed.clone()));
        assert_eq!(login(503, &["Vault is sealed"]), sealed);
    }

    #[test]
    fn a_refusal_beyond_the_ca_has_its_two_dates() {
        let dates = |words: &str| match sign(400, &[words]) {
            Meaning::Error(SignError::Transient(Outage::BeyondCa { dates, .. })) => dates,
            other => panic!("{other:?}"),
        };
        let at = |text: &str| text.parse().expect("a timestamp");
        let words = "cannot satisfy request, as TTL would result in notAfter of 2027-02-23T12:51:03.123456789Z that is beyond the \
                     expiration of the CA certificate at 2027-02-23T11:05:37Z";
        let expected = Beyond { wanted: at("2027-02-23T12:51:03.123456789Z"), ends: at("2027-02-23T11:05:37Z") };
        assert_eq!(dates(words), Some(expected));
        let old = "cannot satisfy request, as TTL is beyond the expiration of the CA certificate";
        assert_eq!(dates(old), None);
    }

    #[test]
    fn a_standby_is_told_from_a_vault_that_is_not_able() {
        let standby = |error: &SignError| matches!(error, SignError::Transient(Outage::Standby { .. }));
        for (status, words) in [
            (500, "local node not active but active cluster node not found"),
            (503, "no active Vault instance found"),
            (503, "node is not active"),
            (500, "1 error occurred:\n\t* Vault is in standby mode\n\n"),
            (472, ""),
            (473, ""),
        ] {
            assert!(matches!(sign(status, &[words]), Meaning::Error(error) if standby(&error)), "{words}");
            assert!(standby(&login(status, &[words])), "{words}");
        }
        assert!(!standby(&login(503, &["internal error"])));
    }

    #[test]
    fn a_login_in_a_namespace_that_is_not_there_says_so() {
        let error = login(404, &["namespace not found"]);
        assert!(matches!(error, SignError::Issuer(Fault::Mount { obstacle: Obstacle::NoNamespace, .. })), "{error:?}");
    }

    #[test]
    fn a_refused_login_says_which_field_it_could_be() {
        match login(400, &["invalid secret ID"]) {
            SignError::Issuer(Fault::LoginRefused { hint, .. }) => assert!(hint.contains("secretRef"), "{hint}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_login_that_meets_500_waits_for_vault_unless_a_person_has_to_act() {
        for words in [
            "failed to verify client's certificate: x509: certificate has expired",
            "could not load backend configuration",
        ] {
            assert!(matches!(login(500, &[words]), SignError::Issuer(Fault::LoginRefused { .. })), "{words}");
        }
        assert!(matches!(login(500, &["internal error"]), SignError::Transient(_)));
    }

    #[test]
    fn vaults_words_are_shown_on_one_line_and_without_secrets() {
        let Meaning::Forbidden(words) = sign(403, &["1 error occurred:\n\t* hvs.secret: permission denied\n\n"]) else {
            panic!("this is a policy's refusal");
        };
        assert_eq!(words.as_str(), "1 error occurred: * [redacted]: permission denied");
    }
}
