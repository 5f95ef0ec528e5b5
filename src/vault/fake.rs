//! A server that answers as a test says: for what no real Vault does on request (dead tokens, huge bodies, echoes, redirects).

#![expect(clippy::disallowed_methods, reason = "the fake server's tasks end with the test's runtime")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use secrecy::SecretString;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::{Common, PublicRoots, Revocations};
use crate::api::IssuerConfig;
use crate::api::auth::Credentials;
use crate::api::config::Usages;
use crate::api::material::Material;
use crate::api::vault_path::SignPath;
use crate::api::{IssuerKey, IssuerKind};
use crate::cluster::service_accounts::ServiceAccounts;
use crate::issuance::signer::SigningRequest;
use crate::issuance::usages::Usage;
use crate::lease::Leadership;
use crate::x509::Csr;

/// One call, as it arrived.
#[derive(Clone, Default)]
pub struct Call {
    /// `POST /v1/…`.
    pub line: String,
    /// The head, in lower case.
    pub head: String,
    /// The body's JSON.
    pub body: serde_json::Value,
}

impl Call {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// Whether it is a login.
    pub fn is_login(&self) -> bool {
        self.line.ends_with("/login")
    }
}

/// One answer.
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Further header lines.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
    /// How long the server thinks.
    pub after: Duration,
    /// How many bytes more its head promises than come.
    pub missing: usize,
    /// How long it stays after that, without a word.
    pub stays: Duration,
}

/// An answer with a JSON body.
pub fn json(status: u16, body: serde_json::Value) -> Reply {
    text(status, &body.to_string())
}

/// An answer with any body.
pub fn text(status: u16, body: &str) -> Reply {
    Reply {
        status,
        head: String::new(),
        body: body.as_bytes().to_vec(),
        after: Duration::ZERO,
        missing: 0,
        stays: Duration::ZERO,
    }
}

/// A login that gives `token`.
pub fn login(token: &str, uses: u32) -> Reply {
    let auth = serde_json::json!({"client_token": token, "lease_duration": 3600, "renewable": true, "num_uses": uses});
    Reply { after: Duration::from_millis(20), ..json(200, serde_json::json!({"request_id": "login", "auth": auth})) }
}

/// Vault's form of a refusal.
pub fn refusal(status: u16, error: &str) -> Reply {
    json(status, serde_json::json!({"errors": [error]}))
}

/// A running fake.
pub struct Fake {
    /// Its URL.
    pub url: String,
    seen: Arc<Mutex<Vec<Call>>>,
    silent: Arc<Notify>,
}

/// Longer than anybody waits.
pub const FOR_EVER: Duration = Duration::from_secs(3_600);

impl Fake {
    /// Starts a server that gives every call to `answer`.
    pub async fn start(answer: impl Fn(&Call) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let seen: Arc<Mutex<Vec<Call>>> = Arc::default();
        let (calls, answer) = (Arc::clone(&seen), Arc::new(answer));
        let silent: Arc<Notify> = Arc::default();
        let silence = Arc::clone(&silent);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (calls, answer, silence) = (Arc::clone(&calls), Arc::clone(&answer), Arc::clone(&silence));
                tokio::spawn(async move {
                    let (mut stream, Some(call)) = read(stream).await else { return };
                    calls.lock().expect("no test panics here").push(call.clone());
                    let reply = answer(&call);
                    if reply.after == FOR_EVER {
                        silence.notify_one();
                    }
                    tokio::time::sleep(reply.after).await;
                    let length = reply.body.len() + reply.missing;
                    let head = format!(
                        "HTTP/1.1 {} x\r\n{}content-length: {length}\r\nconnection: close\r\n\r\n",
                        reply.status, reply.head
                    );
                    // The client may have gone: a body above its limit is not read to the end.
                    let _ = stream.write_all(head.as_bytes()).await;
                    let _ = stream.write_all(&reply.body).await;
                    if reply.stays == FOR_EVER {
                        silence.notify_one();
                    }
                    tokio::time::sleep(reply.stays).await;
                });
            }
        });
        Self { url, seen, silent }
    }

    /// What comes of `call`, whose patience is over at once when the server has fallen silent for ever.
    pub async fn outlasted<T>(&self, call: impl Future<Output = T>) -> T {
        let mut call = std::pin::pin!(call);
        loop {
            tokio::select! {
                biased;
                done = &mut call => return done,
                () = self.silent.notified() => {
                    tokio::time::pause();
                    tokio::time::advance(Duration::from_secs(31)).await;
                    tokio::time::resume();
                }
            }
        }
    }

    /// What has been called.
    pub fn calls(&self) -> Vec<Call> {
        self.seen.lock().expect("no test panics here").clone()
    }

    /// How many logins have been made.
    pub fn logins(&self) -> usize {
        self.calls().iter().filter(|call| call.is_login()).count()
    }

    /// How many calls have been made to the signing path.
    pub fn signs(&self) -> usize {
        self.calls().iter().filter(|call| call.line.contains("/sign/")).count()
    }
}

