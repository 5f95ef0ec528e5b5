//! The peers, four tenants whose issuers differ in what their tokens can do, and the load.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testenv::{
    Action, AppRole, AppRoleOptions, Bao, Chain, ControlPlane, Controller, ControllerOptions, Issuer, Issuing, Load,
    LoadOptions, Options, Proxy, Recipe, Run, Target, condition, eventually,
};
use tokio::sync::Mutex;

use crate::certificates::Certificates;

/// Requests a second, all tenants together.
const PACE: f64 = 6.0;
const SOON: Duration = Duration::from_secs(60);
/// So few waiting requests are no backlog.
const FEW: usize = 40;

/// Everything that runs.
pub struct World {
    /// The peers.
    pub plane: ControlPlane,
    /// Our process.
    pub ours: Controller,
    /// The way of two tenants to OpenBao.
    pub to_vault: Proxy,
    /// Our way to the API server.
    pub to_api_server: Proxy,
    /// The load of all tenants.
    pub load: Load,
    /// What cert-manager asks for.
    pub certificates: Certificates,
    tenants: Vec<Tenant>,
}

struct Tenant {
    issuing: Issuing,
    /// Where the Secret of its AppRole lies.
    secret: (String, String),
    role: Mutex<AppRole>,
}

impl World {
    /// Starts it all.
    pub async fn start(run: &Run, program: PathBuf) -> Result<World> {
        let options = Options {
            raft: true,
            webhook: false,
            // Who approves and who denies is part of the load.
            cert_manager_flags: vec!["--without=certificaterequests-approver".to_owned()],
            // Of six requests a second every state would be kept for ever.
            apiserver_flags: vec!["--etcd-compaction-interval=1m".to_owned()],
            ..Options::default()
        };
        let plane = ControlPlane::start(run, options).await?;
        let to_vault = Proxy::start(run, plane.bao.address()).await?;
        // As a busy server is; and so there is something under way when somebody falls.
        to_vault.on(|seen| seen.path.contains("/sign/"), Action::Late(Duration::from_millis(200)));
        let to_api_server = Proxy::start(run, plane.kube.server()).await?;
        let ours = Controller::start(
            &plane,
            ControllerOptions {
                rust_log: Some("debug,hyper_util=info,h2=info,rustls=info,tower=info".to_owned()),
                via: Some(to_api_server.url().to_owned()),
                // Nobody starts it again here when it ends because it has lost its Lease, as a kubelet would.
                alone: true,
                ..ControllerOptions::new(program)
            },
        )
        .await?;
        let direct = &plane.bao;
        let proxied = direct.with_address(to_vault.url());
        let counted = AppRoleOptions { token_num_uses: 10, ..AppRoleOptions::new(&[]) };
        let short = AppRoleOptions { token_ttl: "10s".into(), token_max_ttl: "20s".into(), ..AppRoleOptions::new(&[]) };
        let usual = AppRoleOptions::new(&[]);
        let mut tenants = Vec::new();
        let mut targets = Vec::new();
        for (name, bao, options, cluster) in [
            ("plain", direct, &usual, false),
            ("counted", &proxied, &counted, false),
            ("short", &proxied, &short, false),
            ("shared", direct, &usual, true),
        ] {
            let (tenant, target) = tenant(&plane, &ours, name, bao, options, cluster).await?;
            tenants.push(tenant);
            targets.push(target);
        }
        let shared = targets.last().cloned().context("a cluster issuer")?;
        let certificates = Certificates::start(&plane.kube, shared.issuer).await?;
        let options = LoadOptions { targets, per_second: PACE, denied_every: 25, kept_every: 25 };
        let load = Load::start(&plane.kube, options);
        Ok(World { plane, ours, to_vault, to_api_server, load, certificates, tenants })
    }

    /// Gives every issuer's Secret a new secret id; the old one ends a while later, as it would by hand.
    pub async fn replace_secrets(&self, lasts: Duration) -> Result<()> {
        for tenant in &self.tenants {
            let mut role = tenant.role.lock().await;
            let (namespace, name) = &tenant.secret;
            let new = self.plane.bao.secret_id(&role).await?;
            self.plane.kube.secret(namespace, name, &[("secretId", &new)]).await?;
            let old = std::mem::replace(&mut role.secret_id, new);
            tokio::time::sleep(lasts).await;
            self.plane.bao.destroy_secret_id(&role, &old).await?;
        }
        Ok(())
    }

    /// Waits until every issuer is Ready and hardly a request waits.
    pub async fn recovered(&self, within: Duration) -> Result<()> {
        self.to_vault.clear();
        self.to_api_server.clear();
        eventually("all issuers are Ready and nothing waits", within, async || {
            for tenant in &self.tenants {
                let object = tenant.issuing.get().await?;
                let ready = condition(&object, "Ready").context("no Ready condition")?;
                ensure!(ready["status"] == "True", "{} {ready}", tenant.issuing.path);
            }
            // Each look at four issuers costs the API server something.
            tokio::time::sleep(Duration::from_millis(500)).await;
            Ok((self.load.waiting() <= FEW).then_some(()))
        })
        .await
    }

    /// How many issuers there are.
    pub fn issuers(&self) -> usize {
        self.tenants.len()
    }

    /// Whose CSR is whose.
    pub fn names(&self) -> HashMap<String, String> {
        let mut names = self.load.csrs();
        names.extend(self.certificates.csrs());
        names
    }
}

async fn tenant(
    plane: &ControlPlane,
    ours: &Controller,
    name: &str,
    bao: &Bao,
    options: &AppRoleOptions,
    cluster: bool,
) -> Result<(Tenant, Target)> {
    plane.kube.namespace(name).await?;
    let mut recipe: Recipe = plane.bao.plain_recipe(name, Chain::WithRoot).await?;
    let options = AppRoleOptions { policies: vec![recipe.policy.clone()], ..options.clone() };
    recipe.app_role = plane.bao.app_role(name, &options).await?;
    let home = if cluster { ours.namespace.as_str() } else { name };
    let issuer = Issuer::app_role(home, name, bao, &recipe);
    let issuing = if cluster { issuer.cluster() } else { issuer }.create(&plane.kube).await?;
    issuing.ready(SOON).await.with_context(|| ours.peer().complaint("does not make an issuer Ready"))?;
    let target = Target {
        namespace: name.to_owned(),
        issuer: issuing.issuer_ref.clone(),
        root_pem: recipe.root_pem().to_owned(),
    };
    let secret = (home.to_owned(), format!("{name}-approle"));
    Ok((Tenant { issuing, secret, role: Mutex::new(recipe.app_role) }, target))
}
