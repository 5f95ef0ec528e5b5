//! What `migrate` makes of the issuers in `testdata/migrate` is taken by the API server, becomes Ready and issues: the binary is run on
//! each of them, pointed at the servers of this run.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize as _;
use serde_json::{Value, json};
use testenv::{Chain, Csr, IssuerRef, Request};

use crate::logins::{ACCOUNT, mount_kubernetes, pair, store_pair};
use crate::support::{Corner, SOON, text};
use crate::{Outcome, Shared, Suite};

pub fn add(suite: &mut Suite) {
    suite.add("an AppRole with an inline CA bundle", app_role);
    suite.add("a static token, in a chart's release", token);
    suite.add("a ServiceAccount's stored token", kubernetes);
    suite.add("a ServiceAccount whose tokens are requested", service_account);
    suite.add("a TLS certificate that logs in", client_certificate);
    suite.add("a connection with a client certificate, and a second login that was never used", mutual_tls);
    suite.add("a ClusterIssuer that several namespaces use", cluster);
    suite.add("a ClusterIssuer with a ServiceAccount", cluster_service_account);
    suite.add_for_openbao("a namespace of Vault's and another name in the server's certificate", enterprise);
    suite.add("an issuer as kubectl prints it, with its status", from_the_cluster);
    suite.add("a path that signs CAs", intermediate);
    suite.add("the one Vault issuer in a list of several sorts", mixed);
    suite.add("what cannot be converted is an error, and the rest is printed all the same", refused);
}

