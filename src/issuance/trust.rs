//! Which roots the mesh trusts through this issuer: what a person configured, or what the mount's own certificates show.

use jiff::Timestamp;

use super::signer::Fault;
use crate::api::material::Found;
use crate::x509::{Certificate, Verification};

/// The anchors in force: never none, each once, in the order of their SHA-256, so that they are the same bytes after a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchors {
    certificates: Vec<Certificate>,
    origin: Origin,
}

/// Who says what the mesh trusts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `spec.trust.anchors`; then they are a pin too.
    Configured,
    /// The mount.
    Discovered,
}

impl Anchors {
    /// The anchors of `spec.trust.anchors`: each source is a PEM bundle and the place it was found at.
    ///
    /// # Errors
    /// The first source that cannot be an anchor, and what to put there.
    pub fn configured(sources: &[Found<Vec<u8>>], now: Timestamp) -> Result<Self, Fault> {
        let mut certificates = Vec::new();
        for source in sources {
            let refuse = |problem: String| Fault::of_material(&source.place, problem);
            let bundle = Certificate::bundle_from_pem(&source.value).map_err(|error| {
                refuse(format!("{error}. Put the root certificate that your mesh trusts there, in PEM"))
            })?;
            for (index, certificate) in (1..).zip(&bundle) {
                check_root(certificate)
                    .map_err(|problem| refuse(format!("certificate {index}, {}, {problem}", certificate.subject())))?;
            }
            certificates.extend(bundle);
        }
        if certificates.is_empty() {
            let problem = "it names no source. Name at least one, or leave spec.trust out".to_owned();
            return Err(Fault::Spec { field: "spec.trust.anchors".to_owned(), problem });
        }
        // While a root is rotated the old one may end beside the new one, and nothing has to be done about it at once.
        if let Some(last) = certificates.iter().max_by_key(|one| one.not_after()).filter(|one| one.not_after() < now) {
            let problem = format!(
                "none of its roots is valid any more: {} {}. Put the root that your mesh trusts there",
                last.subject(),
                ended(last)
            );
            return Err(Fault::Spec { field: "spec.trust.anchors".to_owned(), problem });
        }
        Ok(Self::new(certificates, Origin::Configured))
    }

    /// Anchors that the mount shows; none from nothing.
    pub(super) fn discovered(certificates: Vec<Certificate>) -> Option<Self> {
        (!certificates.is_empty()).then(|| Self::new(certificates, Origin::Discovered))
    }

    fn new(mut certificates: Vec<Certificate>, origin: Origin) -> Self {
        certificates.sort_by(|a, b| a.sha256().cmp(b.sha256()));
        certificates.dedup();
        Self { certificates, origin }
    }

    /// The anchors; never none.
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// Who says so.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Their fingerprints.
    pub fn fingerprints(&self) -> impl Iterator<Item = &str> {
        self.certificates.iter().map(Certificate::sha256)
    }

    /// The anchors as `status.ca` and a published bundle hold them.
    pub fn bundle_pem(&self) -> String {
        self.certificates.iter().map(Certificate::pem).collect()
    }
}

/// Why a certificate is no root that a mesh can trust, as the end of a sentence that begins with its subject.
fn check_root(certificate: &Certificate) -> Result<(), String> {
    let itself = || certificate.verify_signature_by(certificate);
    let issuer = certificate.issuer();
    match (certificate.is_ca(), certificate.names_as_issuer(certificate)) {
        (false, true) => {
            Err("is no CA certificate: its basicConstraints lack CA:TRUE. Put the root of your mesh there".to_owned())
        }
        (false, false) => Err(format!(
            "is an end-entity certificate. Put the root above it there, not the certificate of a server (its issuer is {issuer})"
        )),
        (true, false) => Err(intermediate(issuer)),
        (true, true) => match itself() {
            Verification::Valid => Ok(()),
            Verification::Invalid => Err(intermediate(issuer)),
            Verification::Unsupported(algorithm) => Err(format!(
                "is signed with {algorithm}, which this controller cannot check. \
                 Use a root of RSA (2048 to 8192 bits, PKCS#1 v1.5), ECDSA P-256 or P-384, or Ed25519"
            )),
        },
    }
}

fn intermediate(issuer: &str) -> String {
    format!("is an intermediate: it is not signed by its own key. Put the root that signed it, {issuer}, there")
}

