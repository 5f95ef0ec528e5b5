//! What the trials share: a world of peers, an issuer in it, requests, and the questions that are asked about them.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use testenv::{
    Chain, ControlPlane, Controller, ControllerOptions, Created, Csr, Issuer, IssuerRef, Issuing, KeyAndCsr, Options,
    Recipe, Request, Run, Seen, Witness, certificate_of, condition, eventually, openssl,
};

/// Long enough for what should happen at once, on a machine that has three trials to carry.
pub const SOON: Duration = Duration::from_secs(20);
/// Long enough for what waits for a repeated try or check.
pub const LATER: Duration = Duration::from_secs(120);

/// The namespace of issuers and requests.
pub const MESH: &str = "mesh";

/// The peers of one trial, a PKI in OpenBao and a namespace. Our controller is started by the trial.
pub struct World {
    pub run: Run,
    pub plane: ControlPlane,
    pub recipe: Recipe,
    /// What it writes down is searched for secrets when all trials are over: `afterwards.rs`.
    witness: Witness,
}

/// The API server and its store alone, without cert-manager's processes: the trial approves by itself.
pub fn bare() -> Options {
    Options { cert_manager: false, webhook: false, ..Options::default() }
}

impl World {
    pub async fn start(run: Run, options: Options) -> anyhow::Result<World> {
        let plane = ControlPlane::start(&run, options).await?;
        plane.kube.namespace(MESH).await?;
        let recipe = plane.bao.plain_recipe("mesh", Chain::WithRoot).await?;
        let witness = Witness::start(&plane.kube)?;
        Ok(World { run, plane, recipe, witness })
    }

    /// Starts our controller, with whatever the trial changes.
    pub async fn controller(&self, change: impl FnOnce(&mut ControllerOptions)) -> anyhow::Result<Controller> {
        let ours = self.prepared(controller_options(change)).await?;
        ours.start_again().await?;
        Ok(ours)
    }

    /// A controller that the trial starts by itself.
    pub async fn prepared(&self, options: ControllerOptions) -> anyhow::Result<Controller> {
        let ours = Controller::prepare(&self.plane, options).await?;
        self.witness.watch_metrics(&ours)?;
        Ok(ours)
    }

    /// An issuer `vault` in `mesh`, not yet created, that reaches OpenBao at `server`.
    pub fn issuer_at(&self, server: &str) -> Issuer {
        Issuer::app_role(MESH, "vault", &self.plane.bao.with_address(server), &self.recipe)
    }

    /// The issuer `vault`, created and Ready.
    pub async fn ready_issuer_at(&self, server: &str) -> anyhow::Result<Issuing> {
        let issuer = self.issuer_at(server).create(&self.plane.kube).await?;
        issuer.ready(SOON).await?;
        Ok(issuer)
    }

    /// The issuer `vault`, created and Ready, without anything between it and OpenBao.
    pub async fn ready_issuer(&self) -> anyhow::Result<Issuing> {
        self.ready_issuer_at(self.plane.bao.address()).await
    }

    /// A request that the trial has approved.
    pub async fn approved(&self, name: &str, issuer: &IssuerRef) -> anyhow::Result<Asked> {
        let asked = self.ask(MESH, name, issuer).await?;
        asked.request.approve().await?;
        Ok(asked)
    }

    /// So many approved requests, `<prefix>-0` and on, asked for side by side.
    pub async fn many(&self, prefix: &str, count: usize, issuer: &IssuerRef) -> anyhow::Result<Vec<Asked>> {
        self.many_in(MESH, prefix, count, issuer).await
    }

    /// [`World::many`] in another namespace.
    pub async fn many_in(
        &self,
        namespace: &str,
        prefix: &str,
        count: usize,
        issuer: &IssuerRef,
    ) -> anyhow::Result<Vec<Asked>> {
        futures::future::try_join_all((0..count).map(async |number| {
            let asked = self.ask(namespace, &format!("{prefix}-{number}"), issuer).await?;
            asked.request.approve().await?;
            anyhow::Ok(asked)
        }))
        .await
    }

    /// A mesh-shaped request that nobody has approved.
    pub async fn ask(&self, namespace: &str, name: &str, issuer: &IssuerRef) -> anyhow::Result<Asked> {
        let pair = Csr::workload(namespace, name).ec()?;
        let request = Request::new(namespace, name, issuer, &pair.csr_pem).duration("1h").create(&self.plane.kube);
        Ok(Asked { request: request.await?, pair })
    }

