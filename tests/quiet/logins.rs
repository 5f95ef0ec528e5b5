//! Every way to log in, against a real server: each has a certificate issued, and each refusal names the field that decides.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use testenv::{Csr, eventually};
use testenv::{Identity, Issuer, Issuing, Kube, KubeCalls, Request, condition};

use crate::support::{Corner, SOON, says, text};
use crate::{Outcome, Shared, Suite};

pub fn add(suite: &mut Suite) {
    suite.add("an AppRole's role id may come from a Secret, and is read again when that changes", role_id_from_secret);
    suite.add("a ServiceAccount logs in by a token that Vault has the API server review", kubernetes);
    suite.add("a refused kubernetes login names the option of the role or the field of the spec", kubernetes_refused);
    suite.add("a ServiceAccount's token from a Secret logs in", stored_token);
    suite.add("a ServiceAccount logs in by a token that Vault verifies itself", jwt);
    suite.add("a refused jwt login names the option of the role or the field of the spec", jwt_refused);
    suite.add("a cluster issuer's ServiceAccount lies in the cluster resource namespace", cluster_issuer);
    suite.add("a token that the API server itself accepts is never sent to Vault", accepted_by_the_api_server);
    suite.add("the controller's own ServiceAccount is refused, and one that is not there is named", unusable_accounts);
    suite.add("a TLS certificate logs in, and a changed key pair takes its place", certificate);
    suite.add("a refused certificate login names the option of the role or the field of the spec", certificate_refused);
    suite.add("the certificate of the connection can be the one that logs in", certificate_of_the_connection);
}

/// The ServiceAccounts whose tokens the controller may request in this suite: namespace and name. One of them does not exist.
pub const ACCOUNTS: [(&str, &str); 8] = [
    ("login-kubernetes", "mesh-login"),
    ("login-kubernetes-no", "mesh-login"),
    ("login-jwt", "mesh-login"),
    ("login-jwt-no", "mesh-login"),
    ("login-accounts", "missing"),
    ("login-accepted", "mesh-login"),
    ("migrate-service-account", "mesh-login"),
    ("vault-mesh-issuer", "mesh-login"),
];
pub const ACCOUNT: &str = "mesh-login";

/// Before the chart is installed: a Role needs its namespace.
pub async fn prepare(kube: &Kube) -> Result<Vec<String>> {
    let mut set = Vec::new();
    for (index, (namespace, name)) in ACCOUNTS.into_iter().enumerate() {
        kube.namespace(namespace).await?;
        if name == ACCOUNT {
            kube.service_account(namespace, name).await?;
        }
        set.push(format!("serviceAccounts[{index}].namespace={namespace}"));
        set.push(format!("serviceAccounts[{index}].name={name}"));
    }
    Ok(set)
}

/// The issuer `vault` of a corner with this login.
fn issuer(corner: &Corner, auth: Value) -> Issuer {
    Issuer::with_auth(&corner.name, "vault", corner.bao(), &corner.recipe.sign_path, auth)
}

/// One certificate through an issuer that becomes Ready.
async fn issues(corner: &Corner, issuing: &Issuing, name: &str) -> Result<()> {
    issuing.ready(SOON).await?;
    corner.issued(&corner.ask(name).await?).await.map(drop)
}

/// Replaces the login and waits until the condition about it has this reason and these words.
async fn refuses(corner: &Corner, issuing: &Issuing, auth: Value, reason: &str, words: &[&str]) -> Result<()> {
    let shown = auth.to_string();
    let patched = issuing.patch(&json!({"spec": {"vault": {"auth": auth}}})).await?;
    let generation = &patched["metadata"]["generation"];
    let seen = |object: &Value| {
        condition(object, "Ready").is_some_and(|it| it["observedGeneration"] == *generation && it["reason"] == reason)
    };
    let object = corner.kube().wait(&issuing.path, SOON, seen).await.with_context(|| shown.clone())?;
    let ready = condition(&object, "Ready").context("a condition")?;
    says(&ready["message"], words).with_context(|| shown)
}