pub(super) fn ended(certificate: &Certificate) -> String {
    format!("expired on {}", certificate.not_after())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::material::Place;
    use crate::x509::testing::{Authority, P521_ROOT, PSS_ROOT, bundle, now, parse_one};

    const FIELD: &str = "spec.trust.anchors[0].configMap";
    const OBJECT: &str = "ConfigMap mesh/mesh-root, key ca.crt";

    fn configured(sources: &[&str]) -> Result<Anchors, Fault> {
        let named = |(index, pem): (usize, &&str)| Found {
            place: Place { field: format!("spec.trust.anchors[{index}].configMap"), object: Some(OBJECT.to_owned()) },
            value: pem.as_bytes().to_vec(),
        };
        Anchors::configured(&sources.iter().enumerate().map(named).collect::<Vec<_>>(), now())
    }

    #[track_caller]
    fn refuses(pem: &str, words: &str) {
        assert_eq!(configured(&[pem]).expect_err("a fault").to_string(), format!("{FIELD} names {OBJECT}: {words}"));
    }

    #[test]
    fn configured_anchors_are_the_same_bytes_in_any_order() {
        let (a, b) = (Authority::new("A").root(2035), Authority::new("B").root(2036));
        let one = configured(&[&bundle(&[&a, &b]), a.pem()]).expect("anchors");
        let other = configured(&[b.pem(), &format!("the old root\n{}", a.pem())]).expect("anchors");
        assert_eq!(one, other);
        assert_eq!(one.bundle_pem(), other.bundle_pem());
        assert_eq!((one.certificates().len(), one.origin()), (2, Origin::Configured));
        assert!(one.certificates().is_sorted_by_key(Certificate::sha256));
    }

    #[test]
    fn what_is_no_root_is_refused_in_words() {
        let root = Authority::new("Root");
        refuses(
            "hello",
            "it holds no PEM block (a line such as -----BEGIN CERTIFICATE-----). Put the root certificate that your mesh trusts there, in PEM",
        );
        let mixed = bundle(&[&root.root(2035), &root.signs(&Authority::new("CA"), 2035)]);
        refuses(
            &mixed,
            "certificate 2, CN=CA, is an intermediate: it is not signed by its own key. Put the root that signed it, CN=Root, there",
        );
        refuses(
            root.leaf("server", 2035).pem(),
            "certificate 1, CN=server, is an end-entity certificate. Put the root above it there, not the certificate of a server (its issuer is CN=Root)",
        );
        let namesake = root.signs(&Authority::new("Root"), 2035);
        refuses(
            namesake.pem(),
            "certificate 1, CN=Root, is an intermediate: it is not signed by its own key. Put the root that signed it, CN=Root, there",
        );
        let no_ca = root.signs_with(&root, 2035, |parameters| parameters.is_ca = rcgen::IsCa::NoCa);
        refuses(
            no_ca.pem(),
            "certificate 1, CN=Root, is no CA certificate: its basicConstraints lack CA:TRUE. Put the root of your mesh there",
        );
    }

    #[test]
    fn a_root_that_cannot_be_checked_is_refused_as_such() {
        let advice = "which this controller cannot check. Use a root of RSA (2048 to 8192 bits, PKCS#1 v1.5), ECDSA P-256 or P-384, or Ed25519";
        refuses(
            parse_one(P521_ROOT).pem(),
            &format!("certificate 1, CN=P-521 Root, is signed with ECDSA with SHA-512 by a P-521 key, {advice}"),
        );
        refuses(parse_one(PSS_ROOT).pem(), &format!("certificate 1, CN=PSS Root, is signed with RSA-PSS, {advice}"));
    }

    #[test]
    fn an_expired_root_stays_beside_one_that_lives_and_not_alone() {
        let (old, new) = (Authority::new("Old").root(2030), Authority::new("New").root(2035));
        let both = configured(&[old.pem(), new.pem()]).expect("one of them lives");
        assert_eq!(both.certificates().len(), 2);
        let words = configured(&[old.pem()]).expect_err("a fault").to_string();
        assert_eq!(
            words,
            "spec.trust.anchors: none of its roots is valid any more: CN=Old expired on 2030-01-01T00:00:00Z. Put the root that \
             your mesh trusts there"
        );
    }

    #[test]
    fn no_source_is_a_fault() {
        assert!(matches!(configured(&[]), Err(Fault::Spec { field, .. }) if field == "spec.trust.anchors"));
    }
}
