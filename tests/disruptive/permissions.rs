//! Who may do what: the approver on our requests, and our own ServiceAccount.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use testenv::{Action, Chart, Issuer, IssuerRef, Issuing, Options, Proxy, Run, condition, eventually, holds_for, rbac};

use crate::support::{LATER, MESH, SOON, World, bare, controller_options, is_sign, until};
use crate::{Outcome, Suite};

pub fn add(suite: &mut Suite) {
    suite
        .add("approval is refused without our signer names, told once after 30 s, and granted with them", not_approved);
    suite.add("a denied request ends Denied with a failureTime, and Vault hears nothing of it", denied);
    suite.add("without the right to watch Secrets a changed one takes effect with the next read", get_alone);
    suite.add(
        "with a list of namespaces Secrets of others are forbidden, and every right we have is used",
        listed_namespaces,
    );
    suite.add("a login's token may be requested of the ServiceAccounts that the chart names, and of no other", logins);
    suite.add("what the chart's values do not let us publish is left to others, and said in words", publishing);
}

async fn not_approved(run: Run) -> Outcome {
    let world = World::start(run, Options::default()).await?;
    let ours = world.controller(|options| options.set = vec!["approver.issuers=false".to_owned()]).await?;
    let issuer = world.ready_issuer().await?.issuer_ref;
    let web = world.ask(MESH, "web", &issuer).await?;

    let asked = std::time::Instant::now();
    let event = eventually("an event tells what is missing", Duration::from_secs(50), async || {
        Ok(world.events(MESH, "web").await?.into_iter().find(|event| event["reason"] == "NotApproved"))
    })
    .await?;
    ensure!(asked.elapsed() > Duration::from_secs(25), "it gave the approver {:?} only", asked.elapsed());
    let note = event["note"].as_str().context("a note")?;
    ensure!(note.contains("approve") && note.contains("vaultmeshissuers.vaultmesh.io/*"), "{note}");
    ensure!(event["type"] == "Warning");
    tokio::time::sleep(Duration::from_secs(3)).await;
    ensure!(world.events(MESH, "web").await?.len() == 1, "it is told once");
    ensure!(world.status_writes(&ours, "web")?.is_empty(), "nothing is written");
    ensure!(condition(&web.request.get().await?, "Approved").is_none());
    ensure!(world.plane.bao.audit().all()?.sign_attempts(&world.recipe.sign_path) == 0, "Vault is not asked");

    Chart::render(&world.run, &ours.namespace, &[]).await?.install(&world.plane.kube).await?;
    web.issued(&world, LATER).await?;
    ensure!(world.status_writes(&ours, "web")? == [200]);
    Ok(())
}

