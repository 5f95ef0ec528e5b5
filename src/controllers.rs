//! Flow: what moves between watches, decisions and edges.

pub mod attempts;
pub mod brakes;
#[cfg(test)]
mod fault_matrix;
pub mod handover;
pub mod issuers;
pub mod publication;
pub mod requests;
mod room;
pub mod schedule;
mod signing;
pub mod watches;

use std::num::NonZeroUsize;

use kube::Client;
use kube::runtime::reflector::Store;
use tokio::sync::{mpsc, watch};

use crate::api::config::ReferencedKind;
use crate::api::{IssuerKey, IssuerKind, ObjectKey};
use crate::cluster::events::Events;
use crate::cluster::references::References;
use crate::issuance::servers::AllowedServers;
use crate::issuers::{Issuers, Publishers, Turns};
use crate::metrics::Metrics;
use crate::requests::certificate_request::CertificateRequest;
use crate::vault::{Common, VaultSigner};

/// How many certificates are written at a time, from whichever issuers: twice what one has under way unless told otherwise, and
/// several times what keeps an API server busy. Each takes a connection, which stays open until the API server closes it.
pub const CERTIFICATE_WRITES: NonZeroUsize = NonZeroUsize::new(64).expect("64 is not 0");

/// How many other statuses of requests are written at a time: enough to keep an API server busy.
pub const OTHER_WRITES: NonZeroUsize = NonZeroUsize::new(16).expect("16 is not 0");

/// What every controller works with.
pub struct Context {
    /// Towards the API server.
    pub client: Client,
    /// What is known of each issuer.
    pub issuers: Issuers<VaultSigner>,
    /// Where each issuer publishes its trust anchors.
    pub publishers: Publishers,
    /// The Secrets and ConfigMaps that issuers name.
    pub references: References,
    /// What is remembered of each request.
    pub attempts: attempts::Attempts,
    /// What is remembered of each Certificate's issuances.
    pub brakes: brakes::Brakes,
    /// The unfinished requests of ours.
    pub requests: Store<CertificateRequest>,
    /// Every namespace's labels.
    pub namespaces: Store<watches::Namespace>,
    /// The writes of certificates to requests, fair between namespaces.
    pub certificate_writes: Turns,
    /// The writes of all other statuses of requests, fair between namespaces.
    pub other_writes: Turns,
    /// Towards people.
    pub events: Events,
    /// What is counted.
    pub metrics: Metrics,
    /// Towards Vault: what all issuers have in common.
    pub vault: Common,
    /// What was set on the command line.
    pub settings: Settings,
    /// True once the process is to end.
    pub stopped: watch::Receiver<bool>,
    /// Has an issuer looked at.
    pub look_at: mpsc::UnboundedSender<IssuerKey>,
    /// Has the requests tried that wait for an issuer.
    pub wake: mpsc::UnboundedSender<Wake>,
}

/// Which requests are to be tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wake {
    /// Those that name this issuer.
    Issuer(IssuerKey),
    /// Those that name an issuer of this kind.
    Kind(IssuerKind),
}

impl Wake {
    /// Whether a request that names `issuer` is meant.
    pub fn means(&self, issuer: &IssuerKey) -> bool {
        match self {
            Self::Issuer(key) => key == issuer,
            Self::Kind(kind) => *kind == issuer.kind,
        }
    }
}

/// What was set on the command line.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the objects lie that cluster issuers name.
    pub cluster_resource_namespace: String,
    /// Signs at a time per issuer.
    pub signs_per_issuer: NonZeroUsize,
    /// Which servers may be called.
    pub allowed_servers: AllowedServers,
}

impl Settings {
    /// The object that an issuer's spec means by kind and name.
    pub fn object(&self, issuer: &IssuerKey, kind: ReferencedKind, name: &str) -> ObjectKey {
        let namespace = issuer.namespace.as_ref().unwrap_or(&self.cluster_resource_namespace);
        ObjectKey { kind, namespace: namespace.clone(), name: name.to_owned() }
    }
}
