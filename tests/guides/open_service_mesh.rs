//! Open Service Mesh: the page is followed, and OSM's own provider asks for what its programs ask for.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};
use testenv::{Issuer, IssuerRef, Kube, Options, Osm, OsmCertificate, Recipe, Run, condition, eventually, openssl};

use crate::support::{SOON, Visit, message, says, told};
use crate::{Outcome, Suite};

const PAGE: &str = "docs/meshes/open-service-mesh.md";
const ISSUER: &str = "/apis/vaultmesh.io/v1alpha1/namespaces/osm-system/vaultmeshissuers/osm-ca";
/// The certificate of a sidecar towards OSM's controller.
const SIDECAR: &str = "7b2359d7-f201-4d3f-a217-73fd6e44e39b.sidecar.bookstore-v2.bookstore.cluster.local";
/// The certificate of a service account.
const SERVICE: &str = "bookstore-v2.bookstore.cluster.local";
const HOUR: i64 = 3_600;

pub fn add(suite: &mut Suite) {
    suite.add(
        "Open Service Mesh's provider has certificates of a second, a day and a decade from this issuer",
        certificates,
    );
    suite.add("what Open Service Mesh's own documentation leads to is said in conditions", figures);
}

async fn certificates(run: Run) -> Outcome {
    let mut visit = Visit::with(&run, PAGE, Options::default(), &["publish.secrets=true"]).await?;
    for section in ["Set up Vault", "Hand over the secrets", "Create the issuer"] {
        visit.guide.follow(section).await?;
    }
    let shown = visit.guide.follow("See that it works").await?;
    let prints: Vec<_> = shown.lines().filter(|line| line.contains("ingerprint=")).collect();
    ensure!(matches!(prints.as_slice(), [published, made] if published == made), "{shown}");
    let root = visit.guide.file("osm-root.crt")?;
    let osm = Osm::new(&visit.plane.kube, "osm-system", &of_values()?);
    for (name, validity, hours) in [("init-cert", "1s", 0), (SIDECAR, "87600h", 87_600), (SERVICE, "24h", 24)] {
        let began = Timestamp::now();
        let made = osm.ask(name, validity, 1).await.with_context(|| format!("{name} for {validity}"))?;
        let [made] = made.as_slice() else { bail!("{made:?}") };
        ensure!(made.common_name == name && made.trusted.trim() == root.trim(), "{made:?}");
        lives_for(made, hours, began)?;
        if hours > 0 {
            openssl::verify(&made.chain, &made.trusted).await?;
        }
    }
    // Each of the three began with its init-cert.
    let ttls = ttls(&visit, "pki/")?;
    ensure!(ttls == ["1s", "1s", "1s", "315360000s", "1s", "86400s"], "Vault was asked for {ttls:?}");
    refused_name(&mut visit, &osm).await?;
    unknown_role(&visit, &osm).await?;
    visit.finished()
}

/// Whom the values for OSM's chart name.
fn of_values() -> Result<IssuerRef> {
    let values: Value = serde_yaml_ng::from_str(include_str!("../../deploy/open-service-mesh/osm-values.yaml"))?;
    let word = |key: &str| values["osm"]["certmanager"][key].as_str().map(str::to_owned).context(key.to_owned());
    Ok(IssuerRef { group: word("issuerGroup")?, kind: word("issuerKind")?, name: word("issuerName")? })
}

/// The certificate ends when it was to; OSM starts within a minute here.
fn lives_for(made: &OsmCertificate, hours: i64, began: Timestamp) -> Outcome {
    let life = made.expiration.parse::<Timestamp>()?.duration_since(began).as_secs();
    ensure!((hours * HOUR..hours * HOUR + 60).contains(&life), "{} lives for {life} s", made.common_name);
    Ok(())
}

/// The lifetimes that Vault was asked for, in order.
fn ttls(visit: &Visit, mount: &str) -> Result<Vec<String>> {
    let signs = visit.plane.bao.audit().all()?.to(mount).keep(|call| call.data["csr"].is_string() && !call.probe);
    let signs = signs.keep(|call| call.path.contains("/sign/"));
    Ok(signs.iter().map(|call| call.data["ttl"].as_str().unwrap_or_default().to_owned()).collect())
}

