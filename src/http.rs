//! The three admin routes: `/livez`, `/readyz` and `/metrics`. Plain HTTP, read only, nothing secret on any of them.

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::metrics::Metrics;

/// What the routes show.
#[derive(Clone)]
pub struct Admin {
    /// `/metrics`.
    pub metrics: Metrics,
    /// Run before `/metrics` is written: brings figures up to date that are kept elsewhere, such as ages.
    pub refresh: Arc<dyn Fn() + Send + Sync>,
    /// `/readyz`: true once the watches have synced. A dropped sender leaves the last word standing.
    pub synced: watch::Receiver<bool>,
}

/// Serves the routes until `shutdown` ends; requests under way are answered first.
///
/// # Errors
/// The listener broke.
pub async fn serve(
    listener: TcpListener,
    admin: Admin,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(admin);
    axum::serve(listener, routes).with_graceful_shutdown(shutdown).await
}

async fn readyz(State(admin): State<Admin>) -> impl IntoResponse {
    if *admin.synced.borrow() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the watches have not synced yet\n")
    }
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    (admin.refresh)();
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], admin.metrics.encode())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    async fn ask(address: std::net::SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("connect");
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("write");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("read");
        answer
    }

    #[tokio::test]
    async fn readiness_follows_the_watches_and_metrics_are_refreshed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let (synced, receiver) = watch::channel(false);
        let metrics = Metrics::new();
        let refreshed = metrics.clone();
        let refresh = Arc::new(move || refreshed.set_pending(3, Some(Duration::from_secs(9))));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = serve(listener, Admin { metrics, refresh, synced: receiver }, async {
            // Also if the asking panicked: the server must end for the panic to be seen.
            let _ = stopped.await;
        });
        let client = async {
            assert!(ask(address, "/livez").await.starts_with("HTTP/1.1 200"));
            assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 503"));
            synced.send_replace(true);
            assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 200"));
            assert!(ask(address, "/metrics").await.contains("vault_mesh_issuer_requests_pending 3"));
            assert!(ask(address, "/other").await.starts_with("HTTP/1.1 404"));
            stop.send(()).expect("the server still runs");
        };
        let (served, ()) = tokio::join!(server, client);
        served.expect("served");
    }
}
