//! The tables of shapes: what is in the answer, what is in force, and where that leads or why it ends. What limits a path is in
//! [`super::limits`].

use super::Others::{OpensslDiffers, WebpkiDiffers};
use super::limits::many;
use super::{Row, ends, leads};

const NOT_THERE: &str = "is neither in the answer nor an anchor";
const OTHER_ROOT: &str = "which is not an anchor in force";

/// Every one of `size` authorities signs itself and all the others.
pub(super) fn thicket(size: usize) -> String {
    (0..size).flat_map(|by| (0..size).map(move |of| format!("CA{of}<CA{by}@2035 "))).collect()
}

pub(super) fn plain_shapes() -> Vec<Row> {
    let leaf = "a<CA@2031,leaf";
    vec![
        leads("the root signs, and is in the answer", "a<Root@2031,leaf", "Root@2040", "Root@2040", "Root@2040"),
        leads("the root signs, and is not in the answer", "a<Root@2031,leaf", "", "Root@2040", "Root@2040"),
        leads("one intermediate", leaf, "CA<Root@2035", "Root@2040", "CA<Root@2035 Root@2040"),
        leads("two intermediates", leaf, "CA<Up@2035 Up<Root@2036", "Root@2040", "CA<Up@2035 Up<Root@2036 Root@2040"),
        leads(
            "everything twice, upside down, the leaf among it",
            leaf,
            "Root@2040 Up<Root@2036 CA<Up@2035 a<CA@2031,leaf Up<Root@2036 CA<Up@2035 Root@2040",
            "Root@2040 Root@2040",
            "CA<Up@2035 Up<Root@2036 Root@2040",
        ),
        leads(
            "six intermediates",
            leaf,
            "CA<B@2035 B<C@2035 C<D@2035 D<E@2035 E<F@2035 F<Root@2035",
            "Root@2040",
            "CA<B@2035 B<C@2035 C<D@2035 D<E@2035 E<F@2035 F<Root@2035 Root@2040",
        ),
        ends(
            "seven intermediates",
            leaf,
            "CA<B@2035 B<C@2035 C<D@2035 D<E@2035 E<F@2035 F<G@2035 G<Root@2035",
            "Root@2040",
            "more than 6 CAs would stand between the leaf and an anchor",
        )
        .although(OpensslDiffers("rustls, and with it ztunnel and Linkerd, follows no more than six")),
        leads(
            "a hundred strangers",
            leaf,
            many(50, "S{}@2040") + "CA<Root@2035 " + &many(50, "T{}<S{}@2035"),
            "Root@2040",
            "CA<Root@2035 Root@2040",
        ),
        leads(
            "RSA",
            "a<CA:rsa@2031,leaf",
            "CA:rsa<Root:rsa@2035",
            "Root:rsa@2040",
            "CA:rsa<Root:rsa@2035 Root:rsa@2040",
        ),
        leads(
            "P-384",
            "a<CA:p384@2031,leaf",
            "CA:p384<Root:p384@2035",
            "Root:p384@2040",
            "CA:p384<Root:p384@2035 Root:p384@2040",
        ),
        leads(
            "Ed25519",
            "a<CA:ed25519@2031,leaf",
            "CA:ed25519<Root:ed25519@2035",
            "Root:ed25519@2040",
            "CA:ed25519<Root:ed25519@2035 Root:ed25519@2040",
        ),
        leads(
            "four kinds of keys",
            "a<A:ed25519@2031,leaf",
            "A:ed25519<B@2035 B<C:p384@2035 C:p384<Root:rsa@2035",
            "Root:rsa@2040",
            "A:ed25519<B@2035 B<C:p384@2035 C:p384<Root:rsa@2035 Root:rsa@2040",
        ),
        ends("the lowest link is missing", leaf, "Up<Root@2036", "Root@2040", NOT_THERE),
        ends("a link between is missing", leaf, "CA<Up@2035", "Root@2040", NOT_THERE),
        ends("the root is missing", leaf, "CA<Up@2035 Up<Root@2036", "Else@2040", NOT_THERE),
        ends("nothing is trusted", leaf, "CA<Root@2035 Root@2040", "", OTHER_ROOT),
        ends("another root", leaf, "CA<Root@2035 Root@2040", "Else@2040", OTHER_ROOT),
        ends("an intermediate broke on its way", leaf, "CA<Root@2035,broken", "Root@2040", NOT_THERE),
        ends("the leaf broke on its way", "a<CA@2031,leaf,broken", "CA<Root@2035", "Root@2040", NOT_THERE),
        ends(
            "a P-521 root",
            "P521-Leaf",
            "P521-Root",
            "P521-Root",
            "CN=leaf is signed with ECDSA with SHA-512 by a P-521 key, which this controller cannot check",
        )
        .although(OpensslDiffers("the library knows no P-521")),
        ends(
            "a root that only shows itself, of P-521",
            "P521-Root",
            "",
            "Root@2040",
            "CN=P-521 Root is signed with ECDSA with SHA-512 by a P-521 key, which this controller cannot check",
        ),
        ends(
            "a link of SHA-1",
            "SHA1-Leaf",
            "",
            "SHA1-Root",
            "CN=leaf is signed with RSA with SHA-1, which this controller cannot check",
        ),
    ]
}

