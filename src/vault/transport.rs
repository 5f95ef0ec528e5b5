//! One HTTP client for one issuer: our own [`rustify::client::Client`], because vaultrs' has no size limit, drops response headers,
//! reads `VAULT_*` and mishandles a base path. It follows no redirect (a redirect would carry the token along), and gives every
//! call a time limit and every body a size limit. `HTTPS_PROXY` and `NO_PROXY` are honoured, as cert-manager does.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use http::{Request, Response, Uri};
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rustify::client::Client;
use rustify::endpoint::{Endpoint, MiddleWare};
use rustify::errors::ClientError;
use rustls::pki_types::ServerName;
use secrecy::{ExposeSecret as _, SecretString};

use super::failure::Peer;
use super::tls::{self, ExpectedName, PublicRoots};
use crate::api::config::{IssuerConfig, VaultTarget};
use crate::api::material::Material;
use crate::clock;
use crate::issuance::signer::{Fault, Outage};
use crate::lease::Leadership;

/// A black-holed server holds a turn no longer than this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Long enough for an RSA-4096 CA on a busy server.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Idle connections are dropped before the load balancers in front of Vault do (60 s is their shortest custom).
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);
/// A chain of ten 4096-bit certificates has 25 kB.
const LARGEST_BODY: usize = 1 << 20;

/// The way to one server, as one issuer's spec describes it.
pub struct Transport {
    client: reqwest::Client,
    peer: Peer,
    /// What calls are made to: the server's URL, with `serverName` as its host where that stands for the SNI.
    base: String,
    /// The `Host` header, where it is not the URL's.
    host: Option<HeaderValue>,
    namespace: Option<HeaderValue>,
    leadership: Leadership,
}

/// Why a call gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The way to Vault, or its rate limit.
    #[error(transparent)]
    Outage(#[from] Outage),
    /// An answer that we do not read to its end.
    #[error("the answer with status {status} is larger than 1 MiB")]
    TooLarge {
        /// Its HTTP status.
        status: u16,
    },
}

