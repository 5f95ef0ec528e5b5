//! A Vault whose CA signs the wrong thing. The test makes the CA, so it holds the key that Vault signs with: what it
//! signs in Vault's place comes from the right CA and is wrong only where the test wants it to be.
//!
//! ```no_run
//! # async fn example(bao: &testenv::Bao, proxy: &testenv::Proxy) -> anyhow::Result<()> {
//! use std::sync::Arc;
//! use testenv::WrongSigner;
//! let (signer, hierarchy) = WrongSigner::mount(bao, "soak-pki").await?;   // OpenBao signs here, with the signer's key
//! let recipe = bao.recipe_around("soak", hierarchy).await?;
//! // From now on OpenBao signs as asked, and a certificate without its names takes the place of its answer.
//! let signer = Arc::new(signer);
//! proxy.on(|seen| seen.path.contains("/sign/"), signer.action(|leaf| leaf.subject_alt_names.clear()));
//! # Ok(()) }
//! ```

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use serde_json::{Value, json};

use crate::bao::{Bao, Hierarchy};
use crate::proxy::{Action, Seen};

const YEAR: Duration = Duration::from_secs(365 * 24 * 3_600);
/// How far Vault dates back.
const BACKDATED: Duration = Duration::from_secs(30);

/// A CA with its key.
pub struct WrongSigner {
    ca: CertifiedIssuer<'static, KeyPair>,
    /// What stands above it, the root last.
    above: Vec<String>,
    /// What it signed, so that a test can look whether any of it came anywhere.
    made: Mutex<Vec<String>>,
}

impl WrongSigner {
    /// An intermediate CA of this name under a root of its own, known to nobody yet.
    pub fn new(name: &str) -> Result<WrongSigner> {
        let root = CertifiedIssuer::self_signed(authority(&format!("{name} root"), 10), KeyPair::generate()?)?;
        let ca = CertifiedIssuer::signed_by(authority(name, 5), KeyPair::generate()?, &root)?;
        Ok(WrongSigner { ca, above: vec![root.pem()], made: Mutex::default() })
    }

    /// Another one below this, whose certificate says what `change` makes of a CA's: that it is none, for instance.
    pub fn below(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Result<WrongSigner> {
        let mut params = authority(name, 4);
        change(&mut params);
        let ca = CertifiedIssuer::signed_by(params, KeyPair::generate()?, &self.ca)?;
        Ok(WrongSigner { ca, above: self.chain(), made: Mutex::default() })
    }

    /// A CA and its root, imported with the CA's key into a new mount, which signs with it from then on.
    pub async fn mount(bao: &Bao, mount: &str) -> Result<(WrongSigner, Hierarchy)> {
        let signer = WrongSigner::new(&format!("{mount} intermediate"))?;
        let (root_pem, issuing_pem) = (signer.above.concat(), signer.ca.pem());
        bao.mount(mount, "pki").await?;
        let bundle = format!("{}{issuing_pem}{root_pem}", signer.ca.key().serialize_pem());
        bao.write(&format!("{mount}/issuers/import/bundle"), json!({"pem_bundle": bundle})).await?;
        bao.set_default_issuer(mount, &issuing_pem).await?;
        let (mount, root_mount) = (mount.to_owned(), mount.to_owned());
        Ok((signer, Hierarchy { mount, root_mount, root_pem, issuing_pem }))
    }

    /// Its certificate and those above it, PEM: what Vault answers as `ca_chain`.
    pub fn chain(&self) -> Vec<String> {
        std::iter::once(self.ca.pem()).chain(self.above.iter().cloned()).collect()
    }

    /// A certificate for this CSR as Vault would sign it for an hour, but for what `change` changes.
    pub fn sign(&self, csr_pem: &str, change: impl FnOnce(&mut CertificateParams)) -> Result<String> {
        let mut asked = CertificateSigningRequestParams::from_pem(csr_pem).context("reading a CSR")?;
        let leaf = &mut asked.params;
        leaf.not_before = (SystemTime::now() - BACKDATED).into();
        leaf.not_after = (SystemTime::now() + Duration::from_secs(3_600)).into();
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        leaf.use_authority_key_identifier_extension = true;
        change(leaf);
        let pem = asked.signed_by(&self.ca).context("signing a certificate")?.pem();
        self.made.lock().unwrap_or_else(PoisonError::into_inner).push(pem.clone());
        Ok(pem)
    }

    /// Lets Vault sign, and puts a certificate of [`WrongSigner::sign`] for the same CSR in the place of Vault's.
    pub fn action(self: &Arc<Self>, change: impl Fn(&mut CertificateParams) + Send + Sync + 'static) -> Action {
        let signer = Arc::clone(self);
        Action::patch_with(move |seen, answer| answer["data"]["certificate"] = signer.answer(seen, &change))
    }

    /// The certificate for the CSR of a sign call; `Null` where there is no CSR in it.
    pub fn answer(&self, seen: &Seen, change: impl FnOnce(&mut CertificateParams)) -> Value {
        let csr = seen.json()["csr"].as_str().unwrap_or_default().to_owned();
        self.sign(&csr, change).map_or(Value::Null, Value::from)
    }

    /// Every certificate that it has signed, PEM.
    pub fn made(&self) -> Vec<String> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn authority(name: &str, years: u32) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = (SystemTime::now() - BACKDATED).into();
    params.not_after = (SystemTime::now() + YEAR * years).into();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params
}
