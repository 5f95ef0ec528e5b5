//! Makes the seeds of the corpus, `testdata/fuzz/*/seed-*`, and the pool of certificates that target `bag` picks from. The keys
//! are new each time, so what the fuzzer found with the old ones is worth less then.

#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "a maker of test data fails by a panic")]

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, NameConstraints, SanType,
};

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata");
    let pool = pool();
    fs::create_dir_all(root.join("fuzz")).expect("a folder");
    fs::write(root.join("fuzz/pool.pem"), pool.iter().map(|der| pem_of(der)).collect::<String>()).expect("a file");
    write_all(root.join("fuzz/csr"), requests(&root.join("x509")));
    write_all(root.join("fuzz/bag"), bags(&pool, &root.join("x509")));
    write_all(root.join("fuzz/answer"), answers(&pool));
}

fn write_all(folder: PathBuf, contents: Vec<Vec<u8>>) {
    fs::create_dir_all(&folder).expect("a folder");
    for (number, content) in contents.iter().enumerate() {
        fs::write(folder.join(format!("seed-{number:02}")), content).expect("a file");
    }
}

fn pem_of(der: &[u8]) -> String {
    pem::encode_config(
        &pem::Pem::new("CERTIFICATE", der),
        pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF),
    )
}

fn parameters(name: &str, until: i32) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(until, 1, 1);
    parameters.use_authority_key_identifier_extension = true;
    parameters
}

fn ca(name: &str, until: i32) -> CertificateParams {
    let mut parameters = parameters(name, until);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters
}

/// Leaves, then CAs that sign each other: reissues, cross-signs, a namesake, path lengths, limits on names and usages.
fn pool() -> Vec<Vec<u8>> {
    let keys: Vec<KeyPair> = (0..6).map(|_| KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key")).collect();
    let names = ["A", "B", "C", "D", "A", "E"];
    let sign = |of: &CertificateParams, key: &KeyPair, by: usize| {
        let issuer = Issuer::from_params(of, key);
        drop(issuer);
        let own = ca(names[by], 2100);
        of.signed_by(key, &Issuer::from_params(&own, &keys[by])).expect("a certificate").der().to_vec()
    };
    let mut pool = Vec::new();
    for (by, until) in [(0, 2031), (0, 2036), (1, 2031), (4, 2031)] {
        let mut leaf = parameters("leaf", until);
        leaf.subject_alt_names = vec![SanType::DnsName("a.svc".try_into().expect("a name"))];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        pool.push(sign(&leaf, &KeyPair::generate().expect("a key"), by));
    }
    for (of, by, until) in [
        (0, 1, 2033),
        (0, 1, 2038),
        (0, 2, 2035),
        (0, 3, 2034),
        (1, 0, 2037),
        (1, 2, 2032),
        (1, 2, 2039),
        (2, 1, 2036),
        (2, 3, 2038),
        (3, 0, 2036),
        (3, 5, 2040),
        (4, 1, 2035),
        (4, 0, 2035),
        (0, 0, 2034),
        (1, 1, 2040),
        (2, 2, 2035),
        (2, 2, 2041),
        (3, 3, 2045),
        (5, 5, 2045),
    ] {
        pool.push(sign(&ca(names[of], until), &keys[of], by));
    }
    let limits: [fn(&mut CertificateParams); 6] = [
        |ca| ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)),
        |ca| ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(1)),
        |ca| ca.is_ca = IsCa::ExplicitNoCa,
        |ca| ca.key_usages = vec![KeyUsagePurpose::CrlSign],
        |ca| ca.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth],
        |ca| {
            let permitted_subtrees = vec![GeneralSubtree::DnsName("svc".to_owned())];
            let excluded_subtrees = vec![GeneralSubtree::DnsName("b.svc".to_owned())];
            ca.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees });
        },
    ];
    for (number, limit) in limits.iter().enumerate() {
        let mut limited = ca(names[number % 3], 2042);
        limit(&mut limited);
        pool.push(sign(&limited, &keys[number % 3], (number + 1) % 4));
    }
    pool
}

