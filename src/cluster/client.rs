//! The client of the API server: found as kubectl finds it, and one that sends nothing but reads for a replica that does not lead.
//!
//! The guard lies around everything that writes (status, anchors, events, whatever comes), and around the repeats that kube makes
//! by itself after 429, 503 and 504: they end with the term. The Lease alone is exempt, since it has to be won first.

use std::task;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::Request;
use kube::client::{Body, ClientBuilder};
use kube::config::Kubeconfig;
use kube::{Client, Config};
use tower::layer::layer_fn;
use tower::{BoxError, Service};

use crate::lease::Leadership;

/// Where Leases are.
const LEASES: &str = "/apis/coordination.k8s.io/";

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No cluster is named.
    #[error("no cluster found: neither KUBECONFIG nor a ServiceAccount")]
    NotFound(#[from] kube::config::InferConfigError),
    /// What is named cannot be used.
    #[error("cannot make a client from this cluster configuration")]
    Unusable(#[from] kube::Error),
}

/// The way to the cluster that kubectl would find.
///
/// # Errors
/// No cluster is found.
pub async fn cluster_config() -> Result<Config, ClientError> {
    let mut config = Config::infer().await?;
    // The proxy variables are for Vault; kube would take HTTPS_PROXY for the API server too. A proxy that the kubeconfig itself
    // names stays, and is refused in kube's words: this program is not built to reach an API server through one.
    config.proxy_url =
        Kubeconfig::read().ok().and_then(|kubeconfig| named_proxy(&kubeconfig)).and_then(|url| url.parse().ok());
    Ok(config)
}

/// A client that writes for as long as we lead.
///
/// # Errors
/// The configuration cannot be used.
pub fn client(config: Config, leadership: &Leadership) -> Result<Client, ClientError> {
    let guarded = layer_fn(|inner| Guarded { inner, leadership: leadership.clone() });
    Ok(ClientBuilder::try_from(config)?.with_layer(&guarded).build())
}

/// The proxy of the current context's cluster.
fn named_proxy(kubeconfig: &Kubeconfig) -> Option<String> {
    let current = kubeconfig.current_context.as_ref()?;
    let context = kubeconfig.contexts.iter().find(|context| context.name == *current)?.context.as_ref()?;
    let cluster = kubeconfig.clusters.iter().find(|cluster| cluster.name == context.cluster)?;
    cluster.cluster.as_ref()?.proxy_url.clone()
}

/// Sends what changes something for the leader only.
struct Guarded<S> {
    inner: S,
    leadership: Leadership,
}

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<S::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut task::Context<'_>) -> task::Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let free = request.method().is_safe() || request.uri().path().starts_with(LEASES);
        let call = self.inner.call(request);
        if free {
            return call.boxed();
        }
        let leadership = self.leadership.clone();
        async move { leadership.guard(call).await.map_err(BoxError::from)? }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::Response;

    use super::*;

    /// Whether a request gets through.
    #[track_caller]
    fn check(leadership: &Leadership, method: &str, path: &str, passes: bool) {
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&sent);
        let inner = tower::service_fn(move |_: Request<Body>| {
            let counted = Arc::clone(&counted);
            async move {
                counted.fetch_add(1, Ordering::Relaxed);
                Ok::<_, BoxError>(Response::new(Body::empty()))
            }
        });
        let mut client = Guarded { inner, leadership: leadership.clone() };
        let request = Request::builder().method(method).uri(path).body(Body::empty()).expect("request");
        let answer = client.call(request).now_or_never().expect("nothing to wait for");
        assert_eq!(answer.is_ok(), passes, "{method} {path}");
        assert_eq!(sent.load(Ordering::Relaxed), usize::from(passes), "{method} {path}");
    }

    #[test]
    fn who_does_not_lead_reads_and_stands_for_election_and_changes_nothing() {
        const REQUEST: &str = "/apis/cert-manager.io/v1/namespaces/mesh/certificaterequests/web";
        const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/x/leases/vault-mesh-issuer";
        for (method, path, standby) in [
            ("GET", REQUEST, true),
            ("PATCH", REQUEST, false),
            ("PATCH", "/apis/cert-manager.io/v1/namespaces/mesh/certificaterequests/web/status?force=true", false),
            ("POST", "/apis/events.k8s.io/v1/namespaces/mesh/events", false),
            ("POST", "/api/v1/namespaces/mesh/serviceaccounts/vault/token", false),
            ("DELETE", REQUEST, false),
            ("GET", LEASE, true),
            ("PUT", LEASE, true),
            ("POST", "/apis/coordination.k8s.io/v1/namespaces/x/leases", true),
        ] {
            check(&Leadership::none_yet(), method, path, standby);
            check(&Leadership::sole(), method, path, true);
        }
    }
}
