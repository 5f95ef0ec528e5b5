//! Writes of status: server-side applies that carry the resourceVersion which the decision was made on. That version, and not
//! the UID, is what keeps an answer from a namesake made anew: the API server answers 409 to an old one.
//!
//! kube's client may repeat a write by itself after 429, 503 or 504. That cannot write twice unnoticed: if the first try did
//! get through, the version has moved on and the second one is answered 409, which sends the caller to read again.

use std::time::Duration;

use http::header::{ACCEPT, HeaderValue};
use kube::Client;
use kube::api::{Patch, PatchParams};
use kube::core::Request;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::api::status::IssuerStatus;
use crate::api::{FIELD_MANAGER, IssuerKey, IssuerResource};
use crate::issuance::words::Words;

/// How long one call may take, kube's own repeats included; kube itself sets no limit.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The answer to a write repeats the object, certificates and all, unless it is asked not to.
const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";

/// What is applied: which object, as of which version, and its status.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Change<'a, S> {
    api_version: &'a str,
    kind: &'a str,
    metadata: Target<'a>,
    status: &'a S,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Target<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    resource_version: &'a str,
}

/// What is read of the answer to a write.
#[derive(Deserialize)]
struct Stored {
    metadata: StoredMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredMetadata {
    resource_version: Option<String>,
}

/// What became of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// It is there.
    Applied {
        /// The version that this has made of the object; none if the API server does not tell.
        version: Option<String>,
    },
    /// Somebody changed the object since it was read (or made it anew): nothing was written; read it again.
    Conflict,
    /// There is no such object any more, which is routine: many clients delete their requests.
    Gone,
}

/// Why a status could not be written, or not be read again after a conflict.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// No answer in time; whether it was written is unknown.
    #[error("the API server did not answer within 15 s")]
    Timeout,
    /// The API server understood and would not.
    #[error("the API server answered {code}: {words}")]
    Refused {
        /// HTTP status.
        code: u16,
        /// Its own words.
        words: Words,
    },
    /// The answer was not what the API server answers. Its text is not shown: it may hold anything.
    #[error("the API server's answer could not be read")]
    Unreadable,
    /// Somebody else's writes came in between, every time.
    #[error("the object changes too fast to be written")]
    Contended,
    /// The call did not get through.
    #[error("the API server could not be reached: {0}")]
    Unreachable(Words),
}

/// Applies the status of a CertificateRequest. `resource_version` is that of the object which was looked at before signing.
///
/// # Errors
/// The API server refused or did not answer; a conflict and a vanished request are no errors.
pub async fn apply_request_status<S: Serialize + Sync>(
    client: &Client,
    namespace: &str,
    name: &str,
    resource_version: &str,
    status: &S,
) -> Result<Written, WriteError> {
    let metadata = Target { name, namespace: Some(namespace), resource_version };
    let change = Change { api_version: "cert-manager.io/v1", kind: "CertificateRequest", metadata, status };
    apply(client, &requests_path(namespace), &change).await
}

/// Reads a CertificateRequest again, as far as `T` wants to know it; none: there is no such request.
///
/// # Errors
/// The API server refused, did not answer, or answered what `T` cannot hold.
pub async fn read_request<T: DeserializeOwned>(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Option<T>, WriteError> {
    let request =
        Request::new(requests_path(namespace)).get(name, &Default::default()).map_err(|_| WriteError::Unreadable)?;
    // As text: kube logs an answer that it cannot parse itself.
    let text = match call(client.request_text(request)).await {
        Ok(text) => text,
        Err(WriteError::Refused { code: 404, .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    serde_json::from_str(&text).map(Some).map_err(|_| WriteError::Unreadable)
}

/// Applies the status of an issuer. `resource_version` is that of the object which the status is about.
///
/// # Errors
/// The API server refused or did not answer; a conflict and a vanished issuer are no errors.
pub async fn apply_issuer_status<K: IssuerResource>(
    client: &Client,
    key: &IssuerKey,
    resource_version: &str,
    status: &IssuerStatus,
) -> Result<Written, WriteError> {
    let metadata = Target { name: &key.name, namespace: key.namespace.as_deref(), resource_version };
    let change = Change { api_version: &K::api_version(&()), kind: &K::kind(&()), metadata, status };
    apply(client, &K::url_path(&(), key.namespace.as_deref()), &change).await
}

fn requests_path(namespace: &str) -> String {
    format!("/apis/cert-manager.io/v1/namespaces/{namespace}/certificaterequests")
}

async fn apply<S: Serialize + Sync>(
    client: &Client,
    path: &str,
    change: &Change<'_, S>,
) -> Result<Written, WriteError> {
    // To warn of fields that it does not know, the API server would read the whole body a second time, and nobody here reads
    // warnings.
    let how = PatchParams::apply(FIELD_MANAGER).force().validation_ignore();
    let request = Request::new(path).patch_subresource("status", change.metadata.name, &how, &Patch::Apply(change));
    let mut request = request.map_err(|_| WriteError::Unreadable)?;
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static(METADATA_ONLY));
    match call(client.request::<Stored>(request)).await {
        Ok(stored) => Ok(Written::Applied { version: stored.metadata.resource_version }),
        Err(WriteError::Refused { code: 404, .. }) => Ok(Written::Gone),
        Err(WriteError::Refused { code: 409, .. }) => Ok(Written::Conflict),
        Err(error) => Err(error),
    }
}

pub(super) async fn call<T>(answer: impl Future<Output = Result<T, kube::Error>>) -> Result<T, WriteError> {
    match tokio::time::timeout(TIMEOUT, answer).await {
        Ok(answer) => answer.map_err(WriteError::from),
        Err(_) => Err(WriteError::Timeout),
    }
}

impl From<kube::Error> for WriteError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Refused { code: status.code, words: Words::new(&status.message, &[]) },
            // serde quotes the value that it stumbled over.
            kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => Self::Unreadable,
            other => Self::Unreachable(Words::new(&other.to_string(), &[])),
        }
    }
}
