//! What Vault's refusals mean: the one table from (step, status, errors) to [`SignError`]. Texts are those of OpenBao 2.7 and
//! Vault 1.14; newer Vault adds `invalid token` to the 403 for a dead token (hashicorp/vault#25953).

use super::login_hints::{is_configuration, login_hint};
use crate::api::auth::Method;
use crate::issuance::signer::{Fault, Outage, Refusal, SignError};
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

impl Heard<'_> {
    /// A refused login by this method.
    pub fn login(self, method: Method) -> SignError {
        match self.status {
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
            400 if let Some(hint) = mount_hint(|words| text.starts_with(words)) => self.mount(hint),
            500 if self.path.contains("/cel/sign/") => self.cel(&text),
            404 | 500 if let Some(hint) = mount_hint(|words| text.contains(words)) => self.mount(hint),
            400 if text == "missing client token" => Meaning::TokenDead(self.words()),
            // Nobody mends this by editing the issuer, and a shorter-lived request may still pass.
            400 if text.starts_with(BEYOND_CA.0) && text.contains(BEYOND_CA.1) => {
                Meaning::Error(Outage::BeyondCa { path: self.path.to_owned(), words: self.words() }.into())
            }
            400 if EMPTY_CSR.iter().any(|words| text.starts_with(words)) => Meaning::EmptyCsr(self.words()),
            400 | 413 | 422 => Meaning::Error(self.refused().into()),
            403 if self.is_dead_token() => Meaning::TokenDead(self.words()),
            403 => Meaning::Forbidden(self.words()),
            404 | 405 => self.mount("See spec.vault.path: <mount>/sign/<role>"),
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
        if let Some(hint) = mount_hint(|words| said.starts_with(words)) {
            return self.mount(hint);
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

    fn mount(self, hint: &str) -> Meaning {
        Meaning::Error(Fault::Mount { path: self.path.to_owned(), words: self.words(), hint: hint.to_owned() }.into())
    }

    /// What mends itself: sealed, standby, rate limit, storage trouble, and whatever we do not know.
    fn passing(self) -> SignError {
        let server = self.server.to_owned();
        if self.status == 503 && self.text().contains("sealed") {
            return Outage::Sealed { server }.into();
        }
        Outage::Status { server, status: self.status, words: self.words() }.into()
    }

    fn is_dead_token(self) -> bool {
        let exactly = matches!(self.errors, [only] if only.trim() == "permission denied");
        exactly || self.text().contains("invalid token")
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

/// Refusals that are about the mount, the role, the issuer or the namespace, never about a request.
fn mount_hint(holds: impl Fn(&str) -> bool) -> Option<&'static str> {
    const ROWS: [(&str, &str); 9] = [
        (
            "cel role not found",
            "The mount has no such CEL role: correct the end of spec.vault.path, or create the role",
        ),
        ("unknown role", "The mount has no such role: correct the end of spec.vault.path, or create the role"),
        (
            "no handler for route",
            "No secrets engine is mounted there: correct spec.vault.path, or enable the PKI engine",
        ),
        (
            "route entry not found",
            "No secrets engine is mounted there: correct spec.vault.path, or enable the PKI engine",
        ),
        ("namespace not found", "There is no such namespace: correct spec.vault.namespace"),
        (
            "no default issuer",
            "The mount has no CA certificate, or no default one: generate or import one, set the default, or name one in spec.vault.path (<mount>/issuer/<ref>/sign/<role>)",
        ),
        (
            "unable to find pki issuer",
            "The mount has no such issuer: correct <ref> in spec.vault.path, or the role's issuer_ref",
        ),
        (
            "requested usage issuing-certificates",
            "The mount's issuer may not issue: add issuing-certificates to its usages",
        ),
        // The three above are its usual ends, with a better hint.
        ("could not fetch the ca certificate", "The mount has no CA certificate yet: generate or import one"),
    ];
    ROWS.iter().find(|(words, _)| holds(words)).map(|(_, hint)| *hint)
}

/// Which option of the role decides, by the words in which Vault's PKI engine refuses; the first that fits.
fn role_hint(text: &str) -> &'static str {
    const ROWS: [(&[&str], &str); 17] = [
        (&["common_name", "require_cn"], "The role needs a common name: set its require_cn=false"),
        (&["require_cn"], "The role needs a common name: set its require_cn=false"),
        (
            &["uri subject alternative name"],
            "The role's allowed_uri_sans decides, for example spiffe://<trust domain>/*",
        ),
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
    let row = ROWS.iter().find(|(words, _)| words.iter().all(|word| text.contains(word)));
    row.map_or("See the options of the role in spec.vault.path", |(_, hint)| *hint)
}

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
    fn configuration(status: u16, words: &str, field: &str) {
        match sign(status, &[words]) {
            Meaning::Error(SignError::Issuer(Fault::Mount { hint, path, .. })) => {
                assert_eq!(path, PATH);
                assert!(hint.contains(field), "{words}: {hint}");
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
    fn configuration_is_not_blamed_on_a_request() {
        configuration(400, "unknown role: web", "role");
        configuration(404, "no handler for route \"pki/sign/web\". route entry not found.", "spec.vault.path");
        configuration(404, "namespace not found", "spec.vault.namespace");
        configuration(404, "", "spec.vault.path");
        configuration(405, "unsupported operation", "spec.vault.path");
        configuration(
            500,
            "could not fetch the CA certificate (was one set?): no default issuer currently configured",
            "generate or import",
        );
        configuration(
            500,
            "1 error occurred:\n\t* could not fetch the CA certificate (was one set?): unable to find PKI issuer for reference: nope\n\n",
            "<ref>",
        );
        configuration(500, "could not fetch the CA certificate (was one set?): storage", "CA");
        configuration(500, "error fetching CA certificate: no default issuer currently configured", "set the default");
        configuration(500, "unable to find PKI issuer for reference: blue", "<ref>");
        configuration(500, "unable to fetch bundle: issuer lacks requested usage issuing-certificates", "usages");
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
    fn a_refused_login_says_which_field_it_could_be() {
        for (status, words, field) in
            [(400, "invalid secret ID", "secretRef"), (404, "namespace not found", "spec.vault.namespace")]
        {
            match login(status, &[words]) {
                SignError::Issuer(Fault::LoginRefused { hint, .. }) => assert!(hint.contains(field), "{words}: {hint}"),
                other => panic!("{words}: {other:?}"),
            }
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
