//! kubectl and helm, for what a user would do with them. They are short-lived
//! children, not peers: they end before the call does.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::kube::Kube;
use crate::programs::{Programs, project};

impl Kube {
    /// Runs kubectl with this client's token and gives its stdout; a failure carries its stderr.
    pub async fn kubectl(&self, args: &[&str], input: Option<&str>) -> Result<String> {
        let token = self.token_in_use().bytes().fold(0u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        let config = self.kubeconfig(&format!("kubectl-{token:016x}"), "default")?;
        let mut command = Command::new(self.run.programs().path("kubectl"));
        command.args(args).env("KUBECONFIG", config).env("HOME", &self.folder);
        text_of(command, input).await.with_context(|| format!("kubectl {}", args.join(" ")))
    }

    /// Applies YAML (one or more documents) server-side; a refusal is in the API server's words.
    pub async fn apply(&self, yaml: &str) -> Result<String> {
        let args = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
        self.kubectl(&args, Some(yaml)).await
    }

    /// Applies objects that are at hand as JSON, in one go.
    pub async fn apply_all(&self, objects: &[Value]) -> Result<String> {
        let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": objects});
        self.apply(&list.to_string()).await
    }
}

/// Runs helm in the project's folder and gives its stdout; a failure carries its complaint.
pub(crate) async fn helm(programs: &Programs, args: &[&str]) -> Result<String> {
    let mut command = Command::new(programs.path("helm"));
    command.args(args).current_dir(project());
    text_of(command, None).await.with_context(|| format!("helm {}", args.join(" ")))
}

/// `helm template`, as objects.
pub(crate) async fn helm_template(
    programs: &Programs,
    name: &str,
    namespace: &str,
    chart: &Path,
    args: &[String],
) -> Result<Vec<Value>> {
    let chart = chart.display().to_string();
    let own = ["template", name, &chart, "-n", namespace, "--include-crds"];
    let args: Vec<&str> = own.into_iter().chain(args.iter().map(String::as_str)).collect();
    documents(&helm(programs, &args).await?)
}

/// The objects of a YAML text.
pub(crate) fn documents(yaml: &str) -> Result<Vec<Value>> {
    use serde::Deserialize;
    let mut objects = Vec::new();
    for document in serde_yaml_ng::Deserializer::from_str(yaml) {
        let object = Value::deserialize(document).context("reading rendered YAML")?;
        if !object.is_null() {
            objects.push(object);
        }
    }
    Ok(objects)
}

async fn text_of(mut command: Command, input: Option<&str>) -> Result<String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().context("starting it")?;
    let mut stdin = child.stdin.take().context("its stdin")?;
    let feed = async {
        // It may end before it has read everything; its exit status tells why.
        let _ = stdin.write_all(input.unwrap_or_default().as_bytes()).await;
        drop(stdin);
    };
    let (output, ()) = tokio::join!(child.wait_with_output(), feed);
    let output = output.context("waiting for it")?;
    if !output.status.success() {
        // helm lint tells on stdout what is wrong.
        let [said, complained] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
        bail!("{}", format!("{said}\n{complained}").trim());
    }
    String::from_utf8(output.stdout).context("its output is not UTF-8")
}
