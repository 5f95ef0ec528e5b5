//! Bad input: what an issuer says about itself when its spec, its objects or Vault's configuration are wrong. Each names the
//! field, the object, Vault's own words and what to do; its requests wait, and nothing is signed.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::future::try_join_all;
use serde_json::{Value, json};
use testenv::{Chain, Csr, HierarchyOptions, Issuer, IssuerRef, Request, condition};

use crate::support::{Corner, SOON, says};
use crate::{Outcome, Shared, Suite};

pub fn add(suite: &mut Suite) {
    suite.add("an object that the spec names and that cannot be used is named with its field and key", objects);
    suite.add("a server that cannot be talked to is told by the way in which it fails", servers);
    suite.add("a login that is refused says which fields could be wrong", logins);
    suite.add("a path that does not serve us is told with and without a policy that covers it", paths);
    suite.add("anchors that are no roots are refused with what to put there", anchors);
}

/// One issuer of a table: its name, how it differs from a good one, and the reason and the words of its condition.
struct Row {
    name: &'static str,
    changes: Vec<(&'static str, Value)>,
    reason: &'static str,
    words: Vec<String>,
}

fn row(name: &'static str, changes: Vec<(&'static str, Value)>, reason: &'static str, words: &[&str]) -> Row {
    Row { name, changes, reason, words: words.iter().map(ToString::to_string).collect() }
}

/// Creates every issuer with a request to it, side by side, and compares.
async fn check(corner: &Corner, rows: Vec<Row>) -> Result<()> {
    let signs = corner.sign_attempts()?;
    try_join_all(rows.into_iter().map(|row| async move {
        let name = row.name;
        check_row(corner, row).await.context(name)
    }))
    .await?;
    ensure!(corner.sign_attempts()? == signs, "something was sent to be signed: {:?}", corner.calls()?);
    Ok(())
}

async fn check_row(corner: &Corner, row: Row) -> Result<()> {
    let base = Issuer::app_role(&corner.name, row.name, corner.bao(), &corner.recipe);
    let issuer = row.changes.into_iter().fold(base, |issuer, (path, value)| issuer.set(path, value));
    let issuing = issuer.create(corner.kube()).await?;
    let settled = |object: &Value| condition(object, "Ready").is_some_and(|ready| ready["reason"] != "Checking");
    let object = corner.kube().wait(&issuing.path, SOON, settled).await?;
    let ready = condition(&object, "Ready").context("there is no condition")?;
    ensure!(ready["status"] == "False" && ready["reason"] == row.reason, "expected {}: {ready}", row.reason);
    says(&ready["message"], &row.words.iter().map(String::as_str).collect::<Vec<_>>())?;
    let pair = Csr::workload(&corner.name, row.name).ec()?;
    let issuer = IssuerRef::new("VaultMeshIssuer", row.name);
    let request = Request::new(&corner.name, row.name, &issuer, &pair.csr_pem).create(corner.kube()).await?;
    corner.pending(&request, "is not Ready, its status says why").await.map(drop)
}

fn approle(change: impl FnOnce(&mut Value), corner: &Corner) -> (&'static str, Value) {
    let role = &corner.recipe.app_role;
    let mut value = json!({"path": role.mount, "roleId": role.role_id, "secretRef": {"name": "good"}});
    change(&mut value);
    ("vault/auth/appRole", value)
}

