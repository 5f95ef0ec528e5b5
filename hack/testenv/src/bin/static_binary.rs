//! `hack/test --static`: the program that ships needs nothing beside it but the public roots. `static_binary PROGRAM`.
//!
//! It runs, by chroot, in a folder that holds the program and what the kubelet mounts into every container: first the
//! ServiceAccount alone, then also the `/etc/hosts` and `/etc/resolv.conf` of a Pod. Without the roots' file an issuer that
//! names no CA bundle must not become Ready; with it, it must. There is no shell, no library, no /proc, no /tmp.

#![allow(
    clippy::disallowed_methods,
    reason = "the environment of tests reads the clock, the environment and starts tasks"
)]

use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testenv::{
    Chain, ControlPlane, Controller, ControllerOptions, Csr, Issuer, Issuing, Options, Recipe, Request, Run, ca_of,
    certificate_of, exit_code, in_a_run, openssl,
};

const ROOTS: &str = "etc/ssl/certs/ca-certificates.crt";
const ACCOUNT: &str = "var/run/secrets/kubernetes.io/serviceaccount";
/// Any address of the loopback net is ours; a resolver of this machine sits on another one.
const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 97, 0, 1);
const NAME: &str = "vault.security.svc.cluster.local";
const SOON: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    exit_code("static", checked())
}

fn checked() -> Result<()> {
    let program = std::env::args_os().nth(1).context("usage: static_binary PROGRAM")?;
    let named = in_a_run("static", async |run| check(run, Path::new(&program)).await)?;
    println!("static: an issuer is Ready in a root that holds only the program and the public roots; {named}");
    Ok(())
}

async fn check(run: &Run, program: &Path) -> Result<String> {
    let options = Options { cert_manager: false, webhook: false, ..Options::default() };
    let plane = ControlPlane::start(run, options).await?;
    let root = run.new_folder("root")?;
    std::fs::copy(program, root.join("vault-mesh-issuer")).with_context(|| format!("copying {}", program.display()))?;
    let start = start_script(run, &root, plane.kube.server())?;
    let ours = Controller::prepare(&plane, ControllerOptions::new(start)).await?;
    put(&root, &format!("{ACCOUNT}/token"), ours.kube.token_in_use())?;
    put(&root, &format!("{ACCOUNT}/ca.crt"), run.authority().pem())?;
    put(&root, &format!("{ACCOUNT}/namespace"), &ours.namespace)?;

    plane.kube.namespace("mesh").await?;
    let recipe = plane.bao.plain_recipe("mesh", Chain::WithRoot).await?;
    let issuer = Issuer::app_role("mesh", "by-address", &plane.bao, &recipe).set("vault/caBundle", Value::Null);
    let issuer = issuer.create(&plane.kube).await?;

    ours.start_again().await?;
    println!("in a root with the program alone: it runs");
    let condition =
        issuer.not_ready(SOON).await.with_context(|| ours.peer().complaint("says nothing about the issuer"))?;
    println!("without {ROOTS}: {}", condition["message"].as_str().unwrap_or_default());

    put(&root, ROOTS, &public_roots(run))?;
    ours.restart().await?;
    issued(&plane, &ours, &issuer, &recipe).await?;
    println!("with it: the issuer at {} is Ready and a request is issued", plane.bao.address());

    by_name(&plane, &ours, &root, &recipe).await
}

/// What a Pod has for names; then an issuer whose server is called by one.
async fn by_name(plane: &ControlPlane, ours: &Controller, root: &Path, recipe: &Recipe) -> Result<String> {
    let port = plane.bao.address().rsplit(':').next().unwrap_or_default();
    let by = async |issuer: &str, host: &str| {
        let issuer = Issuer::app_role("mesh", issuer, &plane.bao, recipe)
            .set("vault/caBundle", Value::Null)
            .set("vault/server", format!("https://{host}:{port}").into())
            .set("vault/serverName", "localhost".into());
        issuer.create(&plane.kube).await
    };
    put(root, "etc/hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")?;
    let resolver = match UdpSocket::bind((RESOLVER, 53)) {
        Ok(socket) => socket,
        Err(error) => {
            ours.restart().await?;
            issued(plane, ours, &by("by-hosts", "localhost").await?, recipe).await?;
            return Ok(format!(
                "so it is by /etc/hosts; by DNS was skipped, because {RESOLVER}:53 cannot be bound: {error}"
            ));
        }
    };
    std::thread::Builder::new().name("resolver".into()).spawn(move || resolve(&resolver)).context("a thread")?;
    let lines = "search vault-mesh-issuer.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n";
    put(root, "etc/resolv.conf", &format!("nameserver {RESOLVER}\n{lines}"))?;
    ours.restart().await?;
    issued(plane, ours, &by("by-hosts", "localhost").await?, recipe).await?;
    println!("with the /etc/hosts of a Pod: the issuer at https://localhost:{port} is Ready and a request is issued");
    issued(plane, ours, &by("by-dns", "vault.security.svc").await?, recipe).await?;
    println!(
        "with its /etc/resolv.conf: the issuer at https://vault.security.svc:{port} is Ready and a request is issued"
    );
    Ok("so it is with names from /etc/hosts and from DNS".into())
}

