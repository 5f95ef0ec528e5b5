//! cert-manager's built-in `Issuer` and `ClusterIssuer` become ours. Their `vault` block is ours already, field by field; what this
//! file knows is where the two are read differently, and what somebody who changes over has to look at.

use std::collections::BTreeSet;

use kube::Resource as _;
use serde_json::{Map, Value, json};

use super::GROUP;
use super::config::{IssuerConfig, ReferencedKind, SpecError};
use super::key::{IssuerKey, IssuerKind};
use super::manifest::{misshapen, strays};
use super::spec::{IssuerSpec, ServiceAccountRefSpec, VaultMeshIssuer};
use super::vault_path::SignVerb;

/// The group of the built-in kinds. Every version of it had the same `vault` block.
const BUILT_IN: &str = "cert-manager.io";

/// The login methods in the order in which the built-in issuer looks for one; further ones have no effect there.
/// <https://cert-manager.io/docs/reference/api-docs/#cert-manager.io/v1.VaultAuth>
const LOGINS: [&str; 5] = ["tokenSecretRef", "appRole", "clientCertificate", "kubernetes", "aws"];

/// What the API server writes into every object's metadata.
const OF_THE_API_SERVER: [&str; 8] = [
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// How labels and annotations begin by which Helm, Argo CD and Flux tell what is theirs. With them a copy would be theirs too, and be
/// deleted as something that their source does not hold.
const OF_DEPLOYERS: [&str; 7] = [
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "argocd.argoproj.io/",
    "helm.sh/",
    "helm.toolkit.fluxcd.io/",
    "kustomize.toolkit.fluxcd.io/",
    "meta.helm.sh/",
];

/// kubectl's own note of what it applied; it writes another one.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// An issuer of ours.
#[derive(Debug, Clone, PartialEq)]
pub struct Converted {
    /// The manifest; its spec can be parsed.
    pub issuer: Value,
    /// What to look at: first what is not as it was, then what is to be done.
    pub points: Vec<Point>,
}

/// Why there is no issuer of ours for a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// Another kind of object.
    #[error("it is no Issuer or ClusterIssuer of cert-manager.io")]
    NoIssuer,
    /// An issuer of another sort; holds the field of its spec.
    #[error("is no Vault issuer (its spec has {0})")]
    NoVault(String),
    /// There is no `metadata.name`.
    #[error("it has no metadata.name")]
    NoName,
    /// What the issuer says can never sign here: no method that we know, `issue` as verb, no such URL.
    #[error(transparent)]
    Unusable(#[from] SpecError),
}

/// One thing to look at. Each says what and where; none is found out by asking Vault or the cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Point {
    /// Fields that have no place in ours.
    #[error("left out, because a VaultMeshIssuer has no such field: {0}")]
    Unknown(String),
    /// Labels and annotations that would make a deployer take the copy for its own.
    #[error(
        "left out, because Helm, Argo CD or Flux would take the issuer for its own: {0}; keep the issuer where your manifests are"
    )]
    Deployer(String),
    /// Several login methods, of which the built-in issuer uses the first.
    #[error("auth.{kept} is kept, the one that the built-in issuer uses; left out, because it never was: {dropped}")]
    OtherLogins {
        /// The method in use.
        kept: &'static str,
        /// The others.
        dropped: String,
    },
    /// Two client certificates.
    #[error(
        "left out: auth.clientCertificate.secretName ({0}), because a connection shows one certificate, here that of clientCertSecretRef. \
         If Vault's cert role knows the other, name it in clientCertSecretRef and clientKeySecretRef"
    )]
    SecondCertificate(String),
    /// A path with empty segments, which the built-in issuer leaves out.
    #[error("path is written as it is called: {0}")]
    Path(String),
    /// `sign-intermediate`.
    #[error("path signs CA certificates only: requests without isCA, as those of workloads, fail")]
    CertificateAuthorities,
    /// Secrets of a cluster issuer.
    #[error(
        "copy from cert-manager's cluster resource namespace (its own unless --cluster-resource-namespace is set) into the controller's: \
         Secret {0}. Or set the chart's clusterResourceNamespace to cert-manager's"
    )]
    Secrets(String),
    /// A ServiceAccount whose tokens are requested, with the namespace that it lies in.
    #[error(
        "let the controller request tokens of ServiceAccount {namespace}/{name}: list it in the chart's serviceAccounts"
    )]
    Account {
        /// Its namespace, as far as it is known.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The same of a cluster issuer.
    #[error(
        "make ServiceAccount {name} in the controller's cluster resource namespace, list it in the chart's serviceAccounts, and add that \
         namespace to bound_service_account_namespaces of Vault's role {role}. Or set the chart's clusterResourceNamespace to cert-manager's"
    )]
    ClusterAccount {
        /// Its name.
        name: String,
        /// The login method's role.
        role: String,
    },
    /// Audiences beside the usual ones.
    #[error(
        "audiences ({0}) must not hold one of the API server's own: a token that it accepts is not sent to Vault, which needs a reviewer of \
         its own (token_reviewer_jwt)"
    )]
    Audiences(String),
    /// A cluster issuer serves every namespace.
    #[error("serves every namespace, as before; policy.namespaceSelector can say which")]
    EveryNamespace,
    /// The root may be missing.
    #[error(
        "if mount {0} does not hold its root (the built-in issuer then gives an intermediate as ca.crt), name the root in trust.anchors; \
         the issuer is not Ready before, and says so"
    )]
    Root(String),
    /// Who approves.
    #[error(
        "an approver has to approve for {0}: the chart binds cert-manager's own, any other, such as approver-policy, is yours to bind"
    )]
    Approver(String),
    /// Who asks.
    #[error(
        "name it in each issuerRef (Certificates, istio-csr's app.certmanager.issuer) as group {group}, kind {kind}, name {name}; on an \
         Ingress instead of cert-manager.io/{before}: cert-manager.io/issuer: {name}, cert-manager.io/issuer-kind: {kind}, \
         cert-manager.io/issuer-group: {group}",
        group = GROUP
    )]
    References {
        /// Ours.
        kind: &'static str,
        /// The same as before.
        name: String,
        /// The annotation that names the built-in issuer.
        before: &'static str,
    },
}

