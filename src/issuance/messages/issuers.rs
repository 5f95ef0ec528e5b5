//! What the conditions and events of an issuer say.

use jiff::Timestamp;

use super::super::ageing::Ageing;
use super::super::changes::changes;
use super::super::expiry::token_expiring;
use super::super::health::Health;
use super::super::publication::{Target, Unpublished};
use super::super::role::{Advice, Suitability};
use super::super::signer::{Beyond, Fault, Mistrust, Obstacle, Outage, SignError};
use super::{Entry, Section, as_said, entries, foreign, gap, issuer};
use crate::api::ObjectKey;
use crate::api::config::ReferencedKind;
use crate::api::status::{CertificateStatus, IssuerStatus};
use crate::api::vault_path::SignPath;

pub(super) fn sections() -> Vec<Section> {
    vec![
        Section {
            title: "An issuer that a person has to mend",
            about: "In the `Ready` condition, with the reason named; requests wait. What the reasons mean is in \
                    [conditions.md](conditions.md).",
            entries: faults(),
        },
        Section {
            title: "What a path of Vault's lacks",
            about: "What `{obstacle}` says in the message \"Vault serves nobody at …\", by what Vault answered.",
            entries: obstacles(),
        },
        Section {
            title: "A trouble that passes",
            about: "In the `Ready` condition as well, from the second check in a row that meets it; requests wait and are tried again.",
            entries: outages(),
        },
        Section {
            title: "An answer that may not reach a mesh",
            about: "In the `Ready` condition. Nothing of the answer is written; after each check that succeeds one request is tried.",
            entries: mistrust(),
        },
        Section {
            title: "The options of Vault's role",
            about: "In the condition `RoleSuitsMesh`, after the role's path. None of them keeps an issuer from being Ready.",
            entries: advice(),
        },
        Section {
            title: "Publishing the roots",
            about: "In the condition `Published`, with the reason named. Signing never waits for it.",
            entries: unpublished(),
        },
        Section {
            title: "The other conditions and events of an issuer",
            about: "A condition whose status changes is an event too, with the condition's reason.",
            entries: others(),
        },
    ]
}

fn ready(error: impl Into<SignError>) -> String {
    format!("`{}`", Health::troubled(&error.into()).reason.as_str())
}

fn faults() -> Vec<Entry> {
    // Each obstacle has a reason of its own, which the next section names.
    let of_obstacle = || "the obstacle's reason, below".to_owned();
    let shown = |it: &Fault| if matches!(it, Fault::Mount { .. }) { of_obstacle() } else { ready(it.clone()) };
    entries!(Fault, Fault::to_string, shown;
    Spec { field: gap("field"), problem: gap("problem") } =>
        "A field that admission lets pass cannot be used, or holds PEM or base64 that is none.", "Correct the field that is named.";
    Material { field: gap("field"), object: gap("object"), problem: gap("problem") } =>
        "The object is not there, has not the key, holds what cannot be used, or the controller may not read it.",
        "Create or correct it; it is looked at at once. For the right to read it see the chart's values `secrets.namespaces` and \
         `serviceAccounts`.";
    ServerNotAllowed { server: gap("server") } =>
        "The chart's `allowedServers` has no pattern for this server.", "Have it added, or name a server that is in it.";
    LoginRefused { path: gap("path"), status: 400, words: foreign("words"), hint: gap("hint") } =>
        "Vault does not take the credentials, or the login mount or Vault namespace is another.",
        "`{hint}` names the field, by method and by Vault's words: see [logins](#what-hint-says-of-a-login). Which status Vault chose \
         matters little: it answers 403 where the mount does not exist.";
    TokenDead { words: foreign("words"), hint: gap("hint") } =>
        "A static token has expired or was revoked; or a token straight from a login is refused, as where servers that share no storage \
             answer at one address.",
        "Put a new token into the Secret, or look at the login role's `token_*` options; `{hint}` says which.";
    SignForbidden { path: gap("path"), words: foreign("words") } =>
        "Vault tells a login that may use nothing else neither of a missing policy nor of a misspelt path.",
        "Compare `spec.vault.path` with `vault secrets list` and `vault list <mount>/roles`; then give the login's policy `update` on \
         exactly that path.";
    Mount { path: gap("path"), words: foreign("words"), obstacle: Obstacle::NoRole } =>
        "Vault knows the login and does not serve this path.", "The last sentence says it; all of them are listed below.";
    CaExpired { mount: gap("mount"), ca: gap("ca") } =>
        "Nobody renewed the CA, or the mount still signs with the old one.",
        "[Replace the signing CA](rotation.md#the-signing-ca).";
    NoAnchor { mount: gap("mount") } =>
        "The intermediate was imported without its root, as where the root is kept offline.",
        "Set `spec.trust.anchors`: a mesh must not take an intermediate for its root.";
    AnchorsChanged { mount: gap("mount"), recorded: gap("recorded"), root: Box::new(certificate("root")), remark: gap("remark") } =>
        "The mount's default issuer was switched, or a server started anew without its data. A silent change would split the mesh.",
        "Name the root that is meant, or accept this one; [rotation](rotation.md) has no such moment.";
    MountClosed { mount: gap("mount") } =>
        "A proxy or Vault's configuration closes the paths that are open to everybody by default.",
        "Set `spec.trust.anchors`.";
    )
}

