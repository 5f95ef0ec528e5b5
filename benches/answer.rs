//! What every certificate costs us beside the network: the CSR that is read and checked, the answer that is read, the path that
//! is built, and the whole inspection, of which the path is a part. `hack/bench` sets it in relation to all that we spend on a
//! certificate.

#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::expect_used,
    reason = "criterion's macros, and inputs of our own making at the time of the run"
)]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use jiff::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, SanType};
use serde_json::json;
use vault_mesh_issuer::api::config::IssuerConfig;
use vault_mesh_issuer::api::material::{Found, Place};
use vault_mesh_issuer::issuance::inspection::inspect;
use vault_mesh_issuer::issuance::policy::{CertificateDetails, plan};
use vault_mesh_issuer::issuance::signer::Answer;
use vault_mesh_issuer::issuance::trust::Anchors;
use vault_mesh_issuer::vault::answer::{self, KnownChain};
use vault_mesh_issuer::vault::envelope::Envelope;
use vault_mesh_issuer::x509::path;

/// The usual case: an EC root, an intermediate below it that signs, and a workload with one SPIFFE ID.
struct Usual {
    config: IssuerConfig,
    details: CertificateDetails,
    anchors: Anchors,
    /// What Vault sends.
    body: Vec<u8>,
}

impl Usual {
    fn new() -> Self {
        let key = || KeyPair::generate().expect("a key");
        let (root_key, intermediate_key, key) = (key(), key(), key());
        let root_params = authority("root");
        let root = root_params.self_signed(&root_key).expect("a root").pem();
        let root_issuer = Issuer::new(root_params, root_key);
        let intermediate_params = authority("intermediate");
        let intermediate = intermediate_params.signed_by(&intermediate_key, &root_issuer).expect("a CA").pem();
        let issuer = Issuer::new(intermediate_params, intermediate_key);
        let mut workload = CertificateParams::default();
        workload.distinguished_name = DistinguishedName::new();
        let id = "spiffe://cluster.local/ns/shop/sa/web".try_into().expect("a URI");
        workload.subject_alt_names.push(SanType::URI(id));
        let csr = workload.serialize_request(&key).expect("a CSR").pem().expect("a CSR in PEM");
        let leaf = workload.signed_by(&key, &issuer).expect("a certificate").pem();
        let data = json!({
            "certificate": leaf, "issuing_ca": intermediate, "ca_chain": [intermediate, root],
            "expiration": 1_900_000_000, "serial_number": "01:02",
        });
        let body = json!({"request_id": "3a4c", "lease_id": "", "data": data}).to_string().into_bytes();
        let spec = json!({"vault": {
            "server": "https://vault.example:8200", "path": "pki/sign/mesh",
            "auth": {"appRole": {"path": "approle", "roleId": "mesh", "secretRef": {"name": "approle", "key": "secretId"}}},
        }});
        let spec = serde_json::from_value(spec).expect("a spec");
        let place = Place { field: "spec.trust.anchors[0]".to_owned(), object: None };
        let anchors = Anchors::configured(&[Found { place, value: root.into_bytes() }], Timestamp::now());
        let usages = ["digital signature", "key encipherment"].map(str::to_owned).to_vec();
        Self {
            config: IssuerConfig::parse(&spec).expect("a spec without a fault"),
            details: CertificateDetails { csr: Some(csr.into_bytes()), usages, ..CertificateDetails::default() },
            anchors: anchors.expect("a root is an anchor"),
            body,
        }
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn answer(criterion: &mut Criterion) {
    let Usual { config, details, anchors, body } = Usual::new();
    let request = plan(&details, &config).expect("it may be asked for");
    // The chain is that of the answer before; the leaf is new each time.
    let known = KnownChain::default();
    let read = || answer::signed("pki/sign/mesh", &Envelope::read(black_box(&body)).expect("an answer"), &known, &[]);
    let fresh = || read().expect("a certificate");
    let now = Timestamp::now();
    criterion.bench_function("reading the request", |bench| bench.iter(|| plan(black_box(&details), &config)));
    criterion.bench_function("reading the answer", |bench| bench.iter(read));
    let build = |answer: Answer| path::build(&answer.leaf, &answer.others, anchors.certificates()).expect("a path");
    criterion.bench_function("building the path", |bench| bench.iter_batched(fresh, build, BatchSize::SmallInput));
    let whole = |answer: Answer| inspect(&answer, &request, &anchors, now).expect("it is what was asked for");
    criterion.bench_function("the whole inspection", |bench| bench.iter_batched(fresh, whole, BatchSize::SmallInput));
}

criterion_group!(benches, answer);
criterion_main!(benches);
