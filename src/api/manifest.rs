//! An issuer as a manifest has it, perhaps before any API server has looked at it: what the schema would refuse is said here in the
//! same form as what a spec says wrong.

use serde_json::Value;

use super::config::SpecError;
use super::spec::IssuerSpec;
use super::{ACCEPT_ANCHORS, GROUP, IssuerConfig, IssuerKey, IssuerKind};

/// One issuer of ours, read from a manifest or from the API server.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// Which one it is.
    pub key: IssuerKey,
    /// Its spec, parsed; or what is wrong with it.
    pub config: Result<IssuerConfig, SpecError>,
    /// What its annotation says about anchors.
    pub accepted: Option<String>,
    /// The whole object.
    pub object: Value,
}

impl Manifest {
    /// Reads an object; none: it is no issuer of ours. One that names no namespace lies in `namespace`.
    pub fn read(object: Value, namespace: &str) -> Option<Self> {
        let group = text(&object, "/apiVersion")?.split('/').next()?;
        let kind = IssuerKind::from_name(text(&object, "/kind")?).filter(|_| group == GROUP)?;
        let key = key(&object, kind, namespace);
        let written = object.get("spec").unwrap_or(&Value::Null);
        let config = spec(written).and_then(|spec| IssuerConfig::parse(&spec));
        let annotations = object.pointer("/metadata/annotations");
        let accepted = annotations.and_then(|all| all.get(ACCEPT_ANCHORS)?.as_str()).map(str::to_owned);
        Some(Self { key, config, accepted, object })
    }

    /// A built-in issuer of cert-manager's that can become none of ours, under the name that ours would have.
    pub fn refused(object: &Value, namespace: &str, error: SpecError) -> Option<Self> {
        let kind = IssuerKind::from_name(&format!("VaultMesh{}", text(object, "/kind")?))?;
        let key = key(object, kind, namespace);
        Some(Self { key, config: Err(error), accepted: None, object: object.clone() })
    }
}

fn key(object: &Value, kind: IssuerKind, namespace: &str) -> IssuerKey {
    let namespace = text(object, "/metadata/namespace").unwrap_or(namespace);
    IssuerKey::new(kind, namespace, text(object, "/metadata/name").unwrap_or_default())
}

fn text<'a>(object: &'a Value, pointer: &str) -> Option<&'a str> {
    object.pointer(pointer)?.as_str().filter(|text| !text.is_empty())
}

/// The spec as its type has it. A field that the type does not know is refused, as kubectl does: it would be dropped in silence.
fn spec(written: &Value) -> Result<IssuerSpec, SpecError> {
    let parsed: IssuerSpec = serde_json::from_value(written.clone()).map_err(|error| misshapen("spec", &error))?;
    let known = serde_json::to_value(&parsed).unwrap_or_default();
    match strays(written, &known, "spec").into_iter().next() {
        Some(field) => {
            let problem = "there is no such field; is it misspelt, or does it belong one level up or down?";
            Err(SpecError::new(field, problem))
        }
        None => Ok(parsed),
    }
}

/// What the parser says, without the value that it stumbled over: somebody may have written a secret where its name belongs.
pub(super) fn misshapen(field: &str, error: &serde_json::Error) -> SpecError {
    let text = error.to_string();
    if text.starts_with("missing field") {
        return SpecError::new(field, text);
    }
    let expected = text.rsplit_once(", expected ").map(|(_, expected)| format!(", expected {expected}"));
    let problem = format!(
        "a value has the wrong form{}; `kubectl explain vaultmeshissuer.spec --recursive` shows the form of each",
        expected.unwrap_or_default()
    );
    SpecError::new(field, problem)
}

