//! What the trials share: a cluster with our controller, a page that is followed there, and the files of the project.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testenv::{ControlPlane, Controller, ControllerOptions, Guide, Kube, Options, Run, condition};

/// How long a thing may take that ought to happen at once.
pub const SOON: Duration = Duration::from_secs(60);

/// A cluster as it is after the page about installing, and a page that is followed on it.
pub struct Visit {
    pub guide: Guide,
    /// Dropped, and so ended, before the control plane.
    pub ours: Controller,
    pub plane: ControlPlane,
}

impl Visit {
    /// `page` is a path in the project.
    pub async fn to(run: &Run, page: &str) -> Result<Visit> {
        Self::with(run, page, Options::default(), &[]).await
    }

    /// The same with other peers, and with values for our chart.
    pub async fn with(run: &Run, page: &str, options: Options, set: &[&str]) -> Result<Visit> {
        Self::on(ControlPlane::start(run, options).await?, page, set).await
    }

    /// The same on a control plane that was prepared.
    pub async fn on(plane: ControlPlane, page: &str, set: &[&str]) -> Result<Visit> {
        let ours = controller(&plane, set).await?;
        let guide = Guide::open(&plane, page)?;
        Ok(Visit { guide, ours, plane })
    }

    /// Every command of the page was run, and the API server has forbidden our controller nothing on the way.
    pub fn finished(&self) -> Result<()> {
        let ours = self.plane.kube_audit.all()?.of(&self.ours.namespace, &self.ours.account);
        ensure!(!ours.is_empty() && ours.forbidden().is_empty(), "forbidden: {:?}", ours.forbidden());
        self.guide.finished()
    }
}

/// Waits until the issuer or request at this path has this reason in its Ready condition, an issuer for its spec as it is now;
/// gives the message.
pub async fn says(kube: &Kube, path: &str, reason: &str) -> Result<String> {
    let looked_at = |object: &Value| {
        let now = |seen: &Value| *seen == object["metadata"]["generation"];
        let ready = condition(object, "Ready");
        ready.is_some_and(|it| it["reason"] == reason && it.get("observedGeneration").is_none_or(now))
    };
    let object = kube.wait(path, SOON, looked_at).await.with_context(|| format!("waiting for {reason}"))?;
    message(&object, "Ready")
}

/// The message of a condition.
pub fn message(object: &Value, kind: &str) -> Result<String> {
    let condition = condition(object, kind).with_context(|| format!("there is no {kind}: {}", object["status"]))?;
    Ok(condition["message"].as_str().unwrap_or_default().to_owned())
}

/// A path in the project.
pub fn project(path: impl AsRef<Path>) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// What stands in a file of the project.
pub fn text(path: impl AsRef<Path>) -> Result<String> {
    let path = project(path);
    std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
}

/// The page holds these words in full, wherever its lines end and whichever dates it has for an example.
pub fn told(page: &str, words: &str) -> Result<()> {
    ensure!(undated(&text(page)?).contains(&undated(words)), "{page} does not have the words: {words}");
    Ok(())
}

/// A text on one line, with the same word in place of every date.
fn undated(text: &str) -> String {
    let word = |word: &str| {
        let bare = word.trim_end_matches([',', ':', '.']);
        bare.parse::<jiff::Timestamp>().map_or(word.to_owned(), |_| word.replace(bare, "DATE"))
    };
    text.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

/// A cluster as it is after the page about installing, with these values for our chart. The controller is to be dropped first.
pub async fn cluster(run: &Run, options: Options, set: &[&str]) -> Result<(ControlPlane, Controller)> {
    let plane = ControlPlane::start(run, options).await?;
    let ours = controller(&plane, set).await?;
    Ok((plane, ours))
}

async fn controller(plane: &ControlPlane, set: &[&str]) -> Result<Controller> {
    let set = set.iter().map(|value| (*value).to_owned()).collect();
    let options = ControllerOptions { set, ..ControllerOptions::as_installed(env!("CARGO_BIN_EXE_vault-mesh-issuer")) };
    Controller::start(plane, options).await
}
