//! Approved requests wait, and their issuer appears: from the first to the last that is issued.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::arena::{Arena, Contender, Signing};
use crate::gauge::{Figures, Finish, Gauge};

const WITHIN: Duration = Duration::from_secs(600);

/// The scenario's name in the record.
pub fn name(signing: Signing) -> String {
    format!("drain, {signing}")
}

/// What waits.
#[derive(Clone, Copy)]
pub struct Waiting {
    /// How many requests.
    pub requests: usize,
    /// For how many issuers.
    pub issuers: usize,
}

/// One turn, after which nothing is left.
pub async fn drain(arena: &Arena, contender: Contender, signing: Signing, waiting: Waiting) -> Result<Figures> {
    let figures = drained(arena, contender, signing, waiting, "workload").await?;
    arena.clear(contender).await?;
    Ok(figures)
}

/// One turn; the requests stay, and so do the issuers.
pub async fn drained(
    arena: &Arena,
    contender: Contender,
    signing: Signing,
    waiting: Waiting,
    prefix: &str,
) -> Result<Figures> {
    let Waiting { requests, issuers } = waiting;
    let before = arena.issued().await?;
    arena.go(contender).await?;
    arena.approved(prefix, requests, contender, issuers).await?;
    arena.calm().await?;
    let gauge = Gauge::start(arena, contender).await?;
    let mut finish = Finish::watch(&arena.plane.kube_audit, arena.account(contender))?;
    arena.issuers(contender, signing, issuers).await?;
    let deadline = Instant::now() + WITHIN;
    loop {
        // The log is read seldom, and the list only when all may be done: both cost what is measured.
        tokio::time::sleep(Duration::from_millis(200)).await;
        if finish.count()? >= requests && arena.issued().await? == before + requests {
            break;
        }
        let peer = arena.peer(contender)?;
        ensure!(Instant::now() < deadline, "{}", peer.complaint(&format!("issued {} of {requests}", finish.count()?)));
    }
    let (figures, moments) = gauge.read(requests).await?;
    let figures = figures.with_rate(requests - 1, moments.span()?).with_waits(moments.since_the_beginning());
    arena.stop(contender).await?;
    Ok(figures)
}
