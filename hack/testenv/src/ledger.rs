//! Who was signed how often, and why: OpenBao's audit log beside the API server's. A certificate is signed twice only where an
//! answer was under way when somebody fell: such signs are counted at every fall, and all others are told.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::bao_audit::{Call, is_sign};
use crate::control_plane::ControlPlane;
use crate::controller::Controller;
use crate::kube_audit::KubeCall;
use crate::secrets::Secrets;
use crate::tail::Tail;

/// Both audit logs, read piece by piece. Every token that OpenBao hands out is registered as a secret on the way.
pub struct Ledger {
    bao: Tail,
    kube: Tail,
    user: String,
    secrets: Secrets,
    /// When OpenBao began with a call, by its `request_id`, until it is answered.
    begun: HashMap<String, Timestamp>,
    /// Certificates that were signed, by CSR.
    signs: BTreeMap<String, Vec<Sign>>,
    /// Our writes of a request's status that the API server took, by `namespace/name`.
    writes: HashMap<String, Vec<Timestamp>>,
    /// When each token was handed out, by its accessor.
    tokens: HashMap<String, Timestamp>,
}

/// How long a disturbance may still cost something when it is over.
const AFTERWARDS: SignedDuration = SignedDuration::from_secs(2);

#[derive(Clone, Copy)]
struct Sign {
    begun: Timestamp,
    answered: Timestamp,
    /// When its token was handed out. A process logs in for itself, so this tells which one asked, even where the question lay
    /// in a socket when that process was killed.
    token: Timestamp,
}

/// Something that may cost an answer on its way.
#[derive(Clone, Copy, Debug)]
pub enum Fall {
    /// Our process was killed.
    Ours(Timestamp),
    /// OpenBao, or the way to it, was disturbed from then till then.
    Vault(Timestamp, Timestamp),
}

/// What the ledger says at the end.
#[derive(Debug, Default)]
pub struct Account {
    /// Successful logins.
    pub logins: usize,
    /// Certificates that OpenBao signed.
    pub signs: usize,
    /// Requests that they were signed for.
    pub requests: usize,
    /// Answers under way at each kill of our process: signed, and not yet written.
    pub in_flight: Vec<usize>,
    /// Second signs after a kill of ours.
    pub after_kills: usize,
    /// Second signs after a disturbance of OpenBao, whose answers got lost.
    pub after_outages: usize,
    /// Second signs that nothing explains, in words.
    pub unexplained: Vec<String>,
}

impl Ledger {
    /// For the requests that this controller signs on this control plane.
    pub fn new(plane: &ControlPlane, ours: &Controller) -> Ledger {
        Ledger {
            bao: Tail::new(plane.bao.audit().path()),
            kube: Tail::new(plane.kube_audit.path()),
            user: format!("system:serviceaccount:{}:{}", ours.namespace, ours.account),
            secrets: plane.run.secrets().clone(),
            begun: HashMap::new(),
            signs: BTreeMap::new(),
            writes: HashMap::new(),
            tokens: HashMap::new(),
        }
    }

    /// Reads what has come since the last time.
    pub fn read(&mut self) -> Result<()> {
        for line in self.bao.read()?.lines().filter(|line| line.contains("/sign/") || line.contains("/login")) {
            self.called(&serde_json::from_str(line).context("a line of OpenBao's audit log")?)?;
        }
        for line in self.kube.read()?.lines().filter(|line| line.contains("certificaterequests")) {
            let line = serde_json::from_str(line).context("a line of the API server's audit log")?;
            let call = KubeCall::read(&line);
            let is_write = call.verb == "patch" && call.resource == "certificaterequests/status" && call.code == 200;
            if is_write && call.user == self.user {
                let name = format!("{}/{}", call.namespace, call.name);
                self.writes.entry(name).or_default().push(time(&call.time)?);
            }
        }
        Ok(())
    }

    fn called(&mut self, line: &Value) -> Result<()> {
        let call = Call::read(line);
        if line["type"] == "request" {
            self.begun.insert(call.id, time(&call.time)?);
            return Ok(());
        }
        let begun = self.begun.remove(&call.id);
        if let Some(token) = line["response"]["auth"]["client_token"].as_str() {
            self.secrets.add("the token of a login", token);
            let accessor = line["response"]["auth"]["accessor"].as_str().unwrap_or_default();
            self.tokens.insert(accessor.to_owned(), time(&call.time)?);
        }
        if is_sign(&call.path) && !call.probe && call.error.is_none() {
            let answered = time(&call.time)?;
            let csr = call.data["csr"].as_str().unwrap_or_default().trim().to_owned();
            let begun = begun.unwrap_or(answered);
            let token = call.accessor.and_then(|accessor| self.tokens.get(&accessor)).copied().unwrap_or(begun);
            self.signs.entry(csr).or_default().push(Sign { begun, answered, token });
        }
        Ok(())
    }

    /// Adds up, knowing whose CSR is whose (`namespace/name`) and what fell when.
    pub fn account(&self, names: &HashMap<String, String>, falls: &[Fall]) -> Account {
        let mut account = Account { logins: self.tokens.len(), requests: self.signs.len(), ..Account::default() };
        let kills: Vec<_> = falls.iter().filter_map(Fall::kill).collect();
        account.in_flight = vec![0; kills.len()];
        for (csr, signs) in &self.signs {
            let name = names.get(csr).map_or("a request of somebody else", String::as_str);
            let writes = self.writes.get(name).map(Vec::as_slice).unwrap_or_default();
            account.signs += signs.len();
            for (at, sign) in signs.iter().enumerate() {
                let written = |before: Timestamp| writes.iter().any(|write| (sign.answered..before).contains(write));
                // The first kill after the login ended the process that had asked.
                let kill = kills.iter().position(|kill| *kill >= sign.token);
                if let Some(kill) = kill
                    && !written(kills[kill])
                {
                    account.in_flight[kill] += 1;
                }
                let Some(next) = signs.get(at + 1) else { continue };
                let between = |fall: &&Fall| fall.between(sign, next);
                match falls.iter().filter(between).max_by_key(|fall| matches!(fall, Fall::Vault(..))) {
                    // What lay in its sockets may be signed after what was asked later, and written.
                    Some(Fall::Vault(..)) => account.after_outages += 1,
                    _ if written(next.begun) => {
                        account
                            .unexplained
                            .push(format!("{name} was signed at {} although it was written", next.begun));
                    }
                    Some(Fall::Ours(_)) => account.after_kills += 1,
                    None => account.unexplained.push(format!("{name} at {} and {}", sign.begun, next.begun)),
                }
            }
        }
        account
    }
}

impl Account {
    /// The kills that met more answers under way than there can be, in words.
    pub fn more_in_flight_than(&self, at_once: usize) -> Option<String> {
        let more = self.in_flight.iter().any(|answers| *answers > at_once);
        more.then(|| format!("{:?} answers in flight at kills, where {at_once} can be", self.in_flight))
    }
}

impl Fall {
    fn kill(&self) -> Option<Timestamp> {
        match self {
            Fall::Ours(at) => Some(*at),
            Fall::Vault(..) => None,
        }
    }

    fn between(&self, sign: &Sign, next: &Sign) -> bool {
        match self {
            Fall::Ours(at) => (sign.token..next.token).contains(at),
            // What a paused server has in its sockets is served when it wakes up, for a caller who may have gone.
            Fall::Vault(begun, ended) => *begun < next.begun && *ended + AFTERWARDS > sign.begun,
        }
    }
}

fn time(text: &str) -> Result<Timestamp> {
    text.parse().with_context(|| format!("{text:?} is no time"))
}