/// Makes an issuer of ours out of a built-in one. Pure: what only the cluster or Vault could tell is a [`Point`].
///
/// # Errors
/// The manifest is no Vault issuer of cert-manager's, or says what can never work here.
pub fn convert(manifest: &Value) -> Result<Converted, ConvertError> {
    let kind = kind(manifest).ok_or(ConvertError::NoIssuer)?;
    let empty = Map::new();
    let object = |field: &str| manifest.get(field).and_then(Value::as_object).unwrap_or(&empty);
    let (metadata, spec) = (object("metadata"), object("spec"));
    let name = metadata.get("name").and_then(Value::as_str).ok_or(ConvertError::NoName)?;
    if !spec.contains_key("vault") {
        let fields: Vec<_> = spec.keys().map(String::as_str).collect();
        return Err(ConvertError::NoVault(if fields.is_empty() { "nothing".to_owned() } else { fields.join(", ") }));
    }
    let mut points = Vec::new();
    let mut written = json!({"vault": spec.get("vault")});
    drop_empty(&mut written);
    if let Some(vault) = written.get_mut("vault").and_then(Value::as_object_mut) {
        as_it_is_read(vault, &mut points);
    }
    let shape = |error: serde_json::Error| misshapen("spec.vault", &error);
    let parsed: IssuerSpec = serde_json::from_value(written.clone()).map_err(shape)?;
    let config = IssuerConfig::parse(&parsed)?;
    let ours = serde_json::to_value(&parsed).map_err(shape)?;

    let mut unknown: Vec<String> =
        spec.keys().filter(|field| *field != "vault").map(|field| format!("spec.{field}")).collect();
    unknown.extend(strays(&written, &ours, "spec"));
    let metadata = carried_metadata(kind, metadata, &mut unknown, &mut points);
    if !unknown.is_empty() {
        points.insert(0, Point::Unknown(unknown.join(", ")));
    }
    let namespace = metadata.get("namespace").and_then(Value::as_str).unwrap_or("<namespace>");
    to_do(&IssuerKey::new(kind, namespace, name), &parsed, &config, &mut points);
    let issuer = json!({
        "apiVersion": VaultMeshIssuer::api_version(&()), "kind": kind.name(), "metadata": metadata, "spec": ours,
    });
    Ok(Converted { issuer, points })
}

fn kind(manifest: &Value) -> Option<IssuerKind> {
    let text = |field: &str| manifest.get(field).and_then(Value::as_str);
    let (group, _) = text("apiVersion")?.split_once('/')?;
    match text("kind")? {
        "Issuer" if group == BUILT_IN => Some(IssuerKind::Namespaced),
        "ClusterIssuer" if group == BUILT_IN => Some(IssuerKind::Cluster),
        _ => None,
    }
}

/// A field that is null or the empty text is to cert-manager as if it were not there; our rules ask only whether it is.
fn drop_empty(value: &mut Value) {
    let Some(fields) = value.as_object_mut() else { return };
    fields.retain(|_, field| !field.is_null() && field.as_str() != Some(""));
    fields.values_mut().for_each(drop_empty);
}

