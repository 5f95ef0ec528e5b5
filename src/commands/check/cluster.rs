//! What the command reads from the cluster that kubectl would find; without one, files may hold everything.

use anyhow::{Context as _, anyhow, bail};
use http::Uri;
use kube::{Client, Config};
use serde_json::Value;

use super::input::Entry;
use crate::api::key::is_object_name;
use crate::api::material::Delivered;
use crate::api::spec::IssuerSpec;
use crate::api::status::IssuerStatus;
use crate::api::{ACCEPT_ANCHORS, GROUP, IssuerKey, IssuerKind, Manifest, ObjectKey};
use crate::cluster::client::{client, cluster_config};
use crate::cluster::objects;
use crate::cluster::references::read_once;
use crate::cluster::service_accounts::ServiceAccounts;
use crate::lease::Leadership;
use crate::vault::{Common, PublicRoots, Revocations};

/// The only version of our API.
const VERSION: &str = "v1alpha1";

/// What the cluster has of an issuer.
#[derive(Debug, Clone, Default)]
pub(super) struct Recorded {
    /// What the controller has written.
    pub(super) status: Option<IssuerStatus>,
    /// Which generation of the spec the manifest is.
    pub(super) generation: Option<i64>,
    /// What the annotation says about anchors.
    pub(super) accepted: Option<String>,
}

/// A cluster, or why there is none.
pub(super) struct Cluster {
    client: Client,
    accounts: ServiceAccounts,
    namespace: String,
    missing: Option<String>,
}

impl Cluster {
    /// Asks nobody yet.
    pub(super) async fn find() -> anyhow::Result<Self> {
        let (config, missing) = match cluster_config().await {
            Ok(config) => (config, None),
            // Where the API server would be inside of a cluster. Nothing is read from there, and a login that needs its tokens
            // says that it does not answer.
            Err(error) => {
                let why = format!("{:#}", anyhow::Error::from(error));
                (Config::new(Uri::from_static("https://kubernetes.default.svc")), Some(why))
            }
        };
        let client = client(config.clone(), &Leadership::sole())?;
        let namespace = config.default_namespace.clone();
        let accounts = ServiceAccounts::new(client.clone(), config).context("cannot make a client")?;
        Ok(Self { client, accounts, namespace, missing })
    }

    /// The namespace of the current context.
    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// What signers share.
    pub(super) fn common(&self) -> Common {
        Common {
            roots: PublicRoots::load(),
            accounts: self.accounts.clone(),
            leadership: Leadership::sole(),
            revocations: Revocations::default(),
        }
    }

    fn client(&self) -> anyhow::Result<&Client> {
        match &self.missing {
            None => Ok(&self.client),
            Some(why) => bail!("{why}"),
        }
    }

    /// The issuers of a namespace, or else all, those of the cluster among them.
    pub(super) async fn issuers(&self, namespace: Option<&str>) -> anyhow::Result<Vec<Entry>> {
        let kinds = match namespace {
            Some(_) => &[IssuerKind::Namespaced][..],
            None => &[IssuerKind::Namespaced, IssuerKind::Cluster],
        };
        let mut found = Vec::new();
        for kind in kinds {
            let path = path(*kind, namespace);
            let list = objects::read(self.client()?, &path).await.with_context(|| format!("cannot read {path}"))?;
            let list = list.with_context(|| format!("{path}: the CustomResourceDefinitions are not installed"))?;
            for item in list.get("items").and_then(Value::as_array).into_iter().flatten() {
                let mut item = item.clone();
                // The items of a list do not name theirs.
                if let Some(object) = item.as_object_mut() {
                    object.insert("apiVersion".to_owned(), format!("{GROUP}/{VERSION}").into());
                    object.insert("kind".to_owned(), kind.name().into());
                }
                found.extend(Manifest::read(item, "").map(|manifest| Entry {
                    file: None,
                    manifest,
                    dropped: Vec::new(),
                }));
            }
        }
        Ok(found)
    }

    /// A Secret or ConfigMap.
    pub(super) async fn object(&self, object: &ObjectKey) -> anyhow::Result<Delivered> {
        match read_once(self.client()?, object).await {
            Ok(Delivered::Forbidden) => bail!("you may not get {object}"),
            Ok(delivered) => Ok(delivered),
            Err(problem) => Err(anyhow!("cannot read {object}: {problem}")),
        }
    }

    /// What stands at the issuer of this name, if it is one that the controller has seen. An error says why that is not known.
    pub(super) async fn recorded(&self, entry: &Entry) -> Result<Recorded, String> {
        let manifest = &entry.manifest;
        let applied = match entry.file {
            None => Some(manifest.object.clone()),
            Some(_) => self.applied(&manifest.key).await?,
        };
        let Some(applied) = applied else { return Ok(Recorded::default()) };
        let spec = |object: &Value| serde_json::from_value::<IssuerSpec>(object.get("spec")?.clone()).ok();
        let generation = applied.pointer("/metadata/generation").and_then(Value::as_i64);
        let generation = generation.filter(|_| spec(&applied) == spec(&manifest.object));
        let status = applied.get("status").map(|status| serde_json::from_value(status.clone()));
        let mut status: Option<IssuerStatus> =
            status.transpose().map_err(|_| "its status cannot be read".to_owned())?;
        if let Some(status) = status.as_mut().filter(|_| generation.is_none()) {
            // Of the CA that signed for another spec.
            status.signing_certificate = None;
        }
        let accepted = applied.pointer("/metadata/annotations").and_then(|all| all.get(ACCEPT_ANCHORS)?.as_str());
        Ok(Recorded { status, generation, accepted: accepted.map(str::to_owned) })
    }

    async fn applied(&self, key: &IssuerKey) -> Result<Option<Value>, String> {
        // As part of a URL another name could mean another object.
        if !is_object_name(&key.name) || !key.namespace.as_deref().is_none_or(is_object_name) {
            return Ok(None);
        }
        let client = self.client().map_err(|error| error.to_string())?;
        let path = format!("{}/{}", path(key.kind, key.namespace.as_deref()), key.name);
        objects::read(client, &path).await.map_err(|error| error.to_string())
    }
}

fn path(kind: IssuerKind, namespace: Option<&str>) -> String {
    let within = namespace.map(|namespace| format!("namespaces/{namespace}/")).unwrap_or_default();
    format!("/apis/{GROUP}/{VERSION}/{within}{}", kind.plural())
}