    /// Signs with a CSR that OpenBao carried out since its start.
    pub fn signs(&self) -> anyhow::Result<usize> {
        Ok(self.plane.bao.audit().all()?.signs(&self.recipe.sign_path))
    }

    /// Our log holds no token and no secret id.
    pub fn keeps_secrets(&self, ours: &Controller) -> anyhow::Result<()> {
        for token in self.plane.bao.audit().tokens()? {
            self.run.secrets().add("a token in OpenBao's audit log", token);
        }
        let found = self.run.secrets().found_in(&ours.log()?);
        ensure!(found.is_empty(), "in the log: {found:?}");
        Ok(())
    }

    /// The events of ours about an object of this name.
    pub async fn events(&self, namespace: &str, name: &str) -> anyhow::Result<Vec<Value>> {
        let events = self.plane.kube.list(&format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events")).await?;
        Ok(events.into_iter().filter(|event| event["regarding"]["name"] == name).collect())
    }

    /// The HTTP codes that our writes of this request's status were answered with, in order.
    pub fn status_writes(&self, ours: &Controller, name: &str) -> anyhow::Result<Vec<u64>> {
        let calls = self.plane.kube_audit.all()?.of(&ours.namespace, &ours.account);
        let writes = calls.verb("patch").resource("certificaterequests/status").named(name);
        Ok(writes.iter().map(|call| call.code).collect())
    }
}

/// How our controller is started here. It is killed and started again so often that it stands for election in the trials of that
/// only.
pub fn controller_options(change: impl FnOnce(&mut ControllerOptions)) -> ControllerOptions {
    let mut options = ControllerOptions::new(env!("CARGO_BIN_EXE_vault-mesh-issuer"));
    options.rust_log = Some("debug,hyper_util=info,h2=info,rustls=info,tower=info".to_owned());
    options.alone = true;
    change(&mut options);
    options
}

/// A request and the key it was made with.
pub struct Asked {
    pub request: Created,
    pub pair: KeyAndCsr,
}

impl Asked {
    /// Waits for its certificate, which somebody else's code has to accept for its own key; gives the object.
    pub async fn issued(&self, world: &World, within: Duration) -> anyhow::Result<Value> {
        let object = self.request.ready(within).await?;
        let ready = condition(&object, "Ready").context("Ready")?;
        ensure!(ready["reason"] == "Issued", "the reason is {}", ready["reason"]);
        ensure!(object["metadata"]["uid"] == self.request.uid.as_str(), "it is another request of that name");
        openssl::verify(&certificate_of(&object)?, world.recipe.root_pem()).await?;
        self.has_own_key(&object).await?;
        Ok(object)
    }

    /// The certificate holds the key of this request and no other's.
    pub async fn has_own_key(&self, object: &Value) -> anyhow::Result<()> {
        let same = openssl::same_key(&certificate_of(object)?, &self.pair.csr_pem).await;
        same.with_context(|| self.request.name.clone())
    }

    /// Fails when it has been given up.
    pub async fn is_not_failed(&self) -> anyhow::Result<()> {
        let object = self.request.get().await?;
        let reason = condition(&object, "Ready").map(|ready| ready["reason"].clone()).unwrap_or_default();
        ensure!(reason != "Failed", "{} is Failed: {}", self.request.name, object["status"]);
        Ok(())
    }
}

/// All of them are issued.
pub async fn all_issued(world: &World, asked: &[Asked], within: Duration) -> anyhow::Result<()> {
    let last = asked.last().context("no requests")?;
    last.request.ready(within).await?;
    for one in asked {
        one.issued(world, within).await?;
    }
    Ok(())
}

/// A sign with a CSR, as the proxy in front of Vault sees it: no probe.
pub fn is_sign(seen: &Seen) -> bool {
    seen.path.contains("/sign/") && seen.json()["csr"].as_str().is_some_and(|csr| !csr.trim().is_empty())
}

/// A write of the status of the request of this name, as the proxy in front of the API server sees it.
pub fn writes_status(name: &str) -> impl Fn(&Seen) -> bool + Send + Sync + 'static {
    let part = format!("/certificaterequests/{name}/status");
    move |seen| seen.is("PATCH", &part)
}

/// A write of the status of any request.
pub fn writes_any_status(seen: &Seen) -> bool {
    seen.is("PATCH", "/certificaterequests/")
}

/// Waits until something counted has reached a number.
pub async fn until(what: &str, wanted: usize, count: impl Fn() -> anyhow::Result<usize>) -> anyhow::Result<()> {
    eventually(what, SOON, async || Ok((count()? >= wanted).then_some(()))).await
}
