//! Objects as the API server has them, read once and whole: for commands, which have no use for a watch.

use kube::Client;
use serde_json::Value;

use super::status::{WriteError, call};

/// The object at `path`, such as `/apis/vaultmesh.io/v1alpha1/vaultmeshclusterissuers/vault`; none: there is no such object.
///
/// # Errors
/// The API server refused or did not answer.
pub async fn read(client: &Client, path: &str) -> Result<Option<Value>, WriteError> {
    let request = http::Request::get(path).body(Vec::new()).map_err(|_| WriteError::Unreadable)?;
    // As text: kube logs an answer that it cannot parse itself.
    match call(client.request_text(request)).await {
        Ok(text) => serde_json::from_str(&text).map(Some).map_err(|_| WriteError::Unreadable),
        Err(WriteError::Refused { code: 404, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
