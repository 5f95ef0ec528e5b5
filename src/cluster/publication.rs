//! Writes one key of a ConfigMap or Secret: a server-side apply as the publishing issuer's own field manager, so that everything
//! else in the object stays as it is. It carries no type (a new Secret is Opaque), no label and no owner reference.

use base64::Engine as _;
use kube::Client;
use kube::api::{Patch, PatchParams};
use kube::core::Request;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::references::collection;
use super::status::{WriteError, call};
use crate::api::config::ReferencedKind;
use crate::issuance::publication::{Entry, PUBLISHED_BY};
use crate::issuance::words::Words;

/// Why nothing was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// These field managers hold something else there.
    Conflict(Vec<String>),
    /// We have not the right; in the API server's words.
    Forbidden(Words),
    /// Anything else.
    Failed(WriteError),
}

/// Writes the entry; with `force` also where its key or mark belong to others.
///
/// # Errors
/// Nothing was written.
pub async fn apply(client: &Client, entry: &Entry, force: bool) -> Result<(), Refusal> {
    let object = &entry.target.object;
    let how = PatchParams { force, ..PatchParams::apply(&entry.manager) };
    let request = Request::new(collection(object)).patch(&object.name, &how, &Patch::Apply(body(entry)));
    let request = request.map_err(|_| Refusal::Failed(WriteError::Unreadable))?;
    // The answer may be a Secret with other keys than ours: it is parsed into nothing.
    match call(async { Ok(client.request::<IgnoredAny>(request).await) }).await {
        Ok(Ok(IgnoredAny)) => Ok(()),
        Ok(Err(error)) => Err(refusal(error)),
        Err(error) => Err(Refusal::Failed(error)),
    }
}

fn body(entry: &Entry) -> Value {
    let object = &entry.target.object;
    let value = match object.kind {
        ReferencedKind::ConfigMap => entry.bundle.clone(),
        ReferencedKind::Secret => base64::engine::general_purpose::STANDARD.encode(&entry.bundle),
    };
    json!({
        "apiVersion": "v1",
        "kind": object.kind.name(),
        "metadata": {
            "name": object.name,
            "namespace": object.namespace,
            "annotations": { PUBLISHED_BY: entry.mark },
        },
        "data": { entry.target.key.as_str(): value },
    })
}

fn refusal(error: kube::Error) -> Refusal {
    if let kube::Error::Api(status) = &error {
        let causes = status.details.iter().flat_map(|details| &details.causes);
        let managers: Vec<_> = causes
            .filter(|cause| cause.reason == "FieldManagerConflict")
            .map(|cause| manager(&cause.message).to_owned())
            .collect();
        match status.code {
            403 => return Refusal::Forbidden(Words::new(&status.message, &[])),
            409 if !managers.is_empty() => return Refusal::Conflict(managers),
            _ => {}
        }
    }
    Refusal::Failed(error.into())
}

/// The name in `conflict with "kubectl-create" using v1`; the whole message where it is written otherwise.
fn manager(message: &str) -> &str {
    message.split('"').nth(1).unwrap_or(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manager_is_read_from_the_causes_words() {
        for message in [
            r#"conflict with "kubectl-create" using v1"#,
            r#"conflict with "kubectl-create" with subresource "status" using v1 at 2026-01-01T00:00:00Z"#,
            "kubectl-create",
        ] {
            assert_eq!(manager(message), "kubectl-create");
        }
    }
}
