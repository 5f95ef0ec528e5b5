//! CONTRACT.md §4 row by row: what OpenBao really answers, and what that does to the issuer and to the request. Rows that no test
//! server can give are in `replayed.rs`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures::future::try_join_all;
use serde_json::{Value, json};
use testenv::{
    AppRoleOptions, Chain, Csr, HierarchyOptions, Issuer, IssuerRef, KeyAndCsr, Request, certificate_of, openssl,
};

use crate::issuing::token_issuer;
use crate::support::{A_WHILE, AT_ONCE, Corner, SOON, is_issued, ready_of, says, text};
use crate::{Outcome, Shared, Suite};

pub fn add(suite: &mut Suite) {
    suite.add("a revoked token costs one login and no attempt", revoked_login);
    suite.add("a revoked static token makes the issuer not Ready until its Secret changes", revoked_static);
    suite.add("a role that vanishes makes the issuer not Ready and its requests wait until it is back", role_vanished);
    suite.add(
        "where a probe would use up a limited token, the signs' own words decide and one request tries for all",
        one_tries_for_all,
    );
    suite.add(
        "a role's refusal fails the request with the option that decides, and the issuer stays Ready",
        role_refusals,
    );
    suite.add("a role that drops names fails the request with the names listed after one sign", names_dropped);
    suite.add("a policy that restricts parameters fails the request and not the issuer", parameters);
    suite.add("a lifetime beyond the CA's own end keeps waiting while a shorter one is signed", beyond_ca);
    suite.add("a lifetime above the role's maximum is issued shorter", clamped);
    suite.add("a rate limit is waited out and every request is issued", rate_limited);
}

/// How long a fault may last after its cause is gone: the next check comes after 15 s, or a fifth more, then 30.
const NEXT_CHECK: Duration = Duration::from_secs(60);

async fn revoked_login(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "revoked-login").await?;
    corner.ready_issuer().await?;
    corner.issued(&corner.ask("before").await?).await?;
    let accessor = corner.calls()?.to(corner.recipe.mount()).iter().find_map(|call| call.accessor.clone());
    corner.bao().write("auth/token/revoke-accessor", json!({"accessor": accessor.context("an accessor")?})).await?;
    let request = corner.ask("after").await?;
    request.ready(AT_ONCE).await?;
    corner.issued(&request).await?;
    ensure!(corner.calls()?.logins_of(&corner.recipe.app_role) == 2, "one login more: {:?}", corner.calls()?);
    // Refused once with the dead token, repeated with the new one, and never Pending in between.
    ensure!(corner.sign_attempts()? == 3, "{:?}", corner.calls()?);
    let writes = corner.status_writes()?.named("after");
    ensure!(writes.len() == 1, "{writes:?}");
    Ok(())
}

async fn revoked_static(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "revoked-static").await?;
    let issuing = token_issuer(&corner).await?;
    issuing.ready(SOON).await?;
    corner.issued(&corner.ask("before").await?).await?;
    let secret = corner.kube().get("/api/v1/namespaces/revoked-static/secrets/vault-token").await?;
    let token = crate::support::decoded(&secret["data"]["token"])?;
    corner.bao().revoke(&token).await?;
    let request = corner.ask("after").await?;
    corner.pending(&request, "could not have the request signed").await?;
    let ready = issuing.reason("LoginRefused", SOON).await?;
    says(
        &ready["message"],
        &["Vault does not accept the token", "permission denied", "spec.vault.auth.tokenSecretRef"],
    )?;
    corner.event("vault", "LoginRefused").await?;
    // Found dead it is not tried over and over.
    let attempts = corner.sign_attempts()?;
    tokio::time::sleep(A_WHILE).await;
    ensure!(corner.sign_attempts()? == attempts, "{:?}", corner.calls()?);
    token_issuer(&corner).await?;
    request.ready(AT_ONCE).await?;
    corner.issued(&request).await.map(drop)
}

async fn role_vanished(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "role-vanished").await?;
    let issuing = corner.ready_issuer().await?;
    let role = format!("{}/roles/mesh", corner.recipe.mount());
    corner.bao().delete(&role).await?;
    let request = corner.ask("web").await?;
    let object = corner.pending(&request, "could not have the request signed").await?;
    ensure!(!object.to_string().contains("unknown role"), "Vault's words stand in the issuer's condition: {object}");
    let ready = issuing.reason("RoleNotFound", SOON).await?;
    says(&ready["message"], &[&corner.recipe.sign_path, "unknown role: mesh", "create the role"])?;
    corner.pending(&request, "is not Ready").await?;
    corner.bao().lenient_role(corner.recipe.mount(), "mesh").await?;
    issuing.ready(NEXT_CHECK).await?;
    corner.issued(&request).await.map(drop)
}

