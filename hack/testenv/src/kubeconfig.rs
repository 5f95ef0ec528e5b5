//! Kubeconfig files: one cluster, one user with a token.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

/// Writes a kubeconfig (JSON, which is YAML too) to `path`.
pub(crate) fn write(path: &Path, server: &str, ca_pem: &str, token: &str, namespace: &str) -> Result<()> {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {
            "server": server,
            "certificate-authority-data": STANDARD.encode(ca_pem),
        }}],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": namespace}}],
    });
    let written = || -> Result<()> {
        // Trials share these files: who reads one finds it whole, whoever writes it anew meanwhile.
        let folder = path.parent().context("a file lies in a folder")?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(config.to_string().as_bytes())?;
        file.persist(path)?;
        Ok(())
    };
    written().with_context(|| format!("writing {}", path.display()))
}
