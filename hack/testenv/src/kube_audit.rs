//! The API server's audit log as a witness: who wrote what, and what was forbidden.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::Value;

use crate::bao_audit::{end_of, lines_since};

/// A position in the audit log.
#[derive(Clone, Copy, Debug)]
pub struct KubeMark(u64);

/// The audit log of one API server.
#[derive(Clone)]
pub struct KubeAudit(PathBuf);

/// One request as the API server saw it. A running watch counts as soon as it has begun.
#[derive(Clone, Debug)]
pub struct KubeCall {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, …
    pub verb: String,
    /// API group, empty for the core group.
    pub group: String,
    /// Resource with its subresource: `certificaterequests/status`. Empty for other URLs.
    pub resource: String,
    /// Namespace, empty for cluster-wide requests.
    pub namespace: String,
    /// Name, where one was given.
    pub name: String,
    /// Who asked (impersonation included).
    pub user: String,
    /// Which token they asked with, as [`crate::Controller::credential`] has it.
    pub credential: String,
    /// Path and query.
    pub uri: String,
    /// HTTP status.
    pub code: u64,
    /// Whether authorization refused it.
    pub forbidden: bool,
    /// When it came in.
    pub time: String,
    /// When it was answered; for a running watch, when it began.
    pub answered: String,
}

/// Some calls, to be narrowed down and counted.
#[derive(Clone, Debug, Default)]
pub struct KubeCalls(Vec<KubeCall>);

impl KubeAudit {
    pub(crate) fn new(path: PathBuf) -> KubeAudit {
        KubeAudit(path)
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The end of the log, for [`KubeAudit::since`].
    pub fn mark(&self) -> Result<KubeMark> {
        end_of(&self.0).map(KubeMark)
    }

    /// What was asked since, each request once.
    pub fn since(&self, mark: KubeMark) -> Result<KubeCalls> {
        let mut latest: BTreeMap<String, usize> = BTreeMap::new();
        let mut calls = Vec::new();
        for line in lines_since(&self.0, mark.0)? {
            let id = line["auditID"].as_str().unwrap_or_default().to_owned();
            let call = KubeCall::read(&line);
            match latest.get(&id) {
                Some(index) => calls[*index] = call, // a watch that ended was written when it began as well
                None => {
                    latest.insert(id, calls.len());
                    calls.push(call);
                }
            }
        }
        Ok(KubeCalls(calls))
    }

    /// Everything from the start.
    pub fn all(&self) -> Result<KubeCalls> {
        self.since(KubeMark(0))
    }
}

impl KubeCall {
    pub(crate) fn read(line: &Value) -> KubeCall {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let object = &line["objectRef"];
        let resource = match object["subresource"].as_str() {
            Some(subresource) => format!("{}/{subresource}", text(&object["resource"])),
            None => text(&object["resource"]),
        };
        let user = line.get("impersonatedUser").unwrap_or(&line["user"]);
        KubeCall {
            verb: text(&line["verb"]),
            group: text(&object["apiGroup"]),
            resource,
            namespace: text(&object["namespace"]),
            name: text(&object["name"]),
            user: text(&user["username"]),
            credential: text(&user["extra"]["authentication.kubernetes.io/credential-id"][0]),
            uri: text(&line["requestURI"]),
            code: line["responseStatus"]["code"].as_u64().unwrap_or_default(),
            forbidden: line["annotations"]["authorization.k8s.io/decision"] == "forbid",
            time: text(&line["requestReceivedTimestamp"]),
            answered: text(&line["stageTimestamp"]),
        }
    }

    /// Whether it changes something.
    pub fn is_write(&self) -> bool {
        matches!(self.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection")
    }
}

impl KubeCalls {
    /// The calls of a ServiceAccount.
    pub fn of(&self, namespace: &str, account: &str) -> KubeCalls {
        let user = format!("system:serviceaccount:{namespace}:{account}");
        self.keep(|call| call.user == user)
    }

    /// The calls of one process of ours.
    pub fn with(&self, credential: &str) -> KubeCalls {
        self.keep(|call| call.credential == credential)
    }

    /// The calls that change something.
    pub fn writes(&self) -> KubeCalls {
        self.keep(KubeCall::is_write)
    }

    /// The calls with this verb.
    pub fn verb(&self, verb: &str) -> KubeCalls {
        self.keep(|call| call.verb == verb)
    }

    /// The calls to this resource, `x` or `x/status`.
    pub fn resource(&self, resource: &str) -> KubeCalls {
        self.keep(|call| call.resource == resource)
    }

    /// The calls in this namespace.
    pub fn in_namespace(&self, namespace: &str) -> KubeCalls {
        self.keep(|call| call.namespace == namespace)
    }

    /// The calls to an object of this name.
    pub fn named(&self, name: &str) -> KubeCalls {
        self.keep(|call| call.name == name)
    }

    /// The calls that authorization refused.
    pub fn forbidden(&self) -> KubeCalls {
        self.keep(|call| call.forbidden)
    }

    /// The calls for which something holds.
    pub fn keep(&self, holds: impl Fn(&KubeCall) -> bool) -> KubeCalls {
        KubeCalls(self.0.iter().filter(|call| holds(call)).cloned().collect())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each of them, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, KubeCall> {
        self.0.iter()
    }
}
