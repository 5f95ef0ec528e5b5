//! Our controller as a process, with the identity, arguments and environment that
//! our chart gives it.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::chart::Chart;
use crate::control_plane::ControlPlane;
use crate::http::Answer;
use crate::kube::Kube;
use crate::peer::{Peer, Ready, Recipe};

/// Signs at a time and issuer of the processes that tests start, unless they ask for another number. A turn lasts until the
/// answer is written.
pub const SIGNS_PER_ISSUER: usize = 8;

/// How it is started.
#[derive(Clone, Debug)]
pub struct ControllerOptions {
    /// The program: `env!("CARGO_BIN_EXE_vault-mesh-issuer")` in a test of the package.
    pub binary: PathBuf,
    /// The release's namespace.
    pub namespace: String,
    /// More `--set` values for our chart.
    pub set: Vec<String>,
    /// How many signs of one issuer are under way at a time; `None` leaves the chart's number.
    pub signs_per_issuer: Option<usize>,
    /// `RUST_LOG`; `None` leaves the chart's.
    pub rust_log: Option<String>,
    /// More arguments, after the chart's.
    pub args: Vec<String>,
    /// More environment, such as `SSL_CERT_FILE`; it wins over the chart's.
    pub env: Vec<(String, String)>,
    /// The API server's URL in its kubeconfig: a proxy's, or none for the real one.
    pub via: Option<String>,
    /// Leave our chart's objects as they are: a second start on the same control plane.
    pub installed: bool,
    /// Without the chart's leader election: one that is killed and started again need not wait for its own lease to run out.
    pub alone: bool,
}

impl ControllerOptions {
    /// The usual: namespace `vault-mesh-issuer` and the chart's own values, but few signs at a time, so that a dozen requests
    /// show what becomes of those that wait for their turn.
    pub fn new(binary: impl Into<PathBuf>) -> ControllerOptions {
        ControllerOptions {
            binary: binary.into(),
            namespace: "vault-mesh-issuer".into(),
            set: Vec::new(),
            signs_per_issuer: Some(SIGNS_PER_ISSUER),
            rust_log: None,
            args: Vec::new(),
            env: Vec::new(),
            via: None,
            installed: false,
            alone: false,
        }
    }

    /// As the chart installs it.
    pub fn as_installed(binary: impl Into<PathBuf>) -> ControllerOptions {
        ControllerOptions { signs_per_issuer: None, ..ControllerOptions::new(binary) }
    }
}

/// The running controller. It is killed when this is dropped.
pub struct Controller {
    peer: Peer,
    address: String,
    client: reqwest::Client,
    /// Its namespace.
    pub namespace: String,
    /// Its ServiceAccount.
    pub account: String,
    /// The API server as its ServiceAccount.
    pub kube: Kube,
    /// What the API server's audit log calls its token: no other process has the same.
    pub credential: String,
}

impl Controller {
    /// Installs our chart's objects, starts the program and waits for `/readyz`.
    pub async fn start(plane: &ControlPlane, options: ControllerOptions) -> Result<Controller> {
        let controller = Controller::prepare(plane, options).await?;
        controller.peer.start_again().await?;
        Ok(controller)
    }

    /// [`Controller::start`] without starting the program: [`Controller::start_again`] does.
    pub async fn prepare(plane: &ControlPlane, options: ControllerOptions) -> Result<Controller> {
        let run = &plane.run;
        let namespace = options.namespace.clone();
        let few = options.signs_per_issuer.map(|count| format!("signsPerIssuer={count}"));
        let set: Vec<_> = few.into_iter().chain(options.set).collect();
        let chart = Chart::render(run, &namespace, &set).await?;
        if !options.installed {
            chart.install(&plane.kube).await?;
        }
        let account = chart.account()?.to_owned();
        let folder = run.new_folder("controller")?;
        let token = plane.kube.token(&namespace, &account, &[]).await?;
        let credential = credential(&token)?;
        let kube = plane.kube.with_token(&token);
        let seen = match &options.via {
            Some(server) => kube.with_server(server),
            None => kube.clone(),
        };
        let config = seen.kubeconfig(&unique_name(&folder), &namespace)?;
        let address = format!("127.0.0.1:{}", run.port()?);
        let (mut args, mut env) = command_line(chart.deployment()?, &namespace, &address)?;
        args.retain(|argument| !(options.alone && argument.starts_with("--leader-election")));
        env.push(("KUBECONFIG".into(), config.display().to_string()));
        env.extend(options.rust_log.map(|filter| ("RUST_LOG".into(), filter)));
        env.extend(options.env);
        let recipe = Recipe {
            name: "vault-mesh-issuer".into(),
            program: options.binary,
            args: [args, options.args].concat(),
            env,
            folder,
            ready: Ready::at(format!("http://{address}/readyz")),
        };
        let client = run.authority().client()?;
        Ok(Controller { peer: Peer::prepare(run, recipe)?, address, client, namespace, account, kube, credential })
    }