fn obstacles() -> Vec<Entry> {
    let shown = |it: &Obstacle| ready(Fault::Mount { path: String::new(), words: foreign("words"), obstacle: *it });
    entries!(Obstacle, Obstacle::to_string, shown;
    NoRole {} => "Vault: \"unknown role\".", "Compare with `vault list <mount>/roles`.";
    NoCelRole {} => "OpenBao: no such CEL role.", "Compare with `bao list <mount>/cel/roles`.";
    NoMount {} => "Vault: \"no handler for route\".", "Compare with `vault secrets list`.";
    NoSuchPath {} => "Vault: \"unsupported path\" or \"unsupported operation\": another engine than PKI, or one that is older than the path.",
        "Name a PKI mount, and a [path](issuers.md#which-path) that it has.";
    NoNamespace {} => "Vault: \"namespace not found\".", "Compare with `vault namespace list`.";
    NoIssuer {} => "Vault: \"unable to find PKI issuer\".", "Compare with `vault list <mount>/issuers`.";
    NoDefaultIssuer {} => "Vault: no default issuer.", "`vault write <mount>/config/issuers default=<name>`.";
    NoCertificate {} => "Vault: \"could not fetch the CA certificate\".", "Generate or import a CA in the mount.";
    NotForIssuing {} => "Vault: \"requested usage issuing-certificates\" is not among those of the issuer.",
        "`vault write <mount>/issuer/<ref> usage=read-only,issuing-certificates,crl-signing`.";
    Algorithm {} => "The CA signs with what this controller, and many a verifier, cannot check, such as P-521 or RSA-PSS.",
        "Sign with a CA of one of the kinds named.";
    Root {} => "The mount's own root cannot be an anchor: expired, no CA, or not signed by its own key.",
        "Replace it, or name another one in `spec.trust.anchors`.";
    )
}

