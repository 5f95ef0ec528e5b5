//! Workloads that speak mutual TLS with each other, as the proxies of a mesh do: a peer's chain has to end in one's own roots, and
//! its host name is not looked at. rustls judges.

use std::io;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    ClientConfig, ClientConnection, Connection, DigitallySignedStruct, RootCertStore, ServerConfig, ServerConnection,
    SignatureScheme,
};

/// What a proxy holds, all of it PEM.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Its key.
    pub key_pem: String,
    /// Its certificate and the intermediates above it.
    pub chain_pem: String,
    /// The roots that it was told to trust.
    pub roots_pem: String,
}

/// Whether a chain (leaf first) leads to one of these roots, for the usage of a client and for that of a server.
pub fn verify(chain_pem: &str, roots_pem: &str) -> Result<()> {
    let chain = certificates(chain_pem)?;
    let (leaf, intermediates) = chain.split_first().context("the chain is empty")?;
    let roots = roots(roots_pem)?;
    let now = UnixTime::now();
    let of_a_client = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider()).build()?;
    of_a_client.verify_client_cert(leaf, intermediates, now).context("as a client's")?;
    let of_a_server = AnyName { roots, provider: provider() };
    of_a_server.leads_to_a_root(leaf, intermediates, now).context("as a server's")
}

/// Mutual TLS in memory, to the end of the handshake on both sides.
pub fn shake_hands(server: &Workload, client: &Workload) -> Result<()> {
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

/// The two do not understand each other, because a root is foreign.
pub fn refuse_each_other(server: &Workload, client: &Workload) -> Result<()> {
    let refusal = shake_hands(server, client).err().context("they understand each other")?;
    let refusal = format!("{refusal:#}");
    ensure!(refusal.contains("UnknownIssuer"), "{refusal}");
    Ok(())
}

impl Workload {
    fn identity(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
        Ok((certificates(&self.chain_pem)?, PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes())?))
    }

    fn server(&self) -> Result<ServerConnection> {
        let verifier = WebPkiClientVerifier::builder_with_provider(roots(&self.roots_pem)?, provider()).build()?;
        let (chain, key) = self.identity()?;
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let config = builder.with_client_cert_verifier(verifier).with_single_cert(chain, key)?;
        Ok(ServerConnection::new(Arc::new(config))?)
    }

    fn client(&self) -> Result<ClientConnection> {
        let verifier = Arc::new(AnyName { roots: roots(&self.roots_pem)?, provider: provider() });
        let (chain, key) = self.identity()?;
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let config = builder.with_client_auth_cert(chain, key)?;
        Ok(ClientConnection::new(Arc::new(config), ServerName::try_from("nobody.looks.at.it")?)?)
    }
}

/// Verifies a server's chain as rustls does, but for the name.
#[derive(Debug)]
struct AnyName {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl AnyName {
    fn leads_to_a_root(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let algorithms = self.provider.signature_verification_algorithms.all;
        let leaf = ParsedCertificate::try_from(leaf)?;
        verify_server_cert_signed_by_trust_anchor(&leaf, &self.roots, intermediates, now, algorithms)
    }
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.leads_to_a_root(end_entity, intermediates, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>> {
    Ok(CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>()?)
}

/// A certificate counts as a root because it is one of these, whoever signed it: so does it in Go, and in istio-csr.
pub(crate) fn roots(pem: &str) -> Result<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    for root in certificates(pem)? {
        roots.add(root)?;
    }
    Ok(Arc::new(roots))
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
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