async fn objects(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "objects").await?;
    let secret = async |name: &str, bytes: &[u8]| {
        let body = json!({"metadata": {"name": name}, "data": {"secretId": STANDARD.encode(bytes)}});
        corner.kube().post("/api/v1/namespaces/objects/secrets", &body).await
    };
    secret("binary", &[0xff, 0xfe, 0x00, 0x80]).await?;
    secret("two-lines", b"first-line\nsecond-line").await?;
    secret("empty", b" \n").await?;
    secret("control", b"a\x07b\x1b[0m").await?;
    corner.kube().config_map("objects", "rubbish", &[("ca.crt", "this is no PEM"), ("empty", "")]).await?;
    corner
        .kube()
        .secret("objects", "tls", &[("tls.crt", "rubbish-for-tls.crt"), ("tls.key", "rubbish-for-tls.key")])
        .await?;
    let credential = |name: &'static str| approle(|value| value["secretRef"]["name"] = name.into(), &corner);
    let field = "spec.vault.auth.appRole.secretRef names Secret objects";
    let bundle =
        |key: &str, value: Value| vec![("vault/caBundle", Value::Null), (leak(&format!("vault/{key}")), value)];
    let map = "caBundleConfigMapRef names ConfigMap";
    let rows = vec![
        row(
            "binary",
            vec![credential("binary")],
            "InvalidReference",
            &[field, "/binary, key secretId: the value is not text"],
        ),
        row("two-lines", vec![credential("two-lines")], "InvalidReference", &[field, "the value holds white space"]),
        row("empty", vec![credential("empty")], "InvalidReference", &[field, "the value is empty"]),
        row(
            "control",
            vec![credential("control")],
            "InvalidReference",
            &[field, "characters that no Vault credential has"],
        ),
        row(
            "no-map",
            bundle("caBundleConfigMapRef", json!({"name": "nowhere"})),
            "InvalidReference",
            &[map, "objects/nowhere, key ca.crt: it does not exist; create it"],
        ),
        row(
            "no-key",
            bundle("caBundleConfigMapRef", json!({"name": "rubbish", "key": "tls.crt"})),
            "InvalidReference",
            &[map, "objects/rubbish, key tls.crt: it has no such key (its keys: ca.crt, empty)"],
        ),
        row(
            "no-pem",
            bundle("caBundleConfigMapRef", json!({"name": "rubbish"})),
            "InvalidReference",
            &[map, "objects/rubbish, key ca.crt: holds no PEM"],
        ),
        row(
            "empty-bundle",
            bundle("caBundleConfigMapRef", json!({"name": "rubbish", "key": "empty"})),
            "InvalidReference",
            &[map, "objects/rubbish, key empty: holds no PEM"],
        ),
        row("no-base64", bundle("caBundle", json!("%%%")), "InvalidSpec", &["spec.vault.caBundle: is not base64"]),
        row(
            "inline-no-pem",
            bundle("caBundle", json!(STANDARD.encode("rubbish"))),
            "InvalidSpec",
            &["spec.vault.caBundle", "PEM"],
        ),
        row(
            "no-client-certificate",
            vec![
                ("vault/clientCertSecretRef", json!({"name": "tls"})),
                ("vault/clientKeySecretRef", json!({"name": "tls"})),
            ],
            "InvalidReference",
            &["spec.vault.clientCertSecretRef names Secret", "tls, key tls.crt", "PEM"],
        ),
        row(
            "no-anchors",
            vec![("trust", json!({"anchors": [{"secret": {"name": "nowhere"}}]}))],
            "InvalidReference",
            &["spec.trust.anchors[0].secret names Secret objects/nowhere, key ca.crt: it does not exist"],
        ),
    ];
    check(&corner, rows).await?;
    ensure!(corner.calls()?.is_empty(), "nobody asked Vault: {:?}", corner.calls()?);
    Ok(())
}

/// A path that is made up at run time, for a table of constants.
fn leak(path: &str) -> &'static str {
    Box::leak(path.to_owned().into_boxed_str())
}