pub(super) fn shapes_of_names_and_keys() -> Vec<Row> {
    let leaf = "a<CA@2031,leaf";
    vec![
        leads("a namesake among the anchors", "a<Root@2031,leaf", "Root'@2041", "Root@2040 Root'@2041", "Root@2040"),
        ends("only a namesake is trusted", "a<Root@2031,leaf", "Root@2040", "Root'@2041", OTHER_ROOT),
        leads(
            "root and intermediate share a name",
            "a<CA'@2031,leaf",
            "CA@2040 CA'<CA@2035",
            "CA@2040",
            "CA'<CA@2035 CA@2040",
        ),
        leads(
            "all four share a name",
            "CA'''<CA''@2031,leaf",
            "CA'<CA@2035 CA''<CA'@2034 CA@2040",
            "CA@2040",
            "CA''<CA'@2034 CA'<CA@2035 CA@2040",
        ),
        leads(
            "a hundred namesakes",
            leaf,
            (1..100).map(|count| format!("CA{}<Root@2035 ", "'".repeat(count))).collect::<String>() + "CA<Root@2035",
            "Root@2040",
            "CA<Root@2035 Root@2040",
        ),
        ends("a key under another name", leaf, "Alias~CA<Root@2035", "Root@2040", NOT_THERE),
        leads(
            "a renamed CA",
            leaf,
            "CA<Alias~CA@2035 Alias~CA<Root@2036",
            "Root@2040",
            "CA<Alias~CA@2035 Alias~CA<Root@2036 Root@2040",
        ),
        leads(
            "a reissued CA: the one that lives longer",
            leaf,
            "CA<Root@2032 CA<Root@2035 CA<Root@2033",
            "Root@2040",
            "CA<Root@2035 Root@2040",
        ),
        leads(
            "a reissued CA: the one that outlives the leaf",
            "a<CA@2034,leaf",
            "CA<Root@2032 CA<Root@2035",
            "Root@2040",
            "CA<Root@2035 Root@2040",
        ),
        leads(
            "a reissued root: the trusted one",
            leaf,
            "CA<Root@2035 Root@2041",
            "Root@2036",
            "CA<Root@2035 Root@2036",
        ),
        leads("a reissued root: both trusted", leaf, "CA<Root@2050", "Root@2036 Root@2041", "CA<Root@2050 Root@2041"),
        leads(
            "a reissue with another key identifier",
            leaf,
            "CA<Root@2039,key-id=old CA<Root@2035",
            "Root@2040",
            "CA<Root@2035 Root@2040",
        ),
        ends("no key identifier fits", leaf, "CA<Root@2035,key-id=old", "Root@2040", NOT_THERE).although(
            WebpkiDiffers("OpenSSL and Envoy's BoringSSL follow no link that the key identifiers contradict"),
        ),
        leads(
            "a signer named by serial number",
            "a<CA@2031,leaf,by-serial=7",
            "CA<Root@2039,serial=8 CA<Root@2035,serial=7",
            "Root@2040",
            "CA<Root@2035,serial=7 Root@2040",
        ),
        ends(
            "another signer named by serial number",
            "a<CA@2031,leaf,by-serial=7",
            "CA<Root@2039,serial=8",
            "Root@2040",
            NOT_THERE,
        )
        .although(WebpkiDiffers("OpenSSL and Envoy's BoringSSL follow no link that the serial number contradicts")),
    ]
}