/// The tokens that were sent to a login mount, with what they say of themselves.
fn sent(corner: &Corner, mount: &str) -> Result<Vec<Value>> {
    let calls = corner.bao().audit().all()?.to(&format!("auth/{mount}/login"));
    calls.iter().map(|call| claims(text(&call.data["jwt"]))).collect()
}

fn claims(token: &str) -> Result<Value> {
    let payload = token.split('.').nth(1).context("a token has three parts")?;
    Ok(serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload)?)?)
}

/// The tokens that we have asked for in a namespace.
fn token_requests(shared: &Shared, namespace: &str) -> Result<KubeCalls> {
    let ours = shared.plane.kube_audit.all()?.of(&shared.ours.namespace, &shared.ours.account);
    Ok(ours.resource("serviceaccounts/token").in_namespace(namespace))
}

async fn role_id_from_secret(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "login-role-id").await?;
    let role = &corner.recipe.app_role;
    let store = async |role_id: &str| {
        let data = [("roleId", role_id), ("secretId", role.secret_id.as_str())];
        corner.kube().secret(&corner.name, "approle", &data).await
    };
    store(&role.role_id).await?;
    let login = |stored: Value| {
        let (mount, secret) = (&role.mount, json!({"name": "approle"}));
        json!({"appRole": {"path": mount, "roleIdSecretRef": stored, "secretRef": secret}})
    };
    let issuing = issuer(&corner, login(json!({"name": "approle"}))).create(corner.kube()).await?;
    issues(&corner, &issuing, "web").await?;
    store("8d3f2a61-5c0b-4b7e-9d55-1f6e0c9a7b24").await?;
    let ready = issuing.reason("LoginRefused", SOON).await?;
    says(&ready["message"], &["auth/approle/login (400: invalid role", "spec.vault.auth.appRole.roleId"])?;
    ensure!(!text(&ready["message"]).contains("8d3f2a61-5c0b-4b7e-9d55-1f6e0c9a7b24"), "{ready}");
    store(&format!("{}\n", role.role_id)).await?;
    issues(&corner, &issuing, "again").await?;
    let words =
        ["spec.vault.auth.appRole.roleIdSecretRef names Secret login-role-id/approle, key id: it has no such key"];
    refuses(&corner, &issuing, login(json!({"name": "approle", "key": "id"})), "InvalidReference", &words).await
}

/// Mounts the kubernetes method; its reviewer may ask the API server for reviews.
pub async fn mount_kubernetes(corner: &Corner, mount: &str) -> Result<()> {
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": format!("{}-reviewer", corner.name)},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:auth-delegator"},
        "subjects": [{"kind": "ServiceAccount", "name": "reviewer", "namespace": corner.name}],
    });
    corner.kube().apply_all(&[binding]).await?;
    mount_kubernetes_with(corner, mount, "reviewer").await
}

async fn mount_kubernetes_with(corner: &Corner, mount: &str, reviewer: &str) -> Result<()> {
    let (kube, namespace) = (corner.kube(), corner.name.as_str());
    kube.service_account(namespace, reviewer).await?;
    let reviewer = kube.token(namespace, reviewer, &[]).await?;
    let ca = corner.shared.run.authority().pem().to_owned();
    corner.bao().kubernetes_login(mount, kube.server(), &ca, &reviewer).await
}

