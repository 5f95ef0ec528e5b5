//! What RBAC grants a ServiceAccount, against what it used: a right that no test
//! ever uses should not be in the chart.

use std::collections::BTreeSet;

use anyhow::Result;
use serde_json::Value;

use crate::kube::Kube;
use crate::kube_audit::{KubeCall, KubeCalls};

/// One verb on one resource, somewhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Permission {
    /// Verb.
    pub verb: String,
    /// API group, empty for the core group.
    pub group: String,
    /// Resource with its subresource.
    pub resource: String,
    /// The namespace; `None` is the whole cluster.
    pub namespace: Option<String>,
    /// The object, where the rule names one.
    pub name: Option<String>,
}

impl Permission {
    /// Whether this right allows what was done.
    pub fn allows(&self, used: &Permission) -> bool {
        let is = |mine: &str, theirs: &str| mine == "*" || mine == theirs;
        is(&self.verb, &used.verb)
            && is(&self.group, &used.group)
            && is(&self.resource, &used.resource)
            && (self.namespace.is_none() || self.namespace == used.namespace)
            && (self.name.is_none() || self.name == used.name)
    }
}

/// Everything that roles bound to the ServiceAccount itself grant it.
pub async fn granted(kube: &Kube, namespace: &str, account: &str) -> Result<Vec<Permission>> {
    const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
    let mut found = Vec::new();
    let cluster_wide = kube.list(&format!("{RBAC}/clusterrolebindings")).await?;
    let local = kube.list(&format!("{RBAC}/rolebindings")).await?;
    for binding in cluster_wide.iter().chain(&local).filter(|binding| names(binding, namespace, account)) {
        let scope = binding["metadata"]["namespace"].as_str();
        let role = binding["roleRef"]["name"].as_str().unwrap_or_default();
        let path = match (binding["roleRef"]["kind"].as_str(), scope) {
            (Some("Role"), Some(scope)) => format!("{RBAC}/namespaces/{scope}/roles/{role}"),
            _ => format!("{RBAC}/clusterroles/{role}"),
        };
        for rule in kube.get(&path).await?["rules"].as_array().into_iter().flatten() {
            found.extend(expand(rule, scope));
        }
    }
    Ok(found)
}

/// What was done, as permissions.
pub fn used(calls: &KubeCalls) -> BTreeSet<Permission> {
    let to_resources = calls.iter().filter(|call| !call.resource.is_empty());
    let permission = |call: &KubeCall, verb: &str| Permission {
        verb: verb.to_owned(),
        group: call.group.clone(),
        resource: call.resource.clone(),
        namespace: Some(call.namespace.clone()).filter(|namespace| !namespace.is_empty()),
        name: Some(call.name.clone()).filter(|name| !name.is_empty()),
    };
    to_resources
        .flat_map(|call| {
            // A patch that makes an object (a server-side apply) is authorized as `create` as well, and logged as `patch`.
            let created = (call.verb == "patch" && call.code == 201).then(|| permission(call, "create"));
            [Some(permission(call, &call.verb)), created].into_iter().flatten()
        })
        .collect()
}

/// The rights that were never used.
pub fn unused(granted: &[Permission], used: &BTreeSet<Permission>) -> Vec<Permission> {
    granted.iter().filter(|right| !used.iter().any(|done| right.allows(done))).cloned().collect()
}

fn names(binding: &Value, namespace: &str, account: &str) -> bool {
    let subjects = binding["subjects"].as_array().map(Vec::as_slice).unwrap_or_default();
    subjects.iter().any(|subject| {
        subject["kind"] == "ServiceAccount" && subject["name"] == account && subject["namespace"] == namespace
    })
}

fn expand(rule: &Value, scope: Option<&str>) -> Vec<Permission> {
    let texts = |field: &str| -> Vec<String> {
        let values = rule[field].as_array().into_iter().flatten();
        values.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut objects: Vec<Option<String>> = texts("resourceNames").into_iter().map(Some).collect();
    if objects.is_empty() {
        objects.push(None);
    }
    let mut found = Vec::new();
    for group in texts("apiGroups") {
        for resource in texts("resources") {
            for verb in texts("verbs") {
                found.extend(objects.iter().map(|name| Permission {
                    verb: verb.clone(),
                    group: group.clone(),
                    resource: resource.clone(),
                    namespace: scope.map(str::to_owned),
                    name: name.clone(),
                }));
            }
        }
    }
    found
}
