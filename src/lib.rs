//! vault-mesh-issuer: a cert-manager external issuer that gives service meshes their certificates from HashiCorp Vault or OpenBao.
//!
//! # The straight line
//! ```text
//! request event
//!  └ controllers/requests::reconcile
//!      1 attempt(request) -> Result<Arc<Issued>, NotIssued>
//!          standing = requests::standing(request)           where does it stand?           pure
//!          issuer   = issuers.ready(triage(standing)?)?     whose is it, may it pass?      in memory
//!          pass     = issuer.admit()?                       is it Ready, or on trial?
//!          turn     = issuer.turn(namespace).await          fair between namespaces, until the status is written
//!          plan     = policy::plan(details, config)?        what will Vault be asked?      pure
//!          issuer.leave().await                             no faster than a rate limit lets
//!          answer   = signer.sign(plan).await?              session → POST sign            edge
//!          issued   = inspect(answer, plan, anchors)?       is it what was asked for?      pure
//!      2 verdict = judge(attempt, history, now)             what is written, when again?   pure
//!      3 requests::status(verdict) → apply_request_status   one server-side apply          edge
//! ```
//! Issuers go the same way: `controllers/issuers` reads what a spec names, checks Vault, and writes the Ready condition; a
//! request passes only an issuer whose condition says so, which puts the trust anchors on record before anything is published.
//! Anchors on record are then written where `trust.publish` wants them (`controllers/publication`), on which no request waits.
//!
//! # The layers
//! The modules stand in the order of reading, and a module uses only those above it: facts ([`x509`]), vocabulary ([`api`]),
//! decisions ([`issuance`]), translation ([`requests`]), recording ([`metrics`]), edges ([`cluster`], [`lease`], [`vault`]), state
//! ([`issuers`]), flow ([`controllers`]), wiring (the rest). The first four are pure: no clock, no network, no tasks.
//!
//! # More than one replica
//! Every replica reads; one acts, the holder of a Lease ([`lease`]). [`commands::run`] starts the two by two functions, and what
//! stands by keeps its stores up to date. Nothing that acts asks whether it may: the two ways out do, the client of the API server
//! for everything that is no read ([`cluster::client`]), and the transport to Vault for every call.
//!
//! # Where to start
//! [`controllers::requests`], then [`issuance::verdict`], then [`issuance::signer`].

pub mod x509;

pub mod api;

pub mod issuance;

pub mod requests;

pub mod clock;
pub mod metrics;

pub mod cluster;
pub mod lease;
pub mod vault;

pub mod issuers;

pub mod controllers;

pub mod cli;
pub mod commands;
pub mod http;
pub mod telemetry;

#[cfg(test)]
mod architecture;
