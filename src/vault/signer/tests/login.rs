//! Logins and tokens: one login for all, dead tokens, counted uses, tokens of ServiceAccounts.

use secrecy::SecretString;

use super::*;
use crate::api::{IssuerKey, IssuerKind};
use crate::metrics::Metrics;
use crate::vault::fake::refusal;

#[tokio::test]
async fn fifty_requests_at_once_share_one_login() {
    let (fake, signer) = vault(0, |_| certificate()).await;
    assert!(many(&signer, 50).await.iter().all(Result::is_ok));
    assert_eq!((fake.logins(), fake.signs()), (1, 50));
}

#[tokio::test]
async fn everybody_who_waited_for_a_failing_login_shares_its_error() {
    let fake =
        Fake::start(|_| Reply { after: Duration::from_millis(50), ..refusal(400, "invalid role or secret ID") }).await;
    let signer = signer_of(&fake, fake::app_role());
    for result in many(&signer, 50).await {
        assert!(matches!(result, Err(SignError::Issuer(Fault::LoginRefused { .. }))), "{result:?}");
    }
    assert_eq!(fake.logins(), 1);
}

#[tokio::test]
async fn a_dead_token_is_replaced_once_for_all() {
    let dead = |call: &Call| match call.header("x-vault-token") {
        Some("t-1") => refusal(403, "permission denied"),
        _ => certificate(),
    };
    let (fake, signer) = vault(0, dead).await;
    assert!(many(&signer, 20).await.iter().all(Result::is_ok));
    assert_eq!(fake.logins(), 2);
    assert_eq!(fake.signs(), 40);
}

#[tokio::test]
async fn a_token_dead_straight_after_its_login_is_the_issuers_fault() {
    let (fake, signer) =
        vault(0, |_| refusal(403, "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n")).await;
    let result = signer.sign(&csr()).await;
    assert!(matches!(result, Err(SignError::Issuer(Fault::TokenDead { .. }))), "{result:?}");
    assert_eq!((fake.logins(), fake.signs()), (2, 2));
}

#[tokio::test]
async fn a_dead_static_token_is_said_at_once() {
    let fake = Fake::start(|_| refusal(403, "permission denied")).await;
    let signer = signer_of(&fake, Credentials::Token(SecretString::from("hvs.static")));
    let result = signer.sign(&csr()).await;
    assert!(matches!(result, Err(SignError::Issuer(Fault::TokenDead { .. }))), "{result:?}");
    assert_eq!(fake.calls().len(), 1);
    let seen = signer.check(Probe::Ask).await;
    assert!(matches!(seen.login, Fact::No(SignError::Issuer(Fault::TokenDead { .. }))), "{seen:?}");
}

#[tokio::test]
async fn the_end_of_a_static_token_is_read_once_and_announced() {
    let answer = |call: &Call| match call.line.as_str() {
        "GET /v1/auth/token/lookup-self" => {
            fake::json(200, json!({"request_id": "r", "data": {"expire_time": "2031-02-03T04:05:06Z", "num_uses": 0}}))
        }
        _ => refusal(400, "\"csr\" is empty"),
    };
    let fake = Fake::start(answer).await;
    let (metrics, key) = (Metrics::new(), IssuerKey::new(IssuerKind::Namespaced, "ns", "issuer"));
    let material = fake::material(Credentials::Token(SecretString::from("hvs.static")));
    let signer =
        VaultSigner::new(&config(&fake.url, |_| ()), &material, &fake::common(), metrics.issuer(&key)).expect("usable");
    for _ in 0..2 {
        let seen = signer.check(Probe::Ask).await;
        assert!(matches!((&seen.login, &seen.signing), (Fact::Yes(()), Fact::Yes(()))), "{seen:?}");
    }
    assert_eq!(fake.calls().iter().filter(|call| call.line.ends_with("/lookup-self")).count(), 1);
    let page = metrics.encode();
    assert!(page.contains("1927857906"), "{page}");
}

