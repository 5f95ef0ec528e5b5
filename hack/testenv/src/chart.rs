//! Our own chart, rendered by the real helm and applied but for what only a
//! kubelet could run.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::kube::Kube;
use crate::kubectl::{helm, helm_template};
use crate::programs::project;
use crate::run::Run;

const NOT_APPLIED: [&str; 4] = ["Deployment", "PodDisruptionBudget", "Service", "NetworkPolicy"];

/// The objects of our chart.
#[derive(Clone, Debug)]
pub struct Chart {
    /// As rendered, in helm's order.
    pub objects: Vec<Value>,
    /// The namespace it was rendered for.
    pub namespace: String,
}

impl Chart {
    /// Renders `deploy/helm` with these `--set` values.
    pub async fn render(run: &Run, namespace: &str, set: &[String]) -> Result<Chart> {
        let args: Vec<String> = set.iter().flat_map(|value| ["--set".to_owned(), value.clone()]).collect();
        let chart = project().join("deploy/helm");
        let objects = helm_template(run.programs(), "vault-mesh-issuer", namespace, &chart, &args).await?;
        Ok(Chart { objects, namespace: namespace.into() })
    }

    /// Runs helm in the project's folder, as a person would; a refusal is in helm's words.
    pub async fn helm(run: &Run, args: &[&str]) -> Result<String> {
        helm(run.programs(), args).await
    }

    /// The rendered Deployment.
    pub fn deployment(&self) -> Result<&Value> {
        self.objects.iter().find(|object| object["kind"] == "Deployment").context("the chart renders no Deployment")
    }

    /// The ServiceAccount of the rendered Deployment.
    pub fn account(&self) -> Result<&str> {
        let pod = &self.deployment()?["spec"]["template"]["spec"];
        pod["serviceAccountName"].as_str().context("the Deployment names no ServiceAccount")
    }

    /// Namespace, CRDs, ServiceAccount and RBAC, server-side.
    pub async fn install(&self, kube: &Kube) -> Result<()> {
        kube.namespace(&self.namespace).await?;
        let wanted = |object: &&Value| object["kind"].as_str().is_some_and(|kind| !NOT_APPLIED.contains(&kind));
        let objects: Vec<Value> = self.objects.iter().filter(wanted).cloned().collect();
        kube.apply_all(&objects).await.context("applying our chart")?;
        for crd in objects.iter().filter(|object| object["kind"] == "CustomResourceDefinition") {
            let path = format!(
                "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{}",
                crd["metadata"]["name"].as_str().unwrap_or_default()
            );
            kube.wait_condition(&path, "Established", "True", std::time::Duration::from_secs(20)).await?;
        }
        Ok(())
    }
}
