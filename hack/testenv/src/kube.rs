//! A small JSON client of the API server, as admin or as anybody else. Paths are
//! the API server's own, such as `/api/v1/namespaces/x/secrets/y`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::http::Answer;
use crate::kubeconfig;
use crate::run::Run;
use crate::wait::eventually;

/// The client. Cloning is cheap; [`Kube::with_token`] and friends give others.
#[derive(Clone)]
pub struct Kube {
    pub(crate) run: Run,
    pub(crate) folder: PathBuf,
    server: String,
    token: String,
    client: reqwest::Client,
    headers: Vec<(&'static str, String)>,
    patient: bool,
    approvers: Arc<Semaphore>,
}

/// How many approvals and denials are on their way at a time. cert-manager's webhook asks the API server whether whoever makes one
/// may, remembers the answer for a second, and asks 5 times a second at most. Were there more, all of them would find nothing
/// remembered once a second, and wait until it has asked for every one. Its own approver has five workers.
const APPROVERS: usize = 4;

/// How often a patient client asks again, and after which pause: as client-go does where the API server says "1 second".
const ASKED_AGAIN: usize = 10;
const PAUSE: Duration = Duration::from_secs(1);

impl Kube {
    pub(crate) fn new(run: &Run, folder: &Path, server: &str, token: &str) -> Result<Kube> {
        Ok(Kube {
            run: run.clone(),
            folder: folder.to_owned(),
            server: server.to_owned(),
            token: token.to_owned(),
            client: run.authority().client()?,
            headers: Vec::new(),
            patient: false,
            approvers: Arc::new(Semaphore::new(APPROVERS)),
        })
    }

    /// The server's URL, without a slash at its end.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The bearer token in use.
    pub fn token_in_use(&self) -> &str {
        &self.token
    }

    /// The same client with another bearer token.
    pub fn with_token(&self, token: &str) -> Kube {
        Kube { token: token.to_owned(), headers: Vec::new(), ..self.clone() }
    }

    /// The same client through another URL, such as a proxy's.
    pub fn with_server(&self, server: &str) -> Kube {
        Kube { server: server.to_owned(), ..self.clone() }
    }

    /// The same client, impersonating a user and groups.
    pub fn as_user(&self, user: &str, groups: &[&str]) -> Kube {
        let mut headers = vec![("Impersonate-User", user.to_owned())];
        headers.extend(groups.iter().map(|group| ("Impersonate-Group", group.to_string())));
        Kube { headers, ..self.clone() }
    }

    /// The same client, impersonating a ServiceAccount with its usual groups.
    pub fn as_service_account(&self, namespace: &str, name: &str) -> Kube {
        let of_namespace = format!("system:serviceaccounts:{namespace}");
        let groups = ["system:serviceaccounts", &of_namespace, "system:authenticated"];
        self.as_user(&format!("system:serviceaccount:{namespace}:{name}"), &groups)
    }

    /// The same client, which asks again when the API server has too much to do (429), as those made with client-go do.
    pub(crate) fn patient(&self) -> Kube {
        Kube { patient: true, ..self.clone() }
    }

    /// Sends anything and hands back whatever is answered, refusals included.
    pub async fn send(&self, method: &str, path: &str, content_type: &str, body: Option<&Value>) -> Result<Answer> {
        for _ in 0..self.more_tries() {
            let answer = self.send_once(method, path, content_type, body).await?;
            if answer.status != 429 {
                return Ok(answer);
            }
            tokio::time::sleep(PAUSE).await;
        }
        self.send_once(method, path, content_type, body).await
    }

    fn more_tries(&self) -> usize {
        if self.patient { ASKED_AGAIN } else { 0 }
    }

    async fn send_once(&self, method: &str, path: &str, content_type: &str, body: Option<&Value>) -> Result<Answer> {
        let method = reqwest::Method::from_bytes(method.as_bytes()).context("an HTTP method")?;
        let mut request = self
            .client
            .request(method, format!("{}{path}", self.server))
            .bearer_auth(&self.token)
            .timeout(Duration::from_secs(30));
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        if let Some(body) = body {
            request = request.header("content-type", content_type).body(body.to_string());
        }
        Answer::read(request.send().await.with_context(|| format!("asking the API server for {path}"))?).await
    }

    /// A GET whose answer is read while it comes in, however long that takes: a watch.
    pub(crate) async fn open(&self, path: &str) -> Result<reqwest::Response> {
        let mut more_tries = self.more_tries();
        loop {
            let request = self.client.get(format!("{}{path}", self.server)).bearer_auth(&self.token);
            let answer = request.send().await.with_context(|| format!("asking the API server for {path}"))?;
            if answer.status() != 429 || more_tries == 0 {
                return answer.error_for_status().with_context(|| format!("watching {path}"));
            }
            more_tries -= 1;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// GET; a refusal is an error.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.send("GET", path, "", None).await?.ok(&format!("GET {path}"))
    }

    /// GET; `None` when there is no such object.
    pub async fn find(&self, path: &str) -> Result<Option<Value>> {
        let answer = self.send("GET", path, "", None).await?;
        if answer.status == 404 { Ok(None) } else { answer.ok(&format!("GET {path}")).map(Some) }
    }

    /// The items of a list.
    pub async fn list(&self, path: &str) -> Result<Vec<Value>> {
        let list = self.get(path).await?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    /// POST; a refusal is an error in the API server's words.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.send("POST", path, "application/json", Some(body)).await?.ok(&format!("POST {path}"))
    }

    /// PUT; the body carries its resourceVersion.
    pub async fn put(&self, path: &str, body: &Value) -> Result<Value> {
        self.send("PUT", path, "application/json", Some(body)).await?.ok(&format!("PUT {path}"))
    }

    /// A JSON merge patch.
    pub async fn patch(&self, path: &str, body: &Value) -> Result<Value> {
        let answer = self.send("PATCH", path, "application/merge-patch+json", Some(body)).await?;
        answer.ok(&format!("PATCH {path}"))
    }

    /// A server-side apply of one object, forced, by this field manager.
    pub async fn apply_object(&self, path: &str, manager: &str, body: &Value) -> Result<Value> {
        let path = format!("{path}?fieldManager={manager}&force=true");
        let answer = self.send("PATCH", &path, "application/apply-patch+yaml", Some(body)).await?;
        answer.ok(&format!("apply {path}"))
    }

    /// The turn of one approval or denial, until it is dropped.
    pub(crate) async fn approver(&self) -> Result<SemaphorePermit<'_>> {
        self.approvers.acquire().await.context("nobody approves any more")
    }