async fn kubernetes(shared: Arc<Shared>) -> Outcome {
    let name = "login-kubernetes";
    let corner = Corner::new(&shared, name).await?;
    mount_kubernetes(&corner, "kubernetes").await?;
    let own = format!("vault://{name}/vault");
    let more = json!({"token_policies": [corner.recipe.policy], "audience": own});
    corner.bao().kubernetes_role("kubernetes", "mesh", name, ACCOUNT, more).await?;
    let auth = json!({"kubernetes": {"role": "mesh", "serviceAccountRef": {"name": ACCOUNT, "audiences": ["mesh"]}}});
    let issuing = issuer(&corner, auth).create(corner.kube()).await?;
    for request in ["one", "two", "three"] {
        issues(&corner, &issuing, request).await?;
    }
    // One login for all of them, and one token for the login.
    let tokens = sent(&corner, "kubernetes")?;
    let [token] = tokens.as_slice() else { anyhow::bail!("{} logins", tokens.len()) };
    ensure!(token["sub"] == format!("system:serviceaccount:{name}:{ACCOUNT}"), "{token}");
    ensure!(token["aud"] == json!(["mesh", corner.bao().address(), own]), "{token}");
    ensure!(token["exp"].as_u64().zip(token["iat"].as_u64()).is_some_and(|(end, start)| end - start == 600), "{token}");
    let requests = token_requests(&shared, name)?;
    ensure!(requests.len() == 1, "{requests:?}");
    // A token that Vault revokes costs another login, and that another token: none is kept.
    corner.bao().revoke_logins("kubernetes").await?;
    issues(&corner, &issuing, "after").await?;
    let (sent, requested) = (sent(&corner, "kubernetes")?.len(), token_requests(&shared, name)?.len());
    ensure!((sent, requested) == (2, 2), "{sent} tokens sent, {requested} requested");
    Ok(())
}

async fn kubernetes_refused(shared: Arc<Shared>) -> Outcome {
    let name = "login-kubernetes-no";
    let corner = Corner::new(&shared, name).await?;
    let (mount, blind) = ("kubernetes-refused", "kubernetes-blind");
    mount_kubernetes_with(&corner, blind, "nobody").await?;
    corner.bao().kubernetes_role(blind, "mesh", name, ACCOUNT, json!({})).await?;
    let role = async |role: &str, namespace: &str, account: &str, more: Value| {
        corner.bao().kubernetes_role(mount, role, namespace, account, more).await
    };
    mount_kubernetes(&corner, mount).await?;
    corner.bao().mount_login("kubernetes-bare", "kubernetes").await?;
    corner.bao().kubernetes_role("kubernetes-bare", "mesh", name, ACCOUNT, json!({})).await?;
    role("mesh", name, ACCOUNT, json!({"token_policies": [corner.recipe.policy]})).await?;
    role("other-account", name, "somebody", json!({})).await?;
    role("other-namespace", "elsewhere", ACCOUNT, json!({})).await?;
    role("other-audience", name, ACCOUNT, json!({"audience": "vault://elsewhere/vault"})).await?;
    let login = |mount: &str, role: &str| json!({"kubernetes": {"mountPath": format!("/v1/auth/{mount}"), "role": role, "serviceAccountRef": {"name": ACCOUNT}}});
    let issuing = issuer(&corner, login(mount, "mesh")).create(corner.kube()).await?;
    issues(&corner, &issuing, "web").await?;
    for (mount, role, words) in [
        (mount, "misspelt", ["(400: invalid role name \"misspelt\")", "spec.vault.auth.kubernetes.role names no role"]),
        (mount, "other-account", ["(403: service account name not authorized)", "bound_service_account_names"]),
        (mount, "other-namespace", ["(403: namespace not authorized)", "bound_service_account_namespaces"]),
        (mount, "other-audience", ["invalid audience (aud) claim", "set it to vault://<namespace>/<issuer>"]),
        ("kubernetes-missing", "mesh", ["(403: permission denied)", "spec.vault.auth.kubernetes.mountPath names no"]),
        ("kubernetes-bare", "mesh", ["(500: could not load backend configuration)", "write its kubernetes_host"]),
        (blind, "mesh", ["(403: permission denied)", "needs system:auth-delegator"]),
    ] {
        refuses(&corner, &issuing, login(mount, role), "LoginRefused", &words).await?;
    }
    issuing.patch(&json!({"spec": {"vault": {"auth": login(mount, "mesh")}}})).await?;
    corner.issued(&corner.ask("again").await?).await.map(drop)
}