impl Transport {
    /// Prepares the way; nothing is sent yet.
    ///
    /// # Errors
    /// The field of the spec, or the object it names, that cannot be used.
    pub fn new(
        config: &IssuerConfig,
        material: &Material,
        roots: &PublicRoots,
        leadership: Leadership,
    ) -> Result<Self, Fault> {
        let target = &config.vault;
        let uri: Uri = target.server.parse().map_err(|_| spec("spec.vault.server", "is no URL"))?;
        let https = uri.scheme_str() == Some("https");
        let way = Way::choose(target, &uri, https)?;
        let tls = tls::client_config(config, material, roots, way.verify)?;
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(CALL_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .user_agent(concat!("vault-mesh-issuer/", env!("CARGO_PKG_VERSION")));
        if let Some(host) = way.resolve {
            builder = builder.dns_resolver(SameHost { host });
        }
        let client = builder.build().map_err(|_| spec("spec.vault", "no HTTP client can be made of it"))?;
        let ca_field = material.server_ca.as_ref().map(|bundle| bundle.place.field.clone());
        let own_field = material.client_tls.as_ref().map(|own| own.certificate.place.field.clone());
        let namespace = target.namespace.as_deref().map(HeaderValue::from_str).transpose();
        Ok(Self {
            client,
            peer: Peer { authority: target.authority.clone(), https, ca_field, own_field },
            base: way.base,
            host: way.host,
            namespace: namespace.map_err(|_| spec("spec.vault.namespace", "is no namespace path"))?,
            leadership,
        })
    }

    /// Whom we call.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Makes one call and returns whatever was answered, whichever its status.
    ///
    /// # Errors
    /// There was no answer, one that asks to come again later, or one too large to read.
    pub async fn call<E: Endpoint>(
        &self,
        endpoint: E,
        token: Option<&SecretString>,
    ) -> Result<Response<Vec<u8>>, TransportError> {
        let headers = Headers { transport: self, token };
        let call = endpoint.with_middleware(&headers);
        // Nothing goes to Vault from a replica that does not lead, whatever the call is for.
        let Ok(result) = self.leadership.guard(call.exec(self)).await else {
            let server = self.peer.authority.clone();
            return Err(Outage::Interrupted { server, class: "not sent: another replica may lead by now" }.into());
        };
        match result {
            Ok(result) => Ok(result.response),
            Err(ClientError::GenericError { source }) => Err(source.downcast().unwrap_or_else(|_| self.not_sent())),
            // Every other variant is about building the request; its text is not ours and is not shown.
            Err(_) => Err(self.not_sent()),
        }
    }

    fn not_sent(&self) -> TransportError {
        Outage::Unreachable { server: self.peer.authority.clone(), class: "the request could not be built" }.into()
    }

    async fn exchange(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, TransportError> {
        let failed = |error: reqwest::Error| TransportError::from(self.peer.outage(&error));
        let request = reqwest::Request::try_from(request).map_err(failed)?;
        let mut response = self.client.execute(request).await.map_err(failed)?;
        let status = response.status();
        let headers = std::mem::take(response.headers_mut());
        let throttled = self.peer.throttled(status.as_u16(), &headers, clock::now());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > LARGEST_BODY {
                return Err(TransportError::TooLarge { status: status.as_u16() });
            }
            body.extend_from_slice(&chunk);
        }
        // Read to its end all the same: the connection serves the next call.
        if let Some(throttled) = throttled {
            return Err(throttled.into());
        }
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

type Sent<'a> = Pin<Box<dyn Future<Output = Result<Response<Vec<u8>>, ClientError>> + Send + 'a>>;

impl Client for Transport {
    fn send<'s, 'a>(&'s self, request: Request<Vec<u8>>) -> Sent<'a>
    where
        's: 'a,
        Self: 'a,
    {
        Box::pin(async move { self.exchange(request).await.map_err(|error| generic(error.into())) })
    }

    fn base(&self) -> &str {
        &self.base
    }

    /// The provided method turns every refusal into an error without headers; to us a refusal is an answer.
    fn execute<'s, 'a>(&'s self, request: Request<Vec<u8>>) -> Sent<'a>
    where
        's: 'a,
        Self: 'a,
    {
        self.send(request)
    }
}

fn generic(source: anyhow::Error) -> ClientError {
    ClientError::GenericError { source }
}

/// What every call carries: the full URL and Vault's headers. The token is here for one call only.
struct Headers<'a> {
    transport: &'a Transport,
    token: Option<&'a SecretString>,
}

impl MiddleWare for Headers<'_> {
    fn request<E: Endpoint>(&self, endpoint: &E, request: &mut Request<Vec<u8>>) -> Result<(), ClientError> {
        // rustify doubles the slash of vaultrs' paths behind a base path. Segments need no escaping: see `vault_path::is_name`.
        let url = format!("{}/v1/{}", self.transport.base, endpoint.path().trim_start_matches('/'));
        *request.uri_mut() = url.parse().map_err(|source| ClientError::UrlBuildError { source })?;
        let headers = request.headers_mut();
        headers.insert(HeaderName::from_static("x-vault-request"), HeaderValue::from_static("true"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(host) = &self.transport.host {
            headers.insert(HOST, host.clone());
        }
        if let Some(namespace) = &self.transport.namespace {
            headers.insert(HeaderName::from_static("x-vault-namespace"), namespace.clone());
        }
        if let Some(token) = self.token {
            // The error would not show the value, and neither does a sensitive header's Debug.
            let mut value = HeaderValue::from_str(token.expose_secret()).map_err(|error| generic(error.into()))?;
            value.set_sensitive(true);
            headers.insert(HeaderName::from_static("x-vault-token"), value);
        }
        Ok(())
    }

    fn response<E: Endpoint>(&self, _: &E, _: &mut Response<Vec<u8>>) -> Result<(), ClientError> {
        Ok(())
    }
}

/// How the server is reached when its certificate is to hold another name than its URL.
struct Way {
    base: String,
    host: Option<HeaderValue>,
    resolve: Option<String>,
    verify: ExpectedName,
}

impl Way {
    /// reqwest takes the SNI from the URL, so the URL names `serverName` and a resolver leads it to the real host. Behind a
    /// proxy that would send the proxy to the wrong host: there the URL stays, the SNI is the URL's host, and the certificate
    /// is verified for `serverName` all the same.
    fn choose(target: &VaultTarget, uri: &Uri, https: bool) -> Result<Self, Fault> {
        let plain = |verify| Self { base: target.server.clone(), host: None, resolve: None, verify };
        let Some(name) = target.server_name.as_ref().filter(|_| https) else { return Ok(plain(None)) };
        let unusable = || spec("spec.vault.serverName", "is no host name, for example vault.example");
        let verify = ServerName::try_from(name.clone()).map_err(|_| unusable())?;
        let is_address = matches!(verify, ServerName::IpAddress(_));
        if is_address || Matcher::from_system().intercept(uri).is_some() {
            return Ok(plain(Some(verify)));
        }
        let port = uri.port().map(|port| format!(":{port}")).unwrap_or_default();
        let path = uri.path().trim_end_matches('/');
        Ok(Self {
            base: format!("https://{name}{port}{path}"),
            host: Some(HeaderValue::from_str(&target.authority).map_err(|_| spec("spec.vault.server", "is no URL"))?),
            resolve: uri.host().map(|host| host.trim_matches(['[', ']']).to_owned()),
            verify: Some(verify),
        })
    }
}

fn spec(field: &str, problem: &str) -> Fault {
    Fault::Spec { field: field.to_owned(), problem: problem.to_owned() }
}

/// Resolves every name to the addresses of one host.
struct SameHost {
    host: String,
}

impl Resolve for SameHost {
    fn resolve(&self, _: Name) -> Resolving {
        let host = self.host.clone();
        Box::pin(async move {
            // Port 0 stands for the URL's.
            let addresses: Vec<_> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(server: &str, server_name: Option<&str>) -> Result<Way, Fault> {
        let config = super::super::fake::config(server, |vault| vault["serverName"] = server_name.into());
        Way::choose(&config.vault, &server.parse().expect("the test's server is a URL"), server.starts_with("https"))
    }

    #[track_caller]
    fn goes(server: &str, server_name: Option<&str>, base: &str, host: Option<&str>, resolve: Option<&str>) {
        let way = way(server, server_name).expect("the test's names are usable");
        assert_eq!(way.base, base);
        assert_eq!(way.host.as_ref().map(|host| host.to_str().expect("a host is ASCII")), host);
        assert_eq!(way.resolve.as_deref(), resolve);
        assert_eq!(way.verify.is_some(), server_name.is_some() && server.starts_with("https"));
    }

    #[test]
    fn the_name_to_verify_is_also_the_sni_while_host_and_address_stay_the_servers() {
        let (real, seen) = ("https://10.0.0.1:8200/base", "https://vault.example:8200/base");
        goes(real, Some("vault.example"), seen, Some("10.0.0.1:8200"), Some("10.0.0.1"));
        goes("https://[::1]", Some("v"), "https://v", Some("[::1]"), Some("::1"));
        goes(real, None, real, None, None);
        goes(real, Some("10.0.0.2"), real, None, None);
        goes("http://10.0.0.1", Some("vault.example"), "http://10.0.0.1", None, None);
    }

    #[test]
    fn a_name_that_is_none_is_said_with_its_field() {
        let error = way("https://v", Some("no name")).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.starts_with("spec.vault.serverName"), "{error}");
    }
}
