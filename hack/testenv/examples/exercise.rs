//! Tries the parts of the test environment that the other examples leave out:
//! every recipe and login of OpenBao, its troubles, and what the proxy can do.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testenv::{Action, AppRole, Bao, Chain, ControlPlane, Csr, Options, Proxy, Recipe, Run, openssl};

fn main() -> Result<()> {
    let run = Run::start("exercise")?;
    let outcome = tokio::runtime::Runtime::new()?.block_on(exercise(&run));
    run.finish(outcome.is_ok());
    outcome
}

async fn exercise(run: &Run) -> Result<()> {
    let options = Options { cert_manager: false, webhook: false, selectable_fields: false, ..Options::default() };
    let plane = ControlPlane::start(run, options).await?;
    let path = "/apis/cert-manager.io/v1/certificaterequests?fieldSelector=spec.issuerRef.group%3Dx";
    let refused = plane.kube.send("GET", path, "", None).await?;
    println!("without selectable fields: {} {}", refused.status, refused.words());
    recipes(&plane.bao).await?;
    logins(run, &plane).await?;
    troubles(&plane.bao).await?;
    let proxy = Proxy::start(run, plane.bao.address()).await?;
    through_the_proxy(&plane.bao.with_address(proxy.url()), &proxy).await
}

async fn recipes(bao: &Bao) -> Result<()> {
    let key = openssl::rsa_key(2048).await?;
    let workload = Csr::new().uri("spiffe://cluster.local/ns/a/sa/b").with_key_pem(&key)?;
    let proxy = Csr::new().uri("spiffe://default/a").uri("kuma://b/c").with_key_pem(&key)?;
    let service = Csr::new().cn("a.b.svc.cluster.local").dns("a.b.svc.cluster.local").with_key_pem(&key)?;
    for (recipe, csr) in [
        (bao.tetrate("tetrate").await?, &workload),
        (bao.tetrate_with_root("tetrate-root").await?, &workload),
        (bao.osm("osm").await?, &service),
        (bao.osm_script("osm-script").await?, &service),
        (bao.kong("kong", Chain::WithRoot).await?, &proxy),
        (bao.plain_recipe("plain", Chain::RootItself).await?, &service),
    ] {
        let blocks = sign_as(bao, &recipe, &csr.csr_pem).await?;
        println!("{}: ca_chain of {blocks}", recipe.sign_path);
    }
    let openshift = bao.openshift("openshift").await?;
    let refused = sign_as(bao, &openshift, &workload.csr_pem).await;
    ensure!(refused.is_err(), "OpenShift's text forgets the policy, so signing was expected to be refused");
    bao.openshift_policy(&openshift).await?;
    println!("{}: ca_chain of {}", openshift.sign_path, sign_as(bao, &openshift, &workload.csr_pem).await?);
    Ok(())
}

/// Signs with the recipe's own login and verifies; gives the length of `ca_chain`.
async fn sign_as(bao: &Bao, recipe: &Recipe, csr_pem: &str) -> Result<usize> {
    let signed = as_role(bao, &recipe.app_role).await?.sign(&recipe.sign_path, csr_pem, "1h").await?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let chain = format!("{}\n{}\n", text(&signed["certificate"]), text(&signed["issuing_ca"]));
    openssl::verify(&chain, recipe.root_pem()).await.with_context(|| recipe.sign_path.clone())?;
    Ok(signed["ca_chain"].as_array().map_or(0, Vec::len))
}

async fn as_role(bao: &Bao, role: &AppRole) -> Result<Bao> {
    let auth = bao.log_in(role).await?;
    Ok(bao.with_token(auth["client_token"].as_str().context("no token")?))
}

