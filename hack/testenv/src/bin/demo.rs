//! `hack/demo`: the main job, step by step and in plain words, on real peers. `demo PROGRAM [--keep]`.

#![allow(
    clippy::disallowed_methods,
    reason = "the environment of tests reads the clock, the environment and starts tasks"
)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use testenv::{
    ControlPlane, Controller, ControllerOptions, Csr, IssuerRef, Options, Recipe, Request, Run, ca_of, certificate_of,
    exit_code, interrupted, openssl,
};

const NAMESPACE: &str = "istio-system";
const SOON: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    exit_code("hack/demo", demo())
}

fn demo() -> Result<()> {
    let interrupted = interrupted()?;
    let mut arguments = std::env::args_os().skip(1);
    let program = arguments.next().context("usage: demo PROGRAM [--keep]")?;
    let program = std::path::absolute(program).context("the program's path")?;
    let keep = arguments.any(|argument| argument == "--keep");
    let run = Run::start("demo")?;
    let outcome = tokio::runtime::Runtime::new()?.block_on(async {
        let mut interrupted = std::pin::pin!(interrupted);
        let (plane, ours) = tokio::select! {
            shown = show(&run, program) => shown?,
            () = &mut interrupted => bail!("interrupted; everything has been stopped"),
        };
        if keep {
            tokio::select! {
                ended = kept(&run, &plane, &ours) => ended?,
                () = interrupted => println!("\n   Stopping everything."),
            }
        }
        Ok(())
    });
    run.finish(outcome.is_ok());
    outcome?;
    println!("   Everything has been stopped and deleted. From here:\n");
    println!("     hack/demo --keep   the same, and left running for kubectl");
    println!("     hack/test          every test, against the same peers");
    println!("     README.md          \"Quick start on a cluster\": the same steps with your Vault and your cluster");
    Ok(())
}

/// Shows everything; gives what runs, so that it can be left running.
async fn show(run: &Run, program: PathBuf) -> Result<(ControlPlane, Controller)> {
    let begin = Instant::now();
    say("1. A cluster's control plane and a Vault");
    println!(
        "   Starting etcd, the Kubernetes API server, cert-manager with its webhook, and OpenBao as processes of this"
    );
    println!("   machine. There are no nodes, so no Pods; everything about certificates is real.");
    let plane = ControlPlane::start(run, Options::default()).await?;
    println!("   They are up.");

    say("2. vault-mesh-issuer");
    println!("   Installing its CRDs and permissions from deploy/helm, and starting it with that ServiceAccount.");
    let ours = Controller::start(&plane, ControllerOptions::as_installed(program)).await?;
    println!("   It watches the API server, as {}/{}.", ours.namespace, ours.account);

    say("3. A PKI in OpenBao");
    let recipe = plane.bao.tetrate("mesh").await?;
    plane.kube.namespace(NAMESPACE).await?;
    println!(
        "   The mount {} holds an intermediate CA for the mesh and the role {}. Its root is",
        recipe.mount(),
        recipe.role
    );
    println!(
        "   kept elsewhere, as it should be: no answer of this mount contains it. An AppRole may do one thing, which is to"
    );
    println!("   `update` {}.", recipe.sign_path);

    say("4. A VaultMeshIssuer");
    let issuer = issuer(&plane, &recipe).await?;
    println!(
        "   Its spec names the server, the signing path, the AppRole, and in trust.anchors the root of the mesh:\n"
    );
    shown(&serde_yaml_ng::to_string(&issuer["spec"])?);
    watched(&plane, &ours, &issuer_path(), "the issuer does not become Ready").await?;
    println!("   It has logged in, tried the signing path, and is Ready:\n");
    kubectl(&plane, &["get", "vmi", "-o", "wide"]).await?;

    say("5. A Certificate, as an application asks for one");
    println!(
        "   cert-manager makes the key and a CertificateRequest, approves it, and stores what it gets back in a Secret.\n"
    );
    let tls = certificate(&plane, &ours).await?;
    kubectl(&plane, &["get", "certificate,certificaterequest"]).await?;
    verified(run, &recipe, "certificate", &tls).await?;

    say("6. A request as istio-csr sends it for a workload of the mesh");
    println!("   No common name, an empty subject, one SPIFFE URI; the key stays with the sidecar.\n");
    let workload = mesh_request(&plane, &ours).await?;
    kubectl(&plane, &["get", "certificaterequest", "bookinfo-reviews"]).await?;
    let named = openssl::text(&workload.chain).await?;
    let uri =
        named.lines().find(|line| line.contains("URI:spiffe://")).context("the certificate has lost its SPIFFE URI")?;
    println!("   Subject alternative name: {}", uri.trim());
    verified(run, &recipe, "workload", &workload).await?;

    let logins = plane.bao.audit().all()?.logins("approle");
    let signs = plane.bao.audit().all()?.signs(&recipe.sign_path);
    say("That was it");
    println!(
        "   OpenBao's audit log counts {logins} login and {signs} signed certificates; all took {} s.",
        begin.elapsed().as_secs()
    );
    Ok((plane, ours))
}