async fn servers(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "servers").await?;
    let (tls, plain) = (corner.bao().address().to_owned(), corner.bao().plain_address().to_owned());
    let swapped = |address: &str, from: &str, to: &str| json!(address.replacen(from, to, 1));
    let closed = format!("https://127.0.0.1:{}", shared.run.port()?);
    let other = corner.recipe.root_pem();
    let (no_tls, unreachable, unavailable) = ("VaultTLSFailed", "VaultUnreachable", "VaultUnavailable");
    let rows = vec![
        row(
            "https-behind-http",
            vec![("vault/server", swapped(&plain, "http:", "https:"))],
            no_tls,
            &["no TLS with 127.0.0.1", "spec.vault.server must begin with http://"],
        ),
        row(
            "http-behind-https",
            vec![("vault/server", swapped(&tls, "https:", "http:"))],
            unavailable,
            &["not as Vault does", "It expects TLS: spec.vault.server must begin with https://"],
        ),
        row(
            "wrong-name",
            vec![("vault/serverName", json!("vault.example"))],
            no_tls,
            &["no TLS with 127.0.0.1", "Set spec.vault.serverName to a name in Vault's certificate"],
        ),
        row(
            "wrong-authority",
            vec![("vault/caBundle", json!(STANDARD.encode(other)))],
            no_tls,
            &["no TLS with", "spec.vault.caBundle must hold the CA that signed Vault's certificate"],
        ),
        row(
            "closed",
            vec![("vault/server", json!(closed))],
            unreachable,
            &["cannot connect to 127.0.0.1", "(refused)"],
        ),
        row(
            "no-such-host",
            vec![("vault/server", json!("https://vault.invalid:8200"))],
            unreachable,
            &["cannot connect to vault.invalid:8200", "(name not found)", "spec.vault.server"],
        ),
        row(
            "not-vault",
            vec![("vault/server", json!(corner.kube().server()))],
            unavailable,
            &["not as Vault does", "Is spec.vault.server a Vault"],
        ),
        row(
            "link-local",
            vec![("vault/server", json!("http://169.254.169.254"))],
            "InvalidSpec",
            &["spec.vault.server: names a link-local address, which is never called"],
        ),
    ];
    check(&corner, rows).await?;
    ensure!(corner.calls()?.is_empty(), "{:?}", corner.calls()?);
    Ok(())
}

async fn logins(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "logins").await?;
    let secret_id = corner.recipe.app_role.secret_id.as_str();
    corner.kube().secret("logins", "good", &[("secretId", secret_id)]).await?;
    corner.kube().secret("logins", "bad", &[("secretId", "no-secret-id-of-anybody")]).await?;
    corner.kube().secret("logins", "token", &[("token", "s.no-token-of-this-server")]).await?;
    let token = vec![("vault/auth", json!({"tokenSecretRef": {"name": "token"}}))];
    let refused = "LoginRefused";
    let (role_words, secret_words) = match corner.bao().is_vault() {
        true => ("auth/approle/login (400: invalid role ID)", "auth/approle/login (400: invalid secret id)"),
        false => ["auth/approle/login (400: invalid role or secret ID)"; 2].into(),
    };
    let mut rows = vec![
        row(
            "role-id",
            vec![approle(|value| value["roleId"] = "nobody".into(), &corner)],
            refused,
            &[role_words, "spec.vault.auth.appRole.roleId"],
        ),
        row(
            "secret-id",
            vec![approle(|value| value["secretRef"]["name"] = "bad".into(), &corner)],
            refused,
            &[secret_words, "secretRef"],
        ),
        row(
            "mount",
            vec![approle(|value| value["path"] = "nowhere".into(), &corner)],
            refused,
            &["auth/nowhere/login (403", "permission denied", "spec.vault.auth.appRole.path names no AppRole mount"],
        ),
        row(
            "token",
            token,
            refused,
            &[
                "Vault does not accept the token (",
                "permission denied",
                "put a new one into the Secret of spec.vault.auth.tokenSecretRef",
            ],
        ),
    ];
    // The free HashiCorp Vault has no namespaces and takes no notice of one.
    if !corner.bao().is_vault() {
        rows.push(row(
            "namespace",
            vec![("vault/namespace", json!("nowhere"))],
            "NamespaceNotFound",
            &["auth/approle/login", "There is no such namespace", "spec.vault.namespace"],
        ));
    }
    check(&corner, rows).await
}

