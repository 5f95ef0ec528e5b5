//! What `{problem}` says in other messages: why a request, a bundle or a chain cannot be used.

use super::{Entry, Section, as_said, entries, gap};
use crate::x509::{CertificateError, CsrError, PathError, PemError};

pub(super) fn sections() -> Vec<Section> {
    vec![
        Section {
            title: "Why a request cannot be read",
            about: "After `spec.request:`; what is wrong with PEM follows.",
            entries: requests(),
        },
        Section {
            title: "Why certificates cannot be read",
            about: "Of `spec.trust.anchors`, CA bundles, client certificates and Vault's answers.",
            entries: [certificates(), blocks()].concat(),
        },
        Section {
            title: "Why there is no path",
            about: "After \"does not lead to an anchor in force:\".",
            entries: paths(),
        },
    ]
}

fn requests() -> Vec<Entry> {
    entries!(CsrError, CsrError::to_string, as_said;
    Pem { 0: PemError::Empty } => "", "";
    NotUtf8 {} => "Text around the block.", "Send the PEM block alone.";
    Label { 0: gap("label") } => "Another kind of block.", "Send the certificate request.";
    Several { 0: 2 } => "Several blocks.", "Send one.";
    NotARequest {} => "The block does not hold PKCS#10.", "Make the request anew.";
    TrailingBytes { 0: 4 } => "The block was changed.", "Make the request anew.";
    Unusable { 0: gap("problem") } => "An attribute or extension that occurs twice or cannot be read.", "Make the request anew.";
    Forged {} => "The request was changed, or signed with another key.", "Make the request anew.";
    Unsupported { 0: gap("algorithm") } => "A key that cannot be checked, such as P-521.", "Use a key of one of the kinds named.";
    )
}

fn certificates() -> Vec<Entry> {
    entries!(CertificateError, CertificateError::to_string, as_said;
    Pem { 0: PemError::Empty } => "", "";
    Label { block: 2, label: gap("label") } => "Often a private key in the same file.", "Leave only certificates there.";
    Block { block: 2, problem: Box::new(CertificateError::Unusable(gap("problem"))) } => "One of the certificates is damaged.", "Replace it.";
    NotACertificate {} => "Something else in a CERTIFICATE block.", "Replace it.";
    TrailingBytes { 0: 4 } => "The block was changed.", "Replace it.";
    Unusable { 0: gap("problem") } => "It contradicts itself, or an extension cannot be read.", "Replace it.";
    )
}

fn blocks() -> Vec<Entry> {
    entries!(PemError, PemError::to_string, as_said;
    TooLarge { bytes: 400_000, most: 330_000 } => "A bundle of all public roots, for example.", "Leave those that are meant.";
    Empty {} => "Another format (DER), base64 of PEM, or the wrong key of the object.", "Put PEM there.";
    Begin { block: 1 } => "The line was changed.", "Correct it.";
    Unclosed { block: 1, label: gap("label") } => "Often two certificates that were joined without a line end between them.",
        "Begin each BEGIN line on a line of its own.";
    StrayEnd { line: 3 } => "The beginning was cut off.", "Put the whole block there.";
    Base64 { block: 1 } => "The block was changed, or shortened by hand.", "Put the whole block there.";
    )
}

fn paths() -> Vec<Entry> {
    entries!(PathError, PathError::to_string, as_said;
    MissingIssuer { subject: gap("subject"), issuer: gap("issuer") } =>
        "The mount's CA was imported without what stands above it, and that is no anchor.",
        "Name the root in `spec.trust.anchors`, or import the missing certificate into the mount.";
    OtherRoot { subject: gap("subject"), sha256: gap("fingerprint") } =>
        "`spec.trust.anchors` names other roots than the one above Vault's CA.",
        "Add this root, if it is meant, or correct the mount.";
    MayNotSign { subject: gap("subject"), issuer: gap("issuer"), problem: gap("problem"), of_leaf: false } =>
        "Path length, name constraints, key usage or validity of the CA: OpenSSL, Go and rustls would refuse the chain too.",
        "Replace that CA, or ask for names that it may sign.";
    Unsupported { subject: gap("subject"), algorithm: gap("algorithm") } =>
        "A signature that cannot be checked here, such as P-521 or RSA-PSS.", "Sign with another CA.";
    TooManyCertificates { 0: 201 } => "A mount with hundreds of CAs.", "Use a mount of its own for the mesh.";
    TooManyChecks {} => "Many CAs with one name.", "Use a mount of its own for the mesh.";
    )
}