pub(super) fn cross_signed_shapes() -> Vec<Row> {
    let leaf = "a<CA@2031,leaf";
    let both = "CA<Old@2033 CA<New@2033 Old<New@2034 New<Old@2034 Old@2034 New@2045";
    vec![
        leads("cross-signed CA, old root", leaf, both, "Old@2034", "CA<Old@2033 Old@2034"),
        leads("cross-signed CA, new root", leaf, both, "New@2045", "CA<New@2033 New@2045"),
        leads(
            "cross-signed CA, both roots: the one that lives longer",
            leaf,
            "CA<Old@2036 CA<New@2036",
            "Old@2034 New@2045",
            "CA<New@2036 New@2045",
        ),
        leads(
            "old root signed by the new one",
            leaf,
            "CA<Old@2033 Old<New@2034 New<Old@2034 Old@2034",
            "New@2045",
            "CA<Old@2033 Old<New@2034 New@2045",
        ),
        leads(
            "new root signed by the old one",
            leaf,
            "CA<New@2033 Old<New@2034 New<Old@2034 New@2045",
            "Old@2034",
            "CA<New@2033 New<Old@2034 Old@2034",
        ),
        leads(
            "two bridges to the root",
            leaf,
            "CA<A@2033 A<B@2034 B<C@2035 A@2040 B@2040 C@2040",
            "C@2040",
            "CA<A@2033 A<B@2034 B<C@2035 C@2040",
        ),
        leads(
            "a longer way that lives no longer than the leaf is left aside",
            leaf,
            "CA<Old@2038 Old<New@2037",
            "Old@2032 New@2045",
            "CA<Old@2038 Old@2032",
        ),
        leads(
            "a longer way that lives longer is taken",
            "a<CA@2036,leaf",
            "CA<Old@2038 Old<New@2037",
            "Old@2032 New@2045",
            "CA<Old@2038 Old<New@2037 New@2045",
        ),
        leads(
            "an anchor that another root has cross-signed",
            leaf,
            "CA<Root@2035 Root<Else@2044 Else@2045",
            "Root@2040",
            "CA<Root@2035 Root@2040",
        ),
        leads(
            "a loop with a way out",
            leaf,
            "CA<B@2035 B<CA@2035 B<Root@2035",
            "Root@2040",
            "CA<B@2035 B<Root@2035 Root@2040",
        ),
        ends("a loop without a way out", leaf, "CA<B@2035 B<CA@2035", "Root@2040", NOT_THERE),
        ends("a loop of names that nobody signed", leaf, "CA<B'@2035 B<CA'@2035", "Root@2040", NOT_THERE),
        ends("a CA that claims to be its own issuer", leaf, "CA<CA'@2035", "Root@2040", NOT_THERE),
        leads("a thicket of seven", "a<CA0@2031,leaf", thicket(7), "CA6@2040", "CA0<CA6@2035 CA6@2040"),
        leads("a thicket of thirteen", "a<CA0@2031,leaf", thicket(13), "CA9@2040", "CA0<CA9@2035 CA9@2040"),
        ends("a thicket without a way out", "a<CA0@2031,leaf", thicket(6), "Else@2040", "anchor"),
    ]
}
