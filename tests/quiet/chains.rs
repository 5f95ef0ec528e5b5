//! Chains that are no straight line, at OpenBao: the trials of `tests/both/chains.rs`.

use std::sync::Arc;

use crate::both::{self, Peers};
use crate::{Outcome, Shared, Suite};

pub fn add(suite: &mut Suite) {
    suite.add("of a cross-signed CA the way to the anchor is published, in the same bytes each time", cross_signed);
    suite.add("issuer/<ref>/sign says which certificate of a cross-signed issuing CA is published", issuer_by_name);
    suite.add("of a reissued CA the certificate that lives longer is published", reissued);
    suite.add("a CA of path length 0 signs EC, RSA and Ed25519 keys with names of every kind", keys_and_names);
}

/// A namespace, in which cert-manager approves.
async fn peers<'a>(shared: &'a Shared, namespace: &'a str) -> anyhow::Result<Peers<'a>> {
    shared.plane.kube.namespace(namespace).await?;
    Ok(Peers { kube: &shared.plane.kube, bao: &shared.plane.bao, namespace, approves: false })
}

async fn cross_signed(shared: Arc<Shared>) -> Outcome {
    both::cross_signed(peers(&shared, "cross-signed").await?).await
}

async fn issuer_by_name(shared: Arc<Shared>) -> Outcome {
    both::issuer_by_name(peers(&shared, "issuer-by-name").await?).await
}

async fn reissued(shared: Arc<Shared>) -> Outcome {
    both::reissued(peers(&shared, "reissued").await?).await
}

async fn keys_and_names(shared: Arc<Shared>) -> Outcome {
    both::keys_and_names(peers(&shared, "keys-and-names").await?).await
}
