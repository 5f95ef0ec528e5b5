//! What a check reads of the mount and of the role.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde_json::Value;

use super::*;
use crate::vault::fake::{refusal, text};

#[tokio::test]
async fn the_mounts_certificates_are_asked_for_without_a_token() {
    let (leaf, root) = (pem("ca"), pem("root"));
    let data = json!({"request_id": "r", "data": {"certificate": leaf, "ca_chain": [leaf, root]}});
    let answer = move |call: &Call| match call.line.as_str() {
        "GET /v1/pki/issuer/default/json" => fake::json(200, data.clone()),
        _ => refusal(400, "\"csr\" is empty"),
    };
    let (fake, signer) = vault(0, answer).await;
    let seen = signer.check(Probe::Skip).await;
    assert!(matches!(&seen.mount, Fact::Yes(shown) if shown.certificates.len() == 2), "{seen:?}");
    let call = fake.calls().pop().expect("there was a call");
    assert_eq!(call.header("x-vault-token"), None);
    assert_eq!(fake.signs(), 0, "a skipped probe asks nothing");
}

#[tokio::test]
async fn an_old_mount_shows_its_chain_as_bare_pem() {
    let chain = format!("{}{}", pem("ca"), pem("root"));
    let answer = move |call: &Call| match call.line.as_str() {
        "GET /v1/pki/ca_chain" => text(200, &chain),
        _ => refusal(404, "unsupported path"),
    };
    let (_fake, signer) = vault(0, answer).await;
    assert!(matches!(signer.check(Probe::Skip).await.mount, Fact::Yes(shown) if shown.certificates.len() == 2));
    let (_fake, signer) = vault(0, |_| refusal(403, "permission denied")).await;
    assert!(matches!(signer.check(Probe::Skip).await.mount, Fact::Unknown));
}

/// How often the role was asked for.
fn role_reads(fake: &Fake) -> usize {
    fake.calls().iter().filter(|call| call.line == "GET /v1/pki/roles/web").count()
}

#[tokio::test]
async fn a_role_that_may_be_read_is_read_with_each_check() {
    let options = json!({"request_id": "r", "data": {
        "require_cn": false, "key_type": "rsa", "allowed_uri_sans": [], "max_ttl": 3600, "no_store": true, "key_usage": null,
        "use_csr_sans": true, "not_before_duration": 30, "ttl": 0, "issuer_ref": "default", "new": [1],
    }});
    let answer = move |call: &Call| match call.line.as_str() {
        "GET /v1/pki/roles/web" => fake::json(200, options.clone()),
        _ => refusal(400, "\"csr\" is empty"),
    };
    let (fake, signer) = vault(0, answer).await;
    let expected = RoleOptions {
        require_cn: Some(false),
        key_type: Some("rsa".to_owned()),
        allowed_uri_sans: Some(Vec::new()),
        use_csr_sans: Some(true),
        max_ttl: Some(Duration::from_secs(3_600)),
        generate_lease: None,
        no_store: Some(true),
        key_usage: Some(Vec::new()),
        not_before_duration: Some(Duration::from_secs(30)),
        issuer_ref: Some("default".to_owned()),
    };
    for probe in [Probe::Ask, Probe::Skip] {
        let seen = signer.check(probe).await.role;
        assert!(matches!(&seen, Fact::Yes(options) if *options == expected), "{seen:?}");
    }
    assert_eq!((role_reads(&fake), fake.logins()), (2, 1));
}

#[tokio::test]
async fn a_role_that_may_not_be_read_costs_one_call_a_token() {
    let dead = Arc::new(AtomicBool::new(false));
    let refused = Arc::clone(&dead);
    let answer = move |call: &Call| match call.line.contains("/roles/") {
        true => refusal(403, "1 error occurred:\n\t* permission denied\n\n"),
        false if refused.swap(false, Ordering::SeqCst) => refusal(403, "permission denied"),
        false => refusal(400, "\"csr\" is empty"),
    };
    let (fake, signer) = vault(0, answer).await;
    for _ in 0..3 {
        let seen = signer.check(Probe::Ask).await;
        assert!(matches!((&seen.signing, &seen.role), (Fact::Yes(()), Fact::Unknown)), "{seen:?}");
    }
    assert_eq!(role_reads(&fake), 1);
    dead.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        signer.check(Probe::Ask).await;
    }
    assert_eq!((role_reads(&fake), fake.logins()), (2, 2), "another token may have another policy");
}