async fn denied(run: Run) -> Outcome {
    let flags = vec!["--without=certificaterequests-approver".to_owned()];
    let world = World::start(run, Options { cert_manager_flags: flags, ..Options::default() }).await?;
    let ours = world.controller(|_| ()).await?;
    let issuer = world.ready_issuer().await?.issuer_ref;
    let before = world.plane.bao.audit().mark()?;
    let missing = IssuerRef::new("VaultMeshIssuer", "missing");
    for (name, issuer) in [("denied", &issuer), ("denied-without-issuer", &missing)] {
        let asked = world.ask(MESH, name, issuer).await?;
        holds_for("an undecided request is left alone", Duration::from_secs(2), async || {
            Ok(world.status_writes(&ours, name)?.is_empty())
        })
        .await?;
        asked.request.deny().await?;
        let object = asked.request.reason("Denied", SOON).await?;
        let ready = condition(&object, "Ready").context("Ready")?;
        ensure!(ready["status"] == "False", "{ready}");
        let time = |value: &Value| value.as_str().unwrap_or_default().parse::<jiff::Timestamp>();
        let (failed, created) = (&object["status"]["failureTime"], &object["metadata"]["creationTimestamp"]);
        ensure!(time(failed)? >= time(created)?, "failureTime {failed}, created {created}");
        let denial = condition(&object, "Denied").context("Denied")?;
        ensure!(denial["message"] == "decided by the test" && denial["reason"] == "testenv", "{denial}");
        let owned = object["metadata"]["managedFields"].as_array().into_iter().flatten();
        let owners = owned.filter(|fields| fields["fieldsV1"].to_string().contains(r#"k:{\"type\":\"Denied\"}"#));
        let owners: Vec<_> = owners.map(|fields| fields["manager"].clone()).collect();
        ensure!(owners == ["testenv-approver"], "the denial belongs to who made it: {owners:?}");
        ensure!(object["status"]["certificate"].is_null());
        ensure!(world.status_writes(&ours, name)? == [200], "one write");
        let told = eventually("an event tells it", SOON, async || {
            let events = world.events(MESH, name).await?;
            Ok(events.iter().any(|event| event["reason"] == "Denied").then_some(events.len()))
        });
        ensure!(told.await? == 1, "one event");
    }
    let calls = world.plane.bao.audit().since(before)?;
    ensure!(calls.is_empty(), "Vault heard {} calls", calls.len());
    Ok(())
}

/// An AppRole issuer whose CA bundle comes from a ConfigMap, so that both kinds of object are read.
fn with_config_map(world: &World, namespace: &str, server: &str) -> Issuer {
    Issuer::app_role(namespace, "vault", &world.plane.bao.with_address(server), &world.recipe)
        .set("vault/caBundle", Value::Null)
        .set("vault/caBundleConfigMapRef", json!({"name": "vault-ca"}))
}

async fn listed_namespaces(run: Run) -> Outcome {
    let world = World::start(run, bare()).await?;
    let kube = &world.plane.kube;
    let vault = Proxy::start(&world.run, world.plane.bao.address()).await?;
    for namespace in ["a", "b"] {
        kube.namespace(namespace).await?;
        kube.config_map(namespace, "vault-ca", &[("ca.crt", world.plane.bao.ca_pem())]).await?;
    }
    let set =
        ["secrets.namespaces={a}", "clusterResourceNamespace=a", "publish.secrets=true"].map(str::to_owned).to_vec();
    let replica = |installed| {
        world.controller(move |options| (options.set, options.alone, options.installed) = (set, false, installed))
    };
    let ours = replica.clone()(false).await?;
    // It watches the lease that the first one holds.
    let _standby = replica(true).await?;

    let in_b = with_config_map(&world, "b", vault.url()).create(kube).await?;
    let waits = world.ask("b", "web", &in_b.issuer_ref).await?;
    waits.request.approve().await?;
    let refused = in_b.reason("InvalidReference", SOON).await?;
    let words = refused["message"].as_str().context("a message")?;
    ensure!(words.contains("forbidden") && words.contains("vault-approle") || words.contains("vault-ca"), "{words}");
    waits.request.reason("Pending", SOON).await?;

    // Where the controller may read, it may publish.
    let in_a = with_config_map(&world, "a", vault.url()).set("trust", json!({"publish": {"secret": {"name": "root"}}}));
    let in_a = in_a.create(kube).await?;
    in_a.ready(SOON).await?;
    let for_all =
        with_config_map(&world, "a", vault.url()).set("trust", json!({"publish": {"configMap": {"name": "root"}}}));
    let for_all = for_all.cluster().create(kube).await?;
    for_all.ready(SOON).await?;
    let served = world.ask("b", "by-cluster-issuer", &for_all.issuer_ref).await?;
    served.request.approve().await?;
    served.issued(&world, SOON).await?;

    // Somebody labels the request while Vault has it: our write meets 409, reads again and applies the same certificate.
    let slow = vault.on(is_sign, Action::Hold);
    let web = world.ask("a", "web", &in_a.issuer_ref).await?;
    web.request.approve().await?;
    until("the request is with Vault", 1, || Ok(vault.held())).await?;
    kube.patch(&web.request.path, &json!({"metadata": {"labels": {"touched": "yes"}}})).await?;
    slow.remove();
    vault.release().await?;
    web.issued(&world, SOON).await?;
    ensure!(world.plane.bao.audit().all()?.signs(&world.recipe.sign_path) == 2, "a conflict costs no second sign");

    // A wrong secret-id and the right one again: the second `Verified` is the same event once more, so it is patched.
    kube.secret("a", "vault-approle", &[("secretId", "00000000-0000-0000-0000-000000000000")]).await?;
    in_a.reason("LoginRefused", LATER).await?;
    kube.secret("a", "vault-approle", &[("secretId", &world.recipe.app_role.secret_id)]).await?;
    in_a.ready(LATER).await?;
    for_all.ready(LATER).await?;

    let granted = rbac::granted(kube, &ours.namespace, &ours.account).await?;
    ensure!(granted.iter().any(|right| right.resource == "secrets" && right.namespace.as_deref() == Some("a")));
    eventually("every right is used", SOON, async || {
        let calls = world.plane.kube_audit.all()?.of(&ours.namespace, &ours.account);
        let unused = rbac::unused(&granted, &rbac::used(&calls));
        ensure!(unused.is_empty(), "never used: {unused:?}");
        Ok(Some(()))
    })
    .await?;
    let calls = world.plane.kube_audit.all()?.of(&ours.namespace, &ours.account);
    ensure!(calls.keep(|call| call.resource == "secrets" && call.code == 200 && call.namespace != "a").is_empty());
    for call in calls.forbidden().iter() {
        let reads = matches!(call.verb.as_str(), "get" | "watch") && call.namespace == "b";
        ensure!(reads && matches!(call.resource.as_str(), "secrets" | "configmaps"), "{call:?} was forbidden");
    }
    ensure!(!calls.forbidden().is_empty());
    Ok(())
}

async fn logins(run: Run) -> Outcome {
    let world = World::start(run, bare()).await?;
    let (kube, bao) = (&world.plane.kube, &world.plane.bao);
    for account in ["login", "other"] {
        kube.service_account(MESH, account).await?;
    }
    let key = std::fs::read_to_string(&world.plane.account_key)?;
    let role = json!({
        "role_type": "jwt", "user_claim": "sub", "bound_audiences": [bao.address()], "token_policies": [world.recipe.policy],
    });
    bao.jwt_login("jwt", &key, "mesh", role).await?;
    let ours = world.controller(|_| ()).await?;
    let with = |name: &str, account: &str| {
        let auth = json!({"jwt": {"role": "mesh", "serviceAccountRef": {"name": account}}});
        Issuer::with_auth(MESH, name, bao, &world.recipe.sign_path, auth)
    };
    let [login, other] = [with("vault", "login").create(kube).await?, with("other", "other").create(kube).await?];
    for (issuing, account) in [(&login, "login"), (&other, "other")] {
        let refused = issuing.reason("InvalidReference", SOON).await?;
        let words = refused["message"].as_str().context("a message")?;
        let begin = format!(
            "spec.vault.auth.jwt.serviceAccountRef names ServiceAccount mesh/{account}: this controller may not request its tokens; \
             list it in the chart's value serviceAccounts (the API server's words: serviceaccounts \"{account}\" is forbidden"
        );
        ensure!(words.starts_with(&begin), "{words}");
    }
    ensure!(bao.audit().all()?.logins("jwt") == 0, "Vault is not asked");

    let set = ["serviceAccounts[0].namespace=mesh", "serviceAccounts[0].name=login"].map(str::to_owned);
    Chart::render(&world.run, &ours.namespace, &set).await?.install(kube).await?;
    login.ready(LATER).await?;
    world.approved("web", &login.issuer_ref).await?.issued(&world, SOON).await?;
    let requests = world.plane.kube_audit.all()?.of(&ours.namespace, &ours.account).resource("serviceaccounts/token");
    let allowed = requests.keep(|call| call.code == 201);
    ensure!(allowed.len() == 1 && allowed.named("login").len() == 1, "{requests:?}");
    let granted = rbac::granted(kube, &ours.namespace, &ours.account).await?;
    let granted: Vec<_> = granted.iter().filter(|right| right.resource.starts_with("serviceaccounts")).collect();
    let [right] = granted.as_slice() else { anyhow::bail!("{granted:?}") };
    let (verb, namespace, name) = (right.verb.as_str(), right.namespace.as_deref(), right.name.as_deref());
    ensure!((verb, namespace, name) == ("create", Some(MESH), Some("login")), "{right:?}");
    Ok(())
}

async fn publishing(run: Run) -> Outcome {
    let world = World::start(run, bare()).await?;
    let kube = &world.plane.kube;
    kube.namespace("other").await?;
    let set = ["publish.create=false", "publish.namespaces={mesh}"].map(str::to_owned).to_vec();
    let ours = world.controller(|options| options.set = set).await?;
    let to = |namespace: &str, kind: &str| {
        let issuer = Issuer::app_role(namespace, &kind.to_lowercase(), &world.plane.bao, &world.recipe);
        issuer.set("trust/publish", json!({kind: {"name": "root"}}))
    };
    let told = async |issuer: &Issuing, reason: &str| {
        let done = |object: &Value| condition(object, "Published").is_some_and(|it| it["reason"] == reason);
        let object = kube.wait(&issuer.path, SOON, done).await?;
        anyhow::Ok(condition(&object, "Published").map(|it| it["message"].clone()).unwrap_or_default())
    };

    // Secrets are off by default, also one that is there.
    kube.secret(MESH, "root", &[]).await?;
    let secret = to(MESH, "secret").create(kube).await?;
    secret.ready(SOON).await?;
    let words = told(&secret, "WriteForbidden").await?;
    let begin = "this controller may not write Secret mesh/root: the chart's value publish.secrets lets it, in the namespaces of \
                 publish.namespaces (the API server's words: secrets \"root\" is forbidden";
    ensure!(words.as_str().is_some_and(|words| words.starts_with(begin)), "{words}");

    // A ConfigMap may be filled, and not made.
    let issuer = to(MESH, "configMap").create(kube).await?;
    let words = told(&issuer, "WriteForbidden").await?;
    ensure!(
        words.as_str().is_some_and(|words| words.contains("publish.create, unless somebody else creates")),
        "{words}"
    );
    ensure!(kube.find("/api/v1/namespaces/mesh/configmaps/root").await?.is_none(), "nothing was made");
    kube.config_map(MESH, "root", &[]).await?;
    told(&issuer, "Published").await?;
    let bundle = kube.get("/api/v1/namespaces/mesh/configmaps/root").await?["data"]["ca.crt"].clone();
    ensure!(bundle.as_str().is_some_and(|bundle| bundle.trim() == world.recipe.root_pem().trim()), "{bundle}");
    kube.config_map("other", "root", &[]).await?;
    told(&to("other", "configMap").create(kube).await?, "WriteForbidden").await?;
    world.approved("web", &secret.issuer_ref).await?.issued(&world, SOON).await?;

    // The Secret, the missing ConfigMap, the same one made, and the other namespace: our own words about it bring nothing to try
    // anew.
    eventually("one call for each", SOON, async || {
        let calls = world.plane.kube_audit.all()?.of(&ours.namespace, &ours.account).verb("patch");
        let calls = calls.keep(|call| ["secrets", "configmaps"].contains(&call.resource.as_str()));
        let codes: Vec<_> = calls.iter().map(|call| call.code).collect();
        ensure!(codes.len() <= 4, "{calls:?}");
        Ok((codes == [403, 403, 200, 403]).then_some(()))
    })
    .await
}

async fn get_alone(run: Run) -> Outcome {
    let world = World::start(run, bare()).await?;
    let kube = &world.plane.kube;
    let ours = world.prepared(controller_options(|_| ())).await?;
    let role = "/apis/rbac.authorization.k8s.io/v1/clusterroles/vault-mesh-issuer";
    let mut rules = kube.get(role).await?["rules"].clone();
    for rule in rules.as_array_mut().context("rules")? {
        if rule["resources"].as_array().is_some_and(|resources| resources.iter().any(|it| it == "secrets")) {
            rule["verbs"] = json!(["get"]);
        }
    }
    kube.patch(role, &json!({"rules": rules})).await?;
    ours.start_again().await?;

    let secret_id = &world.recipe.app_role.secret_id;
    let issuer = world.issuer_at(world.plane.bao.address()).create(kube).await?;
    issuer.ready(SOON).await?;
    kube.secret(MESH, "vault-approle", &[("secretId", "00000000-0000-0000-0000-000000000000")]).await?;
    issuer.reason("LoginRefused", LATER).await?;
    kube.secret(MESH, "vault-approle", &[("secretId", secret_id)]).await?;
    issuer.ready(LATER).await?;
    world.approved("web", &issuer.issuer_ref).await?.issued(&world, SOON).await?;
    let calls = world.plane.kube_audit.all()?.of(&ours.namespace, &ours.account).resource("secrets");
    ensure!(
        !calls.verb("watch").forbidden().is_empty()
            && calls.verb("watch").len() == calls.verb("watch").forbidden().len()
    );
    ensure!(calls.verb("get").len() < 12, "it reads every minute, not {} times", calls.verb("get").len());
    Ok(())
}