/// What the built-in issuer accepts and ours refuses, written as the built-in issuer reads it.
fn as_it_is_read(vault: &mut Map<String, Value>, points: &mut Vec<Point>) {
    let own_certificate = vault.contains_key("clientCertSecretRef");
    if let Some(auth) = vault.get_mut("auth").and_then(Value::as_object_mut) {
        let mut named = LOGINS.into_iter().filter(|login| auth.contains_key(*login));
        if let Some(kept) = named.next() {
            let others: Vec<_> = named.collect();
            others.iter().for_each(|login| drop(auth.remove(*login)));
            if !others.is_empty() {
                points.push(Point::OtherLogins { kept, dropped: others.join(", ") });
            }
        }
        // Programs that create issuers write this reference out although it names nothing.
        if let Some(kubernetes) = auth.get_mut("kubernetes").and_then(Value::as_object_mut)
            && kubernetes.get("secretRef").is_some_and(|reference| reference.get("name").is_none())
        {
            kubernetes.remove("secretRef");
        }
        let certificate = auth.get_mut("clientCertificate").and_then(Value::as_object_mut).filter(|_| own_certificate);
        if let Some(Value::String(secret)) = certificate.and_then(|certificate| certificate.remove("secretName")) {
            points.push(Point::SecondCertificate(secret));
        }
    }
    if let Some(Value::String(path)) = vault.get_mut("path") {
        let called = path.split('/').filter(|segment| !segment.is_empty()).collect::<Vec<_>>().join("/");
        if called != path.trim_start_matches('/') {
            path.clone_from(&called);
            points.push(Point::Path(called));
        }
    }
}

/// Name, namespace, labels and annotations; what only the API server writes goes without a word, everything else is named.
fn carried_metadata(
    kind: IssuerKind,
    metadata: &Map<String, Value>,
    unknown: &mut Vec<String>,
    points: &mut Vec<Point>,
) -> Value {
    let mut carried = Map::new();
    let mut of_deployers = Vec::new();
    for (field, value) in metadata {
        match (field.as_str(), value) {
            // cert-manager's examples give a namespace to a ClusterIssuer, and the API server takes no notice.
            ("namespace", _) if kind == IssuerKind::Cluster => {}
            ("name" | "namespace", value) => drop(carried.insert(field.clone(), value.clone())),
            ("labels" | "annotations", Value::Object(entries)) => {
                let foreign = |key: &str| OF_DEPLOYERS.iter().any(|prefix| key.starts_with(prefix));
                of_deployers.extend(entries.keys().filter(|key| foreign(key)).cloned());
                let kept: Map<_, _> =
                    entries.clone().into_iter().filter(|(key, _)| !foreign(key) && key != LAST_APPLIED).collect();
                if !kept.is_empty() {
                    carried.insert(field.clone(), kept.into());
                }
            }
            (_, Value::Null) => {}
            (server, _) if OF_THE_API_SERVER.contains(&server) => {}
            _ => unknown.push(format!("metadata.{field}")),
        }
    }
    if !of_deployers.is_empty() {
        points.push(Point::Deployer(of_deployers.join(", ")));
    }
    carried.into()
}

