//! TLS towards Vault: which roots are trusted, our own certificate, and the name to verify. A given bundle is trusted alone; the
//! public roots serve only who gives none. Nothing here can switch verification off.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use secrecy::ExposeSecret as _;

use crate::api::config::IssuerConfig;
use crate::api::material::{ClientTls, Found, Material};
use crate::issuance::signer::Fault;

/// The roots of the machine or container we run on: read once, shared by every issuer that names no CA bundle.
#[derive(Clone, Debug)]
pub struct PublicRoots(Arc<RootCertStore>);

impl PublicRoots {
    /// Reads them where OpenSSL would; `SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured. What cannot be read is left out.
    pub fn load() -> Self {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Self(Arc::new(store))
    }

    /// No roots at all.
    pub fn none() -> Self {
        Self(Arc::new(RootCertStore::empty()))
    }
}

/// Which name a server's certificate must hold, where that is not the name we connect to.
pub type ExpectedName = Option<ServerName<'static>>;

/// Builds the TLS side of one issuer's client.
///
/// # Errors
/// The field whose bytes are not what they should be.
pub fn client_config(
    config: &IssuerConfig,
    material: &Material,
    roots: &PublicRoots,
    expected: ExpectedName,
) -> Result<ClientConfig, Fault> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = match &material.server_ca {
        Some(bundle) => Arc::new(bundle_roots(bundle)?),
        None => Arc::clone(&roots.0),
    };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| spec("spec.vault", format!("TLS cannot be set up: {error}")))?;
    // An empty store is no error for a server without TLS; rustls' verifier would make it one.
    let builder = if roots.is_empty() {
        if config.vault.server.starts_with("https") {
            return Err(spec(
                "spec.vault",
                "no CA bundle is set and this container has no public roots; set caBundle, caBundleSecretRef or caBundleConfigMapRef",
            ));
        }
        builder.with_root_certificates(RootCertStore::empty())
    } else {
        let inner = WebPkiServerVerifier::builder_with_provider(roots, provider)
            .build()
            .map_err(|error| spec("spec.vault", format!("the CA bundle cannot be used: {error}")))?;
        match expected {
            Some(name) => builder.dangerous().with_custom_certificate_verifier(Arc::new(NameVerifier { inner, name })),
            None => builder.with_webpki_verifier(inner),
        }
    };
    let Some(own) = &material.client_tls else { return Ok(builder.with_no_client_auth()) };
    let (chain, key) = identity(own)?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|_| Fault::of_material(&own.key.place, "the key does not belong to the certificate"))
}

fn bundle_roots(bundle: &Found<Vec<u8>>) -> Result<RootCertStore, Fault> {
    let mut store = RootCertStore::empty();
    for (index, certificate) in (1..).zip(certificates(bundle)?) {
        let unreadable =
            |_| Fault::of_material(&bundle.place, format!("certificate {index} of the bundle cannot be read"));
        store.add(certificate).map_err(unreadable)?;
    }
    Ok(store)
}

fn certificates(pem: &Found<Vec<u8>>) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let no_bundle = "holds no PEM certificates; it must be text with -----BEGIN CERTIFICATE----- in it";
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem.value).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) | Err(_) => Err(Fault::of_material(&pem.place, no_bundle)),
    }
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn identity(own: &ClientTls) -> Result<Identity, Fault> {
    let chain = certificates(&own.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(own.key.value.expose_secret().as_bytes()).map_err(|_| {
        let problem = "holds no PEM private key without a passphrase (PKCS#8, PKCS#1 or SEC1)";
        Fault::of_material(&own.key.place, problem)
    })?;
    Ok((chain, key))
}

fn spec(field: &str, problem: impl Into<String>) -> Fault {
    Fault::Spec { field: field.to_owned(), problem: problem.into() }
}

/// Verifies as webpki does, for `spec.vault.serverName` instead of the name that was connected to.
#[derive(Debug)]
struct NameVerifier {
    inner: Arc<WebPkiServerVerifier>,
    name: ServerName<'static>,
}

impl ServerCertVerifier for NameVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _connected_to: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.inner.verify_server_cert(end_entity, intermediates, &self.name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
