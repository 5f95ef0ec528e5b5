//! The tables of what limits a path: lengths, constraints, usages and time within it, and bounds of our own.

use super::Others::{BothDiffer, OpensslDiffers, WebpkiDiffers};
use super::{Row, ends, leads};

/// `count` certificates from a pattern with `{}` for their number.
pub(super) fn many(count: usize, pattern: &str) -> String {
    (0..count).map(|index| pattern.replace("{}", &index.to_string()) + " ").collect()
}

pub(super) fn shapes_with_limits() -> Vec<Row> {
    let leaf = "a.svc<CA@2031,leaf";
    let critical = "its extension 1.2.3 is critical, and not every verifier processes that one";
    vec![
        ends(
            "an end-entity certificate signs",
            leaf,
            "CA<Root@2035,no-ca",
            "Root@2040",
            "it is no CA certificate (CA:TRUE)",
        ),
        ends("a key for CRLs signs", leaf, "CA<Root@2035,crl-only", "Root@2040", "its keyUsage lacks keyCertSign")
            .although(WebpkiDiffers("rustls reads no keyUsage; OpenSSL and Go do")),
        leads(
            "path lengths that are just long enough",
            leaf,
            "CA<Up@2035,pathlen=0 Up<Root@2036,pathlen=1",
            "Root@2040,pathlen=2",
            "CA<Up@2035,pathlen=0 Up<Root@2036,pathlen=1 Root@2040,pathlen=2",
        ),
        ends(
            "a path length that is too short",
            leaf,
            "CA<Up@2035 Up<Root@2036,pathlen=0",
            "Root@2040",
            "its path length allows 0 CAs between it and the leaf, and there would be 1",
        ),
        ends(
            "a root whose path length is too short",
            leaf,
            "CA<Root@2035",
            "Root@2040,pathlen=0",
            "its path length allows 0 CAs between it and the leaf, and there would be 1",
        )
        .although(WebpkiDiffers("rustls reads no path length of an anchor; OpenSSL and Go do")),
        leads(
            "of a reissue, the one whose path length suffices",
            leaf,
            "CA<Up@2035 Up<Root@2039,pathlen=0 Up<Root@2036",
            "Root@2040",
            "CA<Up@2035 Up<Root@2036 Root@2040",
        ),
        leads(
            "names within their limits",
            leaf,
            "CA<Root@2035,only=svc",
            "Root@2040",
            "CA<Root@2035,only=svc Root@2040",
        ),
        ends(
            "names beyond their limits",
            "a.example<CA@2031,leaf",
            "CA<Root@2035,only=svc",
            "Root@2040",
            "its name constraints do not allow CN=a.example",
        ),
        ends(
            "names that are excluded",
            leaf,
            "CA<Root@2035,not=svc",
            "Root@2040",
            "its name constraints do not allow CN=a.svc",
        ),
        ends(
            "names beyond the limits of the root",
            "a.example<CA@2031,leaf",
            "CA<Root@2035",
            "Root@2040,only=svc",
            "its name constraints do not allow CN=a.example",
        ),
        ends(
            "an intermediate whose own name is beyond the limits",
            leaf,
            "CA<Root@2035,san=ca.example",
            "Root@2040,only=svc",
            "its name constraints do not allow CN=CA",
        ),
        leads(
            "of two cross-signs, the one that allows the names",
            "a.example<CA@2031,leaf",
            "CA<Root@2039,only=svc CA<Else@2035",
            "Root@2040 Else@2041",
            "CA<Else@2035 Else@2041",
        ),
        ends(
            "limits on directory names",
            leaf,
            "CA<Root@2035,only-folder",
            "Root@2040",
            "its name constraints do not allow CN=a.svc",
        )
        .although(OpensslDiffers("neither Go nor rustls follows limits of this kind: they refuse the chain")),
        leads(
            "a SPIFFE ID within its limits",
            "a<CA@2031,leaf,san=spiffe://td/a",
            "CA<Root@2035,only-uri=td",
            "Root@2040",
            "CA<Root@2035,only-uri=td Root@2040",
        )
        .although(WebpkiDiffers(
            "rustls follows no limits on URIs yet, and a mesh of Envoys works with Vault's permitted_uri_domains",
        )),
        ends(
            "a SPIFFE ID beyond its limits",
            "a<CA@2031,leaf,san=spiffe://other/a",
            "CA<Root@2035,only-uri=td",
            "Root@2040",
            "its name constraints do not allow CN=a",
        ),
        ends("a critical extension that nobody knows", leaf, "CA<Root@2035,strange=critical", "Root@2040", critical),
        leads(
            "an extension that nobody knows",
            leaf,
            "CA<Root@2035,strange=harmless",
            "Root@2040",
            "CA<Root@2035,strange=harmless Root@2040",
        ),
        leads(
            "of a reissue, the one without the critical extension",
            leaf,
            "CA<Root@2039,strange=critical CA<Root@2035",
            "Root@2040",
            "CA<Root@2035 Root@2040",
        ),
        ends(
            "a CA for clients alone",
            "a.svc<CA@2031,leaf,for=servers",
            "CA<Root@2035,for=clients",
            "Root@2040",
            "its extendedKeyUsage has nothing in common with that of CN=a.svc",
        ),
        leads(
            "a CA for servers",
            "a.svc<CA@2031,leaf,for=servers",
            "CA<Root@2039,for=clients CA<Root@2035,for=servers",
            "Root@2040",
            "CA<Root@2035,for=servers Root@2040",
        ),
    ]
}

pub(super) fn shapes_beyond_bounds() -> Vec<Row> {
    let hostile = BothDiffer("a bound on our work, far above what any mount holds");
    vec![
        ends(
            "two hundred and one certificates",
            "a<CA@2031,leaf",
            many(199, "S{}@2040") + "CA<Root@2035",
            "Root@2040",
            "201 different certificates are more than the 200 among which a path is sought",
        )
        .although(hostile),
    ]
}
