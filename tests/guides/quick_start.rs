//! The README's quick start, command by command, and the short pages that go on from it.

use anyhow::{Result, ensure};
use testenv::{ControlPlane, Guide, Options, Run, eventually};

use crate::support::{SOON, Visit};
use crate::{Outcome, Suite};

pub fn add(suite: &mut Suite) {
    suite.add("the README's quick start ends in a certificate that openssl verifies", quick_start);
    suite.add("the pages that go on from the quick start do what they say", going_on);
}

const README: &str = "README.md";
/// Where the issuer of the quick start lies.
const ISSUER: &str = "/apis/vaultmesh.io/v1alpha1/namespaces/istio-system/vaultmeshissuers/istio-ca";

/// Follows the quick start to its end; gives what it prints.
async fn to_the_end(visit: &mut Visit) -> Result<String> {
    let said = visit.guide.follow("Quick start on a cluster").await?;
    visit.guide.finished()?;
    Ok(said)
}

/// A cluster on which the quick start was followed, with what it printed.
pub async fn followed(run: &Run) -> Result<(Visit, String)> {
    let mut visit = Visit::to(run, README).await?;
    let said = to_the_end(&mut visit).await?;
    Ok((visit, said))
}

async fn quick_start(run: Run) -> Outcome {
    let (visit, said) = followed(&run).await?;
    for words in ["Vault verified", "tls.crt: OK", "Mesh root"] {
        ensure!(said.contains(words), "no {words:?} in\n{said}");
    }
    let role = visit.plane.kube.wait_condition(ISSUER, "RoleSuitsMesh", "True", SOON).await?;
    ensure!(role["status"]["trustAnchors"][0]["subject"] == "CN=Mesh root", "{}", role["status"]);
    Ok(())
}

async fn going_on(run: Run) -> Outcome {
    let login = ["serviceAccounts[0].namespace=istio-system", "serviceAccounts[0].name=vault-login"];
    let plane = ControlPlane::start(&run, Options::default()).await?;
    // The chart's Role for the login lies where the issuer will.
    plane.kube.namespace("istio-system").await?;
    let mut visit = Visit::on(plane, README, &login).await?;
    to_the_end(&mut visit).await?;
    let pages: [(&str, &[(&str, &str)]); 4] = [
        ("docs/conditions.md", &[("What the conditions of an issuer say", "Verified")]),
        ("docs/replicas.md", &[("More than one replica", "HOLDER")]),
        (
            "docs/install.md",
            &[
                ("Approval", "cert-manager/cert-manager"),
                ("What it may do", "certificaterequests.cert-manager.io/status"),
            ],
        ),
        ("docs/issuers.md", &[("A login without a stored secret", "patched"), ("Publishing the roots", "Mesh root")]),
    ];
    for (page, sections) in pages {
        let mut guide = Guide::open(&visit.plane, page)?;
        for (section, words) in sections {
            let said = guide.follow(section).await?;
            ensure!(said.contains(words), "{page}, {section}: no {words:?} in\n{said}");
        }
        guide.finished()?;
    }
    // The page about logins has the issuer log in anew, by the ServiceAccount's token.
    let logins = async || visit.ours.metric("vault_mesh_issuer_logins_total", &["outcome=\"accepted\""]).await;
    eventually("a second login", SOON, async || Ok((logins().await? >= 2.0).then_some(()))).await?;
    let issuer = visit.plane.kube.wait_condition(ISSUER, "Ready", "True", SOON).await?;
    ensure!(issuer["spec"]["vault"]["auth"]["kubernetes"]["role"] == "mesh", "{}", issuer["spec"]);
    ensure!(
        visit.ours.metric("vault_mesh_issuer_logins_total", &["outcome=\"failed\""]).await? == 0.0,
        "a login failed"
    );
    Ok(())
}
