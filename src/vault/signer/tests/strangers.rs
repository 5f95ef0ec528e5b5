//! Servers that are no Vault, or not the one that is meant, and material that cannot be used.

use secrecy::SecretString;
use serde_json::Value;

use super::*;
use crate::api::material::ClientTls;
use crate::vault::fake::{refusal, text};

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
