//! The command `check`, run as a person or a pipeline runs it, against real faults: each has a line of its own and an exit code that
//! is not 0, and no token outlives the command.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use testenv::{Chain, HierarchyOptions, Issuer, Recipe, eventually};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::support::{AT_ONCE, Corner};
use crate::{Outcome, Shared, Suite};

pub fn add(suite: &mut Suite) {
    suite.add("an issuer in good order has nothing but right lines, in a table and in JSON", healthy);
    suite.add("each thing that is wrong at Vault has a line of its own", wrong_at_vault);
    suite.add("each thing that is wrong with the login or the connection has a line of its own", wrong_at_the_door);
    suite.add("each thing that is wrong with the roots has a line of its own", wrong_roots);
    suite.add("a CA that has expired is told", expired);
    suite.add("a pipeline without a cluster has everything in its files", without_cluster);
    suite.add("a built-in issuer is looked at as what it becomes", built_in);
    suite.add("the issuers of a namespace are looked at with the rights of the page", in_the_cluster);
    suite.add("a change of the root of trust is announced before it is made", announced);
    suite.add("a ServiceAccount's token is requested for the login", service_account);
    suite.add("every token is revoked, those of a command that is interrupted too", revoked);
}

/// What a run of the command left.
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

/// One finding of a table: what was looked at, how it stands, the words.
type Found = (String, String, String);

impl Said {
    fn found(&self) -> Vec<Found> {
        let rows = self.out.lines().filter(|line| line.starts_with("  ") && !line.starts_with("  CHECK "));
        let column = |row: &str, from: usize, to: usize| -> String {
            row.chars().skip(from).take(to - from).collect::<String>().trim().to_owned()
        };
        rows.map(|row| (column(row, 2, 17), column(row, 17, 27), column(row, 27, usize::MAX))).collect()
    }

    /// The one finding that a person has to act on.
    fn bad(&self) -> Result<Found> {
        let bad: Vec<_> = self.found().into_iter().filter(|it| it.1 == "wrong" || it.1 == "unsuited").collect();
        ensure!(bad.len() == 1 && self.code == Some(1), "{self}");
        bad.into_iter().next().context("a finding")
    }

    /// It has nothing to say against any issuer.
    fn is_well(&self) -> Result<()> {
        let well = self.code == Some(0) && self.err.is_empty() && self.out.ends_with("nothing wrong\n");
        ensure!(well && !self.found().is_empty(), "{self}");
        Ok(())
    }

    /// There is exactly this one thing wrong.
    fn says(&self, check: &str, result: &str, words: &[&str]) -> Result<()> {
        let bad = self.bad()?;
        ensure!((bad.0.as_str(), bad.1.as_str()) == (check, result), "{bad:?}");
        for word in words {
            ensure!(bad.2.contains(word), "expected {word:?} in {bad:?}");
        }
        Ok(())
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {:?}\n{}\n{}", self.code, self.out, self.err)
    }
}

/// A corner whose login may read its mount's roles, and update every signing path of it.
async fn corner(shared: &Arc<Shared>, name: &str) -> Result<Corner> {
    let corner = Corner::new(shared, name).await?;
    let mount = corner.recipe.mount();
    permit(&corner, &corner.recipe.policy, &[mount]).await?;
    Ok(corner)
}

async fn permit(corner: &Corner, policy: &str, mounts: &[&str]) -> Result<()> {
    let of = |mount: &&str| {
        format!(
            "path \"{mount}/sign/+\" {{ capabilities = [\"update\"] }}\npath \"{mount}/roles/+\" {{ capabilities = [\"read\"] }}\n"
        )
    };
    corner.bao().policy(policy, &mounts.iter().map(of).collect::<String>()).await
}

/// The command with these arguments, as admin of the cluster, ready to be started.
fn command(corner: &Corner, args: &[&str]) -> Result<Command> {
    let kubeconfig = corner.kube().kubeconfig(&format!("check-{}", corner.name), &corner.name)?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_vault-mesh-issuer"));
    command.arg("check").args(args).env_clear().env("KUBECONFIG", kubeconfig);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    Ok(command)
}

