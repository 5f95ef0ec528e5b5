//! The signer against a server that answers as Vault does.

mod asked;
mod login;
mod mount;
mod strangers;

use std::sync::atomic::AtomicU32;

use serde_json::json;

use super::*;
use crate::api::auth::Credentials;
use crate::api::material::{Found, Place};
use crate::vault::fake::{self, Call, Fake, Reply, config, login, request};

fn csr() -> SigningRequest {
    request("pki/sign/web", &[], None)
}

fn pem(name: &str) -> String {
    rcgen::generate_simple_self_signed([name.to_owned()]).expect("rcgen makes a certificate").cert.pem()
}

fn certificate() -> Reply {
    fake::json(200, json!({"request_id": "r-1", "data": {"certificate": pem("leaf"), "ca_chain": [pem("ca")]}}))
}

fn signer_of(fake: &Fake, credentials: Credentials) -> VaultSigner {
    let config = config(&fake.url, |_| ());
    VaultSigner::new(&config, &fake::material(credentials), &fake::common(), fake::metrics())
        .expect("the test's issuer is usable")
}

/// A Vault that logs in with tokens `t-1`, `t-2`, … and answers every other call by `answer`.
async fn vault(uses: u32, answer: impl Fn(&Call) -> Reply + Send + Sync + 'static) -> (Fake, VaultSigner) {
    let count = AtomicU32::new(0);
    let fake = Fake::start(move |call| {
        if call.is_login() {
            login(&format!("t-{}", count.fetch_add(1, Ordering::SeqCst) + 1), uses)
        } else {
            answer(call)
        }
    })
    .await;
    let signer = signer_of(&fake, fake::app_role());
    (fake, signer)
}

async fn many(signer: &VaultSigner, count: usize) -> Vec<Result<Answer, SignError>> {
    let request = csr();
    futures::future::join_all((0..count).map(|_| signer.sign(&request))).await
}

fn found<T>(field: &str, object: Option<&str>, value: T) -> Found<T> {
    Found { place: Place { field: field.to_owned(), object: object.map(str::to_owned) }, value }
}
