//! Keys and certificate signing requests, shaped by the test.

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, IsCa, KeyPair, SanType};

use crate::openssl;

/// A request in the making. It starts with an empty subject and no names.
#[derive(Clone)]
pub struct Csr(CertificateParams, Option<String>);

/// A key (PKCS#8) and the request it signed, PEM.
#[derive(Clone, Debug)]
pub struct KeyAndCsr {
    /// The key.
    pub key_pem: String,
    /// The request.
    pub csr_pem: String,
}

impl Default for Csr {
    fn default() -> Csr {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        Csr(params, None)
    }
}

impl Csr {
    /// Empty subject, no names.
    pub fn new() -> Csr {
        Csr::default()
    }

    /// What an Istio workload asks for: one SPIFFE URI, nothing else.
    pub fn workload(namespace: &str, account: &str) -> Csr {
        Csr::new().uri(&format!("spiffe://cluster.local/ns/{namespace}/sa/{account}"))
    }

    /// A common name.
    pub fn cn(self, name: &str) -> Csr {
        self.subject(DnType::CommonName, name)
    }

    /// An organization; istio-csr's is the empty string.
    pub fn organization(self, name: &str) -> Csr {
        self.subject(DnType::OrganizationName, name)
    }

    /// Any attribute of the subject.
    pub fn subject(mut self, kind: DnType, value: &str) -> Csr {
        self.0.distinguished_name.push(kind, value);
        self
    }

    /// A DNS name.
    pub fn dns(self, name: &str) -> Csr {
        let parsed = name.try_into().map(SanType::DnsName).with_context(|| format!("DNS name {name}"));
        self.san(parsed)
    }

    /// A URI.
    pub fn uri(self, uri: &str) -> Csr {
        let parsed = uri.try_into().map(SanType::URI).with_context(|| format!("URI {uri}"));
        self.san(parsed)
    }

    /// An IP address.
    pub fn ip(self, address: &str) -> Csr {
        let parsed = address.parse().map(SanType::IpAddress).with_context(|| format!("IP address {address}"));
        self.san(parsed)
    }

    /// An e-mail address.
    pub fn email(self, address: &str) -> Csr {
        let parsed = address.try_into().map(SanType::Rfc822Name).with_context(|| format!("e-mail {address}"));
        self.san(parsed)
    }

    /// Asks for a CA certificate without a path length.
    pub fn ca(mut self) -> Csr {
        self.0.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        self
    }

    /// Asks for a CA certificate with a path length.
    pub fn ca_with_path_length(mut self, length: u8) -> Csr {
        self.0.is_ca = IsCa::Ca(BasicConstraints::Constrained(length));
        self
    }

    /// Any other requested extension: OID and DER content.
    pub fn extension(mut self, oid: &[u64], content: Vec<u8>) -> Csr {
        self.0.custom_extensions.push(CustomExtension::from_oid_content(oid, content));
        self
    }

    /// Signs it with a new EC P-256 key.
    pub fn ec(self) -> Result<KeyAndCsr> {
        self.with_key(KeyPair::generate().context("making an EC key")?)
    }

    /// Signs it with a new Ed25519 key, written so that openssl reads it too.
    pub async fn ed25519(self) -> Result<KeyAndCsr> {
        self.with_key_pem(&openssl::run(&["genpkey", "-algorithm", "ED25519"]).await?)
    }

    /// Signs it with a new RSA key.
    pub async fn rsa(self, bits: u32) -> Result<KeyAndCsr> {
        let pem = openssl::rsa_key(bits).await?;
        self.with_key(KeyPair::from_pem(&pem).context("reading openssl's key")?)
    }

    /// Signs it with a key that is there already (PKCS#8, PEM).
    pub fn with_key_pem(self, key_pem: &str) -> Result<KeyAndCsr> {
        self.with_key(KeyPair::from_pem(key_pem).context("reading the key")?)
    }

    fn with_key(self, key: KeyPair) -> Result<KeyAndCsr> {
        if let Some(fault) = self.1 {
            anyhow::bail!("a name for the CSR: {fault}");
        }
        let csr_pem = self.0.serialize_request(&key).context("making a CSR")?.pem().context("writing a CSR")?;
        Ok(KeyAndCsr { key_pem: key.serialize_pem(), csr_pem })
    }

    fn san(mut self, parsed: Result<SanType>) -> Csr {
        match parsed {
            Ok(name) => self.0.subject_alt_names.push(name),
            Err(fault) => self.1 = Some(format!("{fault:#}")),
        }
        self
    }
}