async fn one_tries_for_all(shared: Arc<Shared>) -> Outcome {
    let name = "one-for-all";
    let mut recipe = shared.plane.bao.plain_recipe(name, Chain::WithRoot).await?;
    let limited = AppRoleOptions { token_num_uses: 100, ..AppRoleOptions::new(&[&recipe.policy]) };
    recipe.app_role = shared.plane.bao.app_role("one-for-all-limited", &limited).await?;
    let corner = Corner::around(&shared, name, recipe).await?;
    let issuing = corner.ready_issuer().await?;
    corner.issued(&corner.ask("before").await?).await?;
    corner.bao().delete(&format!("{}/roles/mesh", corner.recipe.mount())).await?;
    let requests = try_join_all(["one", "two", "three"].map(|request| corner.ask(request))).await?;
    let ready = issuing.reason("RoleNotFound", SOON).await?;
    says(&ready["message"], &[&corner.recipe.sign_path, "unknown role: mesh", "create the role"])?;
    let attempts = corner.sign_attempts()?;
    tokio::time::sleep(A_WHILE).await;
    ensure!((attempts..=attempts + 1).contains(&corner.sign_attempts()?), "{:?}", corner.calls()?);
    corner.bao().lenient_role(corner.recipe.mount(), "mesh").await?;
    for request in &requests {
        request.ready(NEXT_CHECK).await?;
        corner.issued(request).await?;
    }
    issuing.ready(SOON).await?;
    ensure!(corner.calls()?.logins_of(&corner.recipe.app_role) == 1, "{:?}", corner.calls()?);
    ensure!(corner.calls()?.to(&corner.recipe.sign_path).iter().filter(|call| call.probe).count() == 1);
    Ok(())
}

/// A role, a request that it refuses, Vault's words and the option that the hint names.
struct Refused {
    name: &'static str,
    role: Value,
    pair: KeyAndCsr,
    words: [&'static str; 2],
}

async fn role_refusals(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "role-refusals").await?;
    let every_role = format!("{}/sign/+", corner.recipe.mount());
    corner.bao().sign_policy(&corner.recipe.policy, &every_role).await?;
    let lenient = json!({
        "allow_any_name": true, "allow_ip_sans": true, "allowed_uri_sans": "*", "enforce_hostnames": false,
        "require_cn": false, "key_type": "any", "no_store": true,
    });
    let but = |option: &str, value: Value| {
        let mut role = lenient.clone();
        role[option] = value;
        role
    };
    let workload = || Csr::workload("role-refusals", "web");
    let dns = || Csr::new().dns("web.elsewhere.example");
    let refused = |name, role, pair, words, option| Refused { name, role, pair, words: [words, option] };
    let rows = [
        refused(
            "uri",
            but("allowed_uri_sans", json!("spiffe://other/*")),
            workload().ec()?,
            "URI Subject Alternative",
            "allowed_uri_sans",
        ),
        refused(
            "no-uri",
            but("allowed_uri_sans", json!("")),
            workload().ec()?,
            "URI Subject Alternative",
            "allowed_uri_sans",
        ),
        refused("key-type", but("key_type", json!("rsa")), workload().ec()?, "keys of type rsa", "key_type"),
        refused("key-bits", but("key_bits", json!(4096)), workload().rsa(2048).await?, "4096", "key_bits"),
        refused(
            "require-cn",
            but("require_cn", json!(true)),
            workload().ec()?,
            "common_name field is required",
            "require_cn=false",
        ),
        refused(
            "ip",
            but("allow_ip_sans", json!(false)),
            workload().ip("10.0.0.1").ec()?,
            "IP Subject Alternative",
            "allow_ip_sans",
        ),
        refused(
            "domain",
            but("allow_any_name", json!(false)),
            dns().ec()?,
            "not allowed by this role",
            "allowed_domains",
        ),
        refused(
            "cn",
            but("allow_any_name", json!(false)),
            Csr::new().cn("evil.example").ec()?,
            "evil.example not allowed",
            "allowed_domains",
        ),
        refused(
            "email",
            but("allow_any_name", json!(false)),
            Csr::new().email("a@evil.example").ec()?,
            "email",
            "allowed_domains",
        ),
    ];
    try_join_all(rows.into_iter().map(|row| async {
        let name = row.name;
        role_refusal(&corner, row).await.context(name)
    }))
    .await?;
    Ok(())
}

async fn role_refusal(corner: &Corner, row: Refused) -> Outcome {
    let Refused { name, mut role, pair, words: [words, option] } = row;
    if name == "key-bits" {
        role["key_type"] = "rsa".into();
    }
    corner.bao().pki_role(corner.recipe.mount(), name, role).await?;
    let path = format!("{}/sign/{name}", corner.recipe.mount());
    let issuer =
        Issuer::app_role(&corner.name, name, corner.bao(), &corner.recipe).set("vault/path", path.clone().into());
    let issuing = corner.ready(issuer).await?;
    let reference = IssuerRef::new("VaultMeshIssuer", name);
    let request =
        Request::new(&corner.name, name, &reference, &pair.csr_pem).duration("1h").create(corner.kube()).await?;
    corner.failed(&request, &["Vault refused to sign at ", &path, words, option]).await?;
    ensure!(corner.calls()?.sign_attempts(&path) == 1, "asked once: {:?}", corner.calls()?.to(&path));
    let issuer = issuing.get().await?;
    ensure!(ready_of(&issuer)?["status"] == "True", "{issuer}");
    let events = corner.events(name).await?;
    let reasons: Vec<_> = events.iter().map(|event| text(&event["reason"])).collect();
    ensure!(reasons.len() == 2 && reasons.contains(&"Verified") && reasons.contains(&"Failed"), "{reasons:?}");
    Ok(())
}

