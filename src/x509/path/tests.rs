//! Shapes of certificate bags, each written in one row of [`shapes`] and judged by OpenSSL and rustls; then what no table can list.
//!
//! A certificate is written `Subject<Signer@Year,change,…`, where it ends on the first of January of that year; `Root@2040` signed
//! itself. A word is a key and its name: `CA'` is another key with the name CA, `CA:rsa` a key of that kind with the name CA,
//! `Alias~CA` the key of CA under another name. `#2` after it makes a second, different certificate that says the same.

mod limits;
mod shapes;

use std::collections::HashMap;

use proptest::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, KeyPair};

use self::limits::{many, shapes_beyond_bounds, shapes_with_limits};
use self::shapes::{cross_signed_shapes, plain_shapes, shapes_of_names_and_keys, thicket};
use super::*;
use crate::x509::testing::{self, Authority, bundle, is_one_line, judge, openssl_accepts, parse_one, webpki_accepts};

/// Everybody who occurs in a shape, with the certificates that were made so far.
#[derive(Default)]
struct World {
    authorities: HashMap<String, Authority>,
    certificates: HashMap<String, Certificate>,
}

impl World {
    fn certificate(&mut self, text: &str) -> Certificate {
        if let Some(known) = self.certificates.get(text) {
            return known.clone();
        }
        let made = match text {
            "P521-Root" => parse_one(testing::P521_ROOT),
            "P521-Leaf" => parse_one(testing::P521_LEAF),
            "SHA1-Root" => parse_one(testing::SHA1_ROOT),
            "SHA1-Leaf" => parse_one(testing::SHA1_LEAF),
            written => self.make(written),
        };
        self.certificates.insert(text.to_owned(), made.clone());
        made
    }

    fn make(&mut self, text: &str) -> Certificate {
        let mut parts = text.split('#').next().expect("a certificate").split(',');
        let (names, year) = parts.next().expect("a certificate").split_once('@').expect("a year");
        let (subject, signer) = names.split_once('<').unwrap_or((names, names));
        let changes: Vec<&str> = parts.collect();
        let until = year.parse().expect("a year");
        let change = |parameters: &mut CertificateParams| changes.iter().for_each(|one| apply(one, parameters));
        self.meet(subject);
        self.meet(signer);
        let by = &self.authorities[signer];
        let made = match changes.contains(&"leaf") {
            true => by.named_leaf_with(subject, until, change),
            false => by.signs_with(&self.authorities[subject], until, change),
        };
        if !changes.contains(&"broken") {
            return made;
        }
        let mut der = made.der().to_vec();
        *der.last_mut().expect("a byte") ^= 1;
        Certificate::from_der(der).expect("a certificate")
    }

    fn meet(&mut self, word: &str) {
        if self.authorities.contains_key(word) {
            return;
        }
        let made = match word.split_once('~') {
            Some((name, of)) => {
                self.meet(of);
                self.authorities[of].called(name)
            }
            None => {
                let name = word.split(['\'', ':']).next().expect("a name");
                let key = match word.split_once(':').map(|(_, kind)| kind) {
                    Some("rsa") => testing::rsa_key(),
                    Some("p384") => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).expect("a key"),
                    Some("ed25519") => KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key"),
                    Some(other) => panic!("{other} is no kind of key"),
                    None => KeyPair::generate().expect("a key"),
                };
                Authority::with_key(name, key)
            }
        };
        self.authorities.insert(word.to_owned(), made);
    }

    fn certificates(&mut self, texts: &str) -> Vec<Certificate> {
        texts.split_whitespace().map(|text| self.certificate(text)).collect()
    }
}

fn apply(change: &str, parameters: &mut CertificateParams) {
    let extension = |oid: &[u64], critical: bool, content: &[u8]| {
        let mut extension = CustomExtension::from_oid_content(oid, content.to_vec());
        extension.set_criticality(critical);
        extension
    };
    let dns = |base: &str| vec![rcgen::GeneralSubtree::DnsName(base.to_owned())];
    let constrain =
        |permitted_subtrees, excluded_subtrees| Some(rcgen::NameConstraints { permitted_subtrees, excluded_subtrees });
    let (name, value) = change.split_once('=').unwrap_or((change, ""));
    match name {
        "leaf" | "broken" => {}
        "pathlen" => parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(value.parse().expect("a number"))),
        "no-ca" => parameters.is_ca = IsCa::ExplicitNoCa,
        "crl-only" => parameters.key_usages = vec![rcgen::KeyUsagePurpose::CrlSign],
        "san" => parameters.subject_alt_names = vec![testing::san(value)],
        "only" => parameters.name_constraints = constrain(dns(value), vec![]),
        "not" => parameters.name_constraints = constrain(vec![], dns(value)),
        "only-folder" => {
            let folder = vec![rcgen::GeneralSubtree::DirectoryName(rcgen::DistinguishedName::new())];
            parameters.name_constraints = constrain(folder, vec![]);
        }
        "only-uri" => {
            // SEQUENCE { [0] { SEQUENCE { [6] host } } }, the one kind that rcgen cannot write.
            let length = |more: usize| u8::try_from(value.len() + more).expect("a short host");
            let head = [0x30, length(6), 0xa0, length(4), 0x30, length(2), 0x86, length(0)];
            let content = [&head, value.as_bytes()].concat();
            parameters.custom_extensions.push(extension(&[2, 5, 29, 30], true, &content));
        }
        "strange" => parameters.custom_extensions.push(extension(&[1, 2, 3], value == "critical", &[5, 0])),
        "for" => {
            parameters.extended_key_usages = vec![match value {
                "servers" => ExtendedKeyUsagePurpose::ServerAuth,
                "clients" => ExtendedKeyUsagePurpose::ClientAuth,
                _ => ExtendedKeyUsagePurpose::Any,
            }];
        }
        "key-id" => parameters.key_identifier_method = rcgen::KeyIdMethod::PreSpecified(value.into()),
        // authorityKeyIdentifier: SEQUENCE { [2] serial }
        "by-serial" => {
            let serial = value.parse().expect("a number");
            parameters.custom_extensions.push(extension(&[2, 5, 29, 35], false, &[0x30, 3, 0x82, 1, serial]));
        }
        "serial" => parameters.serial_number = Some(vec![value.parse().expect("a number")].into()),
        other => panic!("{other} is no change"),
    }
}