async fn stored_token(shared: Arc<Shared>) -> Outcome {
    let name = "login-stored";
    let corner = Corner::new(&shared, name).await?;
    mount_kubernetes(&corner, "kubernetes-stored").await?;
    let policies = json!({"token_policies": [corner.recipe.policy]});
    corner.kube().service_account(name, ACCOUNT).await?;
    corner.bao().kubernetes_role("kubernetes-stored", "mesh", name, ACCOUNT, policies).await?;
    let token = corner.kube().token(name, ACCOUNT, &["vault"]).await?;
    corner.kube().secret(name, "login", &[("token", &token)]).await?;
    let login = |secret: Value| json!({"kubernetes": {"mountPath": "/v1/auth/kubernetes-stored", "role": "mesh", "secretRef": secret}});
    let issuing = issuer(&corner, login(json!({"name": "login"}))).create(corner.kube()).await?;
    issues(&corner, &issuing, "web").await?;
    ensure!(token_requests(&shared, name)?.is_empty(), "none was requested");
    let words = ["spec.vault.auth.kubernetes.secretRef names Secret login-stored/login, key jwt: it has no such key"];
    refuses(&corner, &issuing, login(json!({"name": "login", "key": "jwt"})), "InvalidReference", &words).await
}

/// Mounts the jwt method for the tokens of this cluster.
async fn mount_jwt(corner: &Corner, mount: &str, role: &str, options: Value) -> Result<()> {
    let key = std::fs::read_to_string(&corner.shared.plane.account_key)?;
    let mut all =
        json!({"role_type": "jwt", "user_claim": "sub", "token_policies": [corner.recipe.policy], "token_ttl": "1h"});
    for (name, value) in options.as_object().into_iter().flatten() {
        all[name] = value.clone();
    }
    corner.bao().jwt_login(mount, &key, role, all).await
}

async fn jwt(shared: Arc<Shared>) -> Outcome {
    let name = "login-jwt";
    let corner = Corner::new(&shared, name).await?;
    let subject = format!("system:serviceaccount:{name}:{ACCOUNT}");
    let bounds = json!({"bound_subject": subject, "bound_audiences": [corner.bao().address()]});
    mount_jwt(&corner, "jwt", "mesh", bounds).await?;
    let issuing = issuer(&corner, json!({"jwt": {"role": "mesh", "serviceAccountRef": {"name": ACCOUNT}}}));
    let issuing = issuing.create(corner.kube()).await?;
    issues(&corner, &issuing, "web").await?;
    ensure!(sent(&corner, "jwt")?.len() == 1 && token_requests(&shared, name)?.len() == 1);
    // The same from a Secret.
    let token = corner.kube().token(name, ACCOUNT, &[corner.bao().address()]).await?;
    corner.kube().secret(name, "login", &[("id", &token)]).await?;
    let auth = json!({"jwt": {"role": "mesh", "serviceAccountRef": null, "secretRef": {"name": "login", "key": "id"}}});
    issuing.patch(&json!({"spec": {"vault": {"auth": auth}}})).await?;
    eventually("a login with the token of the Secret", SOON, async || {
        Ok((sent(&corner, "jwt")?.len() == 2).then_some(()))
    })
    .await?;
    issues(&corner, &issuing, "stored").await?;
    ensure!(token_requests(&shared, name)?.len() == 1, "none was requested");
    Ok(())
}

