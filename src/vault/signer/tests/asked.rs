//! What Vault is asked, at which path, and what a refusal there is taken for.

use super::*;
use crate::lease::Leadership;
use crate::vault::fake::refusal;

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
