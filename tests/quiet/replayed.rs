//! CONTRACT.md §4, the rows that OpenBao cannot be made to answer: a proxy answers in its place. Each table says what is replayed
//! and why.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use serde_json::{Value, json};
use testenv::{Action, Csr, Issuer, IssuerRef, Proxy, Request, Seen, eventually};

use crate::midflight::is_sign;
use crate::support::{A_WHILE, Corner, SOON, is_issued, ready_of, says};
use crate::{Outcome, Shared, Suite};

pub fn add(suite: &mut Suite) {
    suite.add("a dead token in the words of newer Vault costs one login and no attempt", dead_token);
    suite.add("a token that is dead straight from its login makes the issuer not Ready", dead_on_arrival);
    suite.add("configuration faults in Vault's words make the issuer not Ready and name what to change", configuration);
    suite.add("refused logins in Vault's words name the field that is wrong", logins);
    suite.add("an answer that must not be trusted is not written, and the next try is one request", untrusted);
    suite.add("a redirect is not followed, and the token goes nowhere else", redirect);
    suite.add("an error that is not Vault's is shown as a class, never as text", not_vault);
}

/// Where the rows' issuers have their sign paths: one proxy serves them all, and each rule matches one path.
pub struct Table {
    pub corner: Corner,
    pub proxy: Proxy,
}

impl Table {
    async fn new(shared: &Arc<Shared>, name: &str) -> Result<Self> {
        Self::around(Corner::new(shared, name).await?).await
    }

    /// The same in a corner that is there already.
    pub async fn around(corner: Corner) -> Result<Self> {
        let every_role = format!("{}/sign/+", corner.recipe.mount());
        corner.bao().sign_policy(&corner.recipe.policy, &every_role).await?;
        let proxy = corner.proxy().await?;
        Ok(Self { corner, proxy })
    }

    /// An issuer of this name, whose role has the name too.
    pub async fn issuer(&self, name: &str) -> Result<Issuer> {
        let Self { corner, proxy } = self;
        corner.bao().lenient_role(corner.recipe.mount(), name).await?;
        let issuer = Issuer::app_role(&corner.name, name, &corner.bao().with_address(proxy.url()), &corner.recipe);
        Ok(issuer.set("vault/path", self.path(name).into()))
    }

    pub fn path(&self, name: &str) -> String {
        format!("{}/sign/{name}", self.corner.recipe.mount())
    }

    /// Whether a call goes to this row's sign path.
    pub fn at(&self, name: &str) -> impl Fn(&Seen) -> bool + Send + Sync + 'static {
        let end = format!("/v1/{}", self.path(name));
        move |seen| seen.path == end
    }

    async fn request(&self, issuer: &str, name: &str) -> Result<testenv::Created> {
        let pair = Csr::workload(&self.corner.name, name).ec()?;
        let reference = IssuerRef::new("VaultMeshIssuer", issuer);
        let request = Request::new(&self.corner.name, name, &reference, &pair.csr_pem).duration("1h");
        request.create(self.corner.kube()).await
    }
}

fn errors(text: &str) -> Value {
    json!({"errors": [text]})
}

async fn dead_token(shared: Arc<Shared>) -> Outcome {
    // Replayed: neither OpenBao nor Vault 1.14 says "invalid token" yet (hashicorp/vault#25953).
    let table = Table::new(&shared, "dead-token").await?;
    let words =
        [("list", "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"), ("plain", "permission denied")];
    for (name, words) in words {
        let mount = table.corner.recipe.mount();
        let before = table.corner.calls()?;
        table.issuer(name).await?.create(table.corner.kube()).await?.ready(SOON).await?;
        let at = table.at(name);
        let rule = table.proxy.on(move |seen| at(seen) && is_sign(seen), Action::answer(403, &errors(words))).times(1);
        let object = table.request(name, name).await?.reason("Issued", SOON).await?;
        is_issued(&object, table.corner.recipe.root_pem()).await?;
        let (after, role) = (table.corner.calls()?, &table.corner.recipe.app_role);
        ensure!(rule.hits() == 1, "{name}: the rule was used {} times", rule.hits());
        ensure!(after.logins_of(role) == before.logins_of(role) + 2, "{name}: one login, and one more: {after:?}");
        ensure!(after.signs(mount) == before.signs(mount) + 1, "{name}: {after:?}");
        let writes = table.corner.status_writes()?.named(name);
        ensure!(writes.len() == 1, "{name}: it counts as no attempt: {writes:?}");
    }
    Ok(())
}

