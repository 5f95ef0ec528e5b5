//! istio-csr as a consumer: replayed, and the program itself where `ISTIO_CSR_BIN` names it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use serde_json::{Value, json};
use testenv::follow::{Going, follow};
use testenv::mutual_tls::verify;
use testenv::{
    Chain, ControlPlane, Controller, Created, Csr, Issuer, IssuerRef, Issuing, IstioCsr, IstioCsrOptions, KeyAndCsr,
    Kube, Options, RealIstioCsr, Recipe, Run, Serving, condition, eventually, openssl,
};

use crate::support::{SOON, cluster};
use crate::{Outcome, Suite};

/// The variable that names the program.
const PROGRAM: &str = "ISTIO_CSR_BIN";
const NAMESPACE: &str = "istio-system";
const REQUESTS: &str = "/apis/cert-manager.io/v1/namespaces/istio-system/certificaterequests";
const CONFIG_MAPS: &str = "/api/v1/namespaces/cert-manager/configmaps";
const HOUR: Duration = Duration::from_secs(3_600);
/// How many certificates are asked for one after the other, to see how long one takes.
const IN_TURN: usize = 20;
const AT_ONCE: usize = 500;
/// How long they may take on a machine that does other things as well.
const ALL_WITHIN: Duration = Duration::from_secs(300);

pub fn add(suite: &mut Suite) {
    for who in [Who::Replayed, Who::Real] {
        let (name, skipped) = match who {
            Who::Replayed => ("istio-csr", None),
            Who::Real => {
                let missing = std::env::var_os(PROGRAM).is_none();
                ("the real istio-csr", missing.then_some("ISTIO_CSR_BIN does not name the program"))
            }
        };
        let sentence = |does: &str| format!("{name} {does}");
        suite.add_unless(skipped, &sentence("serves, and gives RSA and EC workloads what they ask for"), move |run| {
            serves(who, run)
        });
        suite.add_unless(skipped, &sentence("tries again until its issuer is there"), move |run| late(who, run));
        suite.add_unless(skipped, &sentence("is switched between issuers at run time"), move |run| switched(who, run));
        suite.add_unless(skipped, &sentence("is told at once that a request is denied"), move |run| denied(who, run));
        suite.add_unless(skipped, &sentence("serves 500 identities at once"), move |run| at_once(who, run));
    }
}

#[derive(Clone, Copy)]
enum Who {
    Replayed,
    Real,
}

/// What proxies turn to.
enum Agent {
    Replayed(IstioCsr),
    Real(RealIstioCsr),
}

/// A workload, and what it shows of itself: its name, or the token that tells it to the real one.
struct Identity {
    name: String,
    shown: String,
}

impl Agent {
    async fn start(who: Who, kube: &Kube, options: IstioCsrOptions) -> Result<(Agent, Serving)> {
        match who {
            Who::Replayed => {
                let (agent, serving) = IstioCsr::start(kube, options, SOON).await?;
                Ok((Agent::Replayed(agent), serving))
            }
            Who::Real => {
                let program = PathBuf::from(std::env::var_os(PROGRAM).context(PROGRAM)?);
                let (agent, serving) = RealIstioCsr::start(kube, &options, &program).await?;
                Ok((Agent::Real(agent), serving))
            }
        }
    }

    async fn identity(&self, kube: &Kube, account: &str) -> Result<Identity> {
        let name = format!("spiffe://cluster.local/ns/default/sa/{account}");
        let shown = match self {
            Agent::Replayed(_) => name.clone(),
            Agent::Real(agent) => {
                kube.service_account("default", account).await?;
                agent.token("default", account).await?
            }
        };
        Ok(Identity { name, shown })
    }

    /// The chain, and the roots that come with it.
    async fn certificate(&self, identity: &Identity, csr_pem: &str, validity: Duration) -> Result<(String, String)> {
        let asked = async {
            match self {
                Agent::Replayed(agent) => agent.certificate(&identity.shown, csr_pem, validity).await,
                Agent::Real(agent) => agent.certificate(&identity.shown, csr_pem, validity).await,
            }
        };
        let mut chain = asked.await.with_context(|| identity.name.clone())?;
        let roots = chain.pop().context("nothing was handed out")?;
        verify(&chain.concat(), &roots)?;
        Ok((chain.concat(), roots))
    }

