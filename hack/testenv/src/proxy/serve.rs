//! The listener and the way of one request through the rules.

use std::convert::Infallible;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::channel::Channel;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::action::{Action, Door, Reply};
use super::{Held, Seen, Shared, lock};
use crate::authority::Identity;
use crate::http::Answer;

type Body = BoxBody<Bytes, std::io::Error>;

/// Headers that belong to one connection and not to the message.
const HOP_BY_HOP: [HeaderName; 5] =
    [header::CONNECTION, header::TRANSFER_ENCODING, header::CONTENT_LENGTH, header::HOST, header::UPGRADE];

pub(super) fn acceptor(identity: &Identity) -> Result<TlsAcceptor> {
    let certificate =
        CertificateDer::from_pem_slice(identity.certificate_pem.as_bytes()).context("reading a certificate")?;
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).context("reading a key")?;
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key);
    Ok(TlsAcceptor::from(Arc::new(config.context("the proxy's TLS settings")?)))
}

/// The two certificates that a proxy can show.
#[derive(Clone)]
pub(super) struct Tls {
    pub(super) known: TlsAcceptor,
    pub(super) stranger: TlsAcceptor,
}

pub(super) async fn accept(listener: TcpListener, tls: Option<Tls>, shared: Arc<Shared>) {
    let Ok(address) = listener.local_addr() else { return };
    let mut listener = Some(listener);
    let mut door = shared.door.subscribe();
    loop {
        let now = *door.borrow_and_update();
        if now == Door::Shut {
            listener = None;
        } else if listener.is_none() {
            // Nobody else is given the port: it is free as soon as the last listener is gone.
            listener = TcpListener::bind(address).await.ok();
        }
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        let stream = tokio::select! {
            accepted = accepted => accepted,
            changed = door.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        let Ok((stream, _)) = stream else { continue };
        let acceptor = match now {
            Door::Open => tls.as_ref().map(|tls| tls.known.clone()),
            Door::Stranger => tls.as_ref().map(|tls| tls.stranger.clone()),
            Door::Plain | Door::Shut => None,
        };
        let shared = shared.clone();
        // Without it small answers wait 40 ms for an acknowledgement; where it is refused they still come.
        let _ = stream.set_nodelay(true);
        tokio::spawn(async move {
            match acceptor {
                // A client that refuses our certificate is what some tests are about.
                Some(acceptor) => {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        connection(stream, shared).await
                    }
                }
                None => connection(stream, shared).await,
            }
        });
    }
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin + Send, shared: Arc<Shared>) {
    let mut cut = shared.generation.subscribe();
    let service = service_fn(|request| {
        let shared = shared.clone();
        async move { answer(request, &shared).await }
    });
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service);
    // However a connection ends, the client sees it end; the records tell the rest.
    tokio::select! {
        _ = serving => {}
        _ = cut.changed() => {}
    }
}

/// An error closes the connection without an answer.
async fn answer(request: Request<Incoming>, shared: &Arc<Shared>) -> Result<Response<Body>> {
    let (head, body) = request.into_parts();
    let seen = Seen {
        method: head.method.to_string(),
        path: head.uri.path_and_query().map_or_else(|| "/".into(), ToString::to_string),
        headers: head.headers,
        body: body.collect().await.context("reading a request")?.to_bytes(),
    };
    let record = shared.record(&seen);
    let response = match shared.decide(&seen) {
        Action::Pass => stream(shared.forward(&seen).await?)?,
        Action::Delay(time) => {
            tokio::time::sleep(time).await;
            stream(shared.forward(&seen).await?)?
        }
        Action::Late(time) => {
            let answer = shared.forward(&seen).await?;
            tokio::time::sleep(time).await;
            stream(answer)?
        }
        Action::Cut => bail!("a rule cuts it"),
        Action::DeliverThenCut => {
            let answer = shared.forward(&seen).await?;
            shared.note(record, answer.status().as_u16());
            answer.bytes().await.context("reading an answer")?;
            bail!("a rule cuts it");
        }
        Action::Hold => {
            let (client, wait) = oneshot::channel();
            lock(&shared.held).push(Held { seen, record, client });
            whole(reply_of(wait.await.context("it was held back and dropped")?))?
        }
        Action::Answer(reply) => whole(reply)?,
        Action::Replace(reply) => {
            shared.forward(&seen).await?.bytes().await.context("reading an answer")?;
            whole(reply)?
        }
        Action::Patch(change) => {
            let answer = shared.forward(&seen).await?;
            let status = answer.status().as_u16();
            let bytes = answer.bytes().await.context("reading an answer")?;
            let mut body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            change(&seen, &mut body);
            whole(reply_of(Answer { status, body }))?
        }
        Action::Halve => {
            let answer = shared.forward(&seen).await?;
            let status = answer.status().as_u16();
            let body = answer.bytes().await.context("reading an answer")?;
            let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
            whole(Reply { status, headers, body: body.slice(..body.len() / 2).to_vec() })?
        }
        Action::BreakOff => slowly(shared.forward(&seen).await?, Pace::HalfAtOnce).await?,
        Action::Drip(pause) => slowly(shared.forward(&seen).await?, Pace::Bytes(pause)).await?,
    };
    shared.note(record, response.status().as_u16());
    Ok(response)
}