async fn refused_name(visit: &mut Visit, osm: &Osm) -> Outcome {
    let narrow = json!({"allowed_domains": "cluster.local", "allow_subdomains": true, "max_ttl": "87600h"});
    visit.plane.bao.pki_role("pki", "openservicemesh", narrow).await?;
    let kube = &visit.plane.kube;
    let request = while_asking(osm, SERVICE, "24h", request_with(kube, "osm-system", "Failed")).await?;
    told(PAGE, &message(&request, "Ready")?)?;
    ensure!(
        condition(&kube.get(ISSUER).await?, "Ready").is_some_and(|it| it["status"] == "True"),
        "the issuer is fine"
    );
    forget(kube, &request).await?;
    visit.guide.follow("A role for the mesh's names only").await?;
    for name in [SIDECAR, "ads.cluster.local", "osm-injector.osm-system.svc"] {
        osm.ask(name, "87600h", 1).await.with_context(|| name.to_owned())?;
    }
    Ok(())
}

async fn unknown_role(visit: &Visit, osm: &Osm) -> Outcome {
    visit.plane.bao.delete("pki/roles/openservicemesh").await?;
    let kube = &visit.plane.kube;
    let both = async {
        told(PAGE, &says(kube, ISSUER, "RoleNotFound").await?)?;
        request_with(kube, "osm-system", "Pending").await
    };
    let request = while_asking(osm, SERVICE, "24h", both).await?;
    ensure!(request["status"]["certificate"].is_null() && request["status"]["failureTime"].is_null(), "{request}");
    Ok(())
}

async fn figures(run: Run) -> Outcome {
    let visit = Visit::to(&run, PAGE).await?;
    let (kube, bao) = (&visit.plane.kube, &visit.plane.bao);
    let (osm, issuer) = osm_with(&visit, "cut", &bao.osm("cut").await?).await?;
    let began = Timestamp::now();
    let made = osm.ask(SIDECAR, "87600h", 1).await?;
    let [made] = made.as_slice() else { bail!("{made:?}") };
    lives_for(made, 24, began)?;
    told_as(kube, &issuer, "LifetimeShortened", "cut-pki").await?;
    let (osm, issuer) = osm_with(&visit, "beyond", &bao.osm_script("beyond").await?).await?;
    let both = async {
        told_as(kube, &issuer, "CAExpiring", "beyond-pki").await?;
        request_with(kube, "beyond", "Pending").await
    };
    while_asking(&osm, SIDECAR, "87600h", both).await?;
    let object = kube.get(&issuer).await?;
    ensure!(condition(&object, "Ready").is_some_and(|ready| ready["status"] == "True"), "the issuer is fine: {object}");
    // What lives for a day only is signed all the while.
    osm.ask(SERVICE, "24h", 1).await.map(drop)
}

/// OSM in a namespace with an issuer for this recipe; the issuer's path.
async fn osm_with(visit: &Visit, namespace: &str, recipe: &Recipe) -> Result<(Osm, String)> {
    let kube = &visit.plane.kube;
    kube.namespace(namespace).await?;
    let issuing = Issuer::app_role(namespace, "osm-ca", &visit.plane.bao, recipe).create(kube).await?;
    issuing.ready(SOON).await?;
    Ok((Osm::new(kube, namespace, &issuing.issuer_ref), issuing.path))
}

/// Waits for a condition of the issuer; the page tells it of the mount `pki`.
async fn told_as(kube: &Kube, issuer: &str, kind: &str, mount: &str) -> Outcome {
    let object = kube.wait_condition(issuer, kind, "True", SOON).await?;
    told(PAGE, &message(&object, kind)?.replace(mount, "pki"))
}

/// What is seen while OSM waits for a certificate that does not come.
async fn while_asking<T>(osm: &Osm, name: &str, validity: &str, seen: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        made = osm.ask(name, validity, 1) => bail!("OSM was not to have a certificate, and waits longer than this: {made:?}"),
        seen = seen => seen,
    }
}

/// A request of OSM's with this reason.
async fn request_with(kube: &Kube, namespace: &str, reason: &str) -> Result<Value> {
    let requests = format!("/apis/cert-manager.io/v1/namespaces/{namespace}/certificaterequests");
    let at_that = |object: &Value| condition(object, "Ready").is_some_and(|ready| ready["reason"] == reason);
    let within = Duration::from_secs(30);
    eventually(&format!("a request is {reason}"), within, async || {
        Ok(kube.list(&requests).await?.into_iter().find(at_that))
    })
    .await
}

/// Deletes a request, as OSM does not when it gives up.
async fn forget(kube: &Kube, request: &Value) -> Outcome {
    let name = request["metadata"]["name"].as_str().context("a request without a name")?;
    kube.delete(&format!("/apis/cert-manager.io/v1/namespaces/osm-system/certificaterequests/{name}")).await
}