/// A chain and the trust anchors that came with it: what was published, and nothing else.
struct Published {
    chain: String,
    ca: String,
}

fn issuer_path() -> String {
    format!("/apis/vaultmesh.io/v1alpha1/namespaces/{NAMESPACE}/vaultmeshissuers/istio-ca")
}

/// Writes the issuer with the Secret and the ConfigMaps that it names, as in the README's quick start.
async fn issuer(plane: &ControlPlane, recipe: &Recipe) -> Result<Value> {
    let role = &recipe.app_role;
    plane.kube.secret(NAMESPACE, "vault-approle", &[("secretId", &role.secret_id)]).await?;
    plane.kube.config_map(NAMESPACE, "vault-ca", &[("ca.crt", plane.bao.ca_pem())]).await?;
    plane.kube.config_map(NAMESPACE, "mesh-root", &[("ca.crt", recipe.root_pem())]).await?;
    let login = json!({
        "path": role.mount, "roleId": role.role_id, "secretRef": {"name": "vault-approle", "key": "secretId"},
    });
    let issuer = json!({
        "apiVersion": "vaultmesh.io/v1alpha1",
        "kind": "VaultMeshIssuer",
        "metadata": {"name": "istio-ca", "namespace": NAMESPACE},
        "spec": {
            "vault": {
                "server": plane.bao.address(),
                "path": recipe.sign_path,
                "caBundleConfigMapRef": {"name": "vault-ca", "key": "ca.crt"},
                "auth": {"appRole": login},
            },
            "trust": {"anchors": [{"configMap": {"name": "mesh-root", "key": "ca.crt"}}]},
        },
    });
    plane.kube.apply(&issuer.to_string()).await?;
    Ok(issuer)
}

/// Has cert-manager issue a Certificate; gives its Secret.
async fn certificate(plane: &ControlPlane, ours: &Controller) -> Result<Published> {
    let certificate = json!({
        "apiVersion": "cert-manager.io/v1",
        "kind": "Certificate",
        "metadata": {"name": "web", "namespace": NAMESPACE},
        "spec": {
            "secretName": "web-tls",
            "duration": "24h",
            "dnsNames": ["web.istio-system.svc"],
            "issuerRef": IssuerRef::new("VaultMeshIssuer", "istio-ca").json(),
        },
    });
    plane.kube.apply(&certificate.to_string()).await?;
    let path = format!("/apis/cert-manager.io/v1/namespaces/{NAMESPACE}/certificates/web");
    watched(plane, ours, &path, "the Certificate does not become Ready").await?;
    let secret = plane.kube.get(&format!("/api/v1/namespaces/{NAMESPACE}/secrets/web-tls")).await?;
    let pem = |key: &str| -> Result<String> {
        let encoded = secret["data"][key].as_str().with_context(|| format!("the Secret web-tls has no {key}"))?;
        Ok(String::from_utf8(STANDARD.decode(encoded)?)?)
    };
    Ok(Published { chain: pem("tls.crt")?, ca: pem("ca.crt")? })
}

