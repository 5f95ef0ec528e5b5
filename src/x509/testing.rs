//! Certificates for tests, made by rcgen or read from `testdata/x509`, and judges that are not our own code.

use std::path::Path;
use std::process::Command;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

use super::Certificate;

pub(crate) const P521_ROOT: &[u8] = include_bytes!("../../testdata/x509/p521-root.pem");
pub(crate) const P521_LEAF: &[u8] = include_bytes!("../../testdata/x509/p521-leaf.pem");
pub(crate) const SHA1_ROOT: &[u8] = include_bytes!("../../testdata/x509/sha1-root.pem");
pub(crate) const SHA1_LEAF: &[u8] = include_bytes!("../../testdata/x509/sha1-leaf.pem");
pub(crate) const P521_CSR: &[u8] = include_bytes!("../../testdata/x509/p521.csr");
pub(crate) const PSS_ROOT: &[u8] = include_bytes!("../../testdata/x509/pss-root.pem");
pub(crate) const PSS_CSR: &[u8] = include_bytes!("../../testdata/x509/pss.csr");
pub(crate) const RSA_SHA512_CSR: &[u8] = include_bytes!("../../testdata/x509/rsa-sha512.csr");
pub(crate) const CA_CSR: &[u8] = include_bytes!("../../testdata/x509/ca.csr");

/// When the tests happen: every certificate is valid from 2020 to the first of January of the year given.
pub(crate) fn now() -> Timestamp {
    "2030-06-01T00:00:00Z".parse().expect("a timestamp")
}

/// A name and a key: whoever may sign. A certificate is what one authority says of another, so cross-signs, reissues and
/// namesakes are all written in one line.
pub(crate) struct Authority {
    name: String,
    key: KeyPair,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        Self::with_key(name, KeyPair::generate().expect("a key"))
    }

    pub(crate) fn with_key(name: &str, key: KeyPair) -> Self {
        Self { name: name.to_owned(), key }
    }

    /// The same key under another name.
    pub(crate) fn called(&self, name: &str) -> Self {
        Self::with_key(name, KeyPair::from_pem(&self.key.serialize_pem()).expect("a key"))
    }

    /// Its self-signed certificate.
    pub(crate) fn root(&self, until: i32) -> Certificate {
        self.signs(self, until)
    }

    /// A CA certificate for `subject`.
    pub(crate) fn signs(&self, subject: &Authority, until: i32) -> Certificate {
        self.signs_with(subject, until, |_| {})
    }

    /// A CA certificate for `subject` with something changed.
    pub(crate) fn signs_with(
        &self,
        subject: &Authority,
        until: i32,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Certificate {
        let mut parameters = parameters(Some(&subject.name), until, &[]);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        change(&mut parameters);
        self.sign(&parameters, &subject.key)
    }

    /// An end-entity certificate with a key that nobody needs.
    pub(crate) fn leaf(&self, name: &str, until: i32) -> Certificate {
        self.named_leaf_with(name, until, |_| {})
    }

    /// An end-entity certificate with something changed.
    pub(crate) fn named_leaf_with(
        &self,
        name: &str,
        until: i32,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Certificate {
        let mut parameters = parameters(Some(name), until, &[name]);
        change(&mut parameters);
        self.sign(&parameters, &KeyPair::generate().expect("a key"))
    }

    /// An end-entity certificate for `key` with these names.
    pub(crate) fn leaf_for(&self, key: &KeyPair, names: &[&str], until: i32) -> Certificate {
        self.sign(&parameters(None, until, names), key)
    }

    /// The same with something changed.
    pub(crate) fn leaf_with(
        &self,
        key: &KeyPair,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Certificate {
        let mut parameters = parameters(None, 2031, names);
        change(&mut parameters);
        self.sign(&parameters, key)
    }

    fn sign(&self, parameters: &CertificateParams, key: &KeyPair) -> Certificate {
        let mine = self::parameters(Some(&self.name), 2100, &[]);
        let mut parameters = parameters.clone();
        // As Go writes it, and so Vault: OpenSSL needs it to tell namesakes apart. A test may bring one of its own.
        let is_authority = |extension: &CustomExtension| extension.oid_components().eq([2, 5, 29, 35]);
        let brought = parameters.custom_extensions.iter().any(is_authority);
        parameters.use_authority_key_identifier_extension = !brought;
        let made = parameters.signed_by(key, &Issuer::from_params(&mine, &self.key)).expect("a certificate");
        Certificate::from_der(made.der().to_vec()).expect("a certificate")
    }
}

fn parameters(name: Option<&str>, until: i32, names: &[&str]) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    if let Some(name) = name {
        parameters.distinguished_name.push(DnType::CommonName, name);
    }
    parameters.subject_alt_names = names.iter().map(|name| san(name)).collect();
    parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(until, 1, 1);
    parameters
}

pub(crate) fn san(name: &str) -> SanType {
    let text = || name.try_into().expect("an ASCII name");
    match name {
        uri if uri.contains("://") => SanType::URI(text()),
        email if email.contains('@') => SanType::Rfc822Name(text()),
        other => other.parse().map_or_else(|_| SanType::DnsName(text()), SanType::IpAddress),
    }
}

/// A request for `key`, in PEM.
pub(crate) fn csr_pem(key: &KeyPair, common_name: Option<&str>, names: &[&str]) -> String {
    parameters(common_name, 2031, names).serialize_request(key).expect("a request").pem().expect("PEM")
}

/// A request for a new key with something changed.
pub(crate) fn csr_with(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut parameters = parameters(None, 2031, names);
    change(&mut parameters);
    let request = parameters.serialize_request(&KeyPair::generate().expect("a key"));
    request.expect("a request").pem().expect("PEM").into_bytes()
}

/// A request that asks for `DNS:a` in one extensionRequest and for `DNS:b` in another.
pub(crate) fn csr_with_two_extension_requests() -> Vec<u8> {
    // SET { SEQUENCE { SEQUENCE { 2.5.29.17, OCTET STRING { SEQUENCE { [2] "b" } } } } }
    let second = [0x31, 0x10, 0x30, 0x0e, 0x30, 0x0c, 6, 3, 0x55, 0x1d, 0x11, 4, 5, 0x30, 3, 0x82, 1, b'b'];
    let attribute = rcgen::Attribute { oid: &[1, 2, 840, 113549, 1, 9, 14], values: second.to_vec() };
    let key = KeyPair::generate().expect("a key");
    let request = parameters(None, 2031, &["a"]).serialize_request_with_attributes(&key, vec![attribute]);
    request.expect("a request").pem().expect("PEM").into_bytes()
}

pub(crate) fn parse_one(pem: &[u8]) -> Certificate {
    Certificate::bundle_from_pem(pem).expect("a bundle").remove(0)
}

pub(crate) fn bundle(certificates: &[&Certificate]) -> String {
    certificates.iter().map(|certificate| certificate.pem()).collect()
}

/// Asserts that OpenSSL and webpki accept what we publish, given nothing else, and that the chain is one straight line.
#[track_caller]
pub(crate) fn judge(chain_pem: &str, ca_pem: &str) {
    is_one_line(chain_pem);
    openssl_accepts(chain_pem, ca_pem).unwrap_or_else(|error| panic!("openssl: {error}"));
    webpki_accepts(chain_pem, ca_pem).unwrap_or_else(|error| panic!("webpki: {error}"));
}

/// Asserts, by OpenSSL, that each certificate was signed by the next.
#[track_caller]
pub(crate) fn is_one_line(chain_pem: &str) {
    let chain = blocks(chain_pem);
    for pair in chain.windows(2) {
        let directory = tempfile::tempdir().expect("a directory");
        let [signed, signer] = [("signed.pem", pair[0]), ("signer.pem", pair[1])].map(|(name, content)| {
            let path = directory.path().join(name);
            std::fs::write(&path, content).expect("a file");
            path
        });
        run(openssl("verify").args(["-partial_chain", "-no_check_time", "-trusted"]).arg(signer).arg(signed))
            .unwrap_or_else(|error| panic!("{error}"));
    }
}

/// What `openssl verify` says of the first certificate in `pem`, with the others at hand.
pub(crate) fn openssl_accepts(pem: &str, ca_pem: &str) -> Result<(), String> {
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str, content: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).expect("a file");
        path
    };
    let chain = blocks(pem);
    let (leaf, ca, rest) = (file("leaf.pem", chain[0]), file("ca.pem", ca_pem), file("rest.pem", &chain[1..].concat()));
    let mut verify = openssl("verify");
    verify.args(["-no-CApath", "-no-CAstore", "-purpose", "sslserver", "-auth_level", "1"]);
    verify.args(["-attime", &now().as_second().to_string()]);
    if ca_pem.is_empty() {
        verify.arg("-no-CAfile")
    } else {
        verify.arg("-CAfile").arg(ca)
    };
    if chain.len() > 1 {
        verify.arg("-untrusted").arg(rest);
    }
    run(verify.arg(&leaf)).map(drop)
}