/// What remains to be done for a converted issuer.
fn to_do(key: &IssuerKey, spec: &IssuerSpec, config: &IssuerConfig, points: &mut Vec<Point>) {
    let path = &config.vault.path;
    if *path.verb() == SignVerb::SignIntermediate {
        points.push(Point::CertificateAuthorities);
    }
    let references = config.references().into_iter().filter(|it| it.kind == ReferencedKind::Secret);
    let secrets: BTreeSet<&str> = references.map(|it| it.name.as_str()).collect();
    if key.kind == IssuerKind::Cluster && !secrets.is_empty() {
        points.push(Point::Secrets(secrets.into_iter().collect::<Vec<_>>().join(", ")));
    }
    if let Some(login) = &spec.vault.auth.kubernetes
        && let Some(ServiceAccountRefSpec { name, audiences }) = &login.service_account_ref
    {
        let name = name.clone();
        points.push(match &key.namespace {
            Some(namespace) => Point::Account { namespace: namespace.clone(), name },
            None => Point::ClusterAccount { name, role: login.role.clone() },
        });
        points.extend(audiences.as_ref().map(|audiences| Point::Audiences(audiences.join(", "))));
    }
    if key.kind == IssuerKind::Cluster {
        points.push(Point::EveryNamespace);
    }
    points.push(Point::Root(path.mount().to_owned()));
    points.push(Point::Approver(key.signer_name()));
    let before = match key.kind {
        IssuerKind::Namespaced => "issuer",
        IssuerKind::Cluster => "cluster-issuer",
    };
    points.push(Point::References { kind: key.kind.name(), name: key.name.clone(), before });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An `Issuer` mesh/vault with a token, changed.
    fn built_in(change: impl FnOnce(&mut Value)) -> Value {
        let mut manifest = json!({
            "apiVersion": "cert-manager.io/v1", "kind": "Issuer", "metadata": {"name": "vault", "namespace": "mesh"},
            "spec": {"vault": {
                "server": "https://vault.example:8200", "path": "pki/sign/web",
                "auth": {"tokenSecretRef": {"name": "vault-token", "key": "token"}},
            }},
        });
        change(&mut manifest);
        manifest
    }

    #[track_caller]
    fn converted(change: impl FnOnce(&mut Value)) -> Converted {
        convert(&built_in(change)).expect("the test's issuer can be converted")
    }

    #[track_caller]
    fn refused(expected: &str, change: impl FnOnce(&mut Value)) {
        let error = convert(&built_in(change)).expect_err("the manifest should be refused");
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn the_vault_block_is_carried_over_as_it_is() {
        let written = built_in(|_| ());
        let Converted { issuer, points } = convert(&written).expect("a plain issuer");
        assert_eq!(issuer["spec"], written["spec"]);
        assert_eq!(
            (&issuer["apiVersion"], &issuer["kind"]),
            (&json!("vaultmesh.io/v1alpha1"), &json!("VaultMeshIssuer"))
        );
        assert_eq!(issuer["metadata"], written["metadata"]);
        let expected = [
            Point::Root("pki".to_owned()),
            Point::Approver("vaultmeshissuers.vaultmesh.io/mesh.vault".to_owned()),
            Point::References { kind: "VaultMeshIssuer", name: "vault".to_owned(), before: "issuer" },
        ];
        assert_eq!(points, expected);
    }

    #[test]
    fn every_field_of_cert_managers_block_is_carried_over() {
        let secret = json!({"name": "s", "key": "k"});
        let vault = json!({
            "server": "https://v", "serverName": "v.example", "namespace": "team/mesh", "path": "/pki/issuer/blue/sign/web",
            "caBundleSecretRef": secret, "clientCertSecretRef": secret, "clientKeySecretRef": secret,
        });
        let account = json!({"name": "login", "audiences": ["vault"]});
        for auth in [
            json!({"tokenSecretRef": secret}),
            json!({"appRole": {"path": "approle", "roleId": "id", "secretRef": secret}}),
            json!({"clientCertificate": {"mountPath": "/v1/auth/tls", "name": "mesh"}}),
            json!({"kubernetes": {"mountPath": "/v1/auth/blue", "role": "mesh", "secretRef": secret}}),
            json!({"kubernetes": {"role": "mesh", "serviceAccountRef": account}}),
        ] {
            let mut vault = vault.clone();
            vault["auth"] = auth;
            let converted = converted(|it| it["spec"]["vault"] = vault.clone());
            assert_eq!(converted.issuer["spec"]["vault"], vault);
            assert!(!converted.points.iter().any(|point| matches!(point, Point::Unknown(_))), "{:?}", converted.points);
        }
    }

    #[test]
    fn what_has_no_place_in_ours_is_named() {
        let it = converted(|it| {
            it["spec"]["vault"]["auth"]["tokenSecretRef"]["namespace"] = "x".into();
            it["spec"]["vault"]["timeout"] = "5s".into();
            it["spec"]["acme"] = json!({});
            it["metadata"]["finalizers"] = json!(["x"]);
            it["metadata"]["uid"] = "x".into();
        });
        let fields = "spec.acme, spec.vault.auth.tokenSecretRef.namespace, spec.vault.timeout, metadata.finalizers";
        assert_eq!(it.points.first(), Some(&Point::Unknown(fields.to_owned())));
    }

    #[test]
    fn labels_and_annotations_come_along_unless_they_say_who_deploys() {
        let it = converted(|it| {
            it["metadata"]["labels"] = json!({"team": "mesh", "app.kubernetes.io/managed-by": "Helm"});
            it["metadata"]["annotations"] = json!({LAST_APPLIED: "{}", "meta.helm.sh/release-name": "x"});
        });
        let expected = json!({"name": "vault", "namespace": "mesh", "labels": {"team": "mesh"}});
        assert_eq!(it.issuer["metadata"], expected);
        let named = "meta.helm.sh/release-name, app.kubernetes.io/managed-by";
        assert_eq!(it.points.first(), Some(&Point::Deployer(named.to_owned())));
    }

    #[test]
    fn of_several_logins_the_one_in_use_is_kept() {
        let it = converted(|it| {
            it["spec"]["vault"]["auth"]["appRole"] = json!({"path": "a", "roleId": "r", "secretRef": {"name": "s"}});
            it["spec"]["vault"]["auth"]["kubernetes"] = json!({"role": "r", "secretRef": {"name": "s"}});
        });
        assert_eq!(it.issuer["spec"], built_in(|_| ())["spec"]);
        let point = Point::OtherLogins { kept: "tokenSecretRef", dropped: "appRole, kubernetes".to_owned() };
        assert_eq!(it.points.first(), Some(&point));
    }

    #[test]
    fn what_is_empty_is_as_good_as_not_there() {
        let account = json!({"role": "r", "serviceAccountRef": {"name": "login"}});
        let it = converted(|it| {
            let vault = &mut it["spec"]["vault"];
            vault["serverName"] = "".into();
            vault["namespace"] = "".into();
            vault["caBundle"] = Value::Null;
            vault["auth"] = json!({"appRole": null, "kubernetes": account});
            vault["auth"]["kubernetes"]["secretRef"] = json!({"name": "", "key": ""});
        });
        let mut expected = built_in(|_| ())["spec"].clone();
        expected["vault"]["auth"] = json!({"kubernetes": account});
        assert_eq!(it.issuer["spec"], expected);
    }

    #[test]
    fn a_path_is_written_as_the_built_in_issuer_calls_it() {
        for (written, called, told) in
            [("/pki/sign/web", "/pki/sign/web", false), ("pki//sign/web/", "pki/sign/web", true)]
        {
            let it = converted(|it| it["spec"]["vault"]["path"] = written.into());
            assert_eq!(it.issuer["spec"]["vault"]["path"], called);
            assert_eq!(it.points.contains(&Point::Path(called.to_owned())), told);
        }
    }

    #[test]
    fn one_connection_shows_one_certificate() {
        let pair = json!({"name": "mtls"});
        let it = converted(|it| {
            let vault = &mut it["spec"]["vault"];
            vault["clientCertSecretRef"] = pair.clone();
            vault["clientKeySecretRef"] = pair.clone();
            vault["auth"] = json!({"clientCertificate": {"secretName": "login"}});
        });
        assert_eq!(it.issuer["spec"]["vault"]["auth"], json!({"clientCertificate": {}}));
        assert_eq!(it.points.first(), Some(&Point::SecondCertificate("login".to_owned())));
    }

    #[test]
    fn a_cluster_issuer_names_what_has_to_move() {
        let it = converted(|it| {
            it["kind"] = "ClusterIssuer".into();
            it["spec"]["vault"]["caBundleSecretRef"] = json!({"name": "vault-ca"});
            it["spec"]["vault"]["clientCertSecretRef"] = json!({"name": "mtls"});
            it["spec"]["vault"]["clientKeySecretRef"] = json!({"name": "mtls"});
        });
        assert_eq!(it.issuer["metadata"], json!({"name": "vault"}));
        assert_eq!(it.points.first(), Some(&Point::Secrets("mtls, vault-ca, vault-token".to_owned())));
        assert!(it.points.contains(&Point::EveryNamespace));
    }

    #[test]
    fn what_is_no_vault_issuer_or_cannot_sign_here_is_refused_in_words() {
        refused("it is no Issuer or ClusterIssuer of cert-manager.io", |it| it["kind"] = "Certificate".into());
        refused("it is no Issuer or ClusterIssuer of cert-manager.io", |it| it["apiVersion"] = "v1".into());
        refused("it is no Issuer or ClusterIssuer of cert-manager.io", |it| *it = Value::Null);
        refused("it has no metadata.name", |it| it["metadata"] = json!({}));
        refused("is no Vault issuer (its spec has selfSigned)", |it| it["spec"] = json!({"selfSigned": {}}));
        refused("is no Vault issuer (its spec has nothing)", |it| it["spec"] = Value::Null);
        refused("spec.vault: missing field `auth`", |it| it["spec"]["vault"]["auth"] = Value::Null);
        let aws = "spec.vault.auth.aws: is not supported yet: use kubernetes or jwt with serviceAccountRef, clientCertificate or appRole";
        refused(aws, |it| it["spec"]["vault"]["auth"] = json!({"aws": {"role": "r"}}));
        let issue =
            "spec.vault.path: ends in issue/<role>: that endpoint makes a key of its own. Write sign/<role> instead";
        refused(issue, |it| it["spec"]["vault"]["path"] = "pki/issue/web".into());
    }
}
