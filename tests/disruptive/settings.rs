//! Flags, the environment and the public roots.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use testenv::{Csr, Issuer, Request, Run, certificate_of, eventually, openssl};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{LATER, MESH, SOON, World, bare};
use crate::{Outcome, Suite};

pub fn add(suite: &mut Suite) {
    suite.add("Tetrate's recipe is refused in words where Vault's CA is not among the public roots", private_ca);
    suite.add("the proxy variables are for Vault only, and ambient VAULT_ variables have no effect", environment);
    suite.add("a server that is not allowed is refused before any Secret is read", allowed_servers);
}

async fn private_ca(run: Run) -> Outcome {
    let world = World::start(run, bare()).await?;
    let kube = &world.plane.kube;
    let _ours = world.controller(|_| ()).await?;
    let recipe = world.plane.bao.tetrate_with_root("tetrate").await?;
    let issuer = Issuer::app_role(MESH, "istio-ca", &world.plane.bao, &recipe).set("vault/caBundle", Value::Null);
    let issuer = issuer.create(kube).await?;
    let pair = Csr::workload(MESH, "web").rsa(2048).await?;
    let web = Request::new(MESH, "web", &issuer.issuer_ref, &pair.csr_pem).duration("1h").create(kube).await?;
    web.approve().await?;

    let refused = issuer.reason("VaultTLSFailed", SOON).await?;
    let words = refused["message"].as_str().context("a message")?;
    for part in ["certificate", "caBundle", "caBundleSecretRef"] {
        ensure!(words.contains(part), "{part} is missing in: {words}");
    }
    web.reason("Pending", SOON).await?;
    ensure!(world.plane.bao.audit().all()?.logins_of(&recipe.app_role) == 0, "no credentials go to a server not known");

    kube.secret(MESH, "vault-ca", &[("ca.crt", world.plane.bao.ca_pem())]).await?;
    issuer.patch(&json!({"spec": {"vault": {"caBundleSecretRef": {"name": "vault-ca"}}}})).await?;
    let ready = issuer.ready(SOON).await?;
    ensure!(ready["status"]["conditions"].to_string().contains("Vault verified"));
    let issued = web.ready(SOON).await?;
    openssl::verify(&certificate_of(&issued)?, recipe.root_pem()).await
}

/// An HTTP proxy that understands CONNECT and nothing else, and remembers where it was asked to go.
struct Forward {
    url: String,
    targets: Arc<Mutex<Vec<String>>>,
}

impl Forward {
    async fn start(run: &Run) -> anyhow::Result<Forward> {
        let port = run.port()?;
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let targets = Arc::<Mutex<Vec<String>>>::default();
        let seen = Arc::clone(&targets);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // A broken tunnel is the client's to notice.
                tokio::spawn(tunnel(client, Arc::clone(&seen)));
            }
        });
        Ok(Forward { url: format!("http://127.0.0.1:{port}"), targets })
    }

    fn targets(&self) -> Vec<String> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn tunnel(client: TcpStream, seen: Arc<Mutex<Vec<String>>>) -> anyhow::Result<()> {
    let mut client = BufReader::new(client);
    let mut first = String::new();
    client.read_line(&mut first).await?;
    let target = first.split_whitespace().nth(1).context("a request line")?.to_owned();
    seen.lock().unwrap_or_else(PoisonError::into_inner).push(target.clone());
    let mut line = String::new();
    while client.read_line(&mut line).await? > 2 {
        line.clear();
    }
    let mut server = TcpStream::connect(target).await?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

async fn environment(run: Run) -> Outcome {
    let world = World::start(run, bare()).await?;
    let kube = &world.plane.kube;
    let forward = Forward::start(&world.run).await?;
    let env = [
        ("HTTPS_PROXY", forward.url.as_str()),
        ("https_proxy", forward.url.as_str()),
        ("NO_PROXY", "localhost"),
        ("no_proxy", "localhost"),
        ("VAULT_ADDR", "https://127.0.0.1:1"),
        ("VAULT_TOKEN", "s.ambient"),
        ("VAULT_SKIP_VERIFY", "true"),
        ("VAULT_NAMESPACE", "nowhere"),
        ("VAULT_CACERT", "/nowhere/ca.crt"),
    ];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let _ours = world.controller(|options| options.env = env).await?;

    let address = world.plane.bao.address();
    let by_name = address.replace("127.0.0.1", "localhost");
    let named =
        |name: &str, server: &str| Issuer::app_role(MESH, name, &world.plane.bao.with_address(server), &world.recipe);
    let proxied = named("proxied", address).create(kube).await?;
    let direct = named("direct", &by_name).create(kube).await?;
    let trusting = named("trusting", &by_name).set("vault/caBundle", Value::Null).create(kube).await?;
    for issuer in [&proxied, &direct] {
        issuer.ready(SOON).await?;
        let name = format!("{}-web", issuer.issuer_ref.name);
        world.approved(&name, &issuer.issuer_ref).await?.issued(&world, SOON).await?;
    }
    let refused = trusting.reason("VaultTLSFailed", SOON).await?;
    ensure!(refused["message"].to_string().contains("caBundle"), "VAULT_SKIP_VERIFY has an effect: {refused}");

    let targets = forward.targets();
    let vault = address.trim_start_matches("https://");
    ensure!(!targets.is_empty(), "HTTPS_PROXY is honoured for Vault");
    ensure!(targets.iter().all(|target| target == vault), "the proxy is for {vault} only, not {targets:?}");
    let ambient = world.plane.bao.audit().all()?.keep(|call| call.path.contains("nowhere"));
    ensure!(ambient.is_empty());
    Ok(())
}

async fn allowed_servers(run: Run) -> Outcome {
    let world = World::start(run, bare()).await?;
    let kube = &world.plane.kube;
    let address = world.plane.bao.address();
    let allowed = address.trim_start_matches("https://");
    let set = vec![format!("allowedServers={{{allowed}}}")];
    let ours = world.controller(|options| options.set = set).await?;
    let elsewhere = Issuer::app_role(
        MESH,
        "elsewhere",
        &world.plane.bao.with_address(&address.replace("127.0.0.1", "localhost")),
        &world.recipe,
    )
    .create(kube)
    .await?;
    let refused = elsewhere.reason("InvalidSpec", SOON).await?;
    let words = refused["message"].as_str().context("a message")?;
    ensure!(words.contains("localhost") && words.contains("--allowed-servers"), "{words}");
    world.ready_issuer().await?;

    // The refused one becomes allowed, and not before is its Secret read.
    let reads = || -> anyhow::Result<usize> {
        let calls = world.plane.kube_audit.all()?.of(&ours.namespace, &ours.account);
        Ok(calls.keep(|call| call.resource == "secrets" && call.uri.contains("elsewhere-approle")).len())
    };
    ensure!(reads()? == 0, "its Secret is read although nobody may call the server");
    elsewhere.patch(&json!({"spec": {"vault": {"server": address}}})).await?;
    elsewhere.ready(LATER).await?;
    eventually("the audit log shows the read", SOON, async || Ok((reads()? > 0).then_some(()))).await
}