async fn jwt_refused(shared: Arc<Shared>) -> Outcome {
    let name = "login-jwt-no";
    let corner = Corner::new(&shared, name).await?;
    let server = json!([corner.bao().address()]);
    let mount = "jwt-refused";
    mount_jwt(&corner, mount, "mesh", json!({"bound_audiences": server})).await?;
    mount_jwt(&corner, mount, "other-account", json!({"bound_audiences": server, "bound_subject": "somebody"})).await?;
    mount_jwt(&corner, mount, "other-audience", json!({"bound_audiences": ["vault://elsewhere/vault"]})).await?;
    mount_jwt(
        &corner,
        mount,
        "any-audience",
        json!({"bound_subject": format!("system:serviceaccount:{name}:{ACCOUNT}")}),
    )
    .await?;
    let claims = json!({"bound_audiences": server, "bound_claims": {"team": "mesh"}});
    mount_jwt(&corner, mount, "other-claims", claims).await?;
    let foreign = shared.run.authority().identity(&shared.run.new_folder("foreign-key")?, "foreign", &[])?;
    let key = testenv::openssl::run(&["pkey", "-in", &foreign.key_path.display().to_string(), "-pubout"]).await?;
    let role = json!({"role_type": "jwt", "user_claim": "sub", "bound_audiences": server});
    corner.bao().jwt_login("jwt-foreign", &key, "mesh", role).await?;
    let login =
        |mount: &str, role: &str| json!({"jwt": {"path": mount, "role": role, "serviceAccountRef": {"name": ACCOUNT}}});
    let issuing = issuer(&corner, login(mount, "mesh")).create(corner.kube()).await?;
    issues(&corner, &issuing, "web").await?;
    for (mount, role, words) in [
        (mount, "misspelt", ["(400: role \"misspelt\" could not be found)", "spec.vault.auth.jwt.role names no role"]),
        (mount, "other-account", ["(400: error validating token", "bound_subject is another ServiceAccount"]),
        (mount, "other-audience", ["audience claim does not match", "bound_audiences holds none of the token's"]),
        (mount, "any-audience", ["no audiences bound to the role", "The role has no bound_audiences"]),
        (mount, "other-claims", ["claim \"team\" is missing", "bound_claims or user_claim"]),
        ("jwt-missing", "mesh", ["(403: permission denied)", "spec.vault.auth.jwt.path names no jwt mount"]),
        ("jwt-foreign", "mesh", ["signature", "jwt_validation_pubkeys"]),
    ] {
        refuses(&corner, &issuing, login(mount, role), "LoginRefused", &words).await?;
    }
    issuing.patch(&json!({"spec": {"vault": {"auth": login(mount, "mesh")}}})).await?;
    corner.issued(&corner.ask("again").await?).await.map(drop)
}

async fn cluster_issuer(shared: Arc<Shared>) -> Outcome {
    let (name, home) = ("login-cluster", shared.ours.namespace.as_str());
    let corner = Corner::new(&shared, name).await?;
    mount_kubernetes(&corner, name).await?;
    let more = json!({"token_policies": [corner.recipe.policy], "audience": format!("vault://{name}")});
    corner.bao().kubernetes_role(name, "mesh", home, ACCOUNT, more).await?;
    let auth = json!({"kubernetes": {"mountPath": format!("/v1/auth/{name}"), "role": "mesh", "serviceAccountRef": {"name": ACCOUNT}}});
    let issuer = Issuer::with_auth(home, name, corner.bao(), &corner.recipe.sign_path, auth).cluster();
    let issuing = corner.ready(issuer).await?;
    let csr = Csr::workload(name, "web").ec()?.csr_pem;
    let request = Request::new(name, "web", &issuing.issuer_ref, &csr).create(corner.kube()).await?;
    corner.issued(&request).await.map(drop)
}

async fn accepted_by_the_api_server(shared: Arc<Shared>) -> Outcome {
    let (corner, mount) = (Corner::new(&shared, "login-accepted").await?, "accepted");
    let auth = json!({"jwt": {
        "path": mount, "role": "mesh", "serviceAccountRef": {"name": ACCOUNT, "audiences": ["vault", corner.kube().server()]},
    }});
    let issuing = issuer(&corner, auth).create(corner.kube()).await?;
    let ready = issuing.reason("InvalidSpec", SOON).await?;
    let words =
        ["spec.vault.auth.jwt.serviceAccountRef.audiences: the API server itself accepts a token for vault, https://"];
    says(&ready["message"], &words)?;
    ensure!(sent(&corner, mount)?.is_empty(), "Vault has seen the token");
    let auth = json!({"jwt": {"serviceAccountRef": {"audiences": ["vault"]}}});
    issuing.patch(&json!({"spec": {"vault": {"auth": auth}}})).await?;
    issuing.reason("LoginRefused", SOON).await?;
    ensure!(!sent(&corner, mount)?.is_empty(), "the other is sent");
    Ok(())
}