/// What istio-csr creates for a sidecar; cert-manager's own approver approves it.
async fn mesh_request(plane: &ControlPlane, ours: &Controller) -> Result<Published> {
    let sidecar = Csr::workload("bookinfo", "reviews").organization("").rsa(2048).await?;
    let issuer = IssuerRef::new("VaultMeshIssuer", "istio-ca");
    let request = Request::new(NAMESPACE, "bookinfo-reviews", &issuer, &sidecar.csr_pem)
        .duration("1h")
        .usages(&["client auth", "server auth"]);
    let request = request.create(&plane.kube).await?;
    let signed = watched(plane, ours, &request.path, "the mesh's request is not issued").await?;
    Ok(Published { chain: certificate_of(&signed)?, ca: ca_of(&signed)? })
}

/// Waits for Ready=True; when it does not come, the logs of those concerned tell why.
async fn watched(plane: &ControlPlane, ours: &Controller, path: &str, otherwise: &str) -> Result<Value> {
    let found = plane.kube.wait_condition(path, "Ready", "True", SOON).await;
    found.with_context(|| {
        let theirs = plane.cert_manager.as_ref().map(|peer| peer.complaint("was asked too")).unwrap_or_default();
        format!("{otherwise}.\n{}\n{theirs}\n", ours.peer().complaint("was asked to"))
    })
}

/// `openssl verify` against the root as it was made in step 3.
async fn verified(run: &Run, recipe: &Recipe, name: &str, published: &Published) -> Result<()> {
    ensure!(published.ca.trim() == recipe.root_pem().trim(), "the published CA is not the root:\n{}", published.ca);
    let file = |name: &str, text: &str| -> Result<String> {
        let path = run.folder().join(name);
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(path.display().to_string())
    };
    let root = file("mesh-root.pem", recipe.root_pem())?;
    let chain = file(&format!("{name}.pem"), &published.chain)?;
    let words = ["verify", "-no-CApath", "-no-CAstore", "-CAfile", &root, "-untrusted", &chain, &chain];
    let said = openssl::run(&words).await?;
    let short = |path: &str| Path::new(path).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let certificates = pem::parse_many(&published.chain).context("reading the chain")?.len();
    println!("   The chain of {certificates} certificates that was published, against the root as it was made:\n");
    println!(
        "     $ openssl {}",
        words.map(|word| if word.starts_with('/') { short(word) } else { word.into() }).join(" ")
    );
    println!("     {}", said.trim().replace(&chain, &short(&chain)));
    println!("   And the CA that was published beside it is that root.");
    Ok(())
}

/// Says how to use what runs; ends only when a part of it does.
async fn kept(run: &Run, plane: &ControlPlane, ours: &Controller) -> Result<()> {
    let config = plane.kube.kubeconfig("admin", NAMESPACE)?;
    let kubectl = run.programs().path("kubectl");
    let bao = run.programs().path("bao");
    println!("\n   It goes on running. In another terminal:\n");
    println!("     export KUBECONFIG={}", config.display());
    println!("     alias kubectl={}", kubectl.display());
    println!("     kubectl get vmi -o wide");
    println!("     kubectl describe vmi istio-ca");
    println!("     kubectl get certificaterequests -w");
    println!("     kubectl explain vaultmeshissuer.spec");
    println!("\n   The same Vault, and what the controller has to say:\n");
    println!("     export VAULT_ADDR={} VAULT_CACERT={}", plane.bao.address(), run.authority().path().display());
    println!("     export VAULT_TOKEN={}", plane.bao.token().unwrap_or_default());
    println!("     {} list mesh-istioca/issuers", bao.display());
    println!("     tail -f {}", ours.peer().log_path().display());
    println!("     curl http://{}/metrics", ours.address());
    println!("\n   Ctrl-C stops and deletes everything.");
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        for peer in plane.peers().into_iter().chain([ours.peer()]) {
            ensure!(peer.is_running(), "{}", peer.complaint("has ended by itself"));
        }
    }
}

async fn kubectl(plane: &ControlPlane, words: &[&str]) -> Result<()> {
    println!("     $ kubectl {}", words.join(" "));
    let said = plane.kube.kubectl(&[words, &["-n", NAMESPACE]].concat(), None).await?;
    shown(&said);
    Ok(())
}

/// Output of others, indented and set apart.
fn shown(text: &str) {
    for line in text.trim_end().lines() {
        println!("     {line}");
    }
    println!();
}

fn say(step: &str) {
    println!("\n{step}");
}