/// Runs it to its end. Nothing that it says holds a secret.
async fn said(corner: &Corner, mut command: Command, input: &str) -> Result<Said> {
    let mut child = command.spawn().context("starting the command")?;
    let mut stdin = child.stdin.take().context("its standard input")?;
    // It may end before it has read everything.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let output = tokio::time::timeout(Duration::from_secs(60), child.wait_with_output()).await??;
    let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    let secrets = corner.shared.run.secrets().found_in(&format!("{out}{err}"));
    ensure!(secrets.is_empty(), "it shows {secrets:?}");
    Ok(Said { code: output.status.code(), out, err })
}

/// What is said of an issuer that is given on standard input.
async fn checked(corner: &Corner, issuer: &Issuer) -> Result<Said> {
    said(corner, command(corner, &["-"])?, &issuer.object().to_string()).await
}

/// The issuer of a corner, whose secret id lies in the cluster.
async fn issuer(corner: &Corner) -> Result<Issuer> {
    let secret_id = corner.recipe.app_role.secret_id.as_str();
    corner.kube().secret(&corner.name, "vault-approle", &[("secretId", secret_id)]).await?;
    Ok(corner.issuer())
}

async fn healthy(shared: Arc<Shared>) -> Outcome {
    let corner = corner(&shared, "check-well").await?;
    let issuer = issuer(&corner).await?;
    let table = checked(&corner, &issuer).await?;
    table.is_well()?;
    let found: Vec<_> = table.found().into_iter().map(|it| (it.0, it.1)).collect();
    let right =
        ["spec", "login", "signing path", "CA", "trust anchors", "role"].map(|it| (it.to_owned(), "right".to_owned()));
    ensure!(found == right, "{table}");
    ensure!(table.out.starts_with("VaultMeshIssuer check-well/vault (standard input)\n"), "{table}");

    let file = shared.run.new_folder("check-well")?.join("issuer.json");
    std::fs::write(&file, issuer.object().to_string())?;
    let file = file.display().to_string();
    let json = said(&corner, command(&corner, &["--output", "json", &file])?, "").await?;
    let printed: Value = serde_json::from_str(&json.out).with_context(|| json.to_string())?;
    let one = &printed["issuers"][0];
    ensure!(json.code == Some(0) && printed["ok"] == true && one["ok"] == true, "{json}");
    ensure!(one["file"] == file.as_str() && one["namespace"] == "check-well" && one["name"] == "vault", "{json}");
    let root = sha256(corner.recipe.root_pem()).await?;
    let ca = sha256(&corner.recipe.hierarchy.issuing_pem).await?;
    ensure!(
        one["trustAnchors"][0]["sha256"] == root.as_str() && one["signingCertificate"]["sha256"] == ca.as_str(),
        "{json}"
    );
    ensure!(one["findings"].as_array().is_some_and(|all| all.len() == 6 && all[2]["check"] == "signingPath"), "{json}");
    Ok(())
}

/// The fingerprint of a certificate as openssl has it, in our form.
async fn sha256(pem: &str) -> Result<String> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), pem)?;
    let path = file.path().display().to_string();
    let printed = testenv::openssl::run(&["x509", "-in", &path, "-noout", "-fingerprint", "-sha256"]).await?;
    Ok(printed.trim().rsplit('=').next().unwrap_or_default().replace(':', "").to_lowercase())
}

/// A path, and the check, the result and the words of the one thing that is wrong with it.
const WRONG_AT_VAULT: &[(&str, &str, &str, [&str; 2])] = &[
    (
        "check-nowhere/sign/mesh",
        "signing path",
        "wrong",
        ["No secrets engine is mounted there", "check-nowhere/sign/mesh"],
    ),
    (
        "check-vault-pki/sign/nobody",
        "signing path",
        "wrong",
        ["The mount has no such role", "check-vault-pki/sign/nobody"],
    ),
    (
        "check-vault-pki/issue/mesh",
        "spec",
        "wrong",
        ["spec.vault.path: ends in issue/<role>", "Write sign/<role> instead"],
    ),
    (
        "check-vault-pki/sign-verbatim/mesh",
        "signing path",
        "wrong",
        ["Vault answered 403 at check-vault-pki/sign-verbatim/mesh", "no `update` on this path"],
    ),
    (
        "check-vault-pki/sign/with-cn",
        "role",
        "unsuited",
        ["check-vault-pki/roles/with-cn: require_cn=true", "set require_cn=false"],
    ),
    ("check-vault-pki/sign/rsa", "role", "unsuited", ["check-vault-pki/roles/rsa: key_type=rsa", "set key_type=any"]),
];

