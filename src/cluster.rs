//! The Kubernetes edge: reads by name, tokens of ServiceAccounts, writes of status, of published anchors, events. It carries out and decides nothing.

pub mod client;
pub mod events;
pub mod objects;
pub mod publication;
pub mod references;
pub mod service_accounts;
pub mod status;
