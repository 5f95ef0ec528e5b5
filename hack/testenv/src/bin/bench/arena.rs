//! The peers, the contenders and what they sign with. Between turns no contender runs, and nothing of the last one is left.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testenv::{
    CLIENTS, Chain, ControlPlane, Controller, ControllerOptions, Created, Csr, HierarchyOptions, Issuer, IssuerRef,
    Options, Peer, Recipe, Request, Run, condition, eventually, in_parallel,
};

/// The namespace of all requests.
pub const NAMESPACE: &str = "mesh";
pub const REQUESTS: &str = "/apis/cert-manager.io/v1/namespaces/mesh/certificaterequests";
const SOON: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(300);
/// cert-manager's controllers that have nothing to do with the built-in Vault issuer.
const OTHERS: &str = "certificaterequests-approver,certificaterequests-issuer-ca,certificaterequests-issuer-selfsigned,\
    certificates-issuing,certificates-key-manager,certificates-metrics,certificates-readiness,\
    certificates-request-manager,certificates-revision-manager,certificates-trigger,ingress-shim";

/// Who signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    Ours,
    BuiltIn,
}

impl Contender {
    /// The order within a turn: the second of one is the first of the next, so that what went before favours neither.
    pub const fn in_turn(number: usize) -> [Contender; 2] {
        if number.is_multiple_of(2) {
            [Contender::BuiltIn, Contender::Ours]
        } else {
            [Contender::Ours, Contender::BuiltIn]
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Contender::Ours => "ours",
            Contender::BuiltIn => "built-in",
        }
    }

    /// Its issuer of that number, named after it.
    pub fn issuer(self, number: usize) -> IssuerRef {
        let name = format!("{}-{number}", self.name());
        match self {
            Contender::Ours => IssuerRef::new("VaultMeshIssuer", &name),
            Contender::BuiltIn => IssuerRef { group: "cert-manager.io".into(), kind: "Issuer".into(), name },
        }
    }

    /// Where its issuers lie at the API server.
    fn issuers(self) -> &'static str {
        match self {
            Contender::Ours => "/apis/vaultmesh.io/v1alpha1/namespaces/mesh/vaultmeshissuers",
            Contender::BuiltIn => "/apis/cert-manager.io/v1/namespaces/mesh/issuers",
        }
    }
}

/// The CA's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CaKind {
    Ec,
    Rsa,
}

/// What Vault signs with, and whether it keeps a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signing {
    pub ca: CaKind,
    pub stored: bool,
}

impl Signing {
    /// Every one; the drain has them all.
    pub const ALL: [Signing; 4] = [
        Signing::USUAL,
        Signing { ca: CaKind::Ec, stored: true },
        Signing { ca: CaKind::Rsa, stored: false },
        Signing { ca: CaKind::Rsa, stored: true },
    ];
    /// The other scenarios have this one.
    pub const USUAL: Signing = Signing { ca: CaKind::Ec, stored: false };
}

impl fmt::Display for Signing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ca = match self.ca {
            CaKind::Ec => "EC P-256",
            CaKind::Rsa => "RSA 2048",
        };
        write!(f, "{ca}, {}", if self.stored { "stored" } else { "no_store" })
    }
}

/// Everything that runs, or can be started.
pub struct Arena {
    pub plane: ControlPlane,
    pub ours: Controller,
    recipes: BTreeMap<Signing, Recipe>,
}

impl Arena {
    /// Of cert-manager only the webhook and the controllers of its Vault issuer, which do not run beside ours.
    pub async fn issuers_alone(run: &Run, program: PathBuf) -> Result<Arena> {
        let options = Options { cert_manager_flags: vec![format!("--without={OTHERS}")], ..Options::default() };
        let arena = Arena::start(run, program, options).await?;
        arena.stop(Contender::BuiltIn).await?;
        Ok(arena)
    }

    /// The whole of cert-manager, beside either contender.
    pub async fn whole(run: &Run, program: PathBuf) -> Result<Arena> {
        Arena::start(run, program, Options::default()).await
    }

    async fn start(run: &Run, program: PathBuf, options: Options) -> Result<Arena> {
        let plane = ControlPlane::start(run, options).await?;
        let ours = Controller::prepare(&plane, ControllerOptions::as_installed(program)).await?;
        plane.kube.namespace(NAMESPACE).await?;
        let mut recipes = BTreeMap::new();
        for (number, signing) in Signing::ALL.into_iter().enumerate() {
            let name = format!("mesh-{number}");
            let hierarchy = HierarchyOptions::new(&name, Chain::WithRoot);
            let hierarchy = if signing.ca == CaKind::Rsa { hierarchy.rsa() } else { hierarchy };
            let recipe = plane.bao.recipe_with(&name, &hierarchy).await?;
            if signing.stored {
                let role = plane.bao.read(&format!("{}/roles/{}", recipe.mount(), recipe.role)).await?;
                let mut role = role.context("the role has gone")?["data"].take();
                role["no_store"] = false.into();
                plane.bao.pki_role(recipe.mount(), &recipe.role, role).await?;
            }
            recipes.insert(signing, recipe);
        }
        Ok(Arena { plane, ours, recipes })
    }

    /// The contender's process.
    pub fn peer(&self, contender: Contender) -> Result<&Peer> {
        match contender {
            Contender::Ours => Ok(self.ours.peer()),
            Contender::BuiltIn => self.plane.cert_manager.as_ref().context("cert-manager was not started"),
        }
    }

    /// The contender's ServiceAccount: namespace and name.
    pub fn account(&self, contender: Contender) -> (&str, &str) {
        match contender {
            Contender::Ours => (&self.ours.namespace, &self.ours.account),
            Contender::BuiltIn => ("cert-manager", "cert-manager"),
        }
    }

