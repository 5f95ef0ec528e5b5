//! One call of `istio.v1.auth.IstioCertificateService`, as a proxy's agent makes it: HTTP/2 over TLS, a ServiceAccount's token, and
//! two small messages, whose fields are written and read by hand.
//! <https://github.com/istio/api/blob/master/security/v1alpha1/ca.proto>

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use hyper::Request;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::follow::Going;
use crate::mutual_tls::{provider, roots};

const METHOD: &str = "istio.v1.auth.IstioCertificateService/CreateCertificate";
/// A field's number and the way it is written, in one byte: `(number << 3) | kind`, where 0 is a number and 2 are bytes.
const CSR: u8 = (1 << 3) | 2;
const VALIDITY: u8 = 3 << 3;
const CERT_CHAIN: u8 = (1 << 3) | 2;
/// Before each message stand one byte that says "not compressed" and four of its length.
const FRAME: usize = 5;

/// Where the server listens, and whom it has to show itself as.
pub(super) struct Server<'a> {
    pub(super) address: &'a str,
    pub(super) name: &'a str,
    pub(super) roots_pem: &'a str,
}

/// Asks for a certificate; gives `cert_chain`. A refusal is in the server's words.
pub(super) async fn create_certificate(
    server: &Server<'_>,
    token: &str,
    csr_pem: &str,
    validity_seconds: u64,
) -> Result<Vec<String>> {
    let (mut sender, _connection) = connect(server).await.context("connecting to istio-csr")?;
    let request = Request::post(format!("https://{}/{METHOD}", server.name))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", format!("Bearer {token}"))
        .body(())?;
    let (response, mut body) = sender.send_request(request, false)?;
    body.send_data(framed(&asked(csr_pem, validity_seconds))?, true)?;
    let (head, mut body) = response.await?.into_parts();
    ensure!(head.status == 200, "istio-csr answers {}", head.status);
    let mut answer = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        answer.extend_from_slice(&chunk);
    }
    // An answer without a message has its trailers among its headers.
    let trailers = body.trailers().await?.unwrap_or(head.headers);
    let said = |name: &str| trailers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    ensure!(
        said("grpc-status") == "0",
        "istio-csr answers gRPC status {}: {}",
        said("grpc-status"),
        said("grpc-message")
    );
    chain(answer.get(FRAME..).context("an answer without a message")?)
}

async fn connect(server: &Server<'_>) -> Result<(h2::client::SendRequest<Bytes>, Going)> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let mut config = builder.with_root_certificates(roots(server.roots_pem)?).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(server.address).await?;
    let name = ServerName::try_from(server.name.to_owned())?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let (sender, connection) = h2::client::handshake(stream).await?;
    let connection = Going::new(async move {
        // What goes wrong on it fails the call.
        let _ended = connection.await;
    });
    Ok((sender.ready().await?, connection))
}

/// `IstioCertificateRequest { csr, validity_duration }`.
fn asked(csr_pem: &str, validity_seconds: u64) -> Vec<u8> {
    let mut message = vec![CSR];
    number(&mut message, csr_pem.len() as u64);
    message.extend_from_slice(csr_pem.as_bytes());
    message.push(VALIDITY);
    number(&mut message, validity_seconds);
    message
}

fn framed(message: &[u8]) -> Result<Bytes> {
    let length = u32::try_from(message.len())?.to_be_bytes();
    Ok([&[0], &length[..], message].concat().into())
}

/// `IstioCertificateResponse { repeated cert_chain }`.
fn chain(mut message: &[u8]) -> Result<Vec<String>> {
    let mut chain = Vec::new();
    while let Some((&field, rest)) = message.split_first() {
        ensure!(field == CERT_CHAIN, "an unknown field {field:#x} in the answer");
        let (length, rest) = read_number(rest)?;
        let (text, rest) = rest.split_at_checked(length).context("the answer is cut")?;
        chain.push(String::from_utf8(text.to_vec())?);
        message = rest;
    }
    Ok(chain)
}

/// Seven bits a byte, the lowest first; the eighth says that more follow.
fn number(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

fn read_number(mut bytes: &[u8]) -> Result<(usize, &[u8])> {
    let (mut value, mut shift) = (0usize, 0);
    while let Some((&byte, rest)) = bytes.split_first() {
        value |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok((value, rest));
        }
        (bytes, shift) = (rest, shift + 7);
        ensure!(shift <= 28, "a length beyond 4 GiB in the answer");
    }
    bail!("the answer is cut")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_messages_are_written_as_protobuf_does() {
        let csr = "x".repeat(300);
        let message = asked(&csr, 3_600);
        // 300 is 0b10_0101100, 3600 is 0b11100_0010000.
        assert_eq!(message[..3], [0x0a, 0xac, 0x02]);
        assert_eq!(message[303..], [0x18, 0x90, 0x1c]);
        assert_eq!(framed(&message).unwrap()[..5], [0, 0, 0, 1, 0x32]);
    }

    #[test]
    fn an_answer_is_read_to_its_end() {
        let long = "y".repeat(200);
        let mut answer = vec![CERT_CHAIN, 1, b'a', CERT_CHAIN];
        number(&mut answer, 200);
        answer.extend_from_slice(long.as_bytes());
        assert_eq!(chain(&answer).unwrap(), ["a", &long]);
        assert!(chain(&answer[..50]).is_err());
        assert!(chain(&[0x18, 1]).is_err());
    }
}