async fn unusable_accounts(shared: Arc<Shared>) -> Outcome {
    let (name, home) = ("login-accounts", shared.ours.namespace.as_str());
    let corner = Corner::new(&shared, name).await?;
    let login = |account: &str| json!({"jwt": {"role": "mesh", "serviceAccountRef": {"name": account}}});
    let issuing = issuer(&corner, login("missing")).create(corner.kube()).await?;
    let ready = issuing.reason("InvalidReference", SOON).await?;
    let words = "spec.vault.auth.jwt.serviceAccountRef names ServiceAccount login-accounts/missing: it does not exist; create it";
    says(&ready["message"], &[words])?;
    let own = Issuer::with_auth(home, name, corner.bao(), &corner.recipe.sign_path, login(&shared.ours.account));
    let issuing = own.cluster().create(corner.kube()).await?;
    let ready = issuing.reason("InvalidSpec", SOON).await?;
    says(&ready["message"], &["spec.vault.auth.jwt.serviceAccountRef.name: is this controller's own ServiceAccount"])?;
    let own = token_requests(&shared, home)?.named(&shared.ours.account);
    ensure!(own.is_empty(), "{own:?}");
    issuing.delete().await
}

/// A key pair in a Secret as cert-manager would write it.
pub async fn store_pair(corner: &Corner, secret: &str, pair: &Identity) -> Result<()> {
    let data = [("tls.crt", pair.certificate_pem.as_str()), ("tls.key", pair.key_pem.as_str())];
    let secrets = corner.shared.run.secrets();
    // However a key is wrapped, a line of it would show.
    pair.key_pem.lines().filter(|line| line.len() > 40).for_each(|line| drop(secrets.add("a line of a key", line)));
    corner.kube().secret(&corner.name, secret, &data).await
}

/// A key pair of the run's CA.
pub fn pair(corner: &Corner, name: &str) -> Result<Identity> {
    let folder = corner.shared.run.new_folder("client")?;
    corner.shared.run.authority().identity(&folder, name, &[])
}

/// A key pair whose certificate has expired, and the CA that signed it.
fn expired(like: &Identity) -> Result<(Identity, String)> {
    let mut ca = rcgen::CertificateParams::default();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = rcgen::CertifiedIssuer::self_signed(ca, rcgen::KeyPair::generate()?)?;
    let mut params = rcgen::CertificateParams::default();
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    params.not_after = rcgen::date_time_ymd(2025, 1, 1);
    let key = rcgen::KeyPair::generate()?;
    let certificate_pem = params.signed_by(&key, &ca)?.pem();
    Ok((Identity { certificate_pem, key_pem: key.serialize_pem(), ..like.clone() }, ca.pem()))
}

async fn certificate(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "login-certificate").await?;
    let ca = shared.run.authority().pem().to_owned();
    corner.bao().certificate_login("cert", "mesh", &ca, &[&corner.recipe.policy]).await?;
    store_pair(&corner, "client", &pair(&corner, "first")?).await?;
    let auth = json!({"clientCertificate": {"name": "mesh", "secretName": "client"}});
    let issuing = issuer(&corner, auth).create(corner.kube()).await?;
    issues(&corner, &issuing, "web").await?;
    // The new pair takes the old one's place; a role that knows only the new one shows it.
    let body = json!({"certificate": ca, "token_policies": [corner.recipe.policy], "allowed_common_names": ["second"]});
    corner.bao().write("auth/cert/certs/mesh", body).await?;
    corner.bao().revoke_logins("cert").await?;
    store_pair(&corner, "client", &pair(&corner, "second")?).await?;
    let logins = || corner.bao().audit().all().map(|calls| calls.to("auth/cert/login"));
    eventually("a login with the new pair", SOON, async || {
        Ok(logins()?
            .iter()
            .last()
            .is_some_and(|login| login.error.is_none() && logins().is_ok_and(|it| it.len() > 1))
            .then_some(()))
    })
    .await?;
    issues(&corner, &issuing, "again").await
}