    /// All processes that run now.
    pub fn running(&self) -> impl Iterator<Item = &Peer> {
        self.plane.peers().into_iter().chain([self.ours.peer()]).filter(|peer| peer.is_running())
    }

    pub fn recipe(&self, signing: Signing) -> Result<&Recipe> {
        self.recipes.get(&signing).with_context(|| format!("no CA for {signing}"))
    }

    /// Starts a contender.
    pub async fn go(&self, contender: Contender) -> Result<()> {
        self.peer(contender)?.start_again().await
    }

    /// Ends a contender.
    pub async fn stop(&self, contender: Contender) -> Result<()> {
        let peer = self.peer(contender)?;
        let status = peer.terminate(SOON).await?;
        // cert-manager's process calls the end of its own listener an error.
        let ended = status.success() || contender == Contender::BuiltIn;
        ensure!(ended, "{}", peer.complaint(&format!("ended with {status}")));
        Ok(())
    }

    /// Creates so many issuers of the contender, each with a Secret of its own.
    pub async fn issuers(&self, contender: Contender, signing: Signing, count: usize) -> Result<()> {
        for number in 0..count {
            self.issuer(contender, signing, number).await?;
        }
        Ok(())
    }

    async fn issuer(&self, contender: Contender, signing: Signing, number: usize) -> Result<()> {
        let (kube, recipe, name) = (&self.plane.kube, self.recipe(signing)?, contender.issuer(number).name);
        let issuer = Issuer::app_role(NAMESPACE, &name, &self.plane.bao, recipe);
        let vault = issuer.object()["spec"]["vault"].clone();
        match contender {
            Contender::Ours => drop(issuer.create(kube).await?),
            Contender::BuiltIn => {
                let object = json!({
                    "apiVersion": "cert-manager.io/v1", "kind": "Issuer",
                    "metadata": {"name": name, "namespace": NAMESPACE}, "spec": {"vault": vault},
                });
                let data = [("secretId", recipe.app_role.secret_id.as_str())];
                kube.secret(NAMESPACE, &format!("{name}-approle"), &data).await?;
                kube.apply_object(&format!("{}/{name}", contender.issuers()), "testenv", &object).await?;
            }
        }
        Ok(())
    }

    /// Waits until so many issuers of the contender are Ready.
    pub async fn ready(&self, contender: Contender, count: usize) -> Result<()> {
        let peer = self.peer(contender)?;
        for number in 0..count {
            let path = format!("{}/{}", contender.issuers(), contender.issuer(number).name);
            let ready = self.plane.kube.wait_condition(&path, "Ready", "True", SOON).await;
            ready.map(drop).with_context(|| peer.complaint("has an issuer that is not Ready"))?;
        }
        Ok(())
    }

    /// Creates and approves so many requests, to the contender's issuers in turn.
    pub async fn approved(&self, prefix: &str, count: usize, contender: Contender, issuers: usize) -> Result<()> {
        in_parallel(count, CLIENTS, |number| {
            let (issuer, kube) = (contender.issuer(number % issuers), self.plane.kube.clone());
            let name = format!("{prefix}-{number}");
            async move { request(&kube, &issuer, &name).await?.approve().await }
        })
        .await
    }

    /// Waits until nobody is busy any more.
    pub async fn calm(&self) -> Result<()> {
        const LITTLE: Duration = Duration::from_millis(20);
        let used = || self.running().map(Peer::cpu_time).sum::<Result<Duration>>();
        let deadline = Instant::now() + SOON;
        loop {
            let before = used()?;
            tokio::time::sleep(Duration::from_millis(500)).await;
            // Five processes that wait for something look at their clocks.
            if used()? < before + 5 * LITTLE || Instant::now() > deadline {
                return Ok(());
            }
        }
    }

    /// How many requests are Issued; one that failed is an error.
    pub async fn issued(&self) -> Result<usize> {
        let requests = self.plane.kube.list(REQUESTS).await?;
        let reason = |request: &Value| condition(request, "Ready").map(|ready| ready["reason"].clone());
        if let Some(failed) = requests.iter().find(|request| reason(request) == Some("Failed".into())) {
            anyhow::bail!("a request failed: {}", failed["status"]);
        }
        Ok(requests.iter().filter(|request| reason(request) == Some("Issued".into())).count())
    }

    /// Deletes the contender's issuers.
    pub async fn without_issuers(&self, contender: Contender) -> Result<()> {
        self.delete_all(contender.issuers()).await
    }

    /// Deletes all requests, and the contender's issuers.
    pub async fn clear(&self, contender: Contender) -> Result<()> {
        self.without_issuers(contender).await?;
        self.delete_all(REQUESTS).await
    }

    /// Deletes everything in a collection.
    pub async fn delete_all(&self, collection: &str) -> Result<()> {
        let kube = &self.plane.kube;
        eventually("everything is deleted", LONG, async || {
            // The API server gives up where it takes longer than half a minute; what is left is for the next time.
            let _given_up = kube.delete(collection).await;
            let left = kube.list(&format!("{collection}?limit=1")).await?;
            Ok(left.is_empty().then_some(()))
        })
        .await
    }
}

/// Creates a request as a workload makes it.
pub async fn request(kube: &testenv::Kube, issuer: &IssuerRef, name: &str) -> Result<Created> {
    let csr = Csr::workload(NAMESPACE, name).ec()?.csr_pem;
    Request::new(NAMESPACE, name, issuer, &csr).duration("1h").create(kube).await
}
