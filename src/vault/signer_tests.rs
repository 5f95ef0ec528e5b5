use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use secrecy::SecretString;
use serde_json::{Value, json};

use super::super::fake::{self, Call, Fake, Reply, config, login, refusal, request, text};
use super::*;
use std::time::Duration;

use crate::api::auth::Credentials;
use crate::api::material::{ClientTls, Found, Place};
use crate::api::{IssuerKey, IssuerKind};
use crate::lease::Leadership;
use crate::metrics::Metrics;

fn csr() -> SigningRequest {
    request("pki/sign/web", &[], None)
}

fn pem(name: &str) -> String {
    rcgen::generate_simple_self_signed([name.to_owned()]).expect("rcgen makes a certificate").cert.pem()
}

fn certificate() -> Reply {
    fake::json(200, json!({"request_id": "r-1", "data": {"certificate": pem("leaf"), "ca_chain": [pem("ca")]}}))
}

fn signer_of(fake: &Fake, credentials: Credentials) -> VaultSigner {
    let config = config(&fake.url, |_| ());
    VaultSigner::new(&config, &fake::material(credentials), &fake::common(), fake::metrics())
        .expect("the test's issuer is usable")
}

/// A Vault that logs in with tokens `t-1`, `t-2`, … and answers every other call by `answer`.
async fn vault(uses: u32, answer: impl Fn(&Call) -> Reply + Send + Sync + 'static) -> (Fake, VaultSigner) {
    let count = AtomicU32::new(0);
    let fake = Fake::start(move |call| {
        if call.is_login() {
            login(&format!("t-{}", count.fetch_add(1, Ordering::SeqCst) + 1), uses)
        } else {
            answer(call)
        }
    })
    .await;
    let signer = signer_of(&fake, fake::app_role());
    (fake, signer)
}

async fn many(signer: &VaultSigner, count: usize) -> Vec<Result<Answer, SignError>> {
    let request = csr();
    futures::future::join_all((0..count).map(|_| signer.sign(&request))).await
}

#[tokio::test]
async fn a_replica_that_does_not_lead_calls_nobody() {
    let fake = Fake::start(|_| certificate()).await;
    let (config, material) = (config(&fake.url, |_| ()), fake::material(fake::app_role()));
    let common = Common { leadership: Leadership::none_yet(), ..fake::common() };
    let signer = VaultSigner::new(&config, &material, &common, fake::metrics()).expect("usable");
    assert!(matches!(signer.sign(&csr()).await, Err(SignError::Transient(_))));
    assert!(matches!(signer.check(Probe::Ask).await.login, Fact::No(SignError::Transient(_))));
    assert_eq!(fake.calls().len(), 0);
}

#[tokio::test]
async fn fifty_requests_at_once_share_one_login() {
    let (fake, signer) = vault(0, |_| certificate()).await;
    assert!(many(&signer, 50).await.iter().all(Result::is_ok));
    assert_eq!((fake.logins(), fake.signs()), (1, 50));
}

#[tokio::test]
async fn what_is_asked_is_the_csr_with_its_lifetime_and_nothing_else() {
    let (fake, signer) = vault(0, |_| certificate()).await;
    let request = csr();
    let answer = signer.sign(&request).await.expect("the fake signs");
    assert_eq!((answer.others.len(), answer.request_id.as_str()), (1, "r-1"));
    let call = fake.calls().pop().expect("there was a call");
    assert_eq!(call.line, "POST /v1/pki/sign/web");
    assert_eq!(
        call.body,
        json!({"csr": request.csr.pem(), "ttl": "3600s", "exclude_cn_from_sans": true, "format": "pem"})
    );
    assert_eq!(call.header("x-vault-token"), Some("t-1"));
    assert_eq!(call.header("x-vault-request"), Some("true"));
    assert_eq!(fake.calls()[0].header("x-vault-token"), None);
    assert_eq!(fake.calls()[0].body, json!({"role_id": "role-1", "secret_id": "secret-id-1"}));
}

#[tokio::test]
async fn each_verb_is_asked_for_what_it_can_give() {
    let (fake, signer) = vault(0, |_| certificate()).await;
    let asked = ["digital signature", "server auth", "client auth"];
    for (path, usages, ca, more) in [
        (
            "pki/root/sign-intermediate",
            &["cert sign"][..],
            Some(2),
            json!({"use_csr_values": true, "max_path_length": 2}),
        ),
        (
            "pki/sign-verbatim",
            &asked[..],
            None,
            json!({"key_usage": ["DigitalSignature"], "ext_key_usage": ["ServerAuth", "ClientAuth"]}),
        ),
        (
            "pki/issuer/blue/sign-verbatim/web",
            &[][..],
            None,
            json!({"key_usage": ["DigitalSignature", "KeyEncipherment"], "ext_key_usage": []}),
        ),
        ("pki/cel/sign/web", &asked[..], None, json!({})),
    ] {
        let request = request(path, usages, ca);
        signer.sign(&request).await.expect("the fake signs");
        let call = fake.calls().pop().expect("there was a call");
        let mut body = json!({"csr": request.csr.pem(), "ttl": "3600s", "exclude_cn_from_sans": true, "format": "pem"});
        for (field, value) in more.as_object().expect("an object") {
            body[field] = value.clone();
        }
        assert_eq!((call.line, call.body), (format!("POST /v1/{path}"), body));
    }
}

