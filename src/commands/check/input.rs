//! What the given manifests hold: issuers, ours or cert-manager's built-in ones, and the Secrets and ConfigMaps that they may name.
//! Other objects are passed over, so that a whole set of manifests can be given.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, anyhow, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Resource as _;
use serde_json::Value;

use crate::api::built_in::{ConvertError, Converted, Point, convert};
use crate::api::config::ReferencedKind;
use crate::api::material::{Data, Delivered};
use crate::api::{GROUP, Manifest, ObjectKey, VaultMeshIssuer};
use crate::commands::manifests::{self, Document};
use crate::issuance::diagnosis::Subject;
use crate::issuance::findings::{Grade, Line};

/// Secrets and ConfigMaps by name.
pub(super) type Objects = BTreeMap<ObjectKey, Delivered>;

/// An issuer to look at.
#[derive(Debug)]
pub(super) struct Entry {
    /// The file; none: the cluster.
    pub(super) file: Option<String>,
    /// The issuer, or what cert-manager's becomes.
    pub(super) manifest: Manifest,
    /// What of cert-manager's has no place in ours, or is none of ours alone.
    pub(super) dropped: Vec<Line>,
}

/// Everything that files hold.
#[derive(Debug, Default)]
pub(super) struct Given {
    pub(super) issuers: Vec<Entry>,
    pub(super) objects: Objects,
}

/// Reads files. An object that names no namespace lies in `namespace`.
pub(super) fn read(files: &[PathBuf], namespace: &str) -> anyhow::Result<Given> {
    let mut given = Given::default();
    for document in manifests::read(files)? {
        let name = document.to_string();
        given.add(document, namespace).with_context(|| format!("{name} cannot be read"))?;
    }
    Ok(given)
}

impl Given {
    fn add(&mut self, Document { source, object }: Document, namespace: &str) -> anyhow::Result<()> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let kind = match (text("/apiVersion"), text("/kind")) {
            ("v1", "Secret") => ReferencedKind::Secret,
            ("v1", "ConfigMap") => ReferencedKind::ConfigMap,
            _ => {
                let issuer = ours(object, namespace)?;
                let entry = |(manifest, dropped)| Entry { file: Some(source), manifest, dropped };
                self.issuers.extend(issuer.map(entry));
                return Ok(());
            }
        };
        let namespace = Some(text("/metadata/namespace")).filter(|named| !named.is_empty()).unwrap_or(namespace);
        let key = ObjectKey { kind, namespace: namespace.to_owned(), name: text("/metadata/name").to_owned() };
        // Without the parser's words, which quote the value that they are about.
        let data = data(kind, object).ok_or_else(|| anyhow!("its data are not those of a {}", kind.name()))?;
        self.objects.insert(key, Delivered::Data(data));
        Ok(())
    }
}

/// The issuer that an object is, or becomes, and what is to be said of the change; none: it is no issuer that signs with Vault.
fn ours(object: Value, namespace: &str) -> anyhow::Result<Option<(Manifest, Vec<Line>)>> {
    let written = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default().to_owned();
    let read = match convert(&object) {
        Ok(Converted { issuer, points }) => {
            let dropped = points.iter().filter(|point| is_about_signing(point));
            let dropped = dropped.map(|point| Line::new(Subject::Spec, Grade::Hint, point.to_string())).collect();
            Manifest::read(issuer, namespace).map(|manifest| (manifest, dropped))
        }
        Err(ConvertError::NoIssuer) => {
            let version = VaultMeshIssuer::api_version(&());
            let manifest = Manifest::read(object, namespace).filter(|_| written == version);
            ensure!(
                manifest.is_some() || written.split('/').next() != Some(GROUP),
                "{version} has the kinds VaultMeshIssuer and VaultMeshClusterIssuer, and this is none of them"
            );
            manifest.map(|manifest| (manifest, Vec::new()))
        }
        Err(ConvertError::NoVault(_)) => None,
        Err(ConvertError::Unusable(error)) => {
            Manifest::refused(&object, namespace, error).map(|manifest| (manifest, Vec::new()))
        }
        Err(error @ ConvertError::NoName) => return Err(error.into()),
    };
    ensure!(read.as_ref().is_none_or(|(manifest, _)| !manifest.key.name.is_empty()), ConvertError::NoName);
    Ok(read)
}

