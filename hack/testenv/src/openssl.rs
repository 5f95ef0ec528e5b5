//! The openssl command: the judge of our certificates that shares no code with us.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use tokio::process::Command;

use crate::csr::Csr;

/// Verifies a chain (leaf first) against trust anchors, with nothing but what is
/// given: the rest of the chain is untrusted, the system's roots are not used.
pub async fn verify(chain_pem: &str, anchors_pem: &str) -> Result<()> {
    let blocks = pem::parse_many(chain_pem).context("reading the chain")?;
    let (leaf, rest) = blocks.split_first().context("the chain is empty")?;
    ensure!(!anchors_pem.trim().is_empty(), "there are no trust anchors");
    let folder = tempfile::tempdir().context("making a folder")?;
    let write = |name: &str, text: &str| -> Result<String> {
        let path = folder.path().join(name);
        std::fs::write(&path, text).context("writing PEM")?;
        Ok(path.display().to_string())
    };
    let leaf = write("leaf.pem", &pem::encode(leaf))?;
    let anchors = write("anchors.pem", anchors_pem)?;
    let untrusted = write("untrusted.pem", &pem::encode_many(rest))?;
    let mut args = vec!["verify", "-no-CApath", "-no-CAstore", "-CAfile", &anchors];
    if !rest.is_empty() {
        args.extend(["-untrusted", &untrusted]);
    }
    args.push(&leaf);
    run(&args).await.map(drop)
}

/// Checks that a CA (the first of a chain) with this key signs leaves that lead to the anchors, with nothing but what is given.
pub async fn signs_a_leaf(chain_pem: &str, anchors_pem: &str, key_pem: &str) -> Result<()> {
    let folder = tempfile::tempdir().context("making a folder")?;
    let write = |name: &str, text: &str| -> Result<String> {
        let path = folder.path().join(name);
        std::fs::write(&path, text).context("writing PEM")?;
        Ok(path.display().to_string())
    };
    let csr = write("leaf.csr", &Csr::new().dns("leaf.example").ec()?.csr_pem)?;
    let (ca, key) = (write("ca.pem", chain_pem)?, write("ca.key", key_pem)?);
    let leaf = run(&["x509", "-req", "-in", &csr, "-CA", &ca, "-CAkey", &key, "-days", "1"]).await?;
    verify(&format!("{leaf}{chain_pem}"), anchors_pem).await
}

/// Checks that a certificate (the first of a chain) holds the public key of a CSR.
pub async fn same_key(chain_pem: &str, csr_pem: &str) -> Result<()> {
    let key_of = async |kind: &str, text: &str| {
        let file = tempfile::NamedTempFile::new().context("making a file")?;
        std::fs::write(file.path(), text).context("writing PEM")?;
        run(&[kind, "-in", &file.path().display().to_string(), "-noout", "-pubkey"]).await
    };
    ensure!(key_of("x509", chain_pem).await? == key_of("req", csr_pem).await?, "the certificate holds another key");
    Ok(())
}

/// A certificate or CSR as `openssl x509 -text` / `openssl req -text` prints it.
pub async fn text(pem_text: &str) -> Result<String> {
    let kind = if pem_text.contains("REQUEST") { "req" } else { "x509" };
    let file = tempfile::NamedTempFile::new().context("making a file")?;
    std::fs::write(file.path(), pem_text).context("writing PEM")?;
    run(&[kind, "-noout", "-text", "-in", &file.path().display().to_string()]).await
}

/// What openssl prints, with names as its releases from 3.2 on have them: without blanks around `=`.
pub fn without_blanks(printed: &str) -> String {
    printed.replace(" = ", "=")
}

/// A new RSA key (PKCS#8, PEM).
pub async fn rsa_key(bits: u32) -> Result<String> {
    run(&["genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", &format!("rsa_keygen_bits:{bits}")]).await
}

/// Runs openssl and gives its stdout; a failure carries what it said.
pub async fn run(args: &[&str]) -> Result<String> {
    let output = Command::new("openssl").args(args).kill_on_drop(true).output().await.context("running openssl")?;
    if !output.status.success() {
        let said = [output.stderr, output.stdout].concat();
        bail!("openssl {}: {}", args.join(" "), String::from_utf8_lossy(&said).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

pub(crate) async fn public_key(certificate: &Path, target: &Path) -> Result<()> {
    let text = run(&["x509", "-in", &certificate.display().to_string(), "-noout", "-pubkey"]).await?;
    std::fs::write(target, text).with_context(|| format!("writing {}", target.display()))
}
