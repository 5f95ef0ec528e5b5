//! The outer form of Vault's JSON answers, read by ourselves: vaultrs drops `warnings` and `num_uses`. Unknown fields are no error,
//! odd ones are skipped; what is not Vault's form at all gives no envelope, and then nothing of it is shown to anybody.

use std::time::Duration;

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
            lease: auth["lease_duration"].as_u64().filter(|seconds| *seconds > 0).map(Duration::from_secs),
            renewable: auth["renewable"].as_bool().unwrap_or(false),
            uses: uses(&auth["num_uses"]),
        })
    }
}

/// `num_uses`, where 0 means without limit.
pub fn uses(value: &Value) -> Option<u32> {
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
