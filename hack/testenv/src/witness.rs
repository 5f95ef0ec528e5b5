//! Writes down all that anybody could read in a cluster while a trial runs, so that it can be searched for secrets when the
//! cluster is gone.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::controller::Controller;
use crate::follow::{Going, follow};
use crate::kube::Kube;
use crate::run::Run;

const PATHS: [&str; 4] = [
    "/apis/events.k8s.io/v1/events",
    "/apis/cert-manager.io/v1/certificaterequests",
    "/apis/vaultmesh.io/v1alpha1/vaultmeshissuers",
    "/apis/vaultmesh.io/v1alpha1/vaultmeshclusterissuers",
];

/// It writes every state of our objects, of the requests and of the events to `objects.jsonl` and `metrics.txt` in a folder of
/// the run, until it is dropped.
pub struct Witness {
    run: Run,
    folder: PathBuf,
    going: Mutex<Vec<Going>>,
}

impl Witness {
    /// Begins; what is not there yet is waited for.
    pub fn start(kube: &Kube) -> Result<Witness> {
        let folder = kube.run.new_folder("witness")?;
        let file = File::create(folder.join("objects.jsonl")).context("making the witness' file")?;
        let file = Arc::new(Mutex::new(file));
        let going = PATHS.map(|path| {
            let file = Arc::clone(&file);
            follow(kube, path, move |object| {
                let mut file = file.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                // A full disk fails the trial elsewhere, and the search finds too little of everything then.
                let _ = writeln!(file, "{object}");
            })
        });
        Ok(Witness { run: kube.run.clone(), folder, going: Mutex::new(going.into()) })
    }

    /// Writes a controller's metrics down as well, as they were last.
    pub fn watch_metrics(&self, ours: &Controller) -> Result<()> {
        let (path, url) = (self.folder.join("metrics.txt"), format!("http://{}/metrics", ours.address()));
        let client = self.run.authority().client()?;
        let going = Going::new(async move {
            loop {
                if let Ok(answer) = client.get(&url).send().await
                    && let Ok(text) = answer.text().await
                {
                    // As above.
                    let _ = std::fs::write(&path, text);
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        self.going.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(going);
        Ok(())
    }
}