async fn logins(run: &Run, plane: &ControlPlane) -> Result<()> {
    let (bao, kube) = (&plane.bao, &plane.kube);
    bao.sign_policy("login", "plain-pki/sign/mesh").await?;
    kube.namespace("vault").await?;
    kube.service_account("vault", "reviewer").await?;
    let binding = json!({
        "metadata": {"name": "reviewer"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:auth-delegator"},
        "subjects": [{"kind": "ServiceAccount", "name": "reviewer", "namespace": "vault"}],
    });
    kube.ensure("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &binding).await?;
    let reviewer = kube.token("vault", "reviewer", &[]).await?;
    bao.kubernetes_login("kubernetes", kube.server(), run.authority().pem(), &reviewer).await?;
    bao.kubernetes_role("kubernetes", "mesh", "vault", "default", json!({"token_policies": ["login"]})).await?;
    let token = kube.token("vault", "default", &[]).await?;
    let answer = bao.write("auth/kubernetes/login", json!({"role": "mesh", "jwt": token})).await?;
    println!("kubernetes login: policies {}", answer["auth"]["policies"]);

    let public_key = std::fs::read_to_string(&plane.account_key).context("reading sa.pub")?;
    let role = json!({
        "role_type": "jwt", "user_claim": "sub", "bound_audiences": ["vault://mesh"], "token_policies": ["login"],
    });
    bao.jwt_login("jwt", &public_key, "mesh", role).await?;
    let token = kube.token("vault", "default", &["vault://mesh"]).await?;
    let answer = bao.write("auth/jwt/login", json!({"role": "mesh", "jwt": token})).await?;
    println!("jwt login: policies {}", answer["auth"]["policies"]);

    bao.certificate_login("cert", "mesh", run.authority().pem(), &["login"]).await?;
    let client = run.authority().identity(run.folder(), "client", &["client.mesh"])?;
    let identity = reqwest::Identity::from_pem(format!("{}{}", client.certificate_pem, client.key_pem).as_bytes())?;
    let ca = reqwest::Certificate::from_pem(bao.ca_pem().as_bytes())?;
    let with_certificate = reqwest::Client::builder().tls_certs_only([ca]).identity(identity).build()?;
    let answer = with_certificate.post(format!("{}/v1/auth/cert/login", bao.address())).send().await?;
    println!("client certificate login: {}", answer.status());
    let token = bao.make_token(json!({"policies": ["login"], "ttl": "1h", "num_uses": 1})).await?;
    let once = bao.with_token(&token);
    let uses = [
        once.call("GET", "auth/token/lookup-self", None).await?,
        once.call("GET", "auth/token/lookup-self", None).await?,
    ];
    println!("a token of one use: {} then {}", uses[0].status, uses[1].status);
    Ok(())
}

async fn troubles(bao: &Bao) -> Result<()> {
    bao.rate_limit("slow", "plain-pki", 1.0).await?;
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(bao.call("GET", "plain-pki/ca_chain", None).await?.status);
    }
    bao.lift_rate_limit("slow").await?;
    println!("limited to one a second: {statuses:?}");
    bao.seal().await?;
    let sealed = bao.call("GET", "plain-pki/ca_chain", None).await?;
    bao.unseal().await?;
    println!("sealed: {} {}", sealed.status, sealed.words());
    bao.write("sys/namespaces/team", json!({})).await?;
    let team = bao.with_namespace("team").plain_recipe("team", Chain::WithRoot).await?;
    println!("in a namespace: {}", team.sign_path);
    bao.peer().pause()?;
    let silent = tokio::time::timeout(Duration::from_millis(300), bao.call("GET", "sys/health", None)).await.is_err();
    bao.peer().resume()?;
    println!("paused, it is silent: {silent}; resumed: {}", bao.call("GET", "sys/health", None).await?.status);
    Ok(())
}

async fn through_the_proxy(bao: &Bao, proxy: &Proxy) -> Result<()> {
    let health = "sys/health";
    proxy.on(|seen| seen.is("GET", "health"), Action::answer(429, &json!({"errors": ["slow down"]}))).times(1);
    println!("answered: {}", bao.call("GET", health, None).await?.words());
    proxy.on(|_| true, Action::Cut).times(1);
    println!("cut: {}", bao.call("GET", health, None).await.is_err());
    proxy.on(|_| true, Action::patch(|body| body["sealed"] = "by the proxy".into())).times(1);
    println!("patched: {}", bao.call("GET", health, None).await?.body["sealed"]);
    proxy.on(|_| true, Action::Delay(Duration::from_millis(50))).times(1);
    proxy.on(|seen| seen.is("POST", "random"), Action::Hold).times(1);
    let body = json!({});
    let ask = bao.call("POST", "sys/tools/random/8", Some(&body));
    let gave_up = tokio::time::timeout(Duration::from_millis(200), ask).await.is_err();
    println!("held: the client gave up {gave_up}, held {}, delivered {:?}", proxy.held(), proxy.release().await?);
    let recorded = proxy.recorded();
    let held = recorded.iter().find(|record| record.seen.is("POST", "random")).context("it was not recorded")?;
    println!("replayed: {} (with a token: {})", proxy.replay(held).await?.status, held.has_vault_token());
    proxy.cut_all();
    println!("after all connections were cut: {}", bao.call("GET", health, None).await?.status);
    Ok(())
}
