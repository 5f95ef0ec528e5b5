//! A root is rotated in four steps while the mesh goes on: workloads that hold nothing but what we published speak mutual TLS
//! with each other, and rustls judges.

use std::io;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection};
use serde_json::{Value, json};
use testenv::{Chain, Csr, Issuing, ca_of, certificate_of, eventually};

use crate::roots::{plain_fingerprint, second_hierarchy, shows_anchors, told};
use crate::support::{AT_ONCE, Corner, SOON};
use crate::{Outcome, Shared, Suite};

pub fn add(suite: &mut Suite) {
    suite.add("a root is rotated in four steps, and neighbouring steps always understand each other", four_steps);
}

/// The name of every workload.
const NAME: &str = "web.rotation.svc";

/// What a workload has: its key, and the two fields of its request's status.
struct Workload {
    key: String,
    chain: String,
    bundle: String,
}

async fn four_steps(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::with_chain(&shared, "rotation", Chain::IntermediateOnly).await?;
    let old = corner.recipe.root_pem();
    let (new, new_ca) = second_hierarchy(&corner).await?;
    let publish = json!({"configMap": {"name": "mesh-bundle"}});
    let trust = json!({"anchors": [{"configMap": {"name": "mesh-root"}}], "publish": publish});
    let trusted = async |pem: &str| corner.kube().config_map("rotation", "mesh-root", &[("ca.crt", pem)]).await;

    trusted(old).await?;
    let issuing = corner.ready(corner.issuer().set("trust", trust)).await?;
    let only_old = workload(&corner, "only-old").await?;

    trusted(&format!("{old}{new}")).await?;
    in_force(&corner, &issuing, &[old, &new]).await?;
    let both_trusted = workload(&corner, "both-trusted").await?;

    corner.bao().set_default_issuer(corner.recipe.mount(), &new_ca).await?;
    let new_signs = workload(&corner, "new-signs").await?;
    let signing = plain_fingerprint(&new_ca).await?;
    let replaced = |object: &Value| object["status"]["signingCertificate"]["sha256"] == *signing;
    corner.kube().wait(&issuing.path, AT_ONCE, replaced).await?;

    trusted(&new).await?;
    in_force(&corner, &issuing, &[&new]).await?;
    let old_dropped = workload(&corner, "old-dropped").await?;

    for (holds_less, newer) in [(&only_old, &both_trusted), (&both_trusted, &new_signs), (&new_signs, &old_dropped)] {
        shake_hands(holds_less, newer)?;
        shake_hands(newer, holds_less)?;
    }
    // Without the steps between, either side refuses the other: the judge does tell roots apart.
    for (one, other) in [(&only_old, &new_signs), (&only_old, &old_dropped), (&both_trusted, &old_dropped)] {
        refuse_each_other(one, other)?;
        refuse_each_other(other, one)?;
    }
    for (reason, expected) in [("TrustAnchorsInForce", 2), ("SigningCertificateChanged", 1)] {
        eventually(reason, SOON, async || Ok((told(&corner, reason).await?.len() == expected).then_some(()))).await?;
    }
    ensure!(corner.status_writes()?.len() == 4, "no request ever waited: {:?}", corner.status_writes()?);
    Ok(())
}

/// Waits until the issuer is Ready with these anchors.
async fn in_force(corner: &Corner, issuing: &Issuing, roots: &[&str]) -> Result<()> {
    let count = |object: &Value| object["status"]["trustAnchors"].as_array().is_some_and(|it| it.len() == roots.len());
    let object = corner.kube().wait(&issuing.path, AT_ONCE, count).await?;
    issuing.ready(AT_ONCE).await?;
    shows_anchors(&object, roots).await
}

/// A workload that asks now. What was published for the mesh to read is what it is told to trust.
async fn workload(corner: &Corner, name: &str) -> Result<Workload> {
    let pair = Csr::workload("rotation", name).dns(NAME).ec()?;
    let request = corner.request(name, &pair.csr_pem).create(corner.kube()).await?;
    let object = request.reason("Issued", SOON).await?;
    let ca = ca_of(&object)?;
    let bundle = "/api/v1/namespaces/rotation/configmaps/mesh-bundle";
    corner
        .kube()
        .wait(bundle, AT_ONCE, |bundle| bundle["data"]["ca.crt"] == ca.as_str())
        .await
        .context(name.to_owned())?;
    Ok(Workload { key: pair.key_pem, chain: certificate_of(&object)?, bundle: ca_of(&object)? })
}

impl Workload {
    fn roots(&self) -> Result<Arc<RootCertStore>> {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(self.bundle.as_bytes()) {
            roots.add(root?)?;
        }
        Ok(Arc::new(roots))
    }

    fn identity(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
        let chain = CertificateDer::pem_slice_iter(self.chain.as_bytes()).collect::<Result<_, _>>()?;
        Ok((chain, PrivateKeyDer::from_pem_slice(self.key.as_bytes())?))
    }

    fn server(&self) -> Result<ServerConnection> {
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots()?, provider()).build()?;
        let (chain, key) = self.identity()?;
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let config = builder.with_client_cert_verifier(verifier).with_single_cert(chain, key)?;
        Ok(ServerConnection::new(Arc::new(config))?)
    }

    fn client(&self) -> Result<ClientConnection> {
        let (chain, key) = self.identity()?;
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let config = builder.with_root_certificates(self.roots()?).with_client_auth_cert(chain, key)?;
        Ok(ClientConnection::new(Arc::new(config), ServerName::try_from(NAME)?)?)
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Mutual TLS in memory, to the end of the handshake on both sides.
fn shake_hands(server: &Workload, client: &Workload) -> Result<()> {
    let mut server = Connection::from(server.server()?);
    let mut client = Connection::from(client.client()?);
    // TLS 1.3 needs two rounds; who has not come to an end after ten will not.
    for _ in 0..10 {
        pass_on(&mut client, &mut server).context("the server refuses the client")?;
        pass_on(&mut server, &mut client).context("the client refuses the server")?;
    }
    let shown = |connection: &Connection| !connection.is_handshaking() && connection.peer_certificates().is_some();
    ensure!(shown(&client) && shown(&server), "the handshake does not come to an end");
    Ok(())
}

fn pass_on(from: &mut Connection, to: &mut Connection) -> Result<()> {
    let mut wire = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut wire)?;
    }
    let mut wire = io::Cursor::new(wire);
    while to.read_tls(&mut wire)? > 0 {
        to.process_new_packets()?;
    }
    Ok(())
}

fn refuse_each_other(server: &Workload, client: &Workload) -> Result<()> {
    let refusal = shake_hands(server, client).err().context("they understand each other")?;
    let refusal = format!("{refusal:#}");
    ensure!(refusal.contains("UnknownIssuer"), "{refusal}");
    Ok(())
}
