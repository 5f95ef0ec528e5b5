//! Which bytes a spec needs beyond itself, and how they become usable. Pure: a watch, a poll or a command delivers the bytes.

use std::collections::BTreeMap;

use super::IssuerKey;
use super::auth::{Credentials, line};
use super::config::{AnchorSource, IssuerConfig, KeyReference, ReferencedKind, ServerCa};

/// What is known of an object that a spec names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivered {
    /// Not read yet: wait, and say nothing.
    NotYet,
    /// There is no such object.
    Missing,
    /// The API server does not let us read it.
    Forbidden,
    /// Its data. A Secret's values are secret: this type is never printed by us, see [`Data`].
    Data(Data),
}

/// What a Secret or ConfigMap holds; its values cannot be printed.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Data {
    /// By key.
    pub values: BTreeMap<String, Vec<u8>>,
    /// The annotations of our own domain.
    pub annotations: BTreeMap<String, String>,
}

impl std::fmt::Debug for Data {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

/// Everything an issuer's spec names, read.
#[derive(Debug, Clone)]
pub struct Material {
    /// A PEM bundle to trust when connecting; none: the public roots.
    pub server_ca: Option<Found<Vec<u8>>>,
    /// PEM of our own certificate and key towards Vault.
    pub client_tls: Option<ClientTls>,
    /// What we log in with.
    pub credentials: Credentials,
    /// PEM text of each source of `trust.anchors`.
    pub anchors: Vec<Found<Vec<u8>>>,
}

/// A part of the material and the place it was found at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found<T> {
    /// Where.
    pub place: Place,
    /// What.
    pub value: T,
}

/// Where a part of the material comes from; what is wrong with it is said with this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The field, from `spec` on.
    pub field: String,
    /// Kind, namespace, name and key; none where the spec itself holds the bytes.
    pub object: Option<String>,
}

/// A client certificate; its key cannot be printed.
#[derive(Debug, Clone)]
pub struct ClientTls {
    /// PEM of certificate and chain.
    pub certificate: Found<Vec<u8>>,
    /// PEM of the private key.
    pub key: Found<secrecy::SecretString>,
}

/// Why there is no material.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unresolved {
    /// Something has not been read yet.
    NotYet,
    /// A person has to act.
    Unusable(MaterialError),
}

/// An object that the spec names is missing, closed to us, or holds what cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaterialError {
    /// Which.
    pub place: Place,
    /// What is wrong and what to do.
    pub problem: String,
}

impl IssuerConfig {
    /// Completes the spec of `issuer` with the objects it names, which lie in `namespace`.
    ///
    /// # Errors
    /// The first object or key that is missing, closed to us or unusable.
    pub fn material(
        &self,
        issuer: &IssuerKey,
        namespace: &str,
        read: impl Fn(ReferencedKind, &str) -> Delivered,
    ) -> Result<Material, Unresolved> {
        let value = |reference: &KeyReference| value(namespace, reference, read(reference.kind, &reference.name));
        let found = |reference: &KeyReference| {
            value(reference).map(|value| Found { place: place(namespace, reference), value })
        };
        let inline = |field: &str, bytes: &[u8]| Found {
            place: Place { field: field.to_owned(), object: None },
            value: bytes.to_vec(),
        };
        let server_ca = match &self.server_ca {
            ServerCa::PublicRoots => None,
            ServerCa::Inline(pem) => Some(inline("spec.vault.caBundle", pem)),
            ServerCa::Reference(reference) => Some(found(reference)?),
        };
        let client_tls = match &self.client_tls {
            None => None,
            Some((certificate, key)) => {
                let value = text(namespace, key, value(key)?)?;
                Some(ClientTls { certificate: found(certificate)?, key: Found { place: place(namespace, key), value } })
            }
        };
        let credentials = self.auth.credentials(issuer, namespace, &|reference| {
            line(&value(reference)?).map_err(|problem| unusable(namespace, reference, problem))
        })?;
        let mut anchors = Vec::with_capacity(self.anchors.len());
        for source in &self.anchors {
            anchors.push(match source {
                AnchorSource::Pem(field, pem) => inline(field, pem.as_bytes()),
                AnchorSource::Reference(reference) => found(reference)?,
            });
        }
        Ok(Material { server_ca, client_tls, credentials, anchors })
    }
}

/// The bytes under the named key.
fn value(namespace: &str, reference: &KeyReference, delivered: Delivered) -> Result<Vec<u8>, Unresolved> {
    match delivered {
        Delivered::NotYet => Err(Unresolved::NotYet),
        Delivered::Missing => {
            Err(unusable(namespace, reference, "it does not exist; create it, and signing goes on by itself"))
        }
        Delivered::Forbidden => Err(unusable(
            namespace,
            reference,
            "this controller may not read it; the chart's value secrets.namespaces lists where it may",
        )),
        Delivered::Data(mut data) => data.values.remove(&reference.key).ok_or_else(|| {
            let present: Vec<_> = data.values.keys().map(String::as_str).collect();
            let present = if present.is_empty() { "none".to_owned() } else { present.join(", ") };
            unusable(namespace, reference, &format!("it has no such key (its keys: {present})"))
        }),
    }
}

fn text(namespace: &str, reference: &KeyReference, bytes: Vec<u8>) -> Result<secrecy::SecretString, Unresolved> {
    String::from_utf8(bytes)
        .map(secrecy::SecretString::from)
        .map_err(|_| unusable(namespace, reference, "the value is no PEM text"))
}

fn unusable(namespace: &str, reference: &KeyReference, problem: &str) -> Unresolved {
    Unresolved::Unusable(MaterialError { place: place(namespace, reference), problem: problem.to_owned() })
}

fn place(namespace: &str, reference: &KeyReference) -> Place {
    Place {
        field: reference.field.clone(),
        object: Some(format!("{} {namespace}/{}, key {}", reference.kind.name(), reference.name, reference.key)),
    }
}