#[tokio::test]
async fn a_refusal_at_the_ca_path_is_probed_there_and_says_that_path() {
    let (fake, signer) = vault(0, |call| match call.line.ends_with("sign-intermediate") {
        true => refusal(403, "1 error occurred:\n\t* permission denied\n\n"),
        false => certificate(),
    })
    .await;
    let error = signer.sign(&request("pki/root/sign-intermediate", &[], Some(0))).await.expect_err("a refusal");
    assert!(
        matches!(&error, SignError::Issuer(Fault::SignForbidden { path, .. }) if path == "pki/root/sign-intermediate")
    );
    assert_eq!(fake.calls().iter().filter(|call| call.line.ends_with("sign-intermediate")).count(), 2);
    signer.sign(&csr()).await.expect("leaves are signed");
    assert_eq!(fake.logins(), 1);
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

#[tokio::test]
async fn a_forbidden_path_is_told_from_forbidden_parameters() {
    let forbidden = "1 error occurred:\n\t* permission denied\n\n";
    let (_fake, signer) = vault(0, move |_| refusal(403, forbidden)).await;
    let result = signer.sign(&csr()).await;
    assert!(matches!(result, Err(SignError::Issuer(Fault::SignForbidden { .. }))), "{result:?}");
    let seen = signer.check(Probe::Ask).await;
    assert!(matches!(seen.signing, Fact::No(SignError::Issuer(Fault::SignForbidden { .. }))), "{seen:?}");
    let parameters = move |call: &Call| match call.body["csr"] == "" {
        true => refusal(400, "\"csr\" is empty"),
        false => refusal(403, forbidden),
    };
    let (fake, signer) = vault(0, parameters).await;
    let result = signer.sign(&csr()).await;
    assert!(matches!(result, Err(SignError::Request(Refusal::Parameters { .. }))), "{result:?}");
    assert_eq!((fake.logins(), fake.signs()), (1, 2));
}

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

#[tokio::test]
async fn an_echoed_secret_is_not_shown() {
    let echo = |call: &Call| {
        let token = call.header("x-vault-token").unwrap_or_default().to_owned();
        refusal(400, &format!("role says {token} and secret-id-1"))
    };
    let (_fake, signer) = vault(0, echo).await;
    let error = signer.sign(&csr()).await.expect_err("the fake refuses");
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("t-1") && !shown.contains("secret-id-1"), "{shown}");
    assert!(shown.contains("role says [redacted] and [redacted]"), "{shown}");
    let fake = Fake::start(|call| refusal(400, &format!("no such {}", call.body["secret_id"]))).await;
    let error = signer_of(&fake, fake::app_role()).sign(&csr()).await.expect_err("the fake refuses");
    assert!(!format!("{error} {error:?}").contains("secret-id-1"), "{error}");
}

#[tokio::test]
async fn what_is_not_vaults_is_not_echoed() {
    let (_fake, signer) = vault(0, |_| text(502, "<html>internal-host-17</html>")).await;
    let error = signer.sign(&csr()).await.expect_err("this is no Vault");
    assert!(matches!(error, SignError::Transient(Outage::NotVault { status: 502, .. })), "{error:?}");
    assert!(!format!("{error:?}").contains("internal-host-17"));
    let (_fake, signer) = vault(0, |_| text(200, "<html>internal-host-17</html>")).await;
    let error = signer.sign(&csr()).await.expect_err("this is no Vault");
    assert!(matches!(error, SignError::Untrusted(Mistrust::Unreadable { .. })), "{error:?}");
    assert!(!format!("{error:?}").contains("internal-host-17"));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (thief, _) = vault(0, |_| certificate()).await;
    let target = thief.url.clone();
    let away = move |_: &Call| Reply { head: format!("location: {target}/v1/pki/sign/web\r\n"), ..text(307, "") };
    let (fake, signer) = vault(0, away).await;
    let error = signer.sign(&csr()).await.expect_err("the fake redirects");
    assert!(error.to_string().contains("redirect"), "{error}");
    assert_eq!((thief.calls().len(), fake.signs()), (0, 1));
}

