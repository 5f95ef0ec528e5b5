//! The session against a server that answers as Vault does: logins that are shared, renewals, rests after a failure, revocations.

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use super::*;
use crate::clock::testing::pass;
use crate::lease::Leadership;
use crate::vault::fake::{self, Call, Fake, Reply, refusal};
use crate::vault::tls::PublicRoots;

/// The lease of a token, in seconds.
const LEASE: u64 = 60;
/// Past two thirds of it, and far from its end.
const AGED: Duration = Duration::from_secs(42);
/// From there beyond its end.
const REST_OF_LEASE: Duration = Duration::from_secs(19);
const POLICY: &str = "1 error occurred:\n\t* permission denied\n\n";

fn session(fake: &Fake, credentials: Credentials) -> Session {
    let material = fake::material(credentials);
    let transport =
        Transport::new(&fake::config(&fake.url, |_| ()), &material, &PublicRoots::none(), Leadership::sole())
            .expect("a usable server");
    Session::new(transport, material.credentials, &fake::common(), fake::metrics())
}

/// A login's or a renewal's answer.
fn auth(token: &str, lease: u64, more: &Value) -> Reply {
    let mut auth = json!({"client_token": token, "lease_duration": lease, "renewable": true, "num_uses": 0, "token_type": "service"});
    for (field, value) in more.as_object().expect("an object") {
        auth[field] = value.clone();
    }
    Reply { after: Duration::from_millis(20), ..fake::json(200, json!({"request_id": "r", "auth": auth})) }
}

/// A Vault that logs in with tokens `t-1`, `t-2`, … of that lease and answers every other call by `answer`.
async fn vault(more: Value, answer: impl Fn(&Call) -> Reply + Send + Sync + 'static) -> (Fake, Session) {
    let count = AtomicU32::new(0);
    let fake = Fake::start(move |call| match call.is_login() {
        true => auth(&format!("t-{}", count.fetch_add(1, Ordering::SeqCst) + 1), LEASE, &more),
        false => answer(call),
    })
    .await;
    let session = session(&fake, fake::app_role());
    (fake, session)
}

fn calls(fake: &Fake, end: &str) -> usize {
    fake.calls().iter().filter(|call| call.line.ends_with(end)).count()
}

/// So many want a token at a time; gives the tokens they got.
async fn tokens(session: &Session, count: usize) -> Vec<String> {
    let held =
        futures::future::try_join_all((0..count).map(|_| session.token())).await.expect("everybody gets a token");
    held.iter().map(|held| held.secret().expose_secret().to_owned()).collect()
}

#[tokio::test]
async fn an_aged_token_is_renewed_once_for_everybody_and_kept() {
    let (fake, session) = vault(json!({}), |_| auth("t-1", LEASE, &json!({}))).await;
    tokens(&session, 1).await;
    pass(AGED);
    assert_eq!(tokens(&session, 20).await, vec!["t-1"; 20]);
    assert_eq!((fake.logins(), calls(&fake, "POST /v1/auth/token/renew-self")), (1, 1));
    assert_eq!(fake.calls().pop().expect("a renewal").header("x-vault-token"), Some("t-1"));
    pass(REST_OF_LEASE);
    assert_eq!(tokens(&session, 1).await, ["t-1"], "it would have ended without the renewal");
    assert_eq!(fake.calls().len(), 2);
}

#[tokio::test]
async fn a_token_found_dead_by_its_renewal_costs_one_login() {
    for words in ["permission denied", "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"] {
        let (fake, session) = vault(json!({}), move |_| refusal(403, words)).await;
        tokens(&session, 1).await;
        pass(AGED);
        assert_eq!(tokens(&session, 20).await, vec!["t-2"; 20]);
        assert_eq!((fake.logins(), calls(&fake, "/renew-self")), (2, 1));
    }
}

#[tokio::test]
async fn a_vault_that_cannot_renew_now_leaves_the_token_in_use_and_is_not_asked_by_everybody() {
    let (fake, session) = vault(json!({}), |_| refusal(503, "Vault is sealed")).await;
    tokens(&session, 1).await;
    pass(AGED);
    assert_eq!(tokens(&session, 20).await, vec!["t-1"; 20]);
    assert_eq!((fake.logins(), calls(&fake, "/renew-self")), (1, 1));
    pass(REST_OF_LEASE);
    assert_eq!(tokens(&session, 1).await, ["t-2"], "its lease is over");
}

