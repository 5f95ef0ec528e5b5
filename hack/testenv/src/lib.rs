//! Real peers for the tests, as plain processes: etcd, kube-apiserver,
//! cert-manager with its webhook, OpenBao over TLS, and our own controller.
//!
//! Where to start reading: [`Run`] is one run of a test program (its folder, its
//! CA, its spawner thread). [`ControlPlane::start`] brings up everything but us;
//! [`Controller::start`] installs our chart's objects and starts our binary.
//! [`Kube`] and [`Bao`] are the two clients. [`Proxy`] stands in front of either
//! server and makes it misbehave; [`WrongSigner`] signs the wrong thing with the
//! right CA. The audit logs of both servers are the witnesses: [`BaoAudit`],
//! [`KubeAudit`], and [`rbac`] for what was granted.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use testenv::{ControlPlane, Controller, ControllerOptions, Options, Run};
//! let run = Run::start("example")?;                      // first thing in main
//! let plane = ControlPlane::start(&run, Options::default()).await?;
//! let mesh = plane.bao.tetrate("example").await?;        // a PKI as in Tetrate's documentation
//! let ours = Controller::start(&plane, ControllerOptions::new("path/to/vault-mesh-issuer")).await?;
//! plane.kube.namespace("istio-system").await?;
//! println!("{} {}", mesh.sign_path, ours.metrics().await?);
//! run.finish(true);                                      // last thing in main
//! # Ok(()) }
//! ```

#![allow(
    clippy::disallowed_methods,
    reason = "the environment of tests reads the clock, the environment and starts tasks"
)]

mod authority;
mod bao;
mod bao_audit;
mod cert_manager;
mod chart;
mod command;
mod control_plane;
mod controller;
mod csr;
pub mod follow;
mod guide;
mod http;
mod interrupt;
mod issuers;
mod istio_csr;
mod kube;
mod kube_audit;
mod kubeconfig;
mod kubectl;
mod kubernetes;
mod ledger;
mod load;
pub mod mutual_tls;
pub mod openssl;
mod osm;
mod parallel;
mod peer;
mod ports;
mod programs;
mod proxy;
mod random;
pub mod rbac;
mod requests;
mod run;
mod secrets;
mod spawner;
mod suite;
mod tail;
mod wait;
mod witness;
mod wrong_signer;

pub use authority::{Authority, Identity};
pub use bao::{AppRole, AppRoleOptions, Bao, BaoOptions, Chain, Hierarchy, HierarchyOptions, Recipe};
pub use bao_audit::{BaoAudit, Call, Calls, Mark};
pub use chart::Chart;
pub use command::{exit_code, in_a_run};
pub use control_plane::{ControlPlane, Options};
pub use controller::{Controller, ControllerOptions, SIGNS_PER_ISSUER};
pub use csr::{Csr, KeyAndCsr};
pub use guide::{Block, Guide, NOT_RUN, blocks};
pub use http::Answer;
pub use interrupt::interrupted;
pub use issuers::{Issuer, Issuing};
pub use istio_csr::{IstioCsr, IstioCsrOptions, RealIstioCsr, Serving};
pub use kube::{Kube, condition};
pub use kube_audit::{KubeAudit, KubeCall, KubeCalls, KubeMark};
pub use ledger::{Account, Fall, Ledger};
pub use load::{Load, LoadOptions, Tally, Target};
pub use osm::{Osm, OsmCertificate};
pub use parallel::{CLIENTS, in_parallel};
pub use peer::Peer;
pub use programs::Programs;
pub use proxy::{Action, Door, Proxy, Recorded, Rule, Seen};
pub use random::Random;
pub use requests::{Created, IssuerRef, Request, ca_of, certificate_of, requests_of_others};
pub use run::Run;
pub use secrets::Secrets;
pub use suite::{Outcome, Suite};
pub use tail::Tail;
pub use wait::{eventually, holds_for};
pub use witness::Witness;
pub use wrong_signer::WrongSigner;
