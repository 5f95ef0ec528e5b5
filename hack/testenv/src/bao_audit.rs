//! OpenBao's audit log as a witness: how often somebody logged in, signed or probed.
//! The log is written raw (`log_raw`), so that a probe (an empty CSR) can be told from a sign.

use std::collections::BTreeSet;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::bao::AppRole;

/// A position in an audit log.
#[derive(Clone, Copy, Debug)]
pub struct Mark(u64);

/// The audit log of one server.
#[derive(Clone)]
pub struct BaoAudit(PathBuf);

/// One answered call.
#[derive(Clone)]
pub struct Call {
    /// Vault's `request_id`.
    pub id: String,
    /// Path without `/v1/`, such as `pki/sign/mesh`.
    pub path: String,
    /// `update`, `read`, `list`, …
    pub operation: String,
    /// What was sent.
    pub data: Value,
    /// Whether it was a sign with an empty CSR.
    pub probe: bool,
    /// The error, where it was refused.
    pub error: Option<String>,
    /// Accessor of the token that made the call.
    pub accessor: Option<String>,
    /// Display name of the token that made the call.
    pub display_name: Option<String>,
    /// When it was answered, as the log has it.
    pub time: String,
}

/// Short, because a failure shows many of them.
impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Call { operation, path, probe, error, .. } = self;
        write!(
            f,
            "{operation} {path}{}{}",
            if *probe { " (probe)" } else { "" },
            if error.is_some() { ": " } else { "" }
        )?;
        f.write_str(error.as_deref().unwrap_or_default())
    }
}

/// Some calls, to be narrowed down and counted.
#[derive(Clone, Debug, Default)]
pub struct Calls(Vec<Call>);

impl BaoAudit {
    pub(crate) fn new(path: PathBuf) -> BaoAudit {
        BaoAudit(path)
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The end of the log, for [`BaoAudit::since`].
    pub fn mark(&self) -> Result<Mark> {
        end_of(&self.0).map(Mark)
    }

    /// What was answered since.
    pub fn since(&self, mark: Mark) -> Result<Calls> {
        let lines = lines_since(&self.0, mark.0)?;
        Ok(Calls(lines.iter().filter(|line| line["type"] == "response").map(Call::read).collect()))
    }

    /// Every token that a login was made with or answered with, or that made a call, each of them once.
    pub fn tokens(&self) -> Result<Vec<String>> {
        let mut tokens = BTreeSet::new();
        for line in lines_since(&self.0, 0)? {
            let sent = &line["request"];
            for token in [&line["response"]["auth"]["client_token"], &sent["client_token"], &sent["data"]["jwt"]] {
                tokens.extend(token.as_str().filter(|token| !token.is_empty()).map(str::to_owned));
            }
        }
        Ok(tokens.into_iter().collect())
    }

    /// Everything from the start.
    pub fn all(&self) -> Result<Calls> {
        self.since(Mark(0))
    }

    /// Sleeps a moment and counts since then: the calls made while nothing should happen.
    pub async fn during(&self, time: Duration) -> Result<Calls> {
        let mark = self.mark()?;
        tokio::time::sleep(time).await;
        self.since(mark)
    }
}

impl Call {
    pub(crate) fn read(line: &Value) -> Call {
        let request = &line["request"];
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let path = text(&request["path"]).unwrap_or_default();
        let empty_csr = request["data"]["csr"].as_str().is_none_or(|csr| csr.trim().is_empty());
        Call {
            id: text(&request["id"]).unwrap_or_default(),
            operation: text(&request["operation"]).unwrap_or_default(),
            probe: is_sign(&path) && empty_csr,
            data: request["data"].clone(),
            error: text(&line["error"]).or_else(|| text(&line["response"]["data"]["error"])),
            accessor: text(&line["auth"]["accessor"]),
            display_name: text(&line["auth"]["display_name"]),
            time: text(&line["time"]).unwrap_or_default(),
            path,
        }
    }
}

pub(crate) fn is_sign(path: &str) -> bool {
    path.split('/').any(|part| matches!(part, "sign" | "sign-verbatim" | "sign-intermediate"))
}

impl Calls {
    /// The calls whose path starts so.
    pub fn to(&self, prefix: &str) -> Calls {
        self.keep(|call| call.path.starts_with(prefix))
    }

    /// The calls that were refused.
    pub fn refused(&self) -> Calls {
        self.keep(|call| call.error.is_some())
    }

    /// The calls for which something holds.
    pub fn keep(&self, holds: impl Fn(&Call) -> bool) -> Calls {
        Calls(self.0.iter().filter(|call| holds(call)).cloned().collect())
    }

    /// Logins at a mount, refused ones included.
    pub fn logins(&self, mount: &str) -> usize {
        self.to(&format!("auth/{mount}/login")).len()
    }

    /// Logins with the role-id of this AppRole, refused ones included.
    pub fn logins_of(&self, role: &AppRole) -> usize {
        let at_mount = self.to(&format!("auth/{}/login", role.mount));
        at_mount.keep(|call| call.data["role_id"] == role.role_id.as_str()).len()
    }

    /// Certificates signed under a path: no probes, no refusals.
    pub fn signs(&self, prefix: &str) -> usize {
        self.to(prefix).keep(|call| is_sign(&call.path) && !call.probe && call.error.is_none()).len()
    }

    /// Signs asked for with a CSR, refused ones included.
    pub fn sign_attempts(&self, prefix: &str) -> usize {
        self.to(prefix).keep(|call| is_sign(&call.path) && !call.probe).len()
    }

    /// Probes: signs with an empty CSR.
    pub fn probes(&self, prefix: &str) -> usize {
        self.to(prefix).keep(|call| call.probe).len()
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
    pub fn iter(&self) -> std::slice::Iter<'_, Call> {
        self.0.iter()
    }
}

/// The length of a log that may not be there yet.
pub(crate) fn end_of(path: &Path) -> Result<u64> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error).with_context(|| format!("looking at {}", path.display())),
    }
}

/// The whole JSON lines after a position.
pub(crate) fn lines_since(path: &Path, position: u64) -> Result<Vec<Value>> {
    let text = text_since(path, position)?;
    text.lines().map(|line| serde_json::from_str(line).context("an audit line")).collect()
}

/// The whole lines after a position.
pub(crate) fn text_since(path: &Path, position: u64) -> Result<String> {
    let read = || -> std::io::Result<String> {
        let mut file = std::fs::File::open(path)?;
        file.seek(SeekFrom::Start(position))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let mut text = match read() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        other => other.with_context(|| format!("reading {}", path.display()))?,
    };
    text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
    Ok(text)
}
