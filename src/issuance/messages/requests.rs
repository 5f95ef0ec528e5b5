//! What a request's condition and its events say.

use std::time::Duration;

use super::super::authority::Unfit;
use super::super::inspection::Concern;
use super::super::signer::{Obstacle, Refusal};
use super::super::verdict::{DENIED, ISSUED, Waiting, event_reason, not_approved, waiting_message};
use super::{Entry, Section, as_said, entries, foreign, gap, issuer};

pub(super) fn sections() -> Vec<Section> {
    vec![
        Section {
            title: "A request that waits",
            about: "In the request's `Ready` condition with the reason `Pending`. One with an owner waits for as long as it takes, \
                    one without for five minutes.",
            entries: waiting(),
        },
        Section {
            title: "A request that failed",
            about: "In the request's `Ready` condition with the reason `Failed`, and in an event `Failed`. cert-manager asks again \
                    for a Certificate after an hour, then less and less often: `cmctl renew`, or a change of the Certificate, \
                    asks at once.",
            entries: refusals(),
        },
        Section {
            title: "A CA certificate that cannot be given",
            about: "As above, of requests with `isCA`.",
            entries: unfit(),
        },
        Section {
            title: "A certificate that was issued, with a remark",
            about: "In an event on the request, whose reason is named. With `certificates.usages: Enforce` the first one fails the \
                    request instead.",
            entries: concerns(),
        },
        Section {
            title: "The other words on a request",
            about: "A request that nobody has approved is not written to.",
            entries: others(),
        },
    ]
}

fn waiting() -> Vec<Entry> {
    let shown = |it: &Waiting| match (it, event_reason(it)) {
        (_, Some(reason)) => format!("also an event `{reason}`"),
        // Over in a moment; it is seen as the cause of a request that could not wait longer.
        (Waiting::IssuerUnseen | Waiting::NamespaceUnseen, None) => {
            "only as the cause of a request that failed".to_owned()
        }
        (_, None) => String::new(),
    };
    entries!(Waiting, |it: &Waiting| waiting_message(&issuer(), it), shown;
    IssuerMissing {} => "The `issuerRef` names an issuer that is not there: name, kind, or namespace.",
        "Create the issuer. Of a namespaced issuer only its own namespace's requests can make use.";
    IssuerUnseen {} => "The controller started, or the issuer was changed, a moment ago.", "It passes.";
    IssuerNotReady { 0: gap("cause") } => "The issuer's `Ready` condition has the cause.", "Mend what it says.";
    NamespaceUnseen {} => "The controller started a moment ago.", "It passes.";
    NamespaceNotSelected {} => "The cluster issuer's owner serves other namespaces only.",
        "Have the namespace labelled, or name another issuer.";
    Turn { 0: None } => "Many requests of this issuer wait, or Vault is slow.",
        "Nothing, if it passes; see [monitoring](monitoring.md), and the chart's `signsPerIssuer`.";
    Vault { 0: gap("cause") } => "A sign call failed; the issuer is looked at because of it.",
        "See the issuer's `Ready` condition; the request goes on by itself.";
    TooOften { 0: Duration::from_secs(5) } => "See [Certificates that renew for ever](issuers.md#certificates-that-renew-for-ever).",
        "One of the three that the message names.";
    Broken {} => "A defect of this program.", "Please report what its log says with the words \"a defect\".";
    )
}