async fn wrong_at_vault(shared: Arc<Shared>) -> Outcome {
    let corner = corner(&shared, "check-vault").await?;
    let mount = corner.recipe.mount().to_owned();
    permit(&corner, &corner.recipe.policy, &[&mount, "check-nowhere"]).await?;
    let role = |change: Value| {
        let mut role = json!({"allow_any_name": true, "allowed_uri_sans": "*", "require_cn": false, "key_type": "any",
            "max_ttl": "8760h", "no_store": true});
        for (name, value) in change.as_object().into_iter().flatten() {
            role[name] = value.clone();
        }
        role
    };
    corner.bao().pki_role(&mount, "with-cn", role(json!({"require_cn": true}))).await?;
    corner.bao().pki_role(&mount, "rsa", role(json!({"key_type": "rsa"}))).await?;
    let issuer = issuer(&corner).await?;
    for (path, check, result, words) in WRONG_AT_VAULT {
        let said = checked(&corner, &issuer.clone().set("vault/path", (*path).into())).await?;
        said.says(check, result, words).with_context(|| path)?;
    }
    // To a login that may use nothing else, a misspelt mount looks like a policy without `update`.
    let said = checked(&corner, &issuer.clone().set("vault/path", "check-elsewhere/sign/mesh".into())).await?;
    said.says("signing path", "wrong", &["One of three", "or the mount in spec.vault.path is misspelt"])?;
    let ca = said.found().into_iter().find(|it| it.0 == "CA").context("a line about the CA")?;
    ensure!(ca.1 == "unknown" && ca.2.contains("there is no such mount"), "{ca:?}");
    // What kubectl would refuse.
    let said = checked(&corner, &issuer.set("trust", json!({"anchor": []}))).await?;
    said.says("spec", "wrong", &["spec.trust.anchor: there is no such field"])
}

async fn wrong_at_the_door(shared: Arc<Shared>) -> Outcome {
    let corner = corner(&shared, "check-door").await?;
    let issuer = issuer(&corner).await?;
    let said = checked(&corner, &issuer.clone().set("vault/serverName", "vault.internal".into())).await?;
    said.says("login", "wrong", &["no TLS with", "vault.internal"])?;
    let unknown = said.found().into_iter().filter(|it| it.1 == "unknown").count();
    ensure!(unknown == 4, "{said}");

    corner.bao().destroy_secret_id(&corner.recipe.app_role, &corner.recipe.app_role.secret_id).await?;
    let words = ["Vault refused the login at auth/approle/login", "spec.vault.auth.appRole"];
    checked(&corner, &issuer).await?.says("login", "wrong", &words)?;

    corner.kube().delete(&format!("/api/v1/namespaces/{}/secrets/vault-approle", corner.name)).await?;
    let words =
        ["spec.vault.auth.appRole.secretRef names Secret check-door/vault-approle, key secretId: it does not exist"];
    checked(&corner, &issuer).await?.says("spec", "wrong", &words)
}

async fn wrong_roots(shared: Arc<Shared>) -> Outcome {
    let recipe = shared.plane.bao.plain_recipe("check-roots", Chain::IntermediateOnly).await?;
    let corner = Corner::around(&shared, "check-roots", recipe).await?;
    let issuer = issuer(&corner).await?;
    let words = ["no root is known", "Put the root certificate that your mesh trusts into spec.trust.anchors"];
    checked(&corner, &issuer).await?.says("trust anchors", "wrong", &words)?;

    let intermediate = issuer.clone().anchors(&corner.recipe.hierarchy.issuing_pem);
    let words = ["spec.trust.anchors[0].pem: certificate 1", "is an intermediate: it is not signed by its own key"];
    checked(&corner, &intermediate).await?.says("trust anchors", "wrong", &words)?;

    let stranger =
        corner.bao().root("check-stranger", &HierarchyOptions::new("check-stranger", Chain::RootItself), "1h").await?;
    let words = ["does not lead to the trust anchors in force", "put the root above this CA into spec.trust.anchors"];
    checked(&corner, &issuer.clone().anchors(&stranger)).await?.says("trust anchors", "unsuited", &words)?;

    let said = checked(&corner, &issuer.anchors(corner.recipe.root_pem())).await?;
    said.is_well()?;
    // The least privilege that is enough lets nobody read the role.
    let role = said.found().into_iter().find(|it| it.0 == "role").context("a line about the role")?;
    ensure!(role.1 == "unknown" && role.2.contains("`read` on it"), "{role:?}");
    Ok(())
}