/// Whether it matters before anybody goes over to our kinds.
fn is_about_signing(point: &Point) -> bool {
    match point {
        Point::Unknown(_) | Point::OtherLogins { .. } | Point::SecondCertificate(_) | Point::CertificateAuthorities => {
            true
        }
        Point::Deployer(_)
        | Point::Path(_)
        | Point::Secrets(_)
        | Point::Account { .. }
        | Point::ClusterAccount { .. }
        | Point::Audiences(_)
        | Point::EveryNamespace
        | Point::Root(_)
        | Point::Approver(_)
        | Point::References { .. } => false,
    }
}

/// What an object will hold once it is applied.
fn data(kind: ReferencedKind, object: Value) -> Option<Data> {
    let mut values: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let text = |(key, text): (String, String)| (key, text.into_bytes());
    match kind {
        ReferencedKind::Secret => {
            let secret: Secret = serde_json::from_value(object).ok()?;
            values.extend(secret.data.into_iter().flatten().map(|(key, bytes)| (key, bytes.0)));
            values.extend(secret.string_data.into_iter().flatten().map(text));
        }
        ReferencedKind::ConfigMap => {
            let map: ConfigMap = serde_json::from_value(object).ok()?;
            values.extend(map.binary_data.into_iter().flatten().map(|(key, bytes)| (key, bytes.0)));
            values.extend(map.data.into_iter().flatten().map(text));
        }
    }
    Some(Data { values, annotations: BTreeMap::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(text: &str) -> anyhow::Result<Given> {
        let mut file = tempfile::NamedTempFile::new()?;
        std::io::Write::write_all(&mut file, text.as_bytes())?;
        read(&[file.path().to_owned()], "mesh")
    }

    fn names(given: &Given) -> Vec<String> {
        let issuers = given.issuers.iter().map(|entry| entry.manifest.key.to_string());
        issuers.chain(given.objects.keys().map(ToString::to_string)).collect()
    }

    #[test]
    fn issuers_and_what_they_may_name_are_kept_and_other_objects_passed_over() {
        let yaml = "\
apiVersion: vaultmesh.io/v1alpha1
kind: VaultMeshClusterIssuer
metadata: {name: b}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: c}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: d, namespace: other}
data: {ca.crt: text}
---
apiVersion: cert-manager.io/v1
kind: Issuer
metadata: {name: e}
spec: {selfSigned: {}}
---
apiVersion: cert-manager.io/v1
kind: Issuer
metadata: {name: f}
spec:
  vault:
    server: https://vault.example:8200
    path: pki/sign/mesh
    auth: {tokenSecretRef: {name: token}}
---
apiVersion: cert-manager.io/v1
kind: ClusterIssuer
metadata: {name: g}
spec:
  vault:
    server: https://vault.example:8200
    path: pki/issue/mesh
    auth: {tokenSecretRef: {name: token}}
";
        let given = given(yaml).expect("YAML");
        let expected =
            ["VaultMeshClusterIssuer b", "VaultMeshIssuer mesh/f", "VaultMeshClusterIssuer g", "ConfigMap other/d"];
        assert_eq!(names(&given), expected);
        let refused = given.issuers[2].manifest.config.as_ref().expect_err("a fault").to_string();
        assert!(refused.starts_with("spec.vault.path: ends in issue/<role>"), "{refused}");
    }

    #[test]
    fn a_secret_holds_what_it_will_hold_when_it_is_applied() {
        let secret = r#"{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"},
            "data": {"a": "aGk=", "b": "aGk="}, "stringData": {"b": "ho"}}"#;
        let given = given(secret).expect("JSON");
        let value = |key: &str, bytes: &[u8]| (key.to_owned(), bytes.to_vec());
        let expected =
            Data { values: BTreeMap::from([value("a", b"hi"), value("b", b"ho")]), annotations: BTreeMap::new() };
        assert_eq!(names(&given), ["Secret mesh/s"]);
        assert_eq!(given.objects.values().collect::<Vec<_>>(), [&Delivered::Data(expected)]);
    }

    #[test]
    fn a_secret_that_cannot_be_read_is_not_shown() {
        let secret =
            r#"{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"k": "hvs.secret"}}"#;
        let error = format!("{:#}", given(secret).expect_err("no base64"));
        assert!(error.ends_with("Secret s cannot be read: its data are not those of a Secret"), "{error}");
    }
}
