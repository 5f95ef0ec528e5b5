//! The functions that outside bytes are fed to, and what must hold whatever the bytes are. Nothing may panic; the rest is asserted.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use vault_mesh_issuer::api::auth::Method;
use vault_mesh_issuer::vault::answer as reading;
use vault_mesh_issuer::vault::envelope::{Described, Envelope};
use vault_mesh_issuer::vault::table::{Heard, Meaning};
use vault_mesh_issuer::x509::path::{self, CertificationPath, PathError};
use vault_mesh_issuer::x509::{Certificate, Csr, Verification};

/// A request: as PEM, as DER, and as the part of a request that is signed. A signature of our own is put under that one, because
/// no mutation would ever get past a signature by itself.
pub fn csr(data: &[u8]) {
    let armoured = |der: Vec<u8>| pem::encode(&pem::Pem::new("CERTIFICATE REQUEST", der)).into_bytes();
    for text in [data.to_vec(), armoured(data.to_vec()), armoured(signed(data))] {
        match Csr::from_pem(&text) {
            Ok(csr) => {
                assert_eq!(csr.pem().as_bytes(), text, "the request is sent on as it was given");
                let again = Csr::from_pem(csr.pem().as_bytes()).expect("it was read before");
                assert_eq!((again.sans(), again.public_key()), (csr.sans(), csr.public_key()));
                assert!(csr.sans().missing_from(again.sans()).is_empty());
                assert_eq!(csr.sans().is_empty(), csr.sans().to_string().is_empty());
                assert_showable(&format!("{csr:?}"));
            }
            Err(error) => assert_showable(&error.to_string()),
        }
    }
}

/// The key that signs requests: Ed25519 from 32 bytes of 7. The seeds hold its public half.
fn signed(info: &[u8]) -> Vec<u8> {
    static KEY: LazyLock<ring::signature::Ed25519KeyPair> = LazyLock::new(|| {
        ring::signature::Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("any 32 bytes are a key")
    });
    let signature = KEY.sign(info);
    // AlgorithmIdentifier { 1.3.101.112 }, BIT STRING of 64 bytes.
    let tail = [&[0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 65, 0][..], signature.as_ref()].concat();
    let length = u32::try_from(info.len() + tail.len()).expect("inputs are small").to_be_bytes();
    [&[0x30, 0x84][..], &length, info, &tail].concat()
}

/// A bag of certificates: a PEM bundle; or certificates in DER, one behind the other, of which the first is the leaf and the last
/// is the anchor; or places in a pool of certificates whose signatures are right.
pub fn bag(data: &[u8]) {
    match data {
        [b'-', ..] => match Certificate::bundle_from_pem(data) {
            Ok(certificates) => check_bag(&certificates),
            Err(error) => assert_showable(&error.to_string()),
        },
        [0x30, ..] => check_bag(&ders(data).into_iter().filter_map(read).collect::<Vec<_>>()),
        [leaf, anchors, places @ ..] => check_places(*leaf, *anchors, places),
        [] | [_] => {}
    }
}

fn read(der: &[u8]) -> Option<Certificate> {
    match Certificate::from_der(der.to_vec()) {
        Ok(certificate) => {
            assert_eq!(certificate.der(), der);
            let again = Certificate::bundle_from_pem(certificate.pem().as_bytes());
            assert_eq!(again, Ok(vec![certificate.clone()]));
            assert_showable(&format!("{certificate:?} {} {}", certificate.issuer(), certificate.sans()));
            Some(certificate)
        }
        Err(error) => {
            assert_showable(&error.to_string());
            None
        }
    }
}

/// Cuts at the lengths that DER itself tells.
fn ders(mut data: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while let [0x30, 0x82, high, low, ..] = data {
        let length = 4 + usize::from(u16::from_be_bytes([*high, *low]));
        let Some((one, rest)) = data.split_at_checked(length) else { break };
        found.push(one);
        data = rest;
    }
    if !data.is_empty() {
        found.push(data);
    }
    found
}

fn check_bag(certificates: &[Certificate]) {
    if let [leaf, bag @ .., anchor] = certificates {
        check_build(leaf, bag, std::slice::from_ref(anchor)).ok();
    }
}

/// What holds for every bag: its order means nothing, and a path is a path.
fn check_build(
    leaf: &Certificate,
    bag: &[Certificate],
    anchors: &[Certificate],
) -> Result<CertificationPath, PathError> {
    let found = path::build(leaf, bag, anchors);
    let backwards = |list: &[Certificate]| list.iter().rev().cloned().collect::<Vec<_>>();
    assert_eq!(path::build(leaf, &backwards(bag), &backwards(anchors)), found);
    match &found {
        Ok(path) => {
            assert_eq!(&path.leaf, leaf);
            assert!(anchors.contains(&path.anchor) && path.intermediates.len() <= 6);
            assert!(path.intermediates.iter().all(|one| bag.contains(one) && !anchors.contains(one) && one.is_ca()));
            let line: Vec<_> = std::iter::once(leaf).chain(path.issuers()).collect();
            let signed = |pair: &[&Certificate]| pair[0].verify_signature_by(pair[1]) == Verification::Valid;
            assert!(line.windows(2).all(signed));
            assert_eq!(line.iter().map(|one| one.sha256()).collect::<BTreeSet<_>>().len(), line.len());
            let published = Certificate::bundle_from_pem(path.chain_pem().as_bytes()).expect("it is PEM");
            assert!(
                published.iter().eq(line.iter().copied().take(published.len())) && published.len() + 1 == line.len()
            );
        }
        Err(error) => assert_showable(&error.to_string()),
    }
    found
}

