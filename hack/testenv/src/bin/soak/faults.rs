//! What can happen, drawn like cards: each kind as often as the others, in an order and with durations that the seed decides.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;
use testenv::{Fall, Peer, Random};

use crate::world::World;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// SIGKILL to OpenBao; it starts again later, and is unsealed.
    VaultKilled,
    /// SIGSTOP.
    VaultPaused,
    /// Sealed and unsealed.
    VaultSealed,
    /// Every connection to OpenBao is closed.
    VaultCut,
    /// SIGKILL to the API server; it starts again later.
    ApiServerKilled,
    /// Every connection of ours to the API server is closed, watches included.
    ApiServerCut,
    /// SIGSTOP to etcd.
    EtcdPaused,
    /// Every token of the AppRole mount is revoked.
    TokensRevoked,
    /// Every issuer's Secret gets a new secret id, and the old one ends.
    SecretsReplaced,
    /// SIGKILL to our process.
    Killed,
    /// SIGTERM to our process.
    Terminated,
}

const OTHERS: [Kind; 9] = [
    Kind::VaultKilled,
    Kind::VaultPaused,
    Kind::VaultSealed,
    Kind::VaultCut,
    Kind::ApiServerKilled,
    Kind::ApiServerCut,
    Kind::EtcdPaused,
    Kind::TokensRevoked,
    Kind::SecretsReplaced,
];

/// One fault: when, what, how long.
#[derive(Clone, Copy, Debug)]
pub struct Planned {
    /// How long after the last one was over.
    pub after: Duration,
    /// What.
    pub kind: Kind,
    lasts: Duration,
}

/// Our process is killed after a moment, and started after another.
pub fn kill(random: &mut Random) -> Planned {
    Planned { after: seconds(random, 500, 4_000), kind: Kind::Killed, lasts: seconds(random, 0, 1_000) }
}

fn seconds(random: &mut Random, least: u64, most: u64) -> Duration {
    random.between(Duration::from_millis(least), Duration::from_millis(most))
}

/// An endless deck.
pub struct Deck {
    random: Random,
    kinds: Vec<Kind>,
    left: Vec<Kind>,
}

impl Deck {
    /// With what happens to our own process, of which even the shortest soak has one, or without it.
    pub fn new(random: Random, own: bool) -> Deck {
        let own: &[Kind] = if own { &[Kind::Killed, Kind::Terminated] } else { &[] };
        Deck { random, kinds: [own, &OTHERS].concat(), left: own.iter().copied().take(1).collect() }
    }

    /// The next card; a new deck is shuffled when there is none.
    pub fn draw(&mut self) -> Planned {
        if self.left.is_empty() {
            self.left.clone_from(&self.kinds);
            self.random.shuffle(&mut self.left);
        }
        let kind = self.left.pop().unwrap_or(Kind::VaultCut);
        if kind == Kind::Killed {
            return kill(&mut self.random);
        }
        let longest = match kind {
            Kind::VaultKilled | Kind::VaultPaused | Kind::VaultSealed => 20_000,
            Kind::ApiServerKilled | Kind::EtcdPaused => 10_000,
            Kind::VaultCut | Kind::ApiServerCut | Kind::TokensRevoked | Kind::SecretsReplaced => 2_000,
            Kind::Killed | Kind::Terminated => 1_000,
        };
        Planned { after: seconds(&mut self.random, 1_000, 5_000), kind, lasts: seconds(&mut self.random, 200, longest) }
    }
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            Kind::VaultKilled => "OpenBao is killed, and away",
            Kind::VaultPaused => "OpenBao is paused",
            Kind::VaultSealed => "OpenBao is sealed",
            Kind::VaultCut => "the connections to OpenBao are cut",
            Kind::ApiServerKilled => "the API server is killed, and away",
            Kind::ApiServerCut => "our connections to the API server are cut",
            Kind::EtcdPaused => "etcd is paused",
            Kind::TokensRevoked => "all tokens are revoked",
            Kind::SecretsReplaced => "all secret ids are replaced",
            Kind::Killed => "our process is killed, and away",
            Kind::Terminated => "our process is asked to end, and away",
        };
        write!(f, "{what} for {:.1} s", self.lasts.as_secs_f64())
    }
}

impl Planned {
    /// Does it, and undoes it; says which answers it may have cost.
    pub async fn strike(&self, world: &World) -> Result<Option<Fall>> {
        let begun = Timestamp::now();
        let bao = &world.plane.bao;
        let wait = || tokio::time::sleep(self.lasts);
        match self.kind {
            Kind::VaultKilled => {
                bao.peer().kill().await?;
                wait().await;
                bao.restart().await?;
            }
            Kind::VaultPaused => pause(bao.peer(), self.lasts).await?,
            Kind::VaultSealed => {
                bao.seal().await?;
                wait().await;
                bao.unseal().await?;
            }
            Kind::VaultCut => {
                world.to_vault.cut_all();
                wait().await;
            }
            Kind::ApiServerKilled => {
                world.plane.apiserver.kill().await?;
                wait().await;
                world.plane.apiserver.start_again().await?;
            }
            Kind::ApiServerCut => {
                world.to_api_server.cut_all();
                wait().await;
            }
            Kind::EtcdPaused => pause(&world.plane.etcd, self.lasts).await?,
            Kind::TokensRevoked => bao.revoke_logins("approle").await?,
            Kind::SecretsReplaced => world.replace_secrets(self.lasts).await?,
            Kind::Killed => {
                world.ours.kill().await?;
                let at = Timestamp::now();
                wait().await;
                world.ours.start_again().await?;
                return Ok(Some(Fall::Ours(at)));
            }
            Kind::Terminated => {
                world.ours.terminate(Duration::from_secs(40)).await?;
                wait().await;
                world.ours.start_again().await?;
            }
        }
        let costs = matches!(self.kind, Kind::VaultKilled | Kind::VaultPaused | Kind::VaultSealed | Kind::VaultCut);
        Ok(costs.then(|| Fall::Vault(begun, Timestamp::now())))
    }
}

async fn pause(peer: &Peer, lasts: Duration) -> Result<()> {
    peer.pause()?;
    tokio::time::sleep(lasts).await;
    peer.resume()
}