async fn certificate_refused(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "login-certificate-no").await?;
    let ca = shared.run.authority().pem().to_owned();
    let mount = "cert-refused";
    corner.bao().certificate_login(mount, "mesh", &ca, &[&corner.recipe.policy]).await?;
    let body = json!({"certificate": ca, "allowed_common_names": ["somebody"]});
    corner.bao().write(&format!("auth/{mount}/certs/other-names"), body).await?;
    let foreign = rcgen::generate_simple_self_signed(["foreign".to_owned()])?;
    let good = pair(&corner, "good")?;
    let key_pem = foreign.signing_key.serialize_pem();
    let foreign = Identity { certificate_pem: foreign.cert.pem(), key_pem, ..good.clone() };
    let (old, old_ca) = expired(&good)?;
    store_pair(&corner, "old", &old).await?;
    corner.bao().certificate_login(mount, "old", &old_ca, &[]).await?;
    store_pair(&corner, "good", &good).await?;
    store_pair(&corner, "foreign", &foreign).await?;
    store_pair(&corner, "mixed", &Identity { key_pem: foreign.key_pem.clone(), ..good }).await?;
    let login = |mount: &str, role: &str, secret: &str| json!({"clientCertificate": {"mountPath": format!("/v1/auth/{mount}"), "name": role, "secretName": secret}});
    let issuing = issuer(&corner, login(mount, "mesh", "good")).create(corner.kube()).await?;
    issues(&corner, &issuing, "web").await?;
    for (auth, words) in [
        (
            login(mount, "misspelt", "good"),
            ["(400: invalid certificate", "spec.vault.auth.clientCertificate.name names no"],
        ),
        (login(mount, "other-names", "good"), ["(400: no chain matching all constraints", "allowed_common_names"]),
        (
            login(mount, "old", "old"),
            ["(500: failed to verify client's certificate: x509: certificate has expired", "renew it"],
        ),
        (
            login(mount, "mesh", "foreign"),
            [
                "(400: invalid certificate or no client certificate supplied",
                "The CA of the certificate is not that of the role",
            ],
        ),
        (login("cert-missing", "mesh", "good"), ["(403: permission denied)", "mountPath names no cert mount"]),
    ] {
        refuses(&corner, &issuing, auth, "LoginRefused", &words).await?;
    }
    let words = [
        "spec.vault.auth.clientCertificate.secretName names Secret login-certificate-no/mixed, key tls.key: the key does not belong",
    ];
    refuses(&corner, &issuing, login(mount, "mesh", "mixed"), "InvalidReference", &words).await?;
    issuing.patch(&json!({"spec": {"vault": {"auth": login(mount, "mesh", "good")}}})).await?;
    corner.issued(&corner.ask("again").await?).await.map(drop)
}

async fn certificate_of_the_connection(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "login-connection").await?;
    let ca = shared.run.authority().pem().to_owned();
    corner.bao().certificate_login("cert-connection", "mesh", &ca, &[&corner.recipe.policy]).await?;
    store_pair(&corner, "client", &pair(&corner, "connection")?).await?;
    let issuer = issuer(&corner, json!({"clientCertificate": {"mountPath": "/v1/auth/cert-connection"}}))
        .set("vault/clientCertSecretRef", json!({"name": "client"}))
        .set("vault/clientKeySecretRef", json!({"name": "client"}));
    let issuing = issuer.create(corner.kube()).await?;
    issues(&corner, &issuing, "web").await
}
