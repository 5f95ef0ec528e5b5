//! Where the peers' programs lie: `VMI_TESTENV_BIN`, or what `hack/testenv/build`
//! prints (it builds what is missing and says so on stderr).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// The folder that holds etcd, kube-apiserver, cert-manager, bao, kubectl, helm …
#[derive(Clone, Debug)]
pub struct Programs(PathBuf);

impl Programs {
    /// Finds the programs, building them where needed.
    pub fn find() -> Result<Programs> {
        match std::env::var_os("VMI_TESTENV_BIN") {
            Some(folder) => Ok(Programs(folder.into())),
            None => Programs::build(&[]),
        }
    }

    /// Builds HashiCorp Vault as well, which takes minutes when it is not cached.
    pub fn with_vault() -> Result<Programs> {
        Programs::build(&["--vault"])
    }

    fn build(args: &[&str]) -> Result<Programs> {
        let builder = project().join("hack/testenv/build");
        let output = Command::new(&builder)
            .args(args)
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("running {}", builder.display()))?;
        ensure!(output.status.success(), "{} failed: {}", builder.display(), output.status);
        let folder = String::from_utf8(output.stdout).context("the builder's answer")?;
        Ok(Programs(folder.trim().into()))
    }

    /// The path of one program.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// cert-manager's own chart.
    pub fn cert_manager_chart(&self) -> PathBuf {
        self.path("cert-manager-chart")
    }
}

/// The root of this project's checkout.
pub(crate) fn project() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}