    /// The process.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// All it has logged.
    pub fn log(&self) -> Result<String> {
        self.peer.log()
    }

    /// `127.0.0.1:PORT` of its HTTP listener.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A GET at its HTTP listener.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        let url = format!("http://{}{path}", self.address);
        let answer = self.client.get(&url).timeout(Duration::from_secs(5)).send().await;
        Answer::read(answer.with_context(|| self.peer.complaint(&format!("does not answer {path}")))?).await
    }

    /// The text of `/metrics`.
    pub async fn metrics(&self) -> Result<String> {
        let answer = self.get("/metrics").await?.ok("GET /metrics")?;
        Ok(answer.as_str().map(str::to_owned).unwrap_or_else(|| answer.to_string()))
    }

    /// The sum of a metric's samples whose labels contain every one of `labels`, as `reason="Issued"`.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> Result<f64> {
        let text = self.metrics().await?;
        let samples = text.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let series_name = series.split('{').next()?;
            let fits = series_name == name && labels.iter().all(|label| series.contains(label));
            fits.then(|| value.parse::<f64>().ok()).flatten()
        });
        Ok(samples.sum())
    }

    /// SIGTERM; waits for its exit status.
    pub async fn terminate(&self, within: Duration) -> Result<ExitStatus> {
        self.peer.terminate(within).await.with_context(|| self.peer.complaint("was asked to end"))
    }

    /// SIGKILL.
    pub async fn kill(&self) -> Result<()> {
        self.peer.kill().await
    }

    /// Starts it after [`Controller::terminate`], [`Controller::kill`] or [`Controller::prepare`].
    pub async fn start_again(&self) -> Result<()> {
        self.peer.start_again().await
    }

    /// SIGKILL and a new start.
    pub async fn restart(&self) -> Result<()> {
        self.peer.restart().await
    }
}

/// Arguments and environment of a process.
type CommandLine = (Vec<String>, Vec<(String, String)>);

/// The container's arguments and environment, with the HTTP address replaced.
fn command_line(deployment: &Value, namespace: &str, address: &str) -> Result<CommandLine> {
    let container =
        deployment["spec"]["template"]["spec"]["containers"].get(0).context("the Deployment has no container")?;
    let mut args = Vec::new();
    let mut given = container["args"].as_array().into_iter().flatten().filter_map(Value::as_str);
    while let Some(argument) = given.next() {
        if argument == "--http-address" {
            given.next();
        } else if !argument.starts_with("--http-address=") {
            args.push(argument.replace("$(POD_NAMESPACE)", namespace));
        }
    }
    args.push(format!("--http-address={address}"));
    let mut env = Vec::new();
    for variable in container["env"].as_array().into_iter().flatten() {
        let name = variable["name"].as_str().context("a variable without a name")?;
        let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
            Some("metadata.namespace") => Some(namespace),
            Some("metadata.name") => Some("vault-mesh-issuer-0"),
            _ => variable["value"].as_str(),
        };
        if let Some(value) = value.filter(|_| name != "VMI_HTTP_ADDRESS") {
            env.push((name.to_owned(), value.to_owned()));
        }
    }
    Ok((args, env))
}

/// The audit log's name of a ServiceAccount token: its `jti`.
fn credential(token: &str) -> Result<String> {
    let claims = token.split('.').nth(1).context("the token is no JWT")?;
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).context("the token's claims")?)?;
    Ok(format!("JTI={}", claims["jti"].as_str().context("the token has no jti")?))
}

fn unique_name(folder: &std::path::Path) -> String {
    folder.file_name().map_or_else(|| "controller".into(), |name| name.to_string_lossy().into_owned())
}