/// Certificates that sign each other in every way: see `hack/testenv/src/bin/fuzz_seeds.rs`.
static POOL: LazyLock<Vec<Certificate>> = LazyLock::new(|| {
    let pem = include_bytes!("../../../testdata/fuzz/pool.pem");
    Certificate::bundle_from_pem(pem).expect("the pool is a bundle")
});

/// Who signed whom in the pool.
static LINKS: LazyLock<Vec<Vec<bool>>> = LazyLock::new(|| {
    let signed = |one: &Certificate, by: &Certificate| {
        one.names_as_issuer(by) && one.verify_signature_by(by) == Verification::Valid
    };
    POOL.iter().map(|one| POOL.iter().map(|by| signed(one, by)).collect()).collect()
});

/// Compares with a search that simply walks every path. Its time explodes, so it gets ten certificates.
fn check_places(leaf: u8, anchors: u8, places: &[u8]) {
    let place = |byte: u8| usize::from(byte) % POOL.len();
    let places: Vec<usize> = places.iter().take(10).map(|byte| place(*byte)).collect();
    let (anchors, bag) = places.split_at(usize::from(anchors).min(places.len()));
    let certificates = |places: &[usize]| places.iter().map(|place| POOL[*place].clone()).collect::<Vec<_>>();
    let leaf = place(leaf);
    let found = check_build(&POOL[leaf], &certificates(bag), &certificates(anchors));
    let mut walk = Walk { all: places.iter().copied().collect(), anchors, best: None };
    walk.on(&mut vec![leaf]);
    let measured = found.ok().map(|path| {
        let life = path.issuers().map(Certificate::not_after).min();
        (life.min(Some(POOL[leaf].not_after())), usize::MAX - path.intermediates.len(), life)
    });
    assert_eq!(measured, walk.best, "the longest life, then the shortest way, then the longest life of the issuers");
}

type Measure = (Option<jiff::Timestamp>, usize, Option<jiff::Timestamp>);

struct Walk<'a> {
    all: BTreeSet<usize>,
    anchors: &'a [usize],
    best: Option<Measure>,
}

impl Walk<'_> {
    fn on(&mut self, way: &mut Vec<usize>) {
        let last = way[way.len() - 1];
        for next in self.all.clone() {
            let below: Vec<_> = way.iter().map(|place| &POOL[*place]).collect();
            if way.contains(&next) || !LINKS[last][next] || POOL[next].objection(&below).is_some() {
                continue;
            }
            way.push(next);
            if self.anchors.contains(&next) {
                let life = way[1..].iter().map(|place| POOL[*place].not_after()).min();
                let leaf = POOL[way[0]].not_after();
                self.best = self.best.max(Some((life.min(Some(leaf)), usize::MAX - (way.len() - 2), life)));
            } else if way.len() <= 7 {
                self.on(way);
            }
            way.pop();
        }
    }
}

/// Never to be seen in what an answer gives to people; with characters that each encoding writes differently.
const SECRET: &str = "hvs.a+b/\"c?";
/// As it is, in JSON, in a URL, in base64.
const FORMS: [&str; 4] = [SECRET, "hvs.a+b/\\\"c?", "hvs.a%2Bb%2F%22c%3F", "aHZzLmErYi8iYz8"];

/// A body that Vault might have sent: as an answer to a sign call, as a mount's issuer, and as a refusal of each kind.
pub fn answer(data: &[u8]) {
    let Some(envelope) = Envelope::read(data) else { return };
    let path = "pki/sign/mesh";
    match reading::signed(path, &envelope, &reading::KnownChain::default(), &[SECRET]) {
        Ok(answer) => {
            assert!(!answer.others.contains(&answer.leaf));
            assert_eq!(
                answer.others.iter().map(Certificate::sha256).collect::<BTreeSet<_>>().len(),
                answer.others.len()
            );
            assert!(answer.warnings.len() <= 20);
            answer.warnings.iter().for_each(|warning| assert_secretive(warning.as_str()));
            assert_secretive(&answer.request_id);
        }
        Err(error) => assert_secretive(&error.to_string()),
    }
    if let Some(certificates) = reading::issuer(&envelope.data) {
        assert!(!certificates.is_empty());
    }
    Described::read(&envelope.data);
    for status in [400, 403, 404, 405, 412, 429, 473, 500, 502, 503] {
        let server = "vault.example:8200";
        let heard = Heard { server, path, status, errors: &envelope.errors, secrets: &[SECRET] };
        for method in [Method::AppRole, Method::Kubernetes, Method::ClientCertificate, Method::Jwt] {
            assert_secretive(&heard.login(method).to_string());
        }
        heard.renewal();
        match heard.sign() {
            Meaning::Error(error) => assert_secretive(&error.to_string()),
            Meaning::TokenDead(words) | Meaning::Forbidden(words) | Meaning::EmptyCsr(words) => {
                assert_secretive(words.as_str());
            }
        }
    }
}

fn assert_secretive(text: &str) {
    assert_showable(text);
    assert!(!FORMS.iter().any(|form| text.contains(form)), "{text}");
}

/// What people are shown is short and holds no control character.
fn assert_showable(text: &str) {
    assert!(text.chars().count() <= 20_000, "{} characters", text.chars().count());
    assert!(!text.contains(char::is_control), "{text:?}");
}