/// The binary with `input` on its standard input.
fn migrate(input: &str) -> Result<Output> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_vault-mesh-issuer"))
        .args(["migrate", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("a pipe")?.write_all(input.as_bytes())?;
    Ok(child.wait_with_output()?)
}

fn read(name: &str) -> Result<String> {
    let path = format!("{}/testdata/migrate/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).with_context(|| path)
}

/// The Vault issuer of a file, and the whole that it stands in.
struct Shape {
    whole: Value,
    /// Which item of a list it is.
    item: Option<usize>,
}

impl Shape {
    fn of(name: &str) -> Result<Self> {
        let whole: Value = serde_yaml_ng::from_str(&read(name)?)?;
        let items = whole["items"].as_array();
        let item = items.and_then(|items| items.iter().position(|item| item["spec"]["vault"].is_object()));
        Ok(Self { whole, item })
    }

    fn issuer(&mut self) -> &mut Value {
        match self.item {
            Some(item) => &mut self.whole["items"][item],
            None => &mut self.whole,
        }
    }

    fn vault(&mut self) -> &mut Value {
        &mut self.issuer()["spec"]["vault"]
    }

    /// Points it at this corner's mount, and makes the Secrets that it names.
    async fn at(&mut self, corner: &Corner) -> Outcome {
        self.at_path(corner, &corner.recipe.sign_path).await
    }

    async fn at_path(&mut self, corner: &Corner, path: &str) -> Outcome {
        let cluster = self.issuer()["kind"] == "ClusterIssuer";
        let (name, home) = match cluster {
            true => (corner.name.as_str(), corner.shared.ours.namespace.clone()),
            false => ("vault", corner.name.clone()),
        };
        self.issuer()["metadata"]["name"] = name.into();
        if !cluster {
            self.issuer()["metadata"]["namespace"] = corner.name.as_str().into();
        }
        let (kube, bao, login) = (corner.kube(), corner.bao(), &corner.recipe.app_role);
        let vault = self.vault();
        vault["server"] = bao.address().into();
        vault["path"] = path.into();
        if vault["caBundle"].is_string() {
            vault["caBundle"] = STANDARD.encode(bao.ca_pem()).into();
        }
        if let Some(secret) = vault["caBundleSecretRef"]["name"].as_str() {
            kube.secret(&home, secret, &[("ca.crt", bao.ca_pem())]).await?;
        }
        let auth = &mut vault["auth"];
        if auth["appRole"].is_object() {
            auth["appRole"]["path"] = login.mount.as_str().into();
            auth["appRole"]["roleId"] = login.role_id.as_str().into();
            let secret = text(&auth["appRole"]["secretRef"]["name"]).to_owned();
            kube.secret(&home, &secret, &[("secretId", &login.secret_id)]).await?;
        }
        if let Some(secret) = auth["tokenSecretRef"]["name"].as_str() {
            let token = bao.make_token(json!({"policies": [corner.recipe.policy], "ttl": "1h"})).await?;
            kube.secret(&home, secret, &[("token", &token)]).await?;
        }
        Ok(())
    }

    /// The API server takes the issuer as cert-manager's, the binary converts it, and the API server takes that and finds it Ready.
    /// Gives its path and how a request names it.
    async fn ready(mut self, corner: &Corner) -> Result<(String, IssuerRef)> {
        let kube = corner.kube();
        self.is_cert_managers(corner).await?;
        let output = migrate(&serde_yaml_ng::to_string(&self.whole)?)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{} {said}", output.status);
        ensure!(!said.contains("has no such field"), "{said}");
        let issuer: Value = serde_yaml_ng::from_slice(&output.stdout)?;
        let (kind, name) = (text(&issuer["kind"]), text(&issuer["metadata"]["name"]));
        let all = match issuer["metadata"]["namespace"].as_str() {
            Some(namespace) => format!("/apis/vaultmesh.io/v1alpha1/namespaces/{namespace}/vaultmeshissuers"),
            None => "/apis/vaultmesh.io/v1alpha1/vaultmeshclusterissuers".to_owned(),
        };
        kube.post(&format!("{all}?fieldValidation=Strict"), &issuer).await?;
        let path = format!("{all}/{name}");
        kube.wait_condition(&path, "Ready", "True", SOON).await.with_context(|| said)?;
        Ok((path, IssuerRef::new(kind, name)))
    }

    /// cert-manager's schema and webhook have no word against it.
    async fn is_cert_managers(&mut self, corner: &Corner) -> Outcome {
        let mut issuer = self.issuer().clone();
        let cluster = issuer["kind"] == "ClusterIssuer";
        // What kubectl does before it creates an object.
        let metadata = issuer["metadata"].as_object_mut().context("metadata")?;
        metadata.retain(|field, _| {
            ["name", "labels", "annotations"].contains(&field.as_str()) || (field == "namespace" && !cluster)
        });
        let all = match cluster {
            true => "/apis/cert-manager.io/v1/clusterissuers".to_owned(),
            false => format!("/apis/cert-manager.io/v1/namespaces/{}/issuers", corner.name),
        };
        corner.kube().post(&format!("{all}?fieldValidation=Strict&dryRun=All"), &issuer).await.map(drop)
    }
}

/// Ready, and a certificate for it.
async fn issues(corner: &Corner, shape: Shape) -> Outcome {
    shape.ready(corner).await?;
    corner.issued(&corner.ask("web").await?).await.map(drop)
}

async fn app_role(shared: Arc<Shared>) -> Outcome {
    let (corner, mut shape) = (Corner::new(&shared, "migrate-app-role").await?, Shape::of("app-role")?);
    shape.at(&corner).await?;
    issues(&corner, shape).await
}

async fn token(shared: Arc<Shared>) -> Outcome {
    let (corner, mut shape) = (Corner::new(&shared, "migrate-token").await?, Shape::of("token")?);
    // The slashes of the file, which the built-in issuer takes away.
    shape.at_path(&corner, &format!("/{}/", corner.recipe.sign_path)).await?;
    issues(&corner, shape).await
}

/// The kubernetes method under the corner's own name, with one role for the ServiceAccount in `namespace`.
async fn kubernetes_method(corner: &Corner, namespace: &str, role: &str, more: Value) -> Outcome {
    mount_kubernetes(corner, &corner.name).await?;
    let mut options = json!({"token_policies": [corner.recipe.policy]});
    for (name, value) in more.as_object().into_iter().flatten() {
        options[name] = value.clone();
    }
    corner.bao().kubernetes_role(&corner.name, role, namespace, ACCOUNT, options).await
}

async fn kubernetes(shared: Arc<Shared>) -> Outcome {
    let name = "migrate-kubernetes";
    let (corner, mut shape) = (Corner::new(&shared, name).await?, Shape::of("kubernetes")?);
    shape.at(&corner).await?;
    shape.vault()["auth"]["kubernetes"]["mountPath"] = format!("/v1/auth/{name}").into();
    kubernetes_method(&corner, name, "issuer", json!({})).await?;
    corner.kube().service_account(name, ACCOUNT).await?;
    let token = corner.kube().token(name, ACCOUNT, &["vault"]).await?;
    corner.kube().secret(name, "issuer-token-7z8jj", &[("token", &token)]).await?;
    issues(&corner, shape).await
}

async fn service_account(shared: Arc<Shared>) -> Outcome {
    let name = "migrate-service-account";
    let (corner, mut shape) = (Corner::new(&shared, name).await?, Shape::of("service-account")?);
    shape.at(&corner).await?;
    shape.vault()["auth"]["kubernetes"]["mountPath"] = format!("/v1/auth/{name}").into();
    // The audience by which cert-manager's own tokens are bound: ours have the same, because the name stays.
    kubernetes_method(&corner, name, "my-app-1", json!({"audience": format!("vault://{name}/vault")})).await?;
    issues(&corner, shape).await
}

async fn client_certificate(shared: Arc<Shared>) -> Outcome {
    let name = "migrate-certificate";
    let (corner, mut shape) = (Corner::new(&shared, name).await?, Shape::of("client-certificate")?);
    shape.at(&corner).await?;
    shape.vault()["auth"]["clientCertificate"]["mountPath"] = format!("/v1/auth/{name}").into();
    corner.bao().certificate_login(name, "edge", shared.run.authority().pem(), &[&corner.recipe.policy]).await?;
    store_pair(&corner, "vault-client-cert", &pair(&corner, name)?).await?;
    issues(&corner, shape).await
}

async fn mutual_tls(shared: Arc<Shared>) -> Outcome {
    let (corner, mut shape) = (Corner::new(&shared, "migrate-mutual-tls").await?, Shape::of("mutual-tls")?);
    let path = format!("{}/issuer/default/sign/{}", corner.recipe.mount(), corner.recipe.role);
    corner.bao().sign_policy(&corner.recipe.policy, &path).await?;
    shape.at_path(&corner, &path).await?;
    let client = pair(&corner, "migrate-mutual-tls")?;
    let data = [
        ("ca.crt", corner.bao().ca_pem()),
        ("tls.crt", client.certificate_pem.as_str()),
        ("tls.key", client.key_pem.as_str()),
    ];
    corner.kube().secret(&corner.name, "vault-tls", &data).await?;
    issues(&corner, shape).await
}

/// Requests of two namespaces to a cluster issuer, which goes again.
async fn serves_several(corner: &Corner, shape: Shape) -> Outcome {
    let (path, issuer) = shape.ready(corner).await?;
    let other = format!("{}-other", corner.name);
    corner.kube().namespace(&other).await?;
    for namespace in [&corner.name, &other] {
        let csr = Csr::workload(namespace, "web").ec()?.csr_pem;
        let request = Request::new(namespace, "web", &issuer, &csr).duration("1h");
        corner.issued(&request.create(corner.kube()).await?).await?;
    }
    corner.kube().delete(&path).await
}

async fn cluster(shared: Arc<Shared>) -> Outcome {
    let (corner, mut shape) = (Corner::new(&shared, "migrate-cluster").await?, Shape::of("cluster")?);
    shape.at(&corner).await?;
    serves_several(&corner, shape).await
}

async fn cluster_service_account(shared: Arc<Shared>) -> Outcome {
    let name = "migrate-cluster-account";
    let (corner, mut shape) = (Corner::new(&shared, name).await?, Shape::of("cluster-service-account")?);
    shape.at(&corner).await?;
    shape.vault()["auth"]["kubernetes"]["mountPath"] = format!("/v1/auth/{name}").into();
    // What the point about the ServiceAccount asks for: Vault's role knows our namespace.
    kubernetes_method(&corner, &shared.ours.namespace, "vault-issuer", json!({})).await?;
    serves_several(&corner, shape).await
}

async fn enterprise(shared: Arc<Shared>) -> Outcome {
    let name = "migrate-enterprise";
    shared.plane.bao.write(&format!("sys/namespaces/{name}"), json!({})).await?;
    let inside = shared.plane.bao.with_namespace(name);
    let corner = Corner::around(&shared, name, inside.plain_recipe(name, Chain::WithRoot).await?).await?;
    let mut shape = Shape::of("enterprise")?;
    shape.at(&corner).await?;
    let token = inside.make_token(json!({"policies": [corner.recipe.policy], "ttl": "1h"})).await?;
    corner.kube().secret(name, "vault-token", &[("token", &token)]).await?;
    shape.vault()["namespace"] = name.into();
    shape.vault()["serverName"] = "localhost".into();
    issues(&corner, shape).await
}

async fn from_the_cluster(shared: Arc<Shared>) -> Outcome {
    let (corner, mut shape) = (Corner::new(&shared, "migrate-from").await?, Shape::of("from-the-cluster")?);
    shape.at(&corner).await?;
    issues(&corner, shape).await
}

async fn intermediate(shared: Arc<Shared>) -> Outcome {
    let (corner, mut shape) = (Corner::new(&shared, "migrate-ca").await?, Shape::of("intermediate")?);
    let path = format!("{}/root/sign-intermediate", corner.recipe.mount());
    corner.bao().sign_policy(&corner.recipe.policy, &path).await?;
    shape.at_path(&corner, &path).await?;
    shape.ready(&corner).await?;
    let csr = Csr::new().cn("identity.linkerd.cluster.local").dns("identity.linkerd.cluster.local").ca().ec()?.csr_pem;
    let request = corner.request("identity", &csr).usages(&["cert sign", "crl sign"]).ca();
    corner.issued(&request.create(corner.kube()).await?).await?;
    // The point about the path, as it is.
    corner.failed(&corner.ask("web").await?, &["isCA"]).await.map(drop)
}

async fn mixed(shared: Arc<Shared>) -> Outcome {
    let (corner, mut shape) = (Corner::new(&shared, "migrate-mixed").await?, Shape::of("mixed")?);
    let path = format!("{}/sign-verbatim/{}", corner.recipe.mount(), corner.recipe.role);
    corner.bao().sign_policy(&corner.recipe.policy, &path).await?;
    shape.at_path(&corner, &path).await?;
    issues(&corner, shape).await
}

async fn refused(_: Arc<Shared>) -> Outcome {
    let output = migrate(&[read("aws")?, read("app-role")?, read("other-objects")?].join("\n---\n"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1), "{}", output.status);
    for words in [
        "standard input: Issuer billing/vault-aws is not migrated: spec.vault.auth.aws: is not supported yet: use kubernetes or jwt",
        "standard input: Issuer web/vault-issue is not migrated: spec.vault.path: ends in issue/<role>",
        "standard input: Certificate web/web is not migrated: it is no Issuer or ClusterIssuer of cert-manager.io",
        "error: 3 of 4 objects not migrated",
    ] {
        ensure!(said.contains(words), "expected {words:?} in {said}");
    }
    let printed: Vec<Value> =
        serde_yaml_ng::Deserializer::from_slice(&output.stdout).map(Value::deserialize).collect::<Result<_, _>>()?;
    ensure!(printed.len() == 1 && printed[0]["metadata"]["name"] == "vault-issuer", "{printed:?}");
    let unnamed = Command::new(env!("CARGO_BIN_EXE_vault-mesh-issuer")).arg("migrate").output()?;
    ensure!(unnamed.status.code() == Some(2), "{unnamed:?}");
    let nothing = migrate("# nothing\n")?;
    ensure!(nothing.status.code() == Some(1) && nothing.stdout.is_empty(), "{nothing:?}");
    Ok(())
}
