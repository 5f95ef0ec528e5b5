//! What was found, as text for people and as JSON for scripts.

use std::fmt::Write as _;

use anyhow::Context as _;
use serde::Serialize;

use super::input::Entry;
use crate::api::IssuerKey;
use crate::api::status::CertificateStatus;
use crate::cli::CheckOutput;
use crate::issuance::diagnosis::Diagnosis;
use crate::issuance::findings::Line;
use crate::issuance::trust::Anchors;

/// What was found out about one issuer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    #[serde(skip)]
    key: IssuerKey,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    name: String,
    /// None: the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    /// Nothing has to be done about it.
    pub(super) ok: bool,
    findings: Vec<Line>,
    trust_anchors: Vec<CertificateStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signing_certificate: Option<CertificateStatus>,
}

/// Everything together, as JSON has it.
#[derive(Serialize)]
struct Everything<'a> {
    ok: bool,
    issuers: &'a [Report],
}

impl Report {
    /// Nothing is known yet.
    pub(super) fn new(Entry { file, manifest, .. }: &Entry) -> Self {
        let (key, file) = (manifest.key.clone(), file.clone());
        let (kind, namespace, name) = (key.kind.name(), key.namespace.clone(), key.name.clone());
        let (findings, trust_anchors, signing_certificate) = (Vec::new(), Vec::new(), None);
        Self { key, kind, namespace, name, file, ok: true, findings, trust_anchors, signing_certificate }
    }

    /// With these findings.
    pub(super) fn with(self, findings: Vec<Line>) -> Self {
        let ok = !findings.iter().any(|line| line.grade.is_bad());
        Self { ok, findings, ..self }
    }

    /// With the certificates that were seen.
    pub(super) fn seen(self, diagnosis: &Diagnosis) -> Self {
        let anchors = diagnosis.anchors.iter().flat_map(Anchors::certificates);
        let trust_anchors = anchors.map(CertificateStatus::from).collect();
        Self { trust_anchors, signing_certificate: diagnosis.signing.as_ref().map(CertificateStatus::from), ..self }
    }
}

/// The whole output, with a newline at its end.
pub(super) fn printed(reports: &[Report], output: CheckOutput) -> anyhow::Result<String> {
    match output {
        CheckOutput::Text => Ok(text(reports)),
        CheckOutput::Json => {
            let everything = Everything { ok: reports.iter().all(|report| report.ok), issuers: reports };
            let json = serde_json::to_string_pretty(&everything).context("cannot write JSON")?;
            Ok(format!("{json}\n"))
        }
    }
}

/// A table for each issuer; a finding is one line, however long, so that it can be searched for.
fn text(reports: &[Report]) -> String {
    let mut text = String::new();
    for report in reports {
        let file = report.file.as_ref().map(|file| format!(" ({file})")).unwrap_or_default();
        // Writing to a String does not fail.
        let _ = writeln!(text, "{}{file}", report.key);
        let _ = writeln!(text, "  {:<14} {:<9} FINDING", "CHECK", "RESULT");
        for Line { subject, grade, message } in &report.findings {
            let _ = writeln!(text, "  {:<14} {:<9} {message}", subject.as_str(), grade.as_str());
        }
        text.push('\n');
    }
    let bad = reports.iter().filter(|report| !report.ok).count();
    let checked = if reports.len() == 1 { "1 issuer".to_owned() } else { format!("{} issuers", reports.len()) };
    let _ = match bad {
        0 => writeln!(text, "{checked} checked, nothing wrong"),
        bad => writeln!(text, "{checked} checked, {bad} with something wrong"),
    };
    text
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::Manifest;
    use crate::issuance::diagnosis::Subject;
    use crate::issuance::findings::Grade;

    fn reports() -> Vec<Report> {
        let object =
            |kind: &str| json!({"apiVersion": "vaultmesh.io/v1alpha1", "kind": kind, "metadata": {"name": "vault"}});
        let report = |file: Option<&str>, kind: &str| {
            let manifest = Manifest::read(object(kind), "mesh").expect("an issuer");
            Report::new(&Entry { file: file.map(str::to_owned), manifest, dropped: Vec::new() })
        };
        let bad = Line::new(Subject::SigningPath, Grade::Wrong, "permission denied");
        let unsuited = Line::new(Subject::Role, Grade::Unsuited, "require_cn=true");
        vec![
            report(Some("a.yaml"), "VaultMeshIssuer").with(vec![Line::usable(), bad]),
            report(None, "VaultMeshClusterIssuer").with(vec![Line::usable()]),
            report(None, "VaultMeshClusterIssuer").with(vec![unsuited]),
        ]
    }

    #[test]
    fn each_issuer_has_a_table_and_each_finding_a_line() {
        let text = printed(&reports()[..2], CheckOutput::Text).expect("text");
        assert_eq!(
            text,
            "VaultMeshIssuer mesh/vault (a.yaml)\n\
             \x20 CHECK          RESULT    FINDING\n\
             \x20 spec           right     it can be used, and so can the objects that it names\n\
             \x20 signing path   wrong     permission denied\n\n\
             VaultMeshClusterIssuer vault\n\
             \x20 CHECK          RESULT    FINDING\n\
             \x20 spec           right     it can be used, and so can the objects that it names\n\n\
             2 issuers checked, 1 with something wrong\n"
        );
    }

    #[test]
    fn json_says_the_same_and_what_is_unsuited_counts_as_wrong() {
        let printed = printed(&reports(), CheckOutput::Json).expect("JSON");
        let json: Value = serde_json::from_str(&printed).expect("JSON");
        let oks: Vec<_> = json["issuers"].as_array().expect("a list").iter().map(|it| it["ok"].clone()).collect();
        assert_eq!((json["ok"].clone(), oks), (json!(false), vec![json!(false), json!(true), json!(false)]));
        let first = &json["issuers"][0];
        let finding = json!({"check": "signingPath", "result": "wrong", "message": "permission denied"});
        assert_eq!(first["findings"][1], finding);
        assert_eq!(
            [&first["kind"], &first["namespace"], &first["name"], &first["file"]],
            ["VaultMeshIssuer", "mesh", "vault", "a.yaml"]
        );
    }
}