#[tokio::test]
async fn a_policy_without_renewals_is_asked_once_and_not_with_every_token() {
    let (fake, session) = vault(json!({}), |_| refusal(403, POLICY)).await;
    for expected in ["t-1", "t-2", "t-3"] {
        assert_eq!(tokens(&session, 5).await, vec![expected; 5]);
        pass(AGED);
    }
    assert_eq!((fake.logins(), calls(&fake, "/renew-self")), (3, 1));
}

#[tokio::test]
async fn a_check_logs_in_for_no_token_that_is_still_valid() {
    let batch = json!({"renewable": false, "token_type": "batch"});
    let (fake, session) = vault(batch, |_| refusal(500, "nobody asks")).await;
    tokens(&session, 1).await;
    pass(AGED);
    session.ensure().await.expect("there is a token");
    session.probe_token().await.expect("there is a token").expect("it may probe");
    assert_eq!(fake.logins(), 1);
    assert_eq!(tokens(&session, 5).await, vec!["t-2"; 5]);
    assert_eq!(fake.calls().len(), 2, "a batch token is not renewed");
}

#[tokio::test]
async fn a_login_ahead_of_time_that_fails_for_a_moment_costs_nothing() {
    let logins = AtomicU32::new(0);
    let fake = Fake::start(move |_| match logins.fetch_add(1, Ordering::SeqCst) {
        0 => auth("t-1", LEASE, &json!({"renewable": false})),
        _ => refusal(500, "internal error"),
    })
    .await;
    let session = session(&fake, fake::app_role());
    tokens(&session, 1).await;
    pass(AGED);
    assert_eq!(tokens(&session, 20).await, vec!["t-1"; 20]);
    assert_eq!(fake.logins(), 2);
    pass(REST_OF_LEASE);
    assert!(matches!(session.token().await, Err(SignError::Transient(_))), "its lease is over");
}

/// A static token that has used up most of its hour, and what Vault answers to its renewal.
async fn old_token(renewal: impl Fn() -> Reply + Send + Sync + 'static) -> (Fake, Session) {
    let data = json!({"ttl": 600, "creation_ttl": 3_600, "renewable": true, "num_uses": 0,
        "expire_time": "2031-02-03T04:05:06Z", "explicit_max_ttl": 0, "creation_time": 1_795_290_102});
    let fake = Fake::start(move |call| match call.line.ends_with("/lookup-self") {
        true => fake::json(200, json!({"request_id": "r", "data": data})),
        false => renewal(),
    })
    .await;
    let session = session(&fake, Credentials::Token(SecretString::from("hvs.static")));
    session.learn_end().await;
    (fake, session)
}

#[tokio::test]
async fn a_static_token_is_renewed_and_its_end_is_known_once_no_renewal_puts_it_off() {
    let (fake, session) = old_token(|| auth("hvs.static", 3_600, &json!({}))).await;
    assert_eq!(session.ends().await, None, "it may be renewed");
    assert_eq!(session.renewal_due(), Some(Duration::ZERO));
    session.ensure().await.expect("a check renews it");
    assert_eq!((calls(&fake, "/renew-self"), session.ends().await), (1, None));
    assert!(session.renewal_due().is_some_and(|due| due > Duration::from_secs(2_300)), "at two thirds again");

    let (fake, session) = old_token(|| auth("hvs.static", 1_200, &json!({}))).await;
    assert_eq!(tokens(&session, 20).await, vec!["hvs.static"; 20]);
    let ends = session.ends().await.expect("the renewal shrank").duration_since(clock::now()).as_secs();
    assert!((1_100..=1_200).contains(&ends), "{ends}");
    assert_eq!((calls(&fake, "/renew-self"), session.renewal_due()), (1, None));

    for reply in [(403, POLICY), (400, "lease is not renewable"), (403, "permission denied")] {
        let (fake, session) = old_token(move || refusal(reply.0, reply.1)).await;
        assert_eq!(tokens(&session, 2).await, vec!["hvs.static"; 2], "only a sign shows that it is dead");
        let ends = session.ends().await.expect("no renewal").duration_since(clock::now()).as_secs();
        assert!((500..=600).contains(&ends), "{ends}");
        assert_eq!(calls(&fake, "/renew-self"), 1);
    }
}

#[tokio::test]
async fn an_end_beyond_all_renewals_is_known_from_the_first() {
    let data = json!({"ttl": 3_600, "creation_ttl": 3_600, "renewable": true, "num_uses": 0,
        "expire_time": "2026-11-21T20:41:42Z", "explicit_max_ttl": 7_200, "creation_time": 1_795_290_102});
    let fake = Fake::start(move |_| fake::json(200, json!({"request_id": "r", "data": data}))).await;
    let session = session(&fake, Credentials::Token(SecretString::from("hvs.static")));
    session.learn_end().await;
    assert_eq!(session.ends().await.map(Timestamp::as_second), Some(1_795_297_302));
}

