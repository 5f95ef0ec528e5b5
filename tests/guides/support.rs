//! What the trials share: a cluster with our controller, and a page that is followed there.

use std::time::Duration;

use anyhow::Result;
use testenv::{ControlPlane, Controller, ControllerOptions, Guide, Options, Run};

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
        let plane = ControlPlane::start(run, options).await?;
        let set = set.iter().map(|value| (*value).to_owned()).collect();
        let ours = ControllerOptions { set, ..ControllerOptions::new(env!("CARGO_BIN_EXE_vault-mesh-issuer")) };
        let ours = Controller::start(&plane, ours).await?;
        let guide = Guide::open(&plane, page)?;
        Ok(Visit { guide, ours, plane })
    }
}
