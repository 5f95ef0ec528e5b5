//! etcd and kube-apiserver.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::authority::Identity;
use crate::peer::{Peer, Ready, Recipe};
use crate::run::Run;

const AUDIT_POLICY: &str = r#"{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
  "rules": [{"level": "Metadata"}]}"#;

/// The API server with its store.
pub(crate) struct Kubernetes {
    pub(crate) etcd: Peer,
    pub(crate) apiserver: Peer,
    pub(crate) url: String,
    pub(crate) admin_token: String,
    pub(crate) audit_log: PathBuf,
    pub(crate) account_key: PathBuf,
}

pub(crate) async fn start(run: &Run, folder: &Path, server: &Identity, extra: &[String]) -> Result<Kubernetes> {
    let (etcd, etcd_url) = start_etcd(run, folder).await?;
    let port = run.port()?;
    let url = format!("https://127.0.0.1:{port}");
    let audit_log = folder.join("apiserver-audit.jsonl");
    let accounts = run.authority().identity(folder, "service-accounts", &[])?;
    let account_key = folder.join("sa.pub");
    crate::openssl::public_key(&accounts.certificate_path, &account_key).await?;
    let admin_token = run.secrets().add("the API server's admin token", format!("admin-{port}-{}", std::process::id()));
    let file = |name: &str, text: &str| -> Result<String> {
        let path = folder.join(name);
        std::fs::write(&path, text).with_context(|| format!("writing {name}"))?;
        Ok(path.display().to_string())
    };
    let tokens = file("tokens.csv", &format!("{admin_token},admin,1,\"system:masters\"\n"))?;
    let policy = file("audit-policy.json", AUDIT_POLICY)?;
    let mut args: Vec<String> = [
        format!("--etcd-servers={etcd_url}"),
        "--bind-address=127.0.0.1".into(),
        format!("--secure-port={port}"),
        "--advertise-address=127.0.0.1".into(),
        "--endpoint-reconciler-type=none".into(),
        format!("--cert-dir={}", folder.join("apiserver").display()),
        format!("--tls-cert-file={}", server.certificate_path.display()),
        format!("--tls-private-key-file={}", server.key_path.display()),
        format!("--client-ca-file={}", run.authority().path().display()),
        format!("--token-auth-file={tokens}"),
        "--authorization-mode=RBAC".into(),
        "--service-cluster-ip-range=10.0.0.0/24".into(),
        format!("--service-account-issuer={url}"),
        format!("--service-account-jwks-uri={url}/openid/v1/jwks"),
        format!("--service-account-signing-key-file={}", accounts.key_path.display()),
        format!("--service-account-key-file={}", account_key.display()),
        format!("--audit-policy-file={policy}"),
        format!("--audit-log-path={}", audit_log.display()),
        // In MB. Unset, a log of 100 MB is put aside for a new one, and who counts in it loses what came before.
        "--audit-log-maxsize=1000000".into(),
        "--profiling=false".into(),
        "--etcd-compaction-interval=0".into(),
        "--shutdown-delay-duration=0s".into(),
        "--v=1".into(),
    ]
    .into();
    args.extend_from_slice(extra);
    let recipe = Recipe {
        name: "kube-apiserver".into(),
        program: run.programs().path("kube-apiserver"),
        args,
        env: Vec::new(),
        folder: folder.to_owned(),
        ready: Ready { url: format!("{url}/readyz"), statuses: vec![200] },
    };
    let apiserver = Peer::start(run, recipe).await?;
    Ok(Kubernetes { etcd, apiserver, url, admin_token, audit_log, account_key })
}

async fn start_etcd(run: &Run, folder: &Path) -> Result<(Peer, String)> {
    let client = format!("http://127.0.0.1:{}", run.port()?);
    let peer = format!("http://127.0.0.1:{}", run.port()?);
    let recipe = Recipe {
        name: "etcd".into(),
        program: run.programs().path("etcd"),
        args: vec![
            format!("--data-dir={}", folder.join("etcd").display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
            "--unsafe-no-fsync".into(),
            "--log-level=warn".into(),
        ],
        env: Vec::new(),
        folder: folder.to_owned(),
        ready: Ready::at(format!("{client}/health")),
    };
    Ok((Peer::start(run, recipe).await?, client))
}