async fn expired(shared: Arc<Shared>) -> Outcome {
    let options = HierarchyOptions::new("check-expired", Chain::WithRoot).ttl("5s");
    let recipe = shared.plane.bao.recipe_with("check-expired", &options).await?;
    let corner = Corner::around(&shared, "check-expired", recipe).await?;
    let issuer = issuer(&corner).await?;
    tokio::time::sleep(Duration::from_secs(6)).await;
    let words = ["the CA of check-expired-pki is past its end", "Renew it in the mount"];
    checked(&corner, &issuer).await?.says("CA", "wrong", &words)
}

async fn without_cluster(shared: Arc<Shared>) -> Outcome {
    let corner = corner(&shared, "check-offline").await?;
    let alone = |args: &[&str]| -> Result<Command> {
        let mut command = command(&corner, args)?;
        // Nor one in the home of who runs the tests.
        command.env_remove("KUBECONFIG").env("HOME", "/nonexistent");
        Ok(command)
    };
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "vault-approle", "namespace": corner.name},
        "stringData": {"secretId": corner.recipe.app_role.secret_id},
    });
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [corner.issuer().object(), secret]}).to_string();
    let well = said(&corner, alone(&["-"])?, &list).await?;
    well.is_well()?;
    let unknown: Vec<_> = well.found().into_iter().filter(|it| it.1 == "unknown").collect();
    ensure!(unknown.len() == 1 && unknown[0].2.contains("no cluster found"), "{well}");

    let issuer = corner.issuer().object().to_string();
    for (args, input, words) in [
        (
            &["-"][..],
            issuer.as_str(),
            "names Secret check-offline/vault-approle, which none of the given files holds: no cluster found",
        ),
        (&["-"], "a: [", "standard input"),
        (&["-"], "{\"apiVersion\": \"vaultmesh.io/v1alpha1\", \"kind\": \"VaultMeshIsuer\"}", "this is none of them"),
        (&["-"], "{\"apiVersion\": \"v1\", \"kind\": \"Pod\"}", "there is no issuer to check"),
        (&["/nowhere/x.yaml"], "", "cannot read /nowhere/x.yaml"),
        (&[], "", "no cluster found"),
        (&["--output=xml"], "", "possible values: text, json"),
    ] {
        let refused = said(&corner, alone(args)?, input).await?;
        ensure!(refused.code == Some(2) && refused.err.contains(words) && refused.out.is_empty(), "{refused}");
    }
    Ok(())
}

async fn built_in(shared: Arc<Shared>) -> Outcome {
    let corner = corner(&shared, "check-built-in").await?;
    let issuer = issuer(&corner).await?;
    let mut theirs = issuer.object().clone();
    theirs["apiVersion"] = "cert-manager.io/v1".into();
    theirs["kind"] = "Issuer".into();
    let well = said(&corner, command(&corner, &["-"])?, &theirs.to_string()).await?;
    well.is_well()?;
    theirs["spec"]["vault"]["serverNam"] = "vault".into();
    let misspelt = said(&corner, command(&corner, &["-"])?, &theirs.to_string()).await?;
    misspelt.is_well()?;
    ensure!(misspelt.found().iter().any(|it| it.1 == "hint" && it.2.contains("spec.vault.serverNam")), "{misspelt}");
    theirs["spec"]["vault"]["path"] = "check-built-in-pki/sign/nobody".into();
    let wrong = said(&corner, command(&corner, &["-"])?, &theirs.to_string()).await?;
    wrong.says("signing path", "wrong", &["The mount has no such role"])
}

/// A ServiceAccount that may do what docs/check.md names; the command's kubeconfig for it.
async fn checker(corner: &Corner) -> Result<PathBuf> {
    let name = "checker";
    corner.kube().service_account(&corner.name, name).await?;
    let metadata = json!({"name": name, "namespace": corner.name});
    let rules = json!([
        {"apiGroups": ["vaultmesh.io"], "resources": ["vaultmeshissuers"], "verbs": ["get", "list"]},
        {"apiGroups": [""], "resources": ["secrets", "configmaps"], "verbs": ["get"]},
    ]);
    let kind = |kind: &str| json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata});
    let (mut role, mut binding) = (kind("Role"), kind("RoleBinding"));
    role["rules"] = rules;
    binding["roleRef"] = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name});
    binding["subjects"] = json!([{"kind": "ServiceAccount", "name": name, "namespace": corner.name}]);
    corner.kube().apply_all(&[role, binding]).await?;
    Ok(corner.kube().as_account(&corner.name, name).await?.1)
}

