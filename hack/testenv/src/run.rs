//! One run of a test program: what all its peers share. `main` starts it first
//! and finishes it last, because the peers die with its spawner thread.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};

use crate::authority::Authority;
use crate::ports::Ports;
use crate::programs::Programs;
use crate::secrets::Secrets;
use crate::spawner::Spawner;

/// The folder, CA, programs, ports, secrets and spawner thread of this run.
#[derive(Clone)]
pub struct Run(Arc<Inner>);

struct Inner {
    spawner: Spawner,
    programs: Programs,
    authority: Authority,
    secrets: Secrets,
    ports: Ports,
    folder: PathBuf,
    folders_made: AtomicUsize,
}

impl Run {
    /// Finds (and where needed builds) the programs, makes the run's folder and
    /// CA and starts the spawner thread. Call it from `main`.
    pub fn start(name: &str) -> Result<Run> {
        // A second call finds the provider installed, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::Builder::new()
            .prefix(&format!("vault-mesh-issuer-{name}-"))
            .tempdir()
            .context("making the run's folder")?
            .keep();
        Ok(Run(Arc::new(Inner {
            spawner: Spawner::start()?,
            programs: Programs::find()?,
            authority: Authority::new(&folder.join("ca.crt"))?,
            secrets: Secrets::default(),
            ports: Ports::default(),
            folder,
            folders_made: AtomicUsize::new(0),
        })))
    }

    /// Where all logs and data of this run lie.
    pub fn folder(&self) -> &Path {
        &self.0.folder
    }

    /// The programs that can be started.
    pub fn programs(&self) -> &Programs {
        &self.0.programs
    }

    /// The CA behind every server certificate of this run.
    pub fn authority(&self) -> &Authority {
        &self.0.authority
    }

    /// Every secret value made in this run.
    pub fn secrets(&self) -> &Secrets {
        &self.0.secrets
    }

    /// A port of 127.0.0.1 that is free now and not handed out before.
    pub fn port(&self) -> Result<u16> {
        self.0.ports.free()
    }

    /// A new folder for one group of peers.
    pub fn new_folder(&self, name: &str) -> Result<PathBuf> {
        let number = self.0.folders_made.fetch_add(1, Ordering::Relaxed);
        let folder = self.0.folder.join(format!("{number:02}-{name}"));
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        Ok(folder)
    }

    /// Ends the run: deletes its folder when all went well (unless
    /// `VMI_TESTENV_KEEP` is set), otherwise says where the logs are.
    pub fn finish(self, success: bool) {
        let keep = std::env::var_os("VMI_TESTENV_KEEP").is_some();
        let folder = self.0.folder.clone();
        drop(self);
        if success && !keep {
            // Peers that other clones of the run keep alive may still write; nothing depends on it.
            let _ = std::fs::remove_dir_all(&folder);
        } else {
            eprintln!("logs of this run: {}", folder.display());
        }
    }

    pub(crate) fn spawner(&self) -> &Spawner {
        &self.0.spawner
    }
}