fn outages() -> Vec<Entry> {
    let moment = Timestamp::UNIX_EPOCH;
    let of_request = || "as the cause on a request, and in the condition `CAExpiring`".to_owned();
    let shown = |it: &Outage| if matches!(it, Outage::BeyondCa { .. }) { of_request() } else { ready(it.clone()) };
    entries!(Outage, Outage::to_string, shown;
    Unreachable { server: gap("server"), class: "{class}" } =>
        "`{class}` is `refused`, `timeout`, `no route`, `name not found`, `reset` or `the proxy of HTTPS_PROXY refused`.",
        "Try `curl` from a pod beside the controller; look at network policies, and at `HTTPS_PROXY` and `NO_PROXY`.";
    Tls { server: gap("server"), words: foreign("words"), hint: gap("hint") } =>
        "Vault's certificate is of another CA, for another name, or expired; or Vault wants a client certificate.",
        "`{hint}` names the field: `caBundle…`, `serverName` or `clientCertSecretRef`.";
    Interrupted { server: gap("server"), class: "{class}" } =>
        "`{class}` is `timeout` (nothing for 30 s) or `connection cut`: Vault hangs, restarts, or a proxy gave up.",
        "Nothing, if it passes; else look at Vault's load and at the proxy's limits.";
    Sealed { server: gap("server") } => "Vault was restarted without auto-unseal, or sealed.", "Unseal it.";
    Standby { server: gap("server"), words: foreign("words") } =>
        "Vault's cluster has no leader, as while it elects one.", "Nothing, if it passes; else look at the cluster's nodes.";
    BeyondCa { path: gap("path"), words: foreign("words"), dates: Some(Beyond { wanted: moment, ends: moment }) } =>
        "The CA has less time left than the request asks for.",
        "Renew the CA ([rotation](rotation.md#the-signing-ca)), or ask for less.";
    Throttled { server: gap("server"), status: 429, retry_after: None } =>
        "A quota of Vault's. It is shown once nothing has passed for about a minute; before that it only slows signs down.",
        "Raise the quota, or lower the chart's `signsPerIssuer`.";
    Status { server: gap("server"), status: 500, words: foreign("words") } =>
        "Vault has a trouble of its own, such as its storage.", "Vault's log says more.";
    NoAccountToken { account: gap("account"), words: foreign("words") } =>
        "The API server did not answer, or not as expected.", "Nothing, if it passes; else look at the API server.";
    NotVault { server: gap("server"), status: 502, hint: gap("hint") } =>
        "A proxy, a load balancer or another service answers at this address. Its words are never shown.",
        "Correct `spec.vault.server`, or mend what stands in front of Vault.";
    )
}

fn mistrust() -> Vec<Entry> {
    entries!(Mistrust, Mistrust::to_string, |it: &Mistrust| ready(it.clone());
    Unreadable { path: gap("path"), problem: gap("problem") } =>
        "The answer is cut, not Vault's JSON, too large, or holds no certificate that can be read.",
        "Look for something between Vault and the controller that rewrites answers.";
    Untimely { path: gap("path"), problem: gap("problem") } =>
        "The certificate is not valid yet, or no longer: the clocks of Vault and the controller differ, or the role has \
         `not_before_duration=0s`.", "Set the clocks.";
    ForeignKey { path: gap("path") } =>
        "Vault made a key of its own, as `issue/<role>` does, or answered somebody else.",
        "Let `spec.vault.path` end in `sign/<role>`.";
    NoPath { path: gap("path"), problem: gap("problem"), root: None } =>
        "`{problem}` says where the chain ends: see [certification paths](#why-there-is-no-path).",
        "Name the root above Vault's CA in `spec.trust.anchors`, or let the CA sign that stands below your root.";
    )
}

fn advice() -> Vec<Entry> {
    entries!(Advice, Advice::to_string, as_said;
    RequireCn {} => "Vault's default.", "`vault write <mount>/roles/<role> … require_cn=false`.";
    KeyType { 0: foreign("type") } => "Vault's default is `rsa`.", "`key_type=any`.";
    NoUris {} => "Vault's default.", "`allowed_uri_sans='spiffe://<trust domain>/*'`.";
    DropsNames {} => "The role was written for certificates whose names stand outside the CSR.", "`use_csr_sans=true`.";
    KeyUsage { 0: foreign("names") } => "Go's names of constants, as some guides have them.",
        "`key_usage=DigitalSignature,KeyEncipherment`.";
    MaxTtl { max: gap("max"), default: gap("default") } => "The role's longest life is below the issuer's default.",
        "Bring the two together.";
    Leases {} => "The role was written for revocation by lease.", "`generate_lease=false`.";
    Stored {} => "Vault's default; it costs storage and speed, and refuses nothing.", "`no_store=true`.";
    NoAllowance {} => "The role was written so.", "`not_before_duration=30s`.";
    Elsewhere { mount: gap("mount"), ca: gap("CA") } => "`spec.trust.anchors` holds another CA's root, or the mount signs with another CA than is meant.", "Put the root above the mount's CA into `spec.trust.anchors`, or name the CA in `spec.vault.path`.";
    )
}

