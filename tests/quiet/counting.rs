//! What a mesh costs its Vault and its API server, counted by the audit logs of both.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use futures::future::try_join_all;
use testenv::{Csr, eventually};

use crate::support::{Corner, is_issued};
use crate::{Outcome, Shared, Suite};

/// How many requests a mesh makes at a time.
const MANY: usize = 200;

pub fn add(suite: &mut Suite) {
    suite.add("200 requests cost one login, 200 signs, at most one probe and 200 status writes", two_hundred);
}

async fn two_hundred(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "two-hundred").await?;
    corner.ready_issuer().await?;
    let pair = Csr::workload("two-hundred", "web").ec()?;
    let create = |number: usize| corner.request(&format!("web-{number}"), &pair.csr_pem).create(corner.kube());
    let requests = try_join_all((0..MANY).map(create)).await?;
    let list = "/apis/cert-manager.io/v1/namespaces/two-hundred/certificaterequests";
    let objects = eventually("every request is issued", Duration::from_secs(90), async || {
        let objects = corner.kube().list(list).await?;
        let issued = objects.iter().filter(|object| object["status"]["certificate"].is_string()).count();
        Ok((issued == MANY).then_some(objects))
    })
    .await?;
    ensure!(requests.len() == objects.len(), "{} objects", objects.len());
    for object in objects.iter().step_by(20) {
        is_issued(object, corner.recipe.root_pem()).await?;
    }
    let (calls, mount) = (corner.calls()?, corner.recipe.mount());
    let (logins, signs, probes) = (calls.logins_of(&corner.recipe.app_role), calls.signs(mount), calls.probes(mount));
    ensure!(logins == 1 && signs == MANY && probes <= 1, "{logins} logins, {signs} signs, {probes} probes");
    ensure!(calls.sign_attempts(mount) == MANY, "{} signs were asked for", calls.sign_attempts(mount));
    let writes = corner.status_writes()?;
    let taken = writes.iter().filter(|write| write.code == 200).count();
    ensure!(writes.len() == MANY && taken == MANY, "{} status writes, {taken} of them taken", writes.len());
    // A request costs no read, and an issued certificate is no event.
    let ours =
        shared.plane.kube_audit.all()?.of(&shared.ours.namespace, &shared.ours.account).in_namespace("two-hundred");
    let reads = ours.verb("get").resource("certificaterequests");
    let events = ours.writes().resource("events");
    ensure!(reads.is_empty() && events.len() == 1, "{reads:?} {events:?}");
    let series = ["namespace=\"two-hundred\"", "outcome=\"issued\""];
    let counted = shared.ours.metric("vault_mesh_issuer_signs_total", &series).await?;
    ensure!(counted == MANY as f64, "the metric says {counted}");
    Ok(())
}