/// The fields of `written` that are not in `known`, each with its path below `field`. A null says as much as nothing.
pub(super) fn strays(written: &Value, known: &Value, field: &str) -> Vec<String> {
    match (written, known) {
        (Value::Object(written), Value::Object(known)) => {
            let below = written.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| {
                let field = format!("{field}.{name}");
                known.get(name).map_or_else(|| vec![field.clone()], |known| strays(value, known, &field))
            });
            below.flatten().collect()
        }
        (Value::Array(written), Value::Array(known)) => {
            let pairs = written.iter().zip(known).enumerate();
            pairs.flat_map(|(index, (written, known))| strays(written, known, &format!("{field}[{index}]"))).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(spec: Value) -> Value {
        json!({"apiVersion": "vaultmesh.io/v1alpha1", "kind": "VaultMeshIssuer", "metadata": {"name": "vault"}, "spec": spec})
    }

    fn good() -> Value {
        json!({
            "vault": {
                "server": "https://vault.example:8200", "path": "pki/sign/web",
                "auth": {"tokenSecretRef": {"name": "token", "key": null}},
            },
            "trust": {"anchors": [{"configMap": {"name": "root"}}]},
            "policy": {"spiffe": {"requester": true}},
        })
    }

    #[track_caller]
    fn refused(spec: Value, words: &str) {
        let manifest = Manifest::read(object(spec), "mesh").expect("an issuer");
        assert_eq!(manifest.config.expect_err("a fault").to_string(), words);
    }

    #[test]
    fn an_issuer_without_a_namespace_lies_in_the_one_that_is_given() {
        let manifest = Manifest::read(object(good()), "mesh").expect("an issuer");
        assert_eq!(manifest.key.to_string(), "VaultMeshIssuer mesh/vault");
        assert_eq!(manifest.config.expect("a usable spec").vault.path.to_string(), "pki/sign/web");
        let mut cluster = object(good());
        cluster["kind"] = "VaultMeshClusterIssuer".into();
        cluster["metadata"]["annotations"] = json!({"vaultmesh.io/accept-anchors": "ab"});
        let manifest = Manifest::read(cluster, "mesh").expect("an issuer");
        assert_eq!(
            (manifest.key.to_string().as_str(), manifest.accepted.as_deref()),
            ("VaultMeshClusterIssuer vault", Some("ab"))
        );
    }

    #[test]
    fn other_objects_are_none() {
        for (version, kind) in
            [("v1", "VaultMeshIssuer"), ("vaultmesh.io/v1alpha1", "Secret"), ("cert-manager.io/v1", "Issuer")]
        {
            assert!(Manifest::read(json!({"apiVersion": version, "kind": kind}), "mesh").is_none(), "{version} {kind}");
        }
        assert!(Manifest::read(json!(["text"]), "mesh").is_none());
    }

    #[test]
    fn what_the_schema_would_refuse_is_said_with_its_field() {
        refused(json!({}), "spec: missing field `vault`");
        let words = "there is no such field; is it misspelt, or does it belong one level up or down?";
        let mut spec = good();
        spec["trust"]["anchors"][0]["configMap"]["keys"] = "ca.crt".into();
        refused(spec, &format!("spec.trust.anchors[0].configMap.keys: {words}"));
        let mut spec = good();
        spec["vault"]["trust"] = json!({});
        refused(spec, &format!("spec.vault.trust: {words}"));
        let mut spec = good();
        spec["vault"]["path"] = "pki/issue/web".into();
        refused(
            spec,
            "spec.vault.path: ends in issue/<role>: that endpoint makes a key of its own. Write sign/<role> instead",
        );
    }

    #[test]
    fn a_secret_in_the_place_of_its_name_is_not_repeated() {
        for auth in [
            json!({"tokenSecretRef": "hvs.secret, expected nothing"}),
            json!({"appRole": {"roleId": "role", "secretRef": "hvs.secret"}}),
            json!({"tokenSecretRef": {"name": ["hvs.secret"]}}),
        ] {
            let mut spec = good();
            spec["vault"]["auth"] = auth;
            let error = Manifest::read(object(spec), "mesh").expect("an issuer").config.expect_err("no such form");
            let said = error.to_string();
            assert!(!said.contains("hvs") && said.contains("expected"), "{said}");
        }
        let error = Manifest::read(object(json!({})), "mesh").expect("an issuer").config.expect_err("no vault");
        assert!(error.to_string().contains("missing field `vault`"), "{error}");
    }
}