    fn roots(&self) -> Result<&str> {
        match self {
            Agent::Replayed(agent) => agent.roots(),
            Agent::Real(agent) => Ok(agent.roots()),
        }
    }
}

impl Identity {
    async fn rsa(&self) -> Result<KeyAndCsr> {
        Csr::new().organization("").uri(&self.name).rsa(2048).await
    }

    fn ec(&self) -> Result<KeyAndCsr> {
        Csr::new().organization("").uri(&self.name).ec()
    }
}

/// A cluster with our controller.
struct Place {
    _ours: Controller,
    plane: ControlPlane,
}

impl Place {
    async fn new(run: &Run, set: &[&str]) -> Result<Place> {
        let (plane, ours) = cluster(run, Options::default(), set).await?;
        plane.kube.namespace(NAMESPACE).await?;
        plane.kube.namespace("default").await?;
        Ok(Place { _ours: ours, plane })
    }

    async fn recipe(&self, name: &str) -> Result<Recipe> {
        self.plane.bao.plain_recipe(name, Chain::WithRoot).await
    }

    fn issuer(&self, name: &str, recipe: &Recipe) -> Issuer {
        Issuer::app_role(NAMESPACE, name, &self.plane.bao, recipe)
    }

    async fn ready(&self, issuer: Issuer) -> Result<Issuing> {
        let issuing = issuer.create(&self.plane.kube).await?;
        issuing.ready(SOON).await?;
        Ok(issuing)
    }

    /// It deletes its requests, however they ended.
    async fn no_request_left(&self) -> Outcome {
        let left = async || Ok(self.plane.kube.list(REQUESTS).await?.is_empty().then_some(()));
        eventually("all requests are deleted", SOON, left).await
    }
}

async fn serves(who: Who, run: Run) -> Outcome {
    let place = Place::new(&run, &[]).await?;
    let recipe = place.recipe("mesh").await?;
    let six_hours = place.issuer("mesh", &recipe).set("certificates", json!({"defaultDuration": "6h"}));
    let issuing = place.ready(six_hours).await?;
    let (agent, serving) = Agent::start(who, &place.plane.kube, IstioCsrOptions::new(&issuing.issuer_ref)).await?;
    ensure!(serving.tries == 1, "{serving:?}");
    ensure!(agent.roots()?.trim() == recipe.root_pem().trim(), "without a root file its roots are the issuer's");
    println!("serving after {:?}", serving.took);

    let identity = agent.identity(&place.plane.kube, "web").await?;
    for kind in ["RSA", "EC"] {
        let mut waits = Vec::new();
        for _ in 0..IN_TURN {
            let pair = if kind == "RSA" { identity.rsa().await? } else { identity.ec()? };
            let began = Instant::now();
            let (chain, roots) = agent.certificate(&identity, &pair.csr_pem, HOUR / 2).await?;
            waits.push(began.elapsed());
            ensure!(roots.trim() == recipe.root_pem().trim(), "another root: {roots}");
            openssl::verify(&chain, &roots).await?;
            openssl::same_key(&chain, &pair.csr_pem).await?;
            let text = openssl::text(&chain).await?;
            ensure!(text.contains(&format!("URI:{}", identity.name)), "{text}");
            lives(&chain, HOUR / 4, HOUR).await?;
        }
        print_waits(&format!("{kind} workloads in turn"), waits);
    }
    // Zero asks for the issuer's own default.
    let (chain, _) = agent.certificate(&identity, &identity.ec()?.csr_pem, Duration::ZERO).await?;
    lives(&chain, HOUR * 5, HOUR * 7).await?;
    place.no_request_left().await
}