async fn in_the_cluster(shared: Arc<Shared>) -> Outcome {
    let corner = corner(&shared, "check-cluster").await?;
    corner.ready_issuer().await?;
    let role = &corner.recipe.app_role;
    let auth = json!({"appRole": {"roleId": role.role_id, "secretRef": {"name": "vault-approle"}}});
    let path = "check-cluster-pki/sign/nobody";
    Issuer::with_auth(&corner.name, "wrong", corner.bao(), path, auth).create(corner.kube()).await?;
    let kubeconfig = checker(&corner).await?;
    let run = |args: &[&str]| -> Result<Command> {
        let mut command = command(&corner, args)?;
        command.env("KUBECONFIG", &kubeconfig);
        Ok(command)
    };
    // The namespace is that of the current context.
    let both = said(&corner, run(&[])?, "").await?;
    both.says("signing path", "wrong", &["The mount has no such role"])?;
    ensure!(both.out.contains("VaultMeshIssuer check-cluster/vault\n"), "{both}");
    ensure!(both.out.ends_with("2 issuers checked, 1 with something wrong\n"), "{both}");
    let none = said(&corner, run(&["-n", "default"])?, "").await?;
    ensure!(none.code == Some(2) && none.err.contains("403"), "{none}");
    let other = corner.issuer_without_secret().object().to_string().replace("check-cluster\"", "default\"");
    let closed = said(&corner, run(&["-"])?, &other).await?;
    ensure!(closed.code == Some(2) && closed.err.contains("you may not get Secret default/late"), "{closed}");
    // What can be looked at is looked at all the same.
    let both = format!("{other}\n{}", corner.issuer().object());
    let partly = said(&corner, run(&["-"])?, &both).await?;
    ensure!(partly.code == Some(2) && partly.err.contains("you may not get Secret default/late"), "{partly}");
    ensure!(partly.out.ends_with("1 issuer checked, nothing wrong\n"), "{partly}");
    Ok(())
}

/// A second hierarchy beside the corner's, whose paths its login may use too.
async fn beside(corner: &Corner) -> Result<Recipe> {
    let other = corner.bao().plain_recipe(&format!("{}-new", corner.name), Chain::WithRoot).await?;
    permit(corner, &corner.recipe.policy, &[corner.recipe.mount(), other.mount()]).await?;
    Ok(other)
}

async fn announced(shared: Arc<Shared>) -> Outcome {
    let corner = corner(&shared, "check-change").await?;
    let other = beside(&corner).await?;
    let issuing = corner.ready_issuer().await?;
    corner.issued(&corner.ask("web").await?).await?;
    let (old, new) = (sha256(corner.recipe.root_pem()).await?, sha256(other.root_pem()).await?);
    checked(&corner, &corner.issuer()).await?.is_well()?;

    // The same roots from the new mount: held when it happens, and announced before.
    let moved = corner.issuer().set("vault/path", other.sign_path.clone().into());
    let said = checked(&corner, &moved).await?;
    let trust: Vec<_> = said.found().into_iter().filter(|it| it.0 == "trust anchors").collect();
    ensure!(said.code == Some(1) && trust.len() == 2, "{said}");
    ensure!(
        trust[0].1 == "wrong" && trust[0].2.contains("the root changed: check-change-new-pki now leads to"),
        "{said}"
    );
    let words = format!("trust anchors would change: from CN=check-change root (sha256 {old}, until ");
    ensure!(trust[1].1 == "unsuited" && trust[1].2.starts_with(&words) && trust[1].2.contains(&new), "{said}");

    // Configured anchors are followed at once, so only the announcement stands before it.
    let replaced = moved.clone().anchors(other.root_pem());
    let words = ["trust anchors would change: from", &new, "let spec.trust.anchors name both"];
    checked(&corner, &replaced).await?.says("trust anchors", "unsuited", &words)?;
    let both = moved.anchors(&format!("{}{}", corner.recipe.root_pem(), other.root_pem()));
    let said = checked(&corner, &both).await?;
    said.is_well()?;
    ensure!(said.found().iter().any(|it| it.1 == "hint" && it.2.ends_with("None that lives is left out")), "{said}");

    let mut accepted = replaced.object().clone();
    accepted["metadata"]["annotations"] = json!({"vaultmesh.io/accept-anchors": new});
    let said = self::said(&corner, command(&corner, &["-"])?, &accepted.to_string()).await?;
    said.is_well()?;
    ensure!(said.found().iter().any(|it| it.1 == "hint" && it.2.ends_with("accepts it")), "{said}");

    // Said by `kubectl annotate`, which an apply of the file leaves as it is.
    issuing.patch(&json!({"metadata": {"annotations": {"vaultmesh.io/accept-anchors": new}}})).await?;
    checked(&corner, &replaced).await?.is_well()
}