#[tokio::test]
async fn counted_uses_are_never_overdrawn() {
    let (fake, signer) = vault(10, |_| certificate()).await;
    assert!(many(&signer, 30).await.iter().all(Result::is_ok));
    assert_eq!(fake.logins(), 3);
    for token in ["t-1", "t-2", "t-3"] {
        let uses = fake.calls().iter().filter(|call| call.header("x-vault-token") == Some(token)).count();
        assert_eq!(uses, 10, "{token}");
    }
}

#[tokio::test]
async fn a_lease_in_an_answer_is_remembered() {
    let leased = || json!({"request_id": "r-1", "lease_id": "pki/sign/web/1", "data": {"certificate": pem("leaf")}});
    let (_fake, signer) = vault(0, move |_| fake::json(200, leased())).await;
    assert!(!signer.session.has_leases());
    signer.sign(&csr()).await.expect("the fake signs");
    assert!(signer.session.has_leases());
    let (_fake, signer) = vault(0, |_| certificate()).await;
    signer.sign(&csr()).await.expect("the fake signs");
    assert!(!signer.session.has_leases());
}

#[tokio::test]
async fn a_probe_spares_a_token_with_counted_uses() {
    let (fake, signer) =
        vault(10, |call| if call.body["csr"] == "" { refusal(400, "\"csr\" is empty") } else { certificate() }).await;
    assert!(matches!(signer.check(Probe::Ask).await.signing, Fact::Yes(())));
    assert!(matches!(signer.check(Probe::Ask).await.signing, Fact::Unknown));
    assert_eq!((fake.logins(), fake.signs()), (1, 1));
}

/// Credentials for a login with a requested token, by this method.
fn requested(method: &str) -> Credentials {
    let account = json!({"name": "login"});
    let auth = json!({method: {"role": "mesh", "serviceAccountRef": account}});
    let config = config("https://unused", |vault| vault["auth"] = auth);
    let credentials = config.auth.credentials(&fake::key(), "ns", &|_| Err::<SecretString, _>("nothing is stored"));
    credentials.expect("nothing is read")
}

#[tokio::test]
async fn a_requested_token_is_sent_with_its_login_and_shown_in_no_text() {
    let api_server = Fake::start(|call| {
        let ours = call.header("authorization").is_none();
        match call.line.contains("selfsubjectreviews") {
            false => fake::json(201, json!({"status": {"token": "eyJ.minted"}})),
            true if ours => fake::json(201, json!({"status": {"userInfo": {"username": "somebody"}}})),
            true => fake::json(401, json!({"kind": "Status", "status": "Failure", "code": 401})),
        }
    })
    .await;
    let fake = Fake::start(|call| refusal(403, &format!("{} is not welcome", call.body["jwt"]))).await;
    for method in ["kubernetes", "jwt"] {
        let material = fake::material(requested(method));
        let config = config(&fake.url, |_| ());
        let common = fake::common_at(&api_server.url);
        let signer = VaultSigner::new(&config, &material, &common, fake::metrics());
        let error = signer.expect("usable").sign(&csr()).await.expect_err("the login is refused");
        assert!(error.to_string().contains("[redacted]") && !error.to_string().contains("minted"), "{error}");
        let call = fake.calls().pop().expect("there was a call");
        assert_eq!(call.line, format!("POST /v1/auth/{method}/login"));
        assert_eq!(call.body, json!({"role": "mesh", "jwt": "eyJ.minted"}));
    }
}

#[tokio::test]
async fn without_a_token_of_the_cluster_vault_is_not_asked() {
    let fake = Fake::start(|_| refusal(500, "nobody should ask")).await;
    let (config, material) = (config(&fake.url, |_| ()), fake::material(requested("jwt")));
    let common = fake::common_at("http://127.0.0.1:9");
    let signer = VaultSigner::new(&config, &material, &common, fake::metrics());
    let error = signer.expect("usable").sign(&csr()).await.expect_err("there is no API server");
    assert!(matches!(&error, SignError::Transient(Outage::NoAccountToken { .. })), "{error:?}");
    assert!(error.to_string().contains("ServiceAccount ns/login"), "{error}");
    assert!(fake.calls().is_empty());
}