fn unpublished() -> Vec<Entry> {
    let object = || ObjectKey { kind: ReferencedKind::ConfigMap, namespace: gap("namespace"), name: gap("name") };
    let target = Target { object: object(), key: gap("key") };
    entries!(Unpublished, Unpublished::to_string, |it: &Unpublished| format!("`{}`", it.reason());
    AnchorsUnknown {} => "The issuer is not Ready.", "Mend what `Ready` says.";
    OwnedBySomebodyElse { 0: target.clone(), 1: foreign("owners") } =>
        "The key was written before, by hand or by another program.", "One of the three that the message names.";
    ByAnotherIssuer { 0: object(), 1: issuer() } => "Two issuers name one object.", "Give each its own.";
    Unreadable { 0: object() } => "The controller's reading is limited to a list.", "Add the namespace to the list.";
    WriteForbidden { object: object(), missing: true, words: foreign("words") } =>
        "The chart grants ConfigMaps everywhere and Secrets nowhere, unless told otherwise.", "Set the value that is named.";
    WriteFailed { object: object(), words: foreign("words") } =>
        "The API server did not take the write: an outage, an admission webhook, or somebody who writes the same key all the time.",
        "Nothing, if it passes; else see who else writes it.";
    )
}

/// What is said by functions, not by the variants of an enum.
fn others() -> Vec<Entry> {
    let moment = Timestamp::from_second(1_900_000_000).unwrap_or_default();
    let entry = |message: String, shown: &str, cause, cure| Entry { message, shown: shown.to_owned(), cause, cure };
    let [verified, checking] = [Health::verified(), Health::checking()];
    let mut ageing = Ageing::default();
    let later = moment + jiff::SignedDuration::from_hours(24);
    ageing.refused(Beyond { wanted: later, ends: moment }, moment);
    ageing.look(None, moment);
    let mut entries = vec![
        entry(verified.message, "`Ready` `Verified`", "All is well.", "None is needed."),
        entry(checking.message, "`Ready` `Checking`", "The issuer is new or was changed.", "It takes moments."),
    ];
    let told = [
        (
            ageing.message("{mount}"),
            "`CAExpiring`",
            "The CA is near its end.",
            "[Replace the signing CA](rotation.md#the-signing-ca).",
        ),
        (
            token_expiring(Some(moment), moment),
            "`TokenExpiring`",
            "A token that a person made ends within 24 hours.",
            "[Put a new one into the Secret](rotation.md#static-tokens-and-client-certificates).",
        ),
        (
            suitability(),
            "`RoleSuitsMesh` `NotReadable`",
            "Least privilege, and no trouble.",
            "Grant `read` on the role if you want to be told of its options.",
        ),
    ];
    entries
        .extend(told.into_iter().filter_map(|(message, shown, cause, cure)| Some(entry(message?, shown, cause, cure))));
    let status = |name: &str| IssuerStatus {
        trust_anchors: Some(vec![certificate(name)]),
        signing_certificate: Some(certificate(name)),
        ..IssuerStatus::default()
    };
    let changed = changes(Some(&status("old")), &status("new")).into_iter();
    entries.extend(changed.map(|(_, notice)| {
        let shown = format!("event `{}`", notice.reason);
        entry(
            notice.note,
            &shown,
            "A step of a [rotation](rotation.md), or a change in Vault.",
            "None, if it was meant.",
        )
    }));
    entries
}

fn suitability() -> Option<String> {
    let path = SignPath::parse("mount/sign/role").ok()?;
    Suitability::of(&[], &path).map(|suitability| suitability.message)
}

fn certificate(name: &str) -> CertificateStatus {
    CertificateStatus { subject: gap(name), sha256: gap("fingerprint"), not_after: gap("date") }
}