/// What rustls says of the first certificate in `pem`, with the others at hand.
pub(crate) fn webpki_accepts(pem: &str, ca_pem: &str) -> Result<(), String> {
    use rustls::pki_types::{CertificateDer, UnixTime};
    let ders = |pem: &str| -> Vec<CertificateDer<'static>> {
        pem::parse_many(pem).expect("PEM").into_iter().map(|one| CertificateDer::from(one.into_contents())).collect()
    };
    let (chain, roots) = (ders(pem), ders(ca_pem));
    let anchors: Result<Vec<_>, _> = roots.iter().map(|root| webpki::anchor_from_trusted_cert(root)).collect();
    let seconds = u64::try_from(now().as_second()).expect("after 1970");
    let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    let verify = |anchors: &[_]| {
        let usage = webpki::KeyUsage::server_auth();
        let leaf = webpki::EndEntityCert::try_from(&chain[0])?;
        leaf.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, anchors, &chain[1..], time, usage, None, None).map(drop)
    };
    anchors.and_then(|anchors| verify(&anchors)).map_err(|error| error.to_string())
}

fn blocks(pem: &str) -> Vec<&str> {
    pem.split_inclusive("-----END CERTIFICATE-----\n").collect()
}

/// A key of RSA, which ring cannot make.
pub(crate) fn rsa_key() -> KeyPair {
    let pem = run(openssl("genpkey").args(["-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]));
    KeyPair::from_pem(&pem.expect("a key")).expect("a key")
}

/// What `openssl x509` prints about a certificate.
pub(crate) fn openssl_x509(certificate: &Certificate, arguments: &[&str]) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    let path: &Path = &directory.path().join("certificate.pem");
    std::fs::write(path, certificate.pem()).expect("a file");
    run(openssl("x509").arg("-in").arg(path).args(arguments)).expect("openssl reads it")
}

fn openssl(subcommand: &str) -> Command {
    let mut command = Command::new("openssl");
    command.arg(subcommand);
    command
}

fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().expect("openssl runs");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(text) } else { Err(format!("{command:?}: {text}")) }
}