impl Shared {
    /// Sends it upstream as it is.
    pub(super) async fn forward(&self, seen: &Seen) -> Result<reqwest::Response> {
        let url = format!("{}{}", lock(&self.upstream), seen.path);
        let method = reqwest::Method::from_bytes(seen.method.as_bytes()).context("a method")?;
        let request = self.client.request(method, url).headers(end_to_end(&seen.headers)).body(seen.body.clone());
        request.send().await.context("asking upstream")
    }
}

fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    headers
}

fn reply_of(answer: Answer) -> Reply {
    let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    let body = if answer.body.is_null() { Vec::new() } else { answer.body.to_string().into_bytes() };
    Reply { status: answer.status, headers, body }
}

fn whole(reply: Reply) -> Result<Response<Body>> {
    let mut response = Response::builder().status(reply.status);
    for (name, value) in reply.headers {
        response = response.header(name, value);
    }
    let body = Full::new(Bytes::from(reply.body)).map_err(|never: Infallible| match never {});
    response.body(body.boxed()).context("making an answer")
}

/// How an answer's body trickles.
enum Pace {
    /// Its first half, and then the connection ends.
    HalfAtOnce,
    /// A byte at a time.
    Bytes(std::time::Duration),
}

/// Passes an answer on that promises its whole body and keeps the client waiting for it.
async fn slowly(upstream: reqwest::Response, pace: Pace) -> Result<Response<Body>> {
    let status = upstream.status();
    let bytes = upstream.bytes().await.context("reading an answer")?;
    let response = Response::builder().status(status).header(header::CONTENT_LENGTH, bytes.len());
    let response = response.header(header::CONTENT_TYPE, "application/json");
    let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(8);
    tokio::spawn(async move {
        match pace {
            Pace::HalfAtOnce => {
                // A client that has gone already has no need of it.
                let _ = sender.send_data(bytes.slice(..bytes.len() / 2)).await;
                // Were it aborted at once, not even the first half would be sent.
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                sender.abort(std::io::Error::other("a rule breaks it off"));
            }
            Pace::Bytes(pause) => {
                for at in 0..bytes.len() {
                    if sender.send_data(bytes.slice(at..=at)).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(pause).await;
                }
            }
        }
    });
    response.body(body.boxed()).context("passing an answer on")
}

/// Passes an answer on while it comes in.
fn stream(mut upstream: reqwest::Response) -> Result<Response<Body>> {
    let mut response = Response::builder().status(upstream.status());
    for (name, value) in &end_to_end(upstream.headers()) {
        response = response.header(name, value);
    }
    let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(8);
    tokio::spawn(async move {
        loop {
            match upstream.chunk().await {
                Ok(Some(chunk)) => {
                    if sender.send_data(chunk).await.is_err() {
                        return; // the client has gone; so does the connection upstream
                    }
                }
                Ok(None) => return,
                Err(error) => return sender.abort(std::io::Error::other(error)),
            }
        }
    });
    response.body(body.boxed()).context("passing an answer on")
}