async fn dead_on_arrival(shared: Arc<Shared>) -> Outcome {
    // Replayed: several servers without shared storage behind one name would answer so.
    let table = Table::new(&shared, "dead-on-arrival").await?;
    table.proxy.on(table.at("web"), Action::answer(403, &errors("permission denied")));
    let issuing = table.issuer("web").await?.create(table.corner.kube()).await?;
    let ready = issuing.reason("LoginRefused", SOON).await?;
    says(&ready["message"], &["Vault does not accept the token (permission denied)", "It came straight from a login"])?;
    let request = table.request("web", "web").await?;
    table.corner.pending(&request, "is not Ready").await?;
    // Twice each check: once, and once more with a new login; then nothing until the next check.
    tokio::time::sleep(A_WHILE).await;
    let asked = table.proxy.count("POST", "/sign/web") + table.proxy.count("PUT", "/sign/web");
    let logins = table.corner.calls()?.logins_of(&table.corner.recipe.app_role);
    ensure!(asked == 2 && logins == 2, "{asked} calls, {logins} logins");
    Ok(())
}

async fn configuration(shared: Arc<Shared>) -> Outcome {
    // Replayed: Vault's words of 1.14 and of mounts in states that OpenBao does not get into.
    let rows: [(&str, u16, &str, &str, &[&str]); 9] = [
        ("role", 400, "unknown role: role", "RoleNotFound", &["unknown role", "create the role"]),
        (
            "route",
            404,
            "no handler for route \"x\". route entry not found.",
            "MountNotFound",
            &["No secrets engine is mounted there"],
        ),
        (
            "namespace",
            404,
            "namespace not found",
            "NamespaceNotFound",
            &["There is no such namespace", "spec.vault.namespace"],
        ),
        (
            "no-ca",
            500,
            "could not fetch the CA certificate (was one set?): no CA",
            "CAUnusable",
            &["could not fetch the CA", "import one"],
        ),
        (
            "no-default",
            500,
            "error fetching CA certificate: no default issuer currently configured",
            "IssuerNotFound",
            &["default"],
        ),
        (
            "no-issuer",
            500,
            "unable to find PKI issuer for reference: blue",
            "IssuerNotFound",
            &["no such issuer", "<ref>"],
        ),
        (
            "usage",
            500,
            "issuer lacks requested usage issuing-certificates",
            "CAUnusable",
            &["issuing-certificates", "usages"],
        ),
        (
            "policy",
            403,
            "1 error occurred:\n\t* permission denied\n\n",
            "PermissionDenied",
            &["policy", "mount", "role", "misspelt"],
        ),
        ("operation", 405, "unsupported operation", "SigningRefused", &["unsupported operation", "spec.vault.path"]),
    ];
    let table = Table::new(&shared, "configuration").await?;
    try_join_all(rows.map(|(name, status, words, reason, expected)| {
        let table = &table;
        async move {
            table.proxy.on(table.at(name), Action::answer(status, &errors(words)));
            let issuing = table.issuer(name).await?.create(table.corner.kube()).await?;
            let ready = issuing.reason(reason, SOON).await.context(name)?;
            says(&ready["message"], &[&[table.path(name).as_str()][..], expected].concat()).context(name)?;
            let request = table.request(name, name).await?;
            table.corner.pending(&request, "is not Ready").await.context(name)
        }
    }))
    .await?;
    ensure!(table.corner.sign_attempts()? == 0, "nothing was asked to be signed");
    Ok(())
}

