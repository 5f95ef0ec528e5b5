//! Decisions: pure functions over data and `now`. Nothing here waits, reads a clock or talks to anybody.

pub mod ageing;
pub mod authority;
pub mod brake;
pub mod breaker;
pub mod changes;
pub mod diagnosis;
pub mod discovery;
pub mod expiry;
pub mod findings;
pub mod health;
pub mod inspection;
pub mod lifetimes;
pub mod messages;
pub mod pace;
pub mod policy;
pub mod publication;
pub mod role;
pub mod servers;
pub mod signer;
pub mod spiffe;
pub mod triage;
pub mod trust;
pub mod usages;
pub mod verdict;
pub mod words;
