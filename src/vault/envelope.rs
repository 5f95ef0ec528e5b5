//! The outer form of Vault's JSON answers, read by ourselves: vaultrs drops `warnings` and `num_uses`. Unknown fields are no error,
//! odd ones are skipped; what is not Vault's form at all gives no envelope, and then nothing of it is shown to anybody.

use std::time::Duration;

use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::Value;

/// How many errors or warnings of one answer are looked at.
const MOST_TEXTS: usize = 20;

/// One answer. It may hold a token, so it cannot be printed.
pub struct Envelope {
    /// Joins our log line with Vault's audit log.
    pub request_id: String,
    /// What was asked for.
    pub data: Value,
    /// The result of a login.
    pub auth: Option<Login>,
    /// What Vault changed silently.
    pub warnings: Vec<String>,
    /// Why Vault refused.
    pub errors: Vec<String>,
    /// A lease hangs on the token that was used: what was made ends with it.
    pub leased: bool,
}

/// The result of a login.
pub struct Login {
    /// The token.
    pub client_token: SecretString,
    /// How long it lives; none: for ever.
    pub lease: Option<Duration>,
    /// Whether its life can be prolonged.
    pub renewable: bool,
    /// How many calls it is good for; none: any number.
    pub uses: Option<u32>,
    /// It cannot be revoked (nor renewed, which `renewable` says).
    pub batch: bool,
}

/// What a token tells of itself at `lookup-self`.
#[derive(Debug, Clone, Default)]
pub struct Described {
    /// How long it still lives; none: for ever.
    pub left: Option<Duration>,
    /// How long its lease was when it was made.
    pub granted: Option<Duration>,
    /// Whether its life can be prolonged.
    pub renewable: bool,
    /// How many calls are left; none: any number.
    pub uses: Option<u32>,
    /// When its lease ends.
    pub expires: Option<Timestamp>,
    /// Beyond this no renewal prolongs it. Vault's own limit, which holds as well, is not told.
    pub limit: Option<Timestamp>,
}

impl Envelope {
    /// Reads a body; none if it is not an answer of Vault's.
    pub fn read(body: &[u8]) -> Option<Self> {
        let Ok(Value::Object(mut fields)) = serde_json::from_slice(body) else { return None };
        if !["request_id", "errors", "auth"].iter().any(|name| fields.contains_key(*name)) {
            return None;
        }
        let mut take = |name: &str| fields.remove(name).unwrap_or(Value::Null);
        Some(Self {
            request_id: take("request_id").as_str().unwrap_or_default().chars().take(64).collect(),
            data: take("data"),
            auth: Login::read(&take("auth")),
            warnings: texts(&take("warnings")),
            errors: texts(&take("errors")),
            leased: take("lease_id").as_str().is_some_and(|id| !id.is_empty()),
        })
    }
}

impl Login {
    fn read(auth: &Value) -> Option<Self> {
        let token = auth["client_token"].as_str()?.trim();
        // What cannot stand in an HTTP header is no token.
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        Some(Self {
            client_token: SecretString::from(token),
            lease: seconds(&auth["lease_duration"]),
            renewable: auth["renewable"].as_bool().unwrap_or(false),
            uses: uses(&auth["num_uses"]),
            batch: auth["token_type"] == "batch",
        })
    }
}

impl Described {
    /// Reads the answer of `lookup-self`.
    pub fn read(data: &Value) -> Self {
        let made = data["creation_time"].as_i64().and_then(|made| Timestamp::from_second(made).ok());
        let limit = made.zip(seconds(&data["explicit_max_ttl"])).and_then(|(made, limit)| made.checked_add(limit).ok());
        Self {
            left: seconds(&data["ttl"]),
            granted: seconds(&data["creation_ttl"]),
            renewable: data["renewable"].as_bool().unwrap_or(false),
            uses: uses(&data["num_uses"]),
            expires: data["expire_time"].as_str().and_then(|end| end.parse().ok()),
            limit,
        }
    }
}

/// A length of time, where 0 means for ever.
fn seconds(value: &Value) -> Option<Duration> {
    value.as_u64().filter(|seconds| *seconds > 0).map(Duration::from_secs)
}

/// `num_uses`, where 0 means without limit.
fn uses(value: &Value) -> Option<u32> {
    value.as_u64().filter(|uses| *uses > 0).map(|uses| u32::try_from(uses).unwrap_or(u32::MAX))
}

fn texts(value: &Value) -> Vec<String> {
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().take(MOST_TEXTS).filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn a_login_tells_its_lease_and_its_uses() {
        let body = br#"{"request_id":"r","auth":{"client_token":"hvs.x","lease_duration":3600,"renewable":true,"num_uses":10,"new":[1]}}"#;
        let login = Envelope::read(body).and_then(|envelope| envelope.auth).expect("this is a login");
        assert_eq!(login.client_token.expose_secret(), "hvs.x");
        assert_eq!((login.lease, login.renewable, login.uses), (Some(Duration::from_secs(3_600)), true, Some(10)));
    }

    #[test]
    fn zero_means_no_limit() {
        let body = br#"{"auth":{"client_token":"root","lease_duration":0,"num_uses":0}}"#;
        let login = Envelope::read(body).and_then(|envelope| envelope.auth).expect("this is a login");
        assert_eq!((login.lease, login.renewable, login.uses), (None, false, None));
    }

    #[test]
    fn a_token_tells_of_itself() {
        let data = serde_json::json!({"ttl": 1_800, "creation_ttl": 3_600, "renewable": true, "num_uses": 0,
            "expire_time": "2026-11-21T20:41:42.818616816Z", "creation_time": 1_795_290_102, "explicit_max_ttl": 7_200});
        let Described { left, granted, renewable, uses, expires, limit } = Described::read(&data);
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!((left, granted, renewable, uses), (seconds(1_800), seconds(3_600), true, None));
        assert_eq!(expires.map(Timestamp::as_second), Some(1_795_293_702));
        assert_eq!(limit.map(Timestamp::as_second), Some(1_795_297_302));
        let root = serde_json::json!({"ttl": 0, "creation_ttl": 0, "expire_time": null, "explicit_max_ttl": 0});
        let Described { left, expires, limit, .. } = Described::read(&root);
        assert_eq!((left, expires, limit), (None, None, None));
    }

    #[test]
    fn a_lease_is_seen_by_its_id() {
        for (id, leased) in [(r#""pki/sign/web/1""#, true), (r#""""#, false), ("null", false), ("7", false)] {
            let body = format!(r#"{{"request_id":"r","lease_id":{id}}}"#);
            assert_eq!(Envelope::read(body.as_bytes()).map(|envelope| envelope.leased), Some(leased), "{id}");
        }
    }

    #[test]
    fn what_is_not_vaults_gives_no_envelope() {
        for body in [&b""[..], b"<html>", b"[]", b"null", b"{}", br#"{"error":"gateway"}"#, b"\xff"] {
            assert!(Envelope::read(body).is_none(), "{body:?}");
        }
    }

    #[test]
    fn odd_fields_are_skipped() {
        let envelope =
            Envelope::read(br#"{"errors":["a",1,null],"warnings":"x","auth":{"client_token":"a\nb"},"request_id":7}"#)
                .expect("it has errors");
        assert_eq!(envelope.errors, ["a"]);
        assert!(envelope.warnings.is_empty() && envelope.auth.is_none() && envelope.request_id.is_empty());
    }
}