    /// DELETE; an object that is gone already is fine.
    pub async fn delete(&self, path: &str) -> Result<()> {
        let answer = self.send("DELETE", path, "", None).await?;
        if answer.status == 404 { Ok(()) } else { answer.ok(&format!("DELETE {path}")).map(drop) }
    }

    /// POST where an object of that name may be there already.
    pub async fn ensure(&self, path: &str, body: &Value) -> Result<()> {
        let answer = self.send("POST", path, "application/json", Some(body)).await?;
        if answer.status == 409 { Ok(()) } else { answer.ok(&format!("POST {path}")).map(drop) }
    }

    /// Makes a namespace and its `default` ServiceAccount (nobody else does here).
    pub async fn namespace(&self, name: &str) -> Result<()> {
        self.namespace_with(name, &json!({})).await
    }

    /// [`Kube::namespace`] with labels.
    pub async fn namespace_with(&self, name: &str, labels: &Value) -> Result<()> {
        self.ensure("/api/v1/namespaces", &json!({"metadata": {"name": name, "labels": labels}})).await?;
        self.service_account(name, "default").await
    }

    /// Makes a ServiceAccount.
    pub async fn service_account(&self, namespace: &str, name: &str) -> Result<()> {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
        self.ensure(&path, &json!({"metadata": {"name": name}})).await
    }

    /// A token of a ServiceAccount, good for a day. Empty `audiences` means the API server's own.
    pub async fn token(&self, namespace: &str, account: &str, audiences: &[&str]) -> Result<String> {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let answer = self.post(&path, &json!({"spec": {"audiences": audiences, "expirationSeconds": 86400}})).await?;
        let token = answer["status"]["token"].as_str().context("the TokenRequest holds no token")?;
        Ok(self.run.secrets().add(format!("token of {namespace}/{account}"), token))
    }

    /// Makes or replaces an Opaque Secret of text values, each of which is registered.
    pub async fn secret(&self, namespace: &str, name: &str, data: &[(&str, &str)]) -> Result<()> {
        for (key, value) in data.iter().filter(|(_, value)| !value.contains("CERTIFICATE")) {
            self.run.secrets().add(format!("Secret {namespace}/{name}[{key}]"), *value);
        }
        self.text_object(namespace, "secrets", name, "stringData", data).await
    }

    /// Makes or replaces a ConfigMap.
    pub async fn config_map(&self, namespace: &str, name: &str, data: &[(&str, &str)]) -> Result<()> {
        self.text_object(namespace, "configmaps", name, "data", data).await
    }

    async fn text_object(&self, ns: &str, plural: &str, name: &str, field: &str, data: &[(&str, &str)]) -> Result<()> {
        let path = format!("/api/v1/namespaces/{ns}/{plural}");
        let values: serde_json::Map<String, Value> =
            data.iter().map(|(key, value)| (key.to_string(), (*value).into())).collect();
        let mut body = json!({"metadata": {"name": name}});
        body[field] = Value::Object(values);
        let answer = self.send("POST", &path, "application/json", Some(&body)).await?;
        let answer = match answer.status {
            409 => self.send("PUT", &format!("{path}/{name}"), "application/json", Some(&body)).await?,
            _ => answer,
        };
        answer.ok(&format!("writing {plural} {ns}/{name}")).map(drop)
    }

    /// Polls an object until `done` says so; the failure shows its status.
    pub async fn wait(&self, path: &str, within: Duration, done: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut seen = Value::Null;
        let found = eventually(path, within, async || {
            seen = self.get(path).await?;
            Ok(done(&seen).then(|| seen.clone()))
        })
        .await;
        found.with_context(|| format!("{path} has status {}", seen["status"]))
    }

    /// Waits for a condition: `("Ready", "True")`.
    pub async fn wait_condition(&self, path: &str, kind: &str, status: &str, within: Duration) -> Result<Value> {
        let done = |object: &Value| condition(object, kind).is_some_and(|found| found["status"] == status);
        self.wait(path, within, done).await.with_context(|| format!("waiting for {kind}={status}"))
    }

    /// Writes a kubeconfig with this client's server and token; gives its path.
    pub fn kubeconfig(&self, name: &str, namespace: &str) -> Result<PathBuf> {
        let path = self.folder.join(format!("{name}.kubeconfig"));
        kubeconfig::write(&path, &self.server, self.run.authority().pem(), &self.token, namespace)?;
        Ok(path)
    }

    /// A client and a kubeconfig of a ServiceAccount (its token comes from a TokenRequest).
    pub async fn as_account(&self, namespace: &str, account: &str) -> Result<(Kube, PathBuf)> {
        let kube = self.with_token(&self.token(namespace, account, &[]).await?);
        let path = kube.kubeconfig(&format!("{namespace}-{account}"), namespace)?;
        Ok((kube, path))
    }
}

/// A condition of an object by its type.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}
