//! The Kubernetes edge: reads by name, writes of status, events. It carries out and decides nothing.

pub mod events;
pub mod references;
pub mod status;