#[tokio::test]
async fn a_huge_answer_is_not_read_to_its_end() {
    let huge = "x".repeat(8 << 20);
    let (_fake, signer) = vault(0, move |_| text(200, &huge)).await;
    let error = signer.sign(&csr()).await.expect_err("nobody's certificate has 8 MiB");
    assert!(
        matches!(&error, SignError::Untrusted(Mistrust::Unreadable { problem, .. }) if problem.contains("1 MiB")),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_base_path_and_a_namespace_are_kept() {
    let fake = Fake::start(|call| if call.is_login() { login("t", 0) } else { certificate() }).await;
    let config = config(&format!("{}/base/", fake.url), |vault| {
        vault["namespace"] = "team/a".into();
        vault["path"] = "a/b/issuer/blue/sign/web".into();
    });
    let signer =
        VaultSigner::new(&config, &fake::material(fake::app_role()), &fake::common(), fake::metrics()).expect("usable");
    assert!(signer.sign(&request("a/b/issuer/blue/sign/web", &[], None)).await.is_ok());
    let calls = fake.calls();
    assert_eq!(calls[0].line, "POST /base/v1/auth/approle/login");
    assert_eq!(calls[1].line, "POST /base/v1/a/b/issuer/blue/sign/web");
    assert!(calls.iter().all(|call| call.header("x-vault-namespace") == Some("team/a")));
}

#[tokio::test]
async fn a_refused_connection_and_an_unknown_name_are_told_apart() {
    let free = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        listener.local_addr().expect("it is bound").port()
    };
    for (server, expected) in [
        (format!("http://127.0.0.1:{free}"), "refused"),
        ("http://no-such-host.invalid:8200".to_owned(), "name not found"),
    ] {
        let config = config(&server, |_| ());
        let signer = VaultSigner::new(&config, &fake::material(fake::app_role()), &fake::common(), fake::metrics());
        let error = signer.expect("usable").sign(&csr()).await.expect_err("nobody is there");
        assert!(
            matches!(&error, SignError::Transient(Outage::Unreachable { class, .. }) if *class == expected),
            "{error:?}"
        );
    }
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

#[tokio::test]
async fn https_to_a_plain_server_says_so() {
    let fake = Fake::start(|_| text(400, "")).await;
    let config = config(&fake.url.replace("http://", "https://"), |_| ());
    let mut material = fake::material(fake::app_role());
    material.server_ca = Some(found("spec.vault.caBundle", None, pem("ca").into_bytes()));
    let signer = VaultSigner::new(&config, &material, &fake::common(), fake::metrics()).expect("usable");
    let error = signer.sign(&csr()).await.expect_err("the server speaks plain http");
    assert!(error.to_string().contains("must begin with http://"), "{error}");
}

#[tokio::test]
async fn plain_http_to_a_tls_server_says_so() {
    let fake = Fake::start(|_| text(400, "Client sent an HTTP request to an HTTPS server.\n")).await;
    let error = signer_of(&fake, fake::app_role()).sign(&csr()).await.expect_err("the server speaks TLS");
    assert!(error.to_string().contains("must begin with https://"), "{error}");
}

fn found<T>(field: &str, object: Option<&str>, value: T) -> Found<T> {
    Found { place: Place { field: field.to_owned(), object: object.map(str::to_owned) }, value }
}

#[track_caller]
fn unusable(edit: impl FnOnce(&mut Value), bytes: impl FnOnce(&mut Material), field: &str) {
    let config = config("https://vault.example:8200", edit);
    let mut material = fake::material(fake::app_role());
    bytes(&mut material);
    let result = VaultSigner::new(&config, &material, &fake::common(), fake::metrics());
    let error = result.err().expect("the material is unusable").to_string();
    assert!(error.starts_with(field), "{error}");
}

#[tokio::test]
async fn bytes_that_are_no_certificates_are_said_with_their_field() {
    let bundle = |field: &str, object: Option<&str>, pem: &str| Some(found(field, object, pem.as_bytes().to_vec()));
    let (inline, referenced, secret) =
        ("spec.vault.caBundle", "spec.vault.caBundleSecretRef", "Secret mesh/ca, key ca.crt");
    unusable(|_| (), |_| (), "spec.vault: no CA bundle");
    for rubbish in ["", "rubbish", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        unusable(
            |vault| vault["caBundle"] = "AA==".into(),
            |material| material.server_ca = bundle(inline, None, rubbish),
            inline,
        );
        unusable(
            |vault| vault["caBundleSecretRef"] = json!({"name": "ca"}),
            |material| material.server_ca = bundle(referenced, Some(secret), rubbish),
            "spec.vault.caBundleSecretRef names Secret mesh/ca, key ca.crt: ",
        );
    }
    let client = |vault: &mut Value| {
        vault["clientCertSecretRef"] = json!({"name": "own"});
        vault["clientKeySecretRef"] = json!({"name": "own"});
    };
    let tls = |certificate: String, key: String| {
        move |material: &mut Material| {
            material.server_ca = bundle(inline, None, &pem("ca"));
            let certificate = found("spec.vault.clientCertSecretRef", None, certificate.into_bytes());
            let key = found("spec.vault.clientKeySecretRef", None, SecretString::from(key));
            material.client_tls = Some(ClientTls { certificate, key });
        }
    };
    let other = rcgen::KeyPair::generate().expect("a key is made").serialize_pem();
    unusable(client, tls("x".to_owned(), other.clone()), "spec.vault.clientCertSecretRef");
    unusable(client, tls(pem("own"), "x".to_owned()), "spec.vault.clientKeySecretRef");
    unusable(client, tls(pem("own"), other), "spec.vault.clientKeySecretRef");
}
