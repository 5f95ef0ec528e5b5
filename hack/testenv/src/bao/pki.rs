//! PKI hierarchies: which CA signs, and what the mount knows of its root.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::Bao;

/// What a signing mount's `ca_chain` holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chain {
    /// An intermediate, imported together with its root.
    WithRoot,
    /// An intermediate alone: no answer of the mount contains the root.
    IntermediateOnly,
    /// The mount signs with the root itself.
    RootItself,
}

/// How a hierarchy is made.
#[derive(Clone, Debug)]
pub struct HierarchyOptions {
    /// What the signing mount knows of its root.
    pub chain: Chain,
    /// `rsa` or `ec`.
    pub key_type: &'static str,
    /// Key size, 0 for the server's default.
    pub key_bits: u32,
    /// Life of the issuing CA.
    pub ttl: String,
    /// Path length of the intermediate: 0 unless it is to sign CAs, -1 for none.
    pub max_path_length: i32,
    /// Name of the root mount (made when it is not there).
    pub root_mount: String,
    /// The root's common name.
    pub root_name: String,
}

impl HierarchyOptions {
    /// EC P-256, ten years, path length 1; the root mount is `<prefix>-root`.
    pub fn new(prefix: &str, chain: Chain) -> HierarchyOptions {
        HierarchyOptions {
            chain,
            key_type: "ec",
            key_bits: 256,
            ttl: "43800h".into(),
            max_path_length: 1,
            root_mount: format!("{prefix}-root"),
            root_name: format!("{prefix} root"),
        }
    }

    /// RSA 2048 instead.
    pub fn rsa(self) -> HierarchyOptions {
        HierarchyOptions { key_type: "rsa", key_bits: 2048, ..self }
    }

    /// Another life of the issuing CA, such as `30s`.
    pub fn ttl(self, ttl: &str) -> HierarchyOptions {
        HierarchyOptions { ttl: ttl.into(), ..self }
    }
}

/// A signing mount and the certificates above it.
#[derive(Clone, Debug)]
pub struct Hierarchy {
    /// The mount that signs.
    pub mount: String,
    /// The mount of the root; the same one with [`Chain::RootItself`].
    pub root_mount: String,
    /// The root, PEM.
    pub root_pem: String,
    /// The issuing CA, PEM; the root itself with [`Chain::RootItself`].
    pub issuing_pem: String,
}

impl Bao {
    /// Makes a hierarchy whose signing mount is called `mount`.
    pub async fn hierarchy(&self, mount: &str, options: &HierarchyOptions) -> Result<Hierarchy> {
        if options.chain == Chain::RootItself {
            let root_pem = self.root(mount, options, &options.ttl).await?;
            let mount = mount.to_owned();
            return Ok(Hierarchy { root_mount: mount.clone(), mount, issuing_pem: root_pem.clone(), root_pem });
        }
        let root_pem = self.root(&options.root_mount, options, "87600h").await?;
        let issuing_pem = self.intermediate(mount, options, &root_pem).await?;
        Ok(Hierarchy { mount: mount.into(), root_mount: options.root_mount.clone(), root_pem, issuing_pem })
    }

    /// Makes a pki mount with a root of its own; gives the root.
    pub async fn root(&self, mount: &str, options: &HierarchyOptions, ttl: &str) -> Result<String> {
        self.mount(mount, "pki").await?;
        let mut body = key_of(options);
        body["common_name"] = options.root_name.as_str().into();
        body["ttl"] = ttl.into();
        let made = self.write(&format!("{mount}/root/generate/internal"), body).await?;
        certificate_in(&made).context("the new root")
    }

    /// Adds an intermediate to `mount` (made when it is not there), signed by the
    /// root mount of the options; gives its certificate. Called again, the newest
    /// becomes the mount's default issuer only if made so ([`Bao::set_default_issuer`]).
    pub async fn intermediate(&self, mount: &str, options: &HierarchyOptions, root_pem: &str) -> Result<String> {
        self.mount(mount, "pki").await?;
        let mut body = key_of(options);
        body["common_name"] = format!("{mount} intermediate").into();
        let asked = self.write(&format!("{mount}/intermediate/generate/internal"), body).await?;
        let csr = asked["data"]["csr"].as_str().context("no CSR in the answer")?;
        let mut body = json!({"csr": csr, "common_name": format!("{mount} intermediate"), "ttl": options.ttl});
        if options.max_path_length >= 0 {
            body["max_path_length"] = options.max_path_length.into();
        }
        let signed = self.write(&format!("{}/root/sign-intermediate", options.root_mount), body).await?;
        let certificate = certificate_in(&signed)?;
        let bundle = match options.chain {
            Chain::WithRoot => format!("{certificate}\n{root_pem}"),
            Chain::IntermediateOnly | Chain::RootItself => certificate.clone(),
        };
        self.write(&format!("{mount}/intermediate/set-signed"), json!({"certificate": bundle})).await?;
        Ok(certificate)
    }

    /// Makes the issuer with this certificate the mount's default.
    pub async fn set_default_issuer(&self, mount: &str, certificate_pem: &str) -> Result<()> {
        let id = self.issuer_of(mount, certificate_pem).await?;
        self.write(&format!("{mount}/config/issuers"), json!({"default": id})).await.map(drop)
    }

    /// The id of the issuer with this certificate.
    pub async fn issuer_of(&self, mount: &str, certificate_pem: &str) -> Result<String> {
        for id in self.list(&format!("{mount}/issuers")).await? {
            let issuer = self.read(&format!("{mount}/issuer/{id}")).await?.context("an issuer has gone")?;
            if issuer["data"]["certificate"].as_str().map(str::trim) == Some(certificate_pem.trim()) {
                return Ok(id);
            }
        }
        anyhow::bail!("{mount} has no issuer with that certificate")
    }

    /// Writes a pki role.
    pub async fn pki_role(&self, mount: &str, role: &str, body: Value) -> Result<()> {
        self.write(&format!("{mount}/roles/{role}"), body).await.map(drop)
    }

    /// A role that signs any name and any URI for any key, so that only what a test changes can refuse.
    pub async fn lenient_role(&self, mount: &str, role: &str) -> Result<()> {
        let body = json!({
            "allow_any_name": true, "allow_ip_sans": true, "allowed_uri_sans": "*", "enforce_hostnames": false,
            "require_cn": false, "key_type": "any", "max_ttl": "8760h", "no_store": true,
        });
        self.pki_role(mount, role, body).await
    }

    /// Signs a CSR with this client's token: a certificate straight from the server, for comparing.
    pub async fn sign(&self, sign_path: &str, csr_pem: &str, ttl: &str) -> Result<Value> {
        let answer = self.write(sign_path, json!({"csr": csr_pem, "ttl": ttl})).await?;
        ensure!(answer["data"]["certificate"].is_string(), "no certificate in the answer");
        Ok(answer["data"].clone())
    }
}

fn key_of(options: &HierarchyOptions) -> Value {
    json!({"key_type": options.key_type, "key_bits": options.key_bits})
}

fn certificate_in(answer: &Value) -> Result<String> {
    let pem = answer["data"]["certificate"].as_str().context("no certificate in the answer")?;
    Ok(format!("{}\n", pem.trim()))
}