async fn logins(shared: Arc<Shared>) -> Outcome {
    // Replayed: OpenBao says "invalid role or secret ID" for both, and is never overloaded here.
    let rows: [(&str, u16, &str, &str, &[&str]); 9] = [
        (
            "role-id",
            400,
            "invalid role ID",
            "LoginRefused",
            &["invalid role ID", "spec.vault.auth.appRole.roleId names no role"],
        ),
        ("secret-id", 400, "invalid secret id", "LoginRefused", &["invalid secret id", "secretRef is wrong, expired"]),
        (
            "denied",
            403,
            "permission denied",
            "LoginRefused",
            &["permission denied", "appRole.path names no AppRole mount"],
        ),
        ("sealed", 503, "Vault is sealed", "VaultSealed", &["is sealed"]),
        (
            "no-leader",
            500,
            "local node not active but active cluster node not found",
            "VaultStandby",
            &["is a standby that knows no active node", "a majority of its nodes"],
        ),
        (
            "inactive",
            503,
            "no active Vault instance found",
            "VaultStandby",
            &["is a standby that knows no active node (no active Vault instance found)"],
        ),
        (
            "namespace",
            404,
            "namespace not found",
            "NamespaceNotFound",
            &["auth/approle/login", "correct spec.vault.namespace"],
        ),
        ("limited", 429, "rate limit quota exceeded", "VaultUnavailable", &["429", "rate limit"]),
        ("broken", 500, "internal error", "VaultUnavailable", &["500", "internal error"]),
    ];
    let corner = Corner::new(&shared, "replayed-logins").await?;
    try_join_all(rows.map(|(name, status, words, reason, expected)| {
        let corner = &corner;
        async move {
            let proxy = corner.proxy().await?;
            proxy.on(|seen| seen.path.contains("/login"), Action::answer(status, &errors(words)));
            let issuer = Issuer::app_role(&corner.name, name, &corner.bao().with_address(proxy.url()), &corner.recipe);
            let ready = issuer.create(corner.kube()).await?.reason(reason, SOON).await.context(name)?;
            says(&ready["message"], expected).context(name)?;
            let with_token = proxy.recorded().iter().filter(|record| record.has_vault_token()).count();
            ensure!(with_token == 0, "{name}: {with_token} calls with a token");
            Ok(())
        }
    }))
    .await?;
    Ok(())
}

async fn untrusted(shared: Arc<Shared>) -> Outcome {
    // Replayed: what a wrong server or an attacker could answer with status 200; wrong_answers.rs has the kinds of it.
    let foreign = Csr::workload("untrusted", "foreign").ec()?;
    let table = Table::new(&shared, "untrusted").await?;
    let signed = table.corner.bao().sign(&table.corner.recipe.sign_path, &foreign.csr_pem, "1h").await?;
    let foreign = signed["certificate"].clone();
    let rows: [(&str, Action, &[&str]); 2] = [
        ("no-json", Action::raw(200, &[], "<html>welcome</html>"), &["it is not Vault's JSON"]),
        ("foreign-key", Action::patch(move |answer| answer["data"]["certificate"] = foreign.clone()), &["another key"]),
    ];
    try_join_all(rows.map(|(name, action, words)| {
        let table = &table;
        async move { untrusted_row(table, name, action, words).await.context(name) }
    }))
    .await?;
    Ok(())
}