#[tokio::test]
async fn a_role_is_never_read_with_counted_uses_nor_where_there_is_none() {
    let (fake, signer) = vault(10, |_| refusal(400, "\"csr\" is empty")).await;
    assert!(matches!(signer.check(Probe::Ask).await.role, Fact::Unknown));
    assert_eq!(fake.calls().iter().filter(|call| call.header("x-vault-token").is_some()).count(), 1, "the probe");
    let (fake, _) = vault(0, |_| refusal(500, "1 error occurred:\n\t* failed to parse csr: invalid csr format")).await;
    for path in ["pki/cel/sign/web", "pki/sign-verbatim", "pki/root/sign-intermediate"] {
        let config = config(&fake.url, |vault| vault["path"] = path.into());
        let signer = VaultSigner::new(&config, &fake::material(fake::app_role()), &fake::common(), fake::metrics());
        assert!(matches!(signer.expect("usable").check(Probe::Ask).await.role, Fact::Unknown), "{path}");
    }
    assert!(!fake.calls().iter().any(|call| call.line.contains("/roles/")), "no role, no question");
}

/// A mount whose default is `one` and which lists `one` and `two`, unless `change` answers otherwise.
async fn listing(change: impl Fn(&str) -> Option<Reply> + Send + Sync + 'static) -> (Fake, VaultSigner) {
    let issuers = [("default", pem("one")), ("one", pem("one")), ("two", pem("two"))];
    let issuers: Vec<_> =
        issuers.iter().map(|(id, pem)| (format!("GET /v1/pki/issuer/{id}/json"), pem.clone())).collect();
    vault(0, move |call| {
        if let Some(reply) = change(&call.line) {
            return reply;
        }
        let listed = (call.line == "LIST /v1/pki/issuers").then(|| json!({"keys": ["one", "two"]}));
        let read = issuers.iter().find(|(line, _)| *line == call.line).map(|(_, pem)| json!({"certificate": pem}));
        match listed.or(read) {
            Some(data) => fake::json(200, json!({"request_id": "r-1", "data": data})),
            None => refusal(404, "unsupported path"),
        }
    })
    .await
}

/// How many certificates the mount shows, and whether these are all.
#[track_caller]
fn shows(observation: &Observation, expected: (usize, bool)) {
    let Fact::Yes(shown) = &observation.mount else { panic!("{observation:?}") };
    assert_eq!((shown.certificates.len(), shown.complete), expected);
}

#[tokio::test]
async fn all_issuers_of_the_mount_are_asked_for_without_a_token() {
    let (fake, signer) = listing(|_| None).await;
    // The fake makes `one` anew for the default, so there are three certificates.
    shows(&signer.check(Probe::Skip).await, (3, true));
    let of_mount = |call: &Call| !call.is_login() && !call.line.contains("/roles/");
    let open: Vec<_> = fake.calls().into_iter().filter(of_mount).collect();
    assert_eq!(open.len(), 4);
    assert!(open.iter().all(|call| call.header("x-vault-token").is_none()), "no token is needed");
}

#[tokio::test]
async fn a_list_with_gaps_is_said_to_have_them() {
    let refused = |part: &'static str| move |line: &str| line.contains(part).then(|| refusal(403, "permission denied"));
    for part in ["LIST", "issuer/two"] {
        let (_fake, signer) = listing(refused(part)).await;
        shows(&signer.check(Probe::Skip).await, (1, false));
    }
    let answer = |keys: Value| {
        move |line: &str| {
            let reply = || fake::json(200, json!({"request_id": "r-1", "data": {"keys": keys.clone()}}));
            line.starts_with("LIST").then(reply)
        }
    };
    let many: Vec<_> = (0..=MOST_ISSUERS).map(|id| id.to_string()).collect();
    for keys in [json!(many), json!(["../../sys/seal"]), json!("one")] {
        let (fake, signer) = listing(answer(keys)).await;
        shows(&signer.check(Probe::Skip).await, (1, false));
        assert_eq!(fake.calls().len(), 4, "login, role, default and list");
    }
}

#[tokio::test]
async fn a_server_that_goes_away_while_it_lists_has_shown_nothing() {
    let away = |line: &str| {
        line.contains("issuer/two").then(|| Reply { head: "content-length: 9\r\n".to_owned(), ..text(200, "") })
    };
    let (_fake, signer) = listing(away).await;
    let observation = signer.check(Probe::Skip).await;
    assert!(matches!(observation.mount, Fact::No(SignError::Transient(_))), "{observation:?}");
}

#[tokio::test]
async fn where_anchors_are_configured_nobody_is_asked_for_others() {
    let (fake, _) = listing(|_| None).await;
    let mut material = fake::material(fake::app_role());
    material.anchors = vec![found("spec.trust.anchors[0].pem", None, pem("root").into_bytes())];
    let signer = VaultSigner::new(&config(&fake.url, |_| ()), &material, &fake::common(), fake::metrics());
    shows(&signer.expect("usable").check(Probe::Skip).await, (1, false));
}