async fn service_account(shared: Arc<Shared>) -> Outcome {
    let corner = corner(&shared, "check-jwt").await?;
    corner.kube().service_account(&corner.name, "mesh-login").await?;
    let key = std::fs::read_to_string(&shared.plane.account_key)?;
    let bounds = json!({
        "role_type": "jwt", "user_claim": "sub", "token_policies": [corner.recipe.policy], "token_ttl": "1h",
        "bound_subject": "system:serviceaccount:check-jwt:mesh-login", "bound_audiences": ["vault://check-jwt/vault"],
    });
    corner.bao().jwt_login("check-jwt", &key, "mesh", bounds).await?;
    let auth = json!({"jwt": {"path": "check-jwt", "role": "mesh", "serviceAccountRef": {"name": "mesh-login"}}});
    let issuer = Issuer::with_auth(&corner.name, "vault", corner.bao(), &corner.recipe.sign_path, auth);
    checked(&corner, &issuer).await?.is_well()?;
    let missing = issuer.set("vault/auth/jwt/serviceAccountRef/name", "nobody".into());
    let words = ["names ServiceAccount check-jwt/nobody: it does not exist"];
    checked(&corner, &missing).await?.says("login", "wrong", &words)
}

/// The accessors of all tokens that this corner's AppRole has given, and those of them that were revoked.
fn tokens(corner: &Corner) -> Result<(usize, usize)> {
    let all = corner.bao().audit().all()?;
    let accessor = |call: &testenv::Call| call.accessor.clone();
    let of_corner = corner.calls()?;
    let used: std::collections::BTreeSet<_> = of_corner.to(corner.recipe.mount()).iter().filter_map(accessor).collect();
    let revoked = all.to("auth/token/revoke-self").keep(|call| call.error.is_none());
    let revoked = revoked.iter().filter_map(accessor).filter(|it| used.contains(it)).count();
    Ok((of_corner.logins_of(&corner.recipe.app_role), revoked))
}

async fn revoked(shared: Arc<Shared>) -> Outcome {
    let corner = corner(&shared, "check-tokens").await?;
    let issuer = issuer(&corner).await?;
    checked(&corner, &issuer).await?.is_well()?;
    checked(&corner, &issuer.clone().set("vault/path", "check-tokens-pki/sign/nobody".into())).await?.bad()?;
    ensure!(tokens(&corner)? == (2, 2), "logins and revocations: {:?}", tokens(&corner)?);
    ensure!(corner.sign_attempts()? == 0, "it has something signed");

    // Interrupted while Vault does not answer the probe.
    let proxy = corner.proxy().await?;
    let held = proxy.on(|seen| seen.path.contains("/sign/"), testenv::Action::Hold);
    let at_proxy = corner.issuer_at(proxy.url()).object().to_string();
    let mut child = command(&corner, &["-"])?.spawn()?;
    let mut stdin = child.stdin.take().context("its standard input")?;
    stdin.write_all(at_proxy.as_bytes()).await?;
    drop(stdin);
    eventually("the probe", AT_ONCE, async || Ok((held.hits() > 0).then_some(()))).await?;
    let id = child.id().context("it runs")?.to_string();
    ensure!(Command::new("kill").args(["-INT", &id]).status().await?.success());
    let output = child.wait_with_output().await?;
    let complained = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(2) && complained.contains("interrupted"), "{complained}");
    let recorded = proxy.recorded();
    ensure!(
        recorded.iter().any(|it| it.seen.is("PUT", "revoke-self") || it.seen.is("POST", "revoke-self")),
        "not revoked"
    );
    proxy.discard();
    Ok(())
}