/// Which tokens were revoked once the session had gone.
async fn revoked(fake: &Fake, session: Session) -> Vec<String> {
    let revocations = session.revocations.clone();
    drop(session);
    revocations.finish(Duration::from_secs(5)).await;
    let calls = fake.calls();
    let revoked = calls.iter().filter(|call| call.line == "POST /v1/auth/token/revoke-self");
    revoked.map(|call| call.header("x-vault-token").unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn the_token_is_revoked_when_its_last_user_has_gone() {
    let (fake, session) = vault(json!({}), |_| fake::text(204, "")).await;
    tokens(&session, 3).await;
    let session = Arc::new(session);
    let user = Arc::clone(&session);
    drop(session);
    assert_eq!(fake.calls().len(), 1, "somebody still signs");
    assert_eq!(revoked(&fake, Arc::into_inner(user).expect("the last one")).await, ["t-1"]);
}

#[tokio::test]
async fn a_token_that_is_not_ours_or_that_certificates_hang_on_is_not_revoked() {
    let (fake, session) = vault(json!({}), |_| fake::text(204, "")).await;
    assert!(revoked(&fake, session).await.is_empty(), "there was none");

    for (more, uses) in [(json!({"num_uses": 2}), 2), (json!({"renewable": false, "token_type": "batch"}), 1)] {
        let (fake, session) = vault(more, |_| fake::text(204, "")).await;
        tokens(&session, uses).await;
        assert!(revoked(&fake, session).await.is_empty());
    }
    let (fake, session) = vault(json!({}), |_| fake::text(204, "")).await;
    tokens(&session, 1).await;
    assert!(session.keep_for_leases() && !session.keep_for_leases());
    assert!(revoked(&fake, session).await.is_empty());

    let (fake, session) = old_token(|| auth("hvs.static", 3_600, &json!({}))).await;
    tokens(&session, 1).await;
    assert!(revoked(&fake, session).await.is_empty());
}

#[tokio::test]
async fn a_vault_that_does_not_answer_holds_the_end_up_no_longer_than_is_allowed() {
    let (_fake, session) = vault(json!({}), |_| Reply { after: Duration::from_secs(60), ..fake::text(204, "") }).await;
    tokens(&session, 1).await;
    let revocations = session.revocations.clone();
    drop(session);
    let began = clock::monotonic();
    revocations.finish(Duration::from_millis(300)).await;
    assert!(began.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn a_login_that_failed_is_everybodys_answer_for_a_while() {
    let fake = Fake::start(|_| refusal(400, "invalid secret id")).await;
    let session = session(&fake, fake::app_role());
    for _ in 0..50 {
        assert!(matches!(session.token().await, Err(SignError::Issuer(_))));
    }
    assert_eq!(fake.logins(), 1);
    pass(FIRST_REST + Duration::from_millis(100));
    for _ in 0..2 {
        assert!(session.token().await.is_err());
        pass(FIRST_REST + Duration::from_millis(100));
    }
    assert_eq!(fake.logins(), 2, "the second rest is longer");
}

#[tokio::test]
async fn a_vault_that_is_silent_to_a_renewal_holds_nobody_up_whose_token_lasts() {
    let silent = || Reply { after: Duration::from_secs(60), ..refusal(503, "nobody hears this") };
    let (fake, session) = vault(json!({}), move |_| silent()).await;
    tokens(&session, 1).await;
    pass(AGED);
    assert_eq!(tokens(&session, 20).await, vec!["t-1"; 20], "its lease lasts");
    assert_eq!((fake.logins(), calls(&fake, "/renew-self")), (1, 1));
}

#[tokio::test]
async fn a_token_that_may_not_sign_is_revoked_when_it_is_dropped() {
    let (fake, session) = vault(json!({}), |_| refusal(204, "")).await;
    let held = session.token().await.expect("a token");
    session.renounce_limited(&held).await;
    assert_eq!(tokens(&session, 1).await, ["t-1"], "its uses are not counted, a probe will show");
    session.renounce(&held).await;
    assert_eq!(tokens(&session, 1).await, ["t-2"]);
    session.renounce(&held).await;
    assert_eq!(tokens(&session, 1).await, ["t-2"], "another has taken its place");
    session.revocations.finish(Duration::from_secs(3)).await;
    assert_eq!(calls(&fake, "POST /v1/auth/token/revoke-self"), 1);
}
