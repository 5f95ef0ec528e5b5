//! A second replica: it stands by, ready, and does nothing.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use testenv::{Controller, ControllerOptions};

use crate::support::{Corner, SOON};
use crate::{Outcome, Shared, Suite};

pub fn add(suite: &mut Suite) {
    suite.add("a replica that does not lead is ready, shows so, changes nothing and calls no Vault", stands_by);
}

async fn stands_by(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "stands-by").await?;
    let options =
        ControllerOptions { installed: true, ..ControllerOptions::new(env!("CARGO_BIN_EXE_vault-mesh-issuer")) };
    // It counts as started when /readyz answers 200.
    let other = Controller::start(&shared.plane, options).await?;
    corner.ready_issuer().await?;
    corner.issued(&corner.ask("web").await?).await?;
    // Long enough for a few looks at the lease.
    tokio::time::sleep(Duration::from_secs(5)).await;
    ensure!(other.metric("vault_mesh_issuer_leader", &[]).await? == 0.0);
    ensure!(shared.ours.metric("vault_mesh_issuer_leader", &[]).await? == 1.0);
    ensure!(!other.metrics().await?.contains("vault_mesh_issuer_ready{"), "it looks after issuers");
    let calls = shared.plane.kube_audit.all()?.with(&other.credential);
    ensure!(!calls.is_empty() && calls.writes().is_empty(), "{:?}", calls.writes());
    ensure!(calls.resource("secrets").is_empty(), "it reads Secrets that it has no use for");
    ensure!(corner.calls()?.logins_of(&corner.recipe.app_role) == 1, "one login, the leader's");
    ensure!(other.terminate(SOON).await?.code() == Some(0));
    Ok(())
}