async fn late(who: Who, run: Run) -> Outcome {
    let place = Place::new(&run, &[]).await?;
    let recipe = place.recipe("mesh").await?;
    let kube = &place.plane.kube;
    let issuer = async {
        let names = async || -> Result<Vec<String>> {
            Ok(kube.list(REQUESTS).await?.iter().map(|it| text(it, "/metadata/name")).collect())
        };
        let asked = async || Ok(names().await?.pop());
        let first = eventually("istio-csr asks for the first time", SOON, asked).await?;
        let given_up = async || Ok((!names().await?.contains(&first)).then_some(()));
        eventually("istio-csr gives its first try up", SOON, given_up).await?;
        place.ready(place.issuer("mesh", &recipe)).await
    };
    let options = IstioCsrOptions::new(&IssuerRef::new("VaultMeshIssuer", "mesh"));
    let ((_agent, serving), _) = tokio::try_join!(Agent::start(who, kube, options), issuer)?;
    ensure!(serving.tries >= 2, "{serving:?}");
    println!("serving after {:?}, with an issuer that came after the first try", serving.took);
    place.no_request_left().await
}

async fn switched(who: Who, run: Run) -> Outcome {
    let place = Place::new(&run, &[]).await?;
    let kube = &place.plane.kube;
    let (one, two) = (place.recipe("one").await?, place.recipe("two").await?);
    let first = place.ready(place.issuer("first", &one)).await?;
    place.ready(place.issuer("second", &two)).await?;
    // It hands out nothing that does not lead to the roots it has: those of both.
    let options = IstioCsrOptions {
        runtime_config: Some("issuer".to_owned()),
        roots_pem: Some(format!("{}{}", one.root_pem(), two.root_pem())),
        ..IstioCsrOptions::new(&first.issuer_ref)
    };
    let (agent, _) = Agent::start(who, kube, options).await?;
    let agent = Arc::new(agent);
    let identity = Arc::new(agent.identity(kube, "web").await?);
    let leads_to = async |recipe: &Recipe| {
        let (chain, _) = agent.certificate(&identity, &identity.ec()?.csr_pem, HOUR).await?;
        Ok(verify(&chain, recipe.root_pem()).is_ok().then_some(()))
    };
    let names = async |issuer: &str| {
        let data = [("issuer-group", "vaultmesh.io"), ("issuer-kind", "VaultMeshIssuer"), ("issuer-name", issuer)];
        kube.config_map("cert-manager", "issuer", &data).await
    };
    ensure!(leads_to(&one).await?.is_some(), "the first issuer signs first");
    let began = Instant::now();
    names("second").await?;
    eventually("the second issuer signs", SOON, async || leads_to(&two).await).await?;
    println!("switched after {:?}", began.elapsed());
    kube.delete(&format!("{CONFIG_MAPS}/issuer")).await?;
    eventually("the first issuer signs again", SOON, async || leads_to(&one).await).await?;

    // A request that waits (here for an issuer that is not there) holds the next change back.
    names("third").await?;
    let (asks, asking) = (Arc::clone(&agent), Arc::clone(&identity));
    let _asking = Going::new(async move {
        while let Ok(pair) = asking.ec() {
            // It goes on whatever becomes of one request.
            let _answered = asks.certificate(&asking, &pair.csr_pem, HOUR).await;
        }
    });
    let named = async || {
        let requests = kube.list(REQUESTS).await?;
        Ok::<_, anyhow::Error>(requests.iter().map(|it| text(it, "/spec/issuerRef/name")).collect::<Vec<_>>())
    };
    let waits = async || Ok(named().await?.contains(&"third".to_owned()).then_some(()));
    eventually("a request waits for the third issuer", SOON, waits).await?;
    names("second").await?;
    testenv::holds_for("nobody is asked but the third", Duration::from_secs(3), async || {
        Ok(named().await?.iter().all(|name| name == "third"))
    })
    .await?;
    place.ready(place.issuer("third", &one)).await?;
    eventually("the second issuer signs, once nothing waits", SOON, async || leads_to(&two).await).await
}