async fn paths(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "paths").await?;
    let (bao, mount) = (corner.bao(), corner.recipe.mount());
    // What the recipe's own policy does not cover all looks alike.
    let uncovered = |path: &str, name: &'static str| {
        let change = vec![("vault/path", json!(path))];
        let words = [path, "403", "permission denied", "no `update` on this path", "the mount", "misspelt", "role"];
        row(name, change, "PermissionDenied", &words)
    };
    let rows = vec![
        uncovered(&format!("{mount}/sign/typo"), "role-uncovered"),
        uncovered("typo/sign/mesh", "mount-uncovered"),
        uncovered(&format!("{mount}/issuer/typo/sign/mesh"), "issuer-uncovered"),
    ];
    check(&corner, rows).await?;

    bao.mount("paths-empty", "pki").await?;
    bao.lenient_role("paths-empty", "mesh").await?;
    let idle = corner.bao().hierarchy("paths-idle", &HierarchyOptions::new("paths-idle", Chain::RootItself)).await?;
    let id = bao.issuer_of("paths-idle", &idle.issuing_pem).await?;
    bao.write(&format!("paths-idle/issuer/{id}"), json!({"issuer_name": "idle", "usage": "read-only,crl-signing"}))
        .await?;
    bao.lenient_role("paths-idle", "mesh").await?;
    let covered = ["paths-pki/*", "typo/*", "paths-empty/*", "paths-idle/*", "sys/*"];
    let rules = covered.map(|path| format!("path \"{path}\" {{ capabilities = [\"update\"] }}\n"));
    bao.policy(&corner.recipe.policy, &rules.concat()).await?;
    let at = |name: &'static str, path: &str, reason: &'static str, words: &[&str]| {
        row(name, vec![("vault/path", json!(path))], reason, &[&[path][..], words].concat())
    };
    let rows = vec![
        at(
            "role",
            &format!("{mount}/sign/typo"),
            "RoleNotFound",
            &["unknown role: typo", "The mount has no such role", "spec.vault.path"],
        ),
        at(
            "mount",
            "typo/sign/mesh",
            "MountNotFound",
            &["no handler for route", "No secrets engine is mounted there", "spec.vault.path"],
        ),
        at(
            "issuer",
            &format!("{mount}/issuer/typo/sign/mesh"),
            "IssuerNotFound",
            &["The mount has no such issuer", "<ref>"],
        ),
        at("idle", "paths-idle/sign/mesh", "CAUnusable", &["issuing-certificates", "may not issue"]),
        at("engine", "sys/sign/mesh", "SigningRefused", &["spec.vault.path"]),
        at(
            "empty",
            "paths-empty/sign/mesh",
            "IssuerNotFound",
            &["could not fetch the CA certificate", "generate or import one"],
        ),
    ];
    check(&corner, rows).await
}

async fn anchors(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::with_chain(&shared, "anchors", Chain::IntermediateOnly).await?;
    let (root, intermediate) = (corner.recipe.root_pem(), corner.recipe.hierarchy.issuing_pem.as_str());
    let pair = Csr::new().dns("leaf.anchors.svc").ec()?;
    let leaf = corner.bao().sign(&corner.recipe.sign_path, &pair.csr_pem, "1h").await?;
    let leaf = leaf["certificate"].as_str().context("a certificate")?;
    corner
        .kube()
        .config_map("anchors", "roots", &[("ca.crt", root), ("mixed", &format!("{root}{intermediate}"))])
        .await?;
    let pem = |pem: &str| vec![("trust", json!({"anchors": [{"pem": pem}]}))];
    let field = "spec.trust.anchors[0].pem";
    let mixed = json!({"anchors": [{"pem": root}, {"configMap": {"name": "roots", "key": "mixed"}}]});
    let rows = vec![
        row(
            "intermediate",
            pem(intermediate),
            "InvalidSpec",
            &[field, "is an intermediate", "anchors root", "Put the root"],
        ),
        row("leaf", pem(leaf), "InvalidSpec", &[field, "is an end-entity certificate", "Put the root above it there"]),
        row(
            "no-pem",
            pem("rubbish"),
            "InvalidSpec",
            &[field, "Put the root certificate that your mesh trusts there, in PEM"],
        ),
        row(
            "mixed",
            vec![("trust", mixed)],
            "InvalidReference",
            &[
                "spec.trust.anchors[1].configMap names ConfigMap anchors/roots, key mixed",
                "certificate 2",
                "is an intermediate",
            ],
        ),
        row(
            "none",
            vec![],
            "TrustAnchorsUnknown",
            &["no root is known", "anchors-pki", "spec.trust.anchors is absent"],
        ),
    ];
    check(&corner, rows).await
}
