//! Starting, sealing and restarting the server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use super::Bao;
use crate::bao_audit::BaoAudit;
use crate::peer::{Peer, Ready, Recipe};
use crate::programs::Programs;
use crate::run::Run;
use crate::wait::eventually;

const ANSWERS: [u16; 4] = [200, 429, 501, 503];

/// How a server differs from the usual one.
#[derive(Clone, Debug, Default)]
pub struct BaoOptions {
    /// Raft storage, so that it survives [`Bao::restart`]; otherwise it lives in memory.
    pub raft: bool,
    /// HashiCorp Vault 1.14 in OpenBao's place, built when it is not cached.
    pub vault: bool,
}

impl Bao {
    /// Starts, initialises and unseals a server.
    pub async fn start(run: &Run, options: BaoOptions) -> Result<Bao> {
        let folder = run.new_folder("openbao")?;
        let ports = [run.port()?, run.port()?, run.port()?];
        let address = format!("https://127.0.0.1:{}", ports[0]);
        let audit = folder.join("audit.jsonl");
        let config = folder.join("config.hcl");
        let text = configuration(run, &folder, ports, &options)?;
        std::fs::write(&config, text + &audit_device(&audit, options.vault)).context("writing config.hcl")?;
        let program = match options.vault {
            false => run.programs().path("bao"),
            true => tokio::task::spawn_blocking(Programs::with_vault).await.context("building Vault")??.path("vault"),
        };
        let recipe = Recipe {
            name: if options.vault { "vault" } else { "openbao" }.into(),
            program,
            args: vec!["server".into(), format!("-config={}", config.display())],
            env: Vec::new(),
            folder,
            ready: Ready { url: format!("{address}/v1/sys/health"), statuses: ANSWERS.into() },
        };
        let mut bao = Bao::new(run, Peer::start(run, recipe).await?, address, audit)?;
        bao.vault = options.vault;
        bao.plain_address = Some(format!("http://127.0.0.1:{}", ports[1]));
        let made = bao.call("PUT", "sys/init", Some(&json!({"secret_shares": 1, "secret_threshold": 1}))).await?;
        let made = made.ok("initialising OpenBao")?;
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned).context("sys/init answers oddly");
        bao.unseal_key = Some(run.secrets().add("OpenBao's unseal key", text(&made["keys_base64"][0])?));
        bao.token = Some(run.secrets().add("OpenBao's root token", text(&made["root_token"])?));
        bao.unseal().await?;
        if options.vault {
            let device = json!({"type": "file", "options": {"file_path": bao.audit.path(), "log_raw": "true"}});
            bao.call("PUT", "sys/audit/file", Some(&device)).await?.ok("declaring Vault's audit log")?;
        }
        Ok(bao)
    }

    /// Seals it: everything is answered 503 from here on.
    pub async fn seal(&self) -> Result<()> {
        self.call("PUT", "sys/seal", Some(&json!({}))).await?.ok("sealing").map(drop)
    }

    /// Unseals it and waits until it serves.
    pub async fn unseal(&self) -> Result<()> {
        let key = self.unseal_key.as_deref().context("only OpenBao started by Bao::start can be unsealed")?;
        self.call("PUT", "sys/unseal", Some(&json!({"key": key}))).await?.ok("unsealing")?;
        let serves = eventually("OpenBao serves", Duration::from_secs(20), async || {
            Ok((self.call("GET", "sys/health", None).await?.status == 200).then_some(()))
        });
        serves.await.with_context(|| self.peer.complaint("does not serve after it was unsealed"))
    }

    /// Kills it, starts it on the same ports and data (raft storage only) and unseals it.
    pub async fn restart(&self) -> Result<()> {
        self.peer.restart().await?;
        self.unseal().await
    }

    fn new(run: &Run, peer: Peer, address: String, audit: PathBuf) -> Result<Bao> {
        Ok(Bao {
            run: run.clone(),
            peer,
            address,
            plain_address: None,
            ca_pem: run.authority().pem().to_owned(),
            unseal_key: None,
            audit: BaoAudit::new(audit),
            token: None,
            namespace: None,
            vault: false,
            client: run.authority().client()?,
        })
    }
}

fn configuration(run: &Run, folder: &Path, ports: [u16; 3], options: &BaoOptions) -> Result<String> {
    let identity = run.authority().identity(folder, "openbao", &["localhost", "127.0.0.1"])?;
    let [tls, plain, cluster] = ports;
    let storage = if options.raft {
        let data = folder.join("raft");
        std::fs::create_dir_all(&data).context("making the raft folder")?;
        format!(
            "storage \"raft\" {{ path = {data:?}  node_id = \"one\"  performance_multiplier = 1 }}\ncluster_addr = \"https://127.0.0.1:{cluster}\"\n"
        )
    } else {
        "storage \"inmem\" {}\n".to_owned()
    };
    Ok(format!(
        "api_addr = \"https://127.0.0.1:{tls}\"\n{storage}\
         listener \"tcp\" {{\n  address = \"127.0.0.1:{tls}\"\n  cluster_address = \"127.0.0.1:{cluster}\"\n  \
         tls_cert_file = {:?}\n  tls_key_file = {:?}\n}}\n\
         listener \"tcp\" {{\n  address = \"127.0.0.1:{plain}\"\n  cluster_address = \"127.0.0.1:{cluster}\"\n  tls_disable = true\n}}\n",
        identity.certificate_path, identity.key_path,
    ))
}

/// OpenBao declares its audit log in its configuration, and Vault by a call; Vault moreover wants to lock its memory.
fn audit_device(audit: &Path, vault: bool) -> String {
    if vault {
        return "disable_mlock = true\n".to_owned();
    }
    format!(
        "audit \"file\" \"to-file\" {{\n  options {{\n    file_path = {audit:?}\n    log_raw = \"true\"\n  }}\n}}\n"
    )
}