async fn read(mut stream: TcpStream) -> (TcpStream, Option<Call>) {
    let mut bytes: Vec<u8> = Vec::new();
    loop {
        if bytes.first().is_some_and(|first| !first.is_ascii_alphabetic()) {
            return (stream, Some(Call::default())); // TLS, which a plain server answers at once
        }
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(end) = end {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let call = Call {
                line: head.lines().next().unwrap_or_default().replace(" HTTP/1.1", ""),
                head: head.to_lowercase(),
                ..Call::default()
            };
            let length: usize = call.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            if bytes.len() >= end + 4 + length {
                let body = serde_json::from_slice(&bytes[end + 4..]).unwrap_or_default();
                return (stream, Some(Call { body, ..call }));
            }
        }
        match stream.read_buf(&mut bytes).await {
            Ok(1..) => (),
            Ok(0) | Err(_) => return (stream, None),
        }
    }
}

/// An issuer's configuration for `server`, with `edit` applied to `spec.vault`.
pub fn config(server: &str, edit: impl FnOnce(&mut serde_json::Value)) -> IssuerConfig {
    let mut vault = serde_json::json!({
        "server": server, "path": "pki/sign/web",
        "auth": {"appRole": {"path": "approle", "roleId": "role-1", "secretRef": {"name": "s", "key": "k"}}}
    });
    edit(&mut vault);
    let spec =
        serde_json::from_value(serde_json::json!({"vault": vault})).expect("the test's spec has the wire type's shape");
    IssuerConfig::parse(&spec).expect("the test's spec is usable")
}

/// What the signing endpoint at `path` is asked.
pub fn request(path: &str, usages: &[&str], ca: Option<u8>) -> SigningRequest {
    let key = rcgen::KeyPair::generate().expect("a key is made");
    let params = rcgen::CertificateParams::new(["a.example".to_owned()]).expect("the name is one");
    let pem = params.serialize_request(&key).and_then(|csr| csr.pem()).expect("a CSR is made");
    SigningRequest {
        csr: Csr::from_pem(pem.as_bytes()).expect("rcgen makes a good CSR"),
        ttl: Duration::from_secs(3_600),
        path: SignPath::parse(path).expect("the test's path is one"),
        ca,
        usages: usages.iter().filter_map(|name| Usage::from_name(name)).collect(),
        on_missing: Usages::Warn,
    }
}

/// The material of a plain issuer.
pub fn material(credentials: Credentials) -> Material {
    Material { server_ca: None, client_tls: None, credentials, anchors: Vec::new() }
}

/// An AppRole login.
pub fn app_role() -> Credentials {
    let config = config("http://unused", |_| ());
    let credentials = config.auth.credentials(&key(), "ns", &|_| Ok::<_, ()>(SecretString::from("secret-id-1")));
    credentials.expect("the secret is read")
}

/// The test's issuer.
pub fn key() -> IssuerKey {
    IssuerKey::new(IssuerKind::Namespaced, "ns", "issuer")
}

/// Metrics that nobody reads.
pub fn metrics() -> crate::metrics::IssuerMetrics {
    crate::metrics::Metrics::new().issuer(&key())
}

/// What signers have in common, with an API server that does not answer.
pub fn common() -> Common {
    common_at("http://127.0.0.1:9")
}

/// The same with this API server.
pub fn common_at(api_server: &str) -> Common {
    let config = kube::Config::new(api_server.parse().expect("this is a URL"));
    let client = kube::Client::try_from(config.clone()).expect("a client is made");
    let accounts = ServiceAccounts::new(client, config).expect("a client is made");
    Common { roots: PublicRoots::none(), accounts, leadership: Leadership::sole(), revocations: Revocations::default() }
}