fn refusals() -> Vec<Entry> {
    entries!(Refusal, Refusal::to_string, as_said;
    Csr { 0: gap("problem") } => "See [requests that cannot be read](#why-a-request-cannot-be-read).",
        "Have the request made by cert-manager, or by a program that signs it with its own key.";
    Duration { 0: gap("problem") } => "The duration is longer than the issuer's `maxDuration`, below a second, or no duration.",
        "Ask for less, or have `spec.certificates.maxDuration` raised.";
    Usage { 0: gap("usage") } => "A word that cert-manager does not know; without its webhook it gets this far.", "Correct it.";
    CertificateAuthority {} => "A Certificate with `isCA: true`.", "See [Intermediate CAs](issuers.md#intermediate-cas).";
    CertificateAuthorityInCsr {} => "A CSR that somebody made by hand.", "Set `isCA`, or leave the extension out.";
    Names { names: gap("names"), requester: foreign("requester"), namespace: gap("namespace"), advice: gap("advice") } =>
        "See [Whose names may be asked for](issuers.md#whose-names-may-be-asked-for).", "`{advice}` names the rule that would grant them.";
    AuthoritiesOnly { path: gap("path") } => "The issuer's path ends in `sign-intermediate`.", "Name another issuer for leaves.";
    CertSign { field: "{field}" } => "With `sign-verbatim` the usage would come out as it stands.", "Leave it out.";
    Authority { 0: Unfit::CannotSign } => "", "";
    Role { path: gap("path"), words: foreign("words"), hint: gap("hint") } =>
        "The role does not allow what is asked for.",
        "`{hint}` names the option: see [roles](#what-hint-says-of-a-role). Change the role, or ask for something else.";
    BeyondCaLife { path: gap("path"), wanted: gap("date"), begins: gap("date"), ends: gap("date") } =>
        "A duration that no renewal of this CA could give, such as ten years.", "Ask for less, or let the role's `max_ttl` cut it.";
    Parameters { path: gap("path"), words: foreign("words") } =>
        "The policy has `allowed_parameters`, `denied_parameters` or `required_parameters`.",
        "Let the policy allow what is sent: `csr`, `ttl`, `exclude_cn_from_sans`, `format`; with `sign-verbatim` also `key_usage` and \
             `ext_key_usage`, of CA certificates `use_csr_values` and `max_path_length`.";
    OutOfTime { waited: Duration::from_secs(300), cause: gap("cause") } =>
        "`{cause}` is what it waited for.", "Mend that; whoever made the request (istio-csr, Open Service Mesh, SPIRE) asks anew.";
    NotAsAsked { path: gap("path"), difference: gap("difference"), hint: gap("hint") } =>
        "The role left out or added names, or made a CA of a leaf or the other way round.", "`{hint}` names the option of the role.";
    )
}

fn unfit() -> Vec<Entry> {
    entries!(Unfit, Unfit::to_string, as_said;
    PathLength { asked: 2, most: 0 } => "The CSR has basicConstraints with a path length.", "Raise the issuer's limit, or ask for less.";
    Usages { field: "{field}", names: gap("names") } => "Guides of meshes often list `server auth` and `client auth`.",
        "Leave them out.";
    CannotSign {} => "The Certificate lists usages and `cert sign` is not among them.", "Add it.";
    Extensions { 0: gap("numbers") } => "The endpoint would write them as they stand.", "Leave them out.";
    Forbidden { path: gap("path"), words: foreign("words") } => "The policy has the path for leaves only.", "Add the path to it.";
    Path { path: gap("path"), words: foreign("words"), obstacle: Obstacle::NoMount } =>
        "See [What a path of Vault's lacks](#what-a-path-of-vaults-lacks).", "The last sentence says it.";
    Untrusted { 0: gap("problem") } =>
        "Vault's answer at the path for CA certificates is one of [these](#an-answer-that-may-not-reach-a-mesh).",
        "As there; the issuer's own path is not in doubt.";
    )
}

fn concerns() -> Vec<Entry> {
    let shown = |it: &Concern| match it {
        Concern::LifetimeShortened { .. } => {
            format!("event `{}`, and the issuer's condition of that name", it.reason())
        }
        Concern::UsagesMissing { .. } | Concern::Warned { .. } => format!("event `{}`", it.reason()),
    };
    entries!(Concern, Concern::to_string, shown;
    UsagesMissing { path: gap("path"), missing: gap("usages"), hint: "{hint}" } =>
        "The role's `key_usage` and `ext_key_usage` decide, or names in them that Vault does not know.",
        "Correct the role, ask for fewer, or use `sign-verbatim`.";
    LifetimeShortened { path: gap("path"), asked: gap("asked"), given: gap("given") } =>
        "Less than a third of what was asked for was given.", "Raise the role's `max_ttl`, renew the CA, or ask for less.";
    Warned { path: gap("path"), words: foreign("words") } => "Vault says so in its answer.", "Vault's words say what it changed.";
    )
}

fn others() -> Vec<Entry> {
    let unapproved = not_approved(&issuer());
    let rows = [
        (ISSUED.to_owned(), "`Ready` `Issued`".to_owned(), "All is well.", "None is needed."),
        (
            DENIED.to_owned(),
            "`Ready` `Denied`, event `Denied`".to_owned(),
            "An approver, such as approver-policy, said no.",
            "Its own condition says why.",
        ),
        (
            unapproved.note,
            format!("event `{}`, after 30 s", unapproved.reason),
            "The chart was installed without its approver binding, or cert-manager lies in another namespace than `cert-manager`.",
            "See [approval](install.md#approval).",
        ),
    ];
    rows.map(|(message, shown, cause, cure)| Entry { message, shown, cause, cure }).into()
}