async fn denied(who: Who, run: Run) -> Outcome {
    let place = Place::new(&run, &["approver.issuers=false"]).await?;
    let kube = &place.plane.kube;
    let _decisions = decide(kube);
    let recipe = place.recipe("mesh").await?;
    let issuing = place.ready(place.issuer("mesh", &recipe)).await?;
    let (agent, _) = Agent::start(who, kube, IstioCsrOptions::new(&issuing.issuer_ref)).await?;
    let (refused, served) = (agent.identity(kube, "denied").await?, agent.identity(kube, "web").await?);
    let (of_refused, of_served) = (refused.ec()?, served.ec()?);
    let both = async {
        tokio::join!(
            agent.certificate(&refused, &of_refused.csr_pem, HOUR),
            agent.certificate(&served, &of_served.csr_pem, HOUR),
        )
    };
    let (refused, served) = tokio::time::timeout(SOON, both).await.context("it waits for what was denied")?;
    served?;
    let refused = format!("{:#}", refused.err().context("a certificate for a denied request")?);
    let words = match who {
        Who::Replayed => "the request was denied",
        // It says no more to a proxy.
        Who::Real => "failed to sign certificate request",
    };
    ensure!(refused.contains(words), "{refused}");
    place.no_request_left().await
}

async fn at_once(who: Who, run: Run) -> Outcome {
    let place = Place::new(&run, &[]).await?;
    let recipe = place.recipe("mesh").await?;
    let issuing = place.ready(place.issuer("mesh", &recipe)).await?;
    let (agent, _) = Agent::start(who, &place.plane.kube, IstioCsrOptions::new(&issuing.issuer_ref)).await?;
    let mut workloads = Vec::new();
    for number in 0..AT_ONCE {
        let identity = agent.identity(&place.plane.kube, &format!("web-{number}")).await?;
        let pair = identity.ec()?;
        workloads.push((identity, pair));
    }
    let began = Instant::now();
    let answers = workloads.iter().map(async |(identity, pair)| {
        let (_, roots) = agent.certificate(identity, &pair.csr_pem, HOUR).await?;
        ensure!(roots.trim() == recipe.root_pem().trim(), "another root: {roots}");
        Ok(began.elapsed())
    });
    let waits = tokio::time::timeout(ALL_WITHIN, try_join_all(answers)).await.context("not all within the time")??;
    print_waits(&format!("{AT_ONCE} at once"), waits);
    place.no_request_left().await?;
    let signs = place.plane.bao.audit().all()?.signs(recipe.mount());
    // Its own certificate is one more.
    ensure!(signs == AT_ONCE + 1, "{signs} signs for {AT_ONCE} workloads and istio-csr itself");
    Ok(())
}

/// Approves every request but that of the account `denied`, which it denies.
fn decide(kube: &Kube) -> Going {
    let admin = kube.clone();
    follow(kube, REQUESTS, move |request| {
        let decided = ["Approved", "Denied"].iter().any(|kind| condition(&request, kind).is_some());
        let (kube, name) = (admin.clone(), text(&request, "/metadata/name"));
        let denied = text(&request, "/metadata/annotations/istio.cert-manager.io~1identities").ends_with("/sa/denied");
        if !decided {
            tokio::spawn(async move {
                let request = Created::find(&kube, NAMESPACE, &name).await?;
                if denied { request.deny().await } else { request.approve().await }
            });
        }
    })
}

fn text(object: &Value, pointer: &str) -> String {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The certificate ends later than the one from now, and earlier than the other.
async fn lives(chain: &str, more_than: Duration, less_than: Duration) -> Outcome {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), chain)?;
    let path = file.path().display().to_string();
    let after = async |time: Duration| {
        openssl::run(&["x509", "-noout", "-in", &path, "-checkend", &time.as_secs().to_string()]).await.is_ok()
    };
    ensure!(after(more_than).await && !after(less_than).await, "it lives not between {more_than:?} and {less_than:?}");
    Ok(())
}

fn print_waits(what: &str, mut waits: Vec<Duration>) {
    waits.sort();
    let at = |share: usize| waits.get((waits.len() * share / 100).min(waits.len() - 1)).copied().unwrap_or_default();
    println!("{what}: median {:?}, 99 of 100 within {:?}, all within {:?}", at(50), at(99), at(100));
}