/// The issuer gets Ready, and a request its certificate.
async fn issued(plane: &ControlPlane, ours: &Controller, issuer: &Issuing, recipe: &Recipe) -> Result<()> {
    let name = &issuer.issuer_ref.name;
    issuer.ready(SOON).await.with_context(|| ours.peer().complaint(&format!("does not make {name} Ready")))?;
    let csr = Csr::workload("mesh", name).ec()?;
    let request =
        Request::new("mesh", name, &issuer.issuer_ref, &csr.csr_pem).duration("1h").create(&plane.kube).await?;
    request.approve().await?;
    let signed = request.ready(SOON).await.with_context(|| ours.peer().complaint("does not issue a request"))?;
    ensure!(ca_of(&signed)?.trim() == recipe.root_pem().trim(), "status.ca is not the root");
    openssl::verify(&certificate_of(&signed)?, recipe.root_pem()).await
}

/// A script in place of the program: it enters the root, and speaks to the API server as in a Pod.
fn start_script(run: &Run, root: &Path, server: &str) -> Result<PathBuf> {
    let (host, port) = server.trim_start_matches("https://").split_once(':').context("the API server's URL")?;
    let text = format!(
        "#!/bin/sh\n\
         unset KUBECONFIG HOME\n\
         export KUBERNETES_SERVICE_HOST={host} KUBERNETES_SERVICE_PORT={port} PATH=\"$PATH:/usr/sbin:/sbin\"\n\
         [ \"$(id -u)\" -eq 0 ] || enter='unshare --map-root-user'\n\
         exec $enter chroot '{}' /vault-mesh-issuer \"$@\"\n",
        root.display()
    );
    let script = run.folder().join("start-in-root");
    std::fs::write(&script, text).context("writing a script")?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).context("its mode")?;
    Ok(script)
}

/// The roots of this machine, as in the image, and the CA behind the run's servers.
fn public_roots(run: &Run) -> String {
    let machine = std::fs::read_to_string(Path::new("/").join(ROOTS)).unwrap_or_default();
    format!("{machine}\n{}", run.authority().pem())
}

fn put(root: &Path, name: &str, text: &str) -> Result<()> {
    let path = root.join(name);
    let folder = path.parent().context("a file without a folder")?;
    std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
}

/// A name server that knows one name and its IPv4 address, 127.0.0.1.
fn resolve(socket: &UdpSocket) {
    let mut buffer = [0; 512];
    while let Ok((length, client)) = socket.recv_from(&mut buffer) {
        if let Some(answer) = answer(&buffer[..length]) {
            // A client that has gone asks again if it cares.
            let _ = socket.send_to(&answer, client);
        }
    }
}

/// RFC 1035: the header (12 bytes), the question (labels, type, class), and for our name an A record that points at it.
fn answer(query: &[u8]) -> Option<Vec<u8>> {
    let (mut end, mut labels) = (12, Vec::new());
    loop {
        let length = usize::from(*query.get(end)?);
        end += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(query.get(end..end + length)?).into_owned());
        end += length;
    }
    let question = query.get(12..end + 4)?;
    let ours = labels.join(".") == NAME;
    let address = ours && query.get(end..end + 2)? == [0, 1];
    let code = if ours { 0 } else { 3 };
    let mut answer = vec![query[0], query[1], 0x85, 0x80 | code, 0, 1, 0, address.into(), 0, 0, 0, 0];
    answer.extend_from_slice(question);
    if address {
        answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
    }
    Some(answer)
}