/// One shape and what becomes of it.
struct Row {
    name: &'static str,
    leaf: &'static str,
    bag: String,
    anchors: &'static str,
    /// The issuers upwards, the anchor last; or words of the refusal.
    expected: Result<&'static str, &'static str>,
    /// Who sees it otherwise than we do, and why that does not move us.
    others: Others,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Others {
    Agree,
    OpensslDiffers(&'static str),
    WebpkiDiffers(&'static str),
    BothDiffer(&'static str),
}
use Others::{Agree, BothDiffer, OpensslDiffers, WebpkiDiffers};

fn leads(
    name: &'static str,
    leaf: &'static str,
    bag: impl Into<String>,
    anchors: &'static str,
    to: &'static str,
) -> Row {
    Row { name, leaf, bag: bag.into(), anchors, expected: Ok(to), others: Agree }
}

fn ends(
    name: &'static str,
    leaf: &'static str,
    bag: impl Into<String>,
    anchors: &'static str,
    words: &'static str,
) -> Row {
    Row { name, leaf, bag: bag.into(), anchors, expected: Err(words), others: Agree }
}

impl Row {
    fn although(mut self, others: Others) -> Self {
        self.others = others;
        self
    }

    fn check(&self) {
        let mut world = World::default();
        let leaf = world.certificate(self.leaf);
        let (bag, anchors) = (world.certificates(&self.bag), world.certificates(self.anchors));
        let ca_pem = bundle(&anchors.iter().collect::<Vec<_>>());
        let found = build(&leaf, &bag, &anchors);
        let shown = match (&found, self.expected) {
            (Ok(path), Ok(expected)) => {
                let expected = world.certificates(expected);
                assert_eq!(path.issuers().collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>(), "{}", self.name);
                let chain = path.chain_pem();
                is_one_line(&chain);
                chain
            }
            // The judges get everything that we had.
            (Err(error), Err(words)) => {
                assert!(error.to_string().contains(words), "{}: {error}", self.name);
                bundle(&std::iter::once(&leaf).chain(&bag).collect::<Vec<_>>())
            }
            (Ok(path), Err(_)) => panic!("{}: {path:?}", self.name),
            (Err(error), Ok(_)) => panic!("{}: {error}", self.name),
        };
        let backwards = |list: &[Certificate]| list.iter().rev().cloned().collect::<Vec<_>>();
        assert_eq!(build(&leaf, &backwards(&bag), &backwards(&anchors)), found, "{}: in another order", self.name);
        let (openssl, webpki) = (openssl_accepts(&shown, &ca_pem), webpki_accepts(&shown, &ca_pem));
        let differs = |verdict: &Result<(), String>| verdict.is_ok() != found.is_ok();
        let expected = match self.others {
            Agree => (false, false),
            OpensslDiffers(_) => (true, false),
            WebpkiDiffers(_) => (false, true),
            BothDiffer(_) => (true, true),
        };
        assert_eq!((differs(&openssl), differs(&webpki)), expected, "{}: {openssl:?} {webpki:?}", self.name);
    }
}

#[test]
fn every_shape_leads_where_others_would_go_too() {
    let tables = [
        plain_shapes(),
        shapes_of_names_and_keys(),
        cross_signed_shapes(),
        shapes_with_limits(),
        shapes_beyond_bounds(),
    ];
    let rows: Vec<Row> = tables.into_iter().flatten().collect();
    assert!(rows.len() >= 40, "{} shapes", rows.len());
    for row in &rows {
        row.check();
    }
}

#[test]
fn a_refusal_names_what_is_missing() {
    let mut world = World::default();
    let leaf = world.certificate("a<CA@2031,leaf");
    let mut words = |bag: &str, anchors: &str| {
        let (bag, anchors) = (world.certificates(bag), world.certificates(anchors));
        build(&leaf, &bag, &anchors).expect_err("no path").to_string()
    };
    assert_eq!(
        words("CA<Up@2035", "Root@2040"),
        "the chain ends at CN=CA, and the certificate that signed it, CN=Up, is neither in the answer nor an anchor"
    );
    assert_eq!(
        words("CA<Root@2035,no-ca", "Root@2040"),
        "CN=a was signed by CN=CA, which may not sign it: it is no CA certificate (CA:TRUE)"
    );
    let other = words("CA<Root@2035 Root@2040", "Else@2040");
    let root = world.certificate("Root@2040");
    let expected = "the chain ends at the self-signed CN=Root (sha256 ";
    assert_eq!(other, format!("{expected}{}), which is not an anchor in force", root.sha256()));
}

#[test]
fn among_equals_the_first_by_sha256_is_presented() {
    let mut world = World::default();
    let (leaf, anchor) = (world.certificate("a<CA@2031,leaf"), world.certificate("Root@2040"));
    let equals = world.certificates(&many(8, "CA<Root@2035#{}"));
    let first = equals.iter().min_by_key(|one| one.sha256()).expect("one");
    let path = build(&leaf, &equals, std::slice::from_ref(&anchor)).expect("a path");
    assert_eq!(path.issuers().collect::<Vec<_>>(), [first, &anchor]);
    judge(&path.chain_pem(), anchor.pem());
}

/// What `build` finds, and how many signatures it checked for that.
fn counted(
    leaf: &Certificate,
    bag: &[Certificate],
    anchors: &[Certificate],
) -> (Result<CertificationPath, PathError>, usize) {
    let mut search = Search::new(leaf, bag, anchors).expect("not too many certificates");
    (search.best(), search.signed.len())
}

#[test]
fn work_is_bounded_whatever_is_in_the_bag() {
    // Honest bags: one check for each certificate, because cross-signed CAs share their key.
    let mut world = World::default();
    let (leaf, bag, anchor) =
        (world.certificate("a<CA0@2031,leaf"), world.certificates(&thicket(14)), world.certificates("Else@2040"));
    let (found, checks) = counted(&leaf, &bag, &anchor);
    assert!(found.is_err() && bag.len() == 196 && checks <= 197, "{checks}");
    // A hostile one: two hundred keys with one name, each of which might have signed every other. Nothing says which did.
    let anonymous = |parameters: &mut CertificateParams| apply("by-serial=1", parameters);
    let change = |parameters: &mut CertificateParams| {
        anonymous(parameters);
        apply("serial=1", parameters);
    };
    let authorities: Vec<_> = (0..200).map(|_| Authority::new("CA")).collect();
    let bag: Vec<_> = authorities.windows(2).map(|pair| pair[1].signs_with(&pair[0], 2035, change)).collect();
    let leaf = authorities[0].named_leaf_with("a", 2031, anonymous);
    let (found, checks) = counted(&leaf, &bag, &[]);
    assert_eq!((found, checks), (Err(PathError::TooManyChecks), MOST_CHECKS));
    // More certificates than two hundred are not even looked at; repeated ones do not count.
    let bag: Vec<_> =
        (0..10_000).map(|_| leaf.clone()).chain((0..201).map(|year| authorities[0].root(2100 + year))).collect();
    assert_eq!(build(&leaf, &bag, &[]), Err(PathError::TooManyCertificates(201)));
}

fn shuffled(count: usize) -> impl Strategy<Value = Vec<usize>> {
    Just((0..count).collect::<Vec<_>>()).prop_shuffle()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_order_gives_the_same_bytes(bag_order in shuffled(13), anchor_order in shuffled(4)) {
        use std::sync::LazyLock;
        // Two ways are equally good, so that only the rule about SHA-256 can decide.
        static SHAPE: LazyLock<(Certificate, Vec<Certificate>, Vec<Certificate>)> = LazyLock::new(|| {
            let mut world = World::default();
            let bag = "CA<Old@2033 CA<New@2033 CA<New@2033#2 CA'<Old@2033 Old<New@2034 New<Old@2034 CA<New@2038,pathlen=0 CA<New@2038,pathlen=0#2 \
                       CA<Old@2038,not=a Old@2033 New@2033 Old@2045 New@2045";
            let anchors = world.certificates("Old@2033 New@2033 Old@2045 New@2045");
            (world.certificate("a<CA@2031,leaf"), world.certificates(bag), anchors)
        });
        let (leaf, bag, anchors) = &*SHAPE;
        let pick = |from: &[Certificate], order: &[usize]| order.iter().map(|place| from[*place].clone()).collect::<Vec<_>>();
        let expected = build(leaf, bag, anchors).expect("a path");
        let path = build(leaf, &pick(bag, &bag_order), &pick(anchors, &anchor_order)).expect("a path");
        prop_assert_eq!(path.chain_pem(), expected.chain_pem());
        prop_assert_eq!(path, expected);
    }
}
