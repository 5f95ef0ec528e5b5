//! What the trials share that replay a mesh's requests: what was issued, judged by openssl with nothing but what was published, and
//! which events there are about a request.

use anyhow::{Result, ensure};
use serde_json::Value;
use testenv::{Created, Kube, ca_of, certificate_of, eventually, openssl};

use crate::Outcome;
use crate::support::SOON;

/// What a client finds in its request.
pub struct Issued {
    /// `status.certificate`.
    pub chain: String,
    /// The first of the chain, as openssl prints it, without blanks around `=`.
    pub text: String,
}

impl Issued {
    /// Whether openssl prints all these words about the certificate.
    pub fn has(&self, words: &[&str]) -> Outcome {
        for word in words {
            ensure!(self.text.contains(word), "{word} is not in {}", self.text);
        }
        Ok(())
    }
}

/// Waits for the reason `Issued`: the certificate has the CSR's key, `status.ca` is the operator's root, and the chain leads there
/// without holding it.
pub async fn issued(request: &Created, csr_pem: &str, root_pem: &str) -> Result<Issued> {
    let object = request.reason("Issued", SOON).await?;
    let (chain, ca) = (certificate_of(&object)?, ca_of(&object)?);
    ensure!(
        ca.trim() == root_pem.trim() && !chain.contains(ca.trim()),
        "another root than the operator's:\n{chain}\n{ca}"
    );
    openssl::same_key(&chain, csr_pem).await?;
    openssl::verify(&chain, &ca).await?;
    let text = openssl::without_blanks(&openssl::text(&chain).await?);
    Ok(Issued { chain, text })
}

/// Waits for an event about an object; gives its words.
pub async fn event(kube: &Kube, namespace: &str, name: &str, reason: &str) -> Result<String> {
    let events = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
    let about = |event: &Value| event["regarding"]["name"] == name && event["reason"] == reason;
    eventually(&format!("an event {reason} about {name}"), SOON, async || {
        let found = kube.list(&events).await?.into_iter().find(about);
        Ok(found.and_then(|event| event["note"].as_str().map(str::to_owned)))
    })
    .await
}