async fn names_dropped(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "names-dropped").await?;
    let role = json!({
        "allow_any_name": true, "allowed_uri_sans": "*", "require_cn": false, "key_type": "any", "use_csr_sans": false,
        "enforce_hostnames": false, "allow_ip_sans": true,
    });
    corner.bao().pki_role(corner.recipe.mount(), "mesh", role).await?;
    let issuing = corner.ready_issuer().await?;
    let pair = Csr::workload("names-dropped", "web").dns("web.names-dropped.svc").ec()?;
    let request = corner.request("web", &pair.csr_pem).create(corner.kube()).await?;
    let words = [
        "not what was asked for: missing are ",
        "spiffe://cluster.local/ns/names-dropped/sa/web",
        "web.names-dropped.svc",
        "use_csr_sans=true",
    ];
    corner.failed(&request, &words).await?;
    tokio::time::sleep(A_WHILE).await;
    ensure!(corner.sign_attempts()? == 1, "retrying would only sign more: {:?}", corner.calls()?);
    let issuer = issuing.get().await?;
    ensure!(ready_of(&issuer)?["status"] == "True", "{issuer}");
    Ok(())
}

async fn parameters(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "parameters").await?;
    let rule = r#"capabilities = ["update"] denied_parameters = { "ttl" = [] }"#;
    let policy = format!("path \"{}\" {{ {rule} }}", corner.recipe.sign_path);
    corner.bao().policy(&corner.recipe.policy, &policy).await?;
    let issuing = corner.ready_issuer().await?;
    let request = corner.ask("web").await?;
    let words =
        ["403", corner.recipe.sign_path.as_str(), "although the same token may use the path", "denied_parameters"];
    corner.failed(&request, &words).await?;
    let issuer = issuing.get().await?;
    ensure!(ready_of(&issuer)?["status"] == "True", "{issuer}");
    ensure!(corner.calls()?.logins_of(&corner.recipe.app_role) == 1, "{:?}", corner.calls()?);
    Ok(())
}

async fn beyond_ca(shared: Arc<Shared>) -> Outcome {
    let options = HierarchyOptions::new("beyond-ca", Chain::WithRoot).ttl("2h");
    let recipe = shared.plane.bao.recipe_with("beyond-ca", &options).await?;
    let corner = Corner::around(&shared, "beyond-ca", recipe).await?;
    let issuing = corner.ready_issuer().await?;
    let pair = Csr::workload("beyond-ca", "long").ec()?;
    let long = corner.request("long", &pair.csr_pem).duration("2h").create(corner.kube()).await?;
    corner.pending(&long, "could not have the request signed").await?;
    corner.issued(&corner.ask("short").await?).await?;
    let issuer = issuing.get().await?;
    ensure!(ready_of(&issuer)?["status"] == "True", "{issuer}");
    corner.pending(&long, "could not have the request signed").await.map(drop)
}

async fn clamped(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "clamped").await?;
    let role = json!({"allow_any_name": true, "allowed_uri_sans": "*", "require_cn": false, "key_type": "any", "max_ttl": "30m"});
    corner.bao().pki_role(corner.recipe.mount(), "mesh", role).await?;
    corner.ready_issuer().await?;
    let object = corner.issued(&corner.ask("web").await?).await?;
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), certificate_of(&object)?)?;
    let ends_within = async |seconds: &str| {
        let path = file.path().display().to_string();
        openssl::run(&["x509", "-in", &path, "-noout", "-checkend", seconds]).await.is_err()
    };
    ensure!(!ends_within("1500").await && ends_within("1860").await, "30 minutes were given");
    Ok(())
}

async fn rate_limited(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "rate-limited").await?;
    let issuing = corner.ready_issuer().await?;
    corner.bao().rate_limit("rate-limited", &format!("{}/", corner.recipe.mount()), 2.0).await?;
    let mut requests = Vec::new();
    for number in 0..10 {
        requests.push(corner.ask(&format!("web-{number}")).await?);
    }
    for request in &requests {
        let object = request.ready(NEXT_CHECK).await?;
        is_issued(&object, corner.recipe.root_pem()).await?;
    }
    let refused = corner.calls()?.refused();
    ensure!(corner.calls()?.signs(corner.recipe.mount()) == 10, "each was signed once: {:?}", corner.calls()?);
    corner.bao().lift_rate_limit("rate-limited").await?;
    issuing.ready(NEXT_CHECK).await.context(format!("after {} refusals", refused.len()))?;
    Ok(())
}