/// Whole requests, and the signed part of some with the key that the target signs with.
fn requests(fixtures: &Path) -> Vec<Vec<u8>> {
    let fixture = |name: &str| fs::read(fixtures.join(name)).expect("a fixture");
    let mut seeds = vec![fixture("ca.csr"), fixture("p521.csr"), fixture("pss.csr"), fixture("rsa-sha512.csr")];
    // PrivateKeyInfo { 1.3.101.112, 32 bytes of 7 }
    let head = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    let key = KeyPair::try_from([&head[..], &[7; 32]].concat()).expect("a key");
    let name = |text: &str| text.try_into().expect("a name");
    let others = [
        vec![SanType::URI(name("spiffe://cluster.local/ns/a/sa/b"))],
        vec![SanType::DnsName(name("a.svc")), SanType::DnsName(name("*.a.svc")), SanType::Rfc822Name(name("a@b"))],
        vec![SanType::IpAddress([10, 0, 0, 1].into()), SanType::IpAddress([0_u16; 8].into())],
        vec![SanType::OtherName((vec![1, 3, 6, 1, 4, 1, 311, 20, 2, 3], "a@b".into()))],
    ];
    for sans in others {
        let mut request = parameters("a", 2031);
        request.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        request.use_authority_key_identifier_extension = false;
        request.subject_alt_names = sans;
        let made = request.serialize_request(&key).expect("a request");
        seeds.push(made.pem().expect("PEM").into_bytes());
        seeds.push(made.der().to_vec());
        // SEQUENCE { CertificationRequestInfo, … }: what is signed begins behind the outer head.
        let der = made.der().as_ref();
        let behind = if der[1] == 0x81 { 3 } else { 4 };
        let info = &der[behind..];
        let length = if info[1] == 0x81 {
            3 + usize::from(info[2])
        } else {
            4 + usize::from(u16::from_be_bytes([info[2], info[3]]))
        };
        seeds.push(info[..length].to_vec());
    }
    seeds
}

fn bags(pool: &[Vec<u8>], fixtures: &Path) -> Vec<Vec<u8>> {
    let fixture = |name: &str| fs::read(fixtures.join(name)).expect("a fixture");
    let der = |places: &[usize]| places.iter().flat_map(|place| pool[*place].clone()).collect::<Vec<u8>>();
    vec![
        fixture("p521-leaf.pem"),
        [fixture("p521-leaf.pem"), fixture("p521-root.pem")].concat(),
        [fixture("pss-root.pem"), b"text between\n".to_vec(), fixture("sha1-leaf.pem"), fixture("sha1-root.pem")]
            .concat(),
        pool.iter().map(|der| pem_of(der)).collect::<String>().into_bytes(),
        der(&[0, 4, 18]),
        der(&[0, 4, 8, 6, 5, 20]),
        der(&[28]),
        der(&[0, 28, 28]),
        vec![0, 1, 18, 4],
        vec![0, 2, 18, 20, 4, 5, 6, 7, 8, 9, 10, 11],
        vec![3, 1, 21, 15, 16, 7, 6, 9],
        vec![2, 1, 22, 10, 14, 13, 8],
        vec![1, 3, 17, 18, 22, 23, 24, 25, 26, 27, 28],
    ]
}

fn answers(pool: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let pem = |place: usize| pem_of(&pool[place]);
    let bodies = [
        serde_json::json!({"request_id": "r-1", "data": {"certificate": pem(0), "issuing_ca": pem(4), "ca_chain": [pem(4), pem(18)],
            "serial_number": "aa:bb", "expiration": 1}, "warnings": ["TTL \"2h\" is longer than permitted hvs.a+b/\"c?"]}),
        serde_json::json!({"request_id": "", "data": {"certificate": pem(0), "issuing_ca": "", "ca_chain": format!("{}{}", pem(4), pem(4))}}),
        serde_json::json!({"request_id": "r", "data": {"certificate": pem(0), "private_key": "k", "private_key_type": "rsa"}}),
        serde_json::json!({"request_id": "r", "data": {"certificate": [1], "ca_chain": 7}, "warnings": null}),
        serde_json::json!({"auth": {"client_token": "hvs.a", "lease_duration": 3_600, "renewable": true, "num_uses": 10}, "data": {"num_uses": 4}}),
        serde_json::json!({"errors": ["permission denied"]}),
        serde_json::json!({"errors": ["1 error occurred:\n\t* permission denied hvs.a+b/\"c? hvs.a%2Bb%2F%22c%3F\n\n"]}),
        serde_json::json!({"errors": ["unknown role: mesh"]}),
        serde_json::json!({"errors": ["\"csr\" is empty", 1, null]}),
        serde_json::json!({"errors": ["cannot satisfy request, as TTL would result in notAfter of 2041 that is beyond the expiration of the CA certificate at 2031"]}),
        serde_json::json!({"errors": ["Vault is sealed"]}),
        serde_json::json!({"errors": ["invalid token", "aHZzLmErYi8iYz8="]}),
        serde_json::json!({"errors": []}),
    ];
    bodies.iter().map(|body| body.to_string().into_bytes()).collect()
}
