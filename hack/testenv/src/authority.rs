//! The run's certificate authority and the keys made with it. It stands behind
//! TLS only; what the mesh trusts comes from OpenBao.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

/// A CA whose certificate lies in a file.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    pem: String,
    path: PathBuf,
}

/// A certificate of the run's CA with its key, as files and as text.
#[derive(Clone, Debug)]
pub struct Identity {
    /// File of the certificate.
    pub certificate_path: PathBuf,
    /// File of the key.
    pub key_path: PathBuf,
    /// The certificate.
    pub certificate_pem: String,
    /// The key (PKCS#8).
    pub key_pem: String,
}

impl Authority {
    /// A new CA; its certificate is written to `path`.
    pub fn new(path: &Path) -> Result<Authority> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "the test run's TLS CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?).context("making a CA")?;
        let pem = issuer.pem();
        std::fs::write(path, &pem).with_context(|| format!("writing {}", path.display()))?;
        Ok(Authority { issuer, pem, path: path.to_owned() })
    }

    /// Its certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The file of its certificate.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A key and certificate for servers and clients, as `<folder>/<name>.{crt,key}`.
    pub fn identity(&self, folder: &Path, name: &str, hosts: &[&str]) -> Result<Identity> {
        let mut params = CertificateParams::new(hosts.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().context("making a key")?;
        let identity = Identity {
            certificate_path: folder.join(format!("{name}.crt")),
            key_path: folder.join(format!("{name}.key")),
            certificate_pem: params.signed_by(&key, &self.issuer).context("signing a certificate")?.pem(),
            key_pem: key.serialize_pem(),
        };
        std::fs::write(&identity.certificate_path, &identity.certificate_pem).context("writing a certificate")?;
        std::fs::write(&identity.key_path, &identity.key_pem).context("writing a key")?;
        Ok(identity)
    }

    /// An HTTP client that trusts this CA only, uses no proxy and follows no redirect.
    pub fn client(&self) -> Result<reqwest::Client> {
        self.client_builder()?.build().context("making an HTTP client")
    }

    /// The same, with a connection of its own for each request, as a kubelet probes.
    pub(crate) fn prober(&self) -> Result<reqwest::Client> {
        self.client_builder()?.pool_max_idle_per_host(0).build().context("making an HTTP client")
    }

    fn client_builder(&self) -> Result<reqwest::ClientBuilder> {
        let ca = reqwest::Certificate::from_pem(self.pem.as_bytes()).context("reading the run's CA")?;
        let builder = reqwest::Client::builder().tls_certs_only([ca]).no_proxy();
        Ok(builder.redirect(reqwest::redirect::Policy::none()))
    }
}