async fn untrusted_row(table: &Table, name: &str, action: Action, words: &[&str]) -> Outcome {
    let issuing = table.issuer(name).await?.create(table.corner.kube()).await?;
    issuing.ready(SOON).await?;
    let at = table.at(name);
    let rule = table.proxy.on(move |seen| at(seen) && is_sign(seen), action);
    let mut requests = vec![table.request(name, name).await?];
    table.corner.pending(&requests[0], "could not have the request signed").await?;
    let ready = issuing.reason("AnswerUntrusted", SOON).await?;
    says(&ready["message"], &[&[table.path(name).as_str()][..], words].concat())?;
    for number in 0..3 {
        requests.push(table.request(name, &format!("{name}-{number}")).await?);
    }
    for request in &requests {
        table.corner.pending(request, "").await?;
    }
    // After the next check one of the four is let through, and meets the same; the others go on waiting.
    eventually("the trial of one request", Duration::from_secs(60), async || Ok((rule.hits() > 1).then_some(())))
        .await?;
    tokio::time::sleep(A_WHILE).await;
    let at = table.at(name);
    let calls: Vec<_> = table.proxy.recorded().iter().filter(|it| at(&it.seen)).map(|it| is_sign(&it.seen)).collect();
    let in_a_row = calls.windows(2).any(|pair| pair == [true, true]);
    ensure!(!in_a_row, "one request after each check, here are signs (true) and probes: {calls:?}");
    rule.remove();
    for request in &requests {
        let object = request.ready(Duration::from_secs(90)).await?;
        is_issued(&object, table.corner.recipe.root_pem()).await?;
    }
    issuing.ready(SOON).await.map(drop)
}

async fn redirect(shared: Arc<Shared>) -> Outcome {
    // Replayed: a standby that redirects instead of forwarding, or worse. The token must not go to where it points.
    let corner = Corner::new(&shared, "redirect").await?;
    let (proxy, elsewhere) = (corner.proxy().await?, corner.proxy().await?);
    for status in [301, 302, 307, 308] {
        let location = format!("{}/v1/{}", elsewhere.url(), corner.recipe.sign_path);
        proxy.pass_all();
        proxy.on(|seen| seen.path.contains("/sign/"), Action::raw(status, &[("location", location.as_str())], ""));
        let name = format!("vault-{status}");
        let issuer = Issuer::app_role(&corner.name, &name, &corner.bao().with_address(proxy.url()), &corner.recipe);
        let ready = issuer.create(corner.kube()).await?.reason("VaultUnavailable", SOON).await?;
        says(&ready["message"], &[&status.to_string(), "redirects are not followed", "spec.vault.server"])?;
    }
    ensure!(elsewhere.recorded().is_empty(), "{:?}", elsewhere.recorded());
    Ok(())
}

async fn not_vault(shared: Arc<Shared>) -> Outcome {
    // Replayed: load balancers, login pages, and whoever else listens.
    let corner = Corner::new(&shared, "not-vault").await?;
    let secret = "internal-host-name-of-a-gateway";
    let rows: [(&str, u16, &str); 5] = [
        ("html-502", 502, "<html>internal-host-name-of-a-gateway</html>"),
        ("html-403", 403, "<html>internal-host-name-of-a-gateway</html>"),
        ("json-404", 404, "{\"message\":\"internal-host-name-of-a-gateway\"}"),
        ("text-400", 400, "internal-host-name-of-a-gateway"),
        ("html-200", 200, "<html>internal-host-name-of-a-gateway</html>"),
    ];
    try_join_all(rows.map(|(name, status, body)| {
        let corner = &corner;
        async move {
            let proxy = corner.proxy().await?;
            proxy.on(|_| true, Action::raw(status, &[("content-type", "text/plain")], body));
            let issuer = Issuer::app_role(&corner.name, name, &corner.bao().with_address(proxy.url()), &corner.recipe);
            let issuing = issuer.create(corner.kube()).await?;
            let ready = issuing.reason("VaultUnavailable", SOON).await.context(name)?;
            says(&ready["message"], &[&format!("answered {status}, and not as Vault does")]).context(name)?;
            let object = issuing.get().await?;
            ensure!(!object["status"].to_string().contains(secret), "{name}: {}", ready_of(&object)?);
            Ok(())
        }
    }))
    .await?;
    ensure!(!shared.ours.log()?.contains(secret), "the log shows what a stranger said");
    Ok(())
}
