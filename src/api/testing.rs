//! What the tests need of a spec, where nothing hangs on what it says.

use super::IssuerConfig;

/// A usable issuer that signs with a role and logs in with a static token.
pub fn config() -> IssuerConfig {
    let spec = serde_json::json!({"vault": {"server": "https://vault.example:8200", "path": "pki/sign/web",
        "auth": {"tokenSecretRef": {"name": "token"}}}});
    IssuerConfig::parse(&serde_json::from_value(spec).expect("a spec")).expect("a usable spec")
}
