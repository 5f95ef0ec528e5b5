//! What a rule does with a request.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::Seen;

/// Makes another answer of upstream's, knowing the request.
pub type Change = Arc<dyn Fn(&Seen, &mut Value) + Send + Sync>;

/// What happens to a request that a rule matches.
#[derive(Clone)]
pub enum Action {
    /// It passes.
    Pass,
    /// It passes after a while.
    Delay(Duration),
    /// It passes, and upstream's answer comes after a while; who is gone by then has missed it.
    Late(Duration),
    /// The connection is closed; upstream never hears of it.
    Cut,
    /// Upstream acts on it and the connection is closed without an answer.
    DeliverThenCut,
    /// It waits (the client too, as long as it likes) until [`super::Proxy::release`].
    Hold,
    /// This is answered; upstream never hears of it.
    Answer(Reply),
    /// It passes, and this is answered in place of upstream's answer.
    Replace(Reply),
    /// It passes, and upstream's JSON answer is changed on its way.
    Patch(Change),
    /// It passes, and the first half of upstream's body is all of the answer.
    Halve,
    /// It passes, and the connection is closed in the middle of upstream's body.
    BreakOff,
    /// It passes, and upstream's body comes a byte at a time with this pause after each.
    Drip(Duration),
}

/// How a proxy meets new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// As the proxy was started.
    Open,
    /// Nobody listens at the port.
    Shut,
    /// Something listens that speaks no TLS.
    Plain,
    /// With a certificate of a CA that nobody knows.
    Stranger,
}

/// An answer of the test's own.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Action {
    /// Answers with JSON.
    pub fn answer(status: u16, body: &Value) -> Action {
        Action::raw(status, &[("content-type", "application/json")], body.to_string())
    }

    /// Answers with anything.
    pub fn raw(status: u16, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Action {
        let headers = headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        Action::Answer(Reply { status, headers, body: body.into() })
    }

    /// The same answer, but upstream acts on the request first.
    pub fn after_delivery(self) -> Action {
        match self {
            Action::Answer(reply) => Action::Replace(reply),
            other => other,
        }
    }

    /// Changes upstream's JSON answer.
    pub fn patch(change: impl Fn(&mut Value) + Send + Sync + 'static) -> Action {
        Action::patch_with(move |_, answer| change(answer))
    }

    /// Changes upstream's JSON answer to what fits the request.
    pub fn patch_with(change: impl Fn(&Seen, &mut Value) + Send + Sync + 'static) -> Action {
        Action::Patch(Arc::new(change))
    }
}
