//! `spec.policy.spiffe`: are the names that a request asks for those of who asks? The rules compare with `spec.username`, which
//! is true only where cert-manager's webhook writes it: without the webhook a client writes there what it likes.

use std::borrow::Cow;

use super::policy::CertificateDetails;
use super::signer::Refusal;
use super::words::Words;
use crate::api::config::{OtherNames, ServiceAccount, SpiffePolicy};
use crate::x509::Csr;

/// How many of the refused names a message lists.
const MOST_SHOWN: usize = 8;

/// Whether each name of the request is granted by a rule that is set.
///
/// # Errors
/// The names that none grants, and what would.
pub fn check(policy: &SpiffePolicy, details: &CertificateDetails, csr: &Csr) -> Result<(), Refusal> {
    let asking = Asking { policy, account: service_account(&details.requester), namespace: &details.namespace };
    let mut refused = asked(details, csr);
    refused.retain(|name| !RULES.iter().any(|rule| asking.is_set(*rule) && asking.would_grant(*rule, &name.shape)));
    if refused.is_empty() {
        return Ok(());
    }
    Err(Refusal::Names {
        names: listed(&refused),
        requester: Words::new(&details.requester, &[]),
        namespace: details.namespace.clone(),
        advice: asking.advice(&refused),
    })
}

/// What a name says about whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Shape {
    /// `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
    Workload(ServiceAccount),
    /// `<service>.<namespace>.svc`, with or without a cluster domain.
    Service {
        /// Where the Service lies.
        namespace: String,
    },
    /// Nothing that we could compare.
    Other,
}

/// One name of a request.
struct Asked<'a> {
    kind: &'static str,
    text: Cow<'a, str>,
    shape: Shape,
}

/// One rule and the field that sets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    Requester,
    RequestNamespace,
    Brokers,
    OtherNames,
}

const RULES: [Rule; 4] = [Rule::Requester, Rule::RequestNamespace, Rule::Brokers, Rule::OtherNames];

/// Who asks, where, and under which policy.
struct Asking<'a> {
    policy: &'a SpiffePolicy,
    account: Option<ServiceAccount>,
    namespace: &'a str,
}

impl Asking<'_> {
    fn is_set(&self, rule: Rule) -> bool {
        match rule {
            Rule::Requester => self.policy.requester,
            Rule::RequestNamespace => self.policy.request_namespace,
            Rule::Brokers => self.account.as_ref().is_some_and(|account| self.policy.brokers.contains(account)),
            Rule::OtherNames => self.policy.other_names == OtherNames::Allow,
        }
    }

    fn would_grant(&self, rule: Rule, shape: &Shape) -> bool {
        match rule {
            Rule::Requester => self.account.as_ref().is_some_and(|account| shape.is_of(account)),
            Rule::RequestNamespace => shape.namespace() == Some(self.namespace),
            // A broker speaks for the workloads of this cluster, and for nobody else.
            Rule::Brokers => self.account.is_some() && *shape != Shape::Other,
            Rule::OtherNames => *shape == Shape::Other,
        }
    }

    /// The fields that would have granted one name or several; those that are set have granted all they can.
    fn advice(&self, refused: &[Asked<'_>]) -> String {
        let helps = |rule: &&Rule| !self.is_set(**rule) && refused.iter().any(|it| self.would_grant(**rule, &it.shape));
        let fields: Vec<_> = RULES.iter().filter(helps).map(|rule| rule.advice()).collect();
        if fields.is_empty() {
            return "No field would grant them to a requester that is no ServiceAccount: \
                    let the workload itself ask, or ask in the namespace of the names"
                .to_owned();
        }
        format!("Ask for your own names only, or change the issuer: in spec.policy.spiffe {}", fields.join("; "))
    }
}

impl Rule {
    fn advice(self) -> &'static str {
        match self {
            Self::Requester => "requester: true grants a ServiceAccount its own names",
            Self::RequestNamespace => "requestNamespace: true grants the names of the request's namespace",
            Self::Brokers => "an entry in brokers lets this ServiceAccount ask for anyone's names",
            Self::OtherNames => {
                "otherNames: Allow leaves to Vault's role what is neither spiffe://<trust domain>/ns/<namespace>/sa/<account> \
                 nor <service>.<namespace>.svc"
            }
        }
    }
}

impl Shape {
    fn namespace(&self) -> Option<&str> {
        match self {
            Self::Workload(account) => Some(&account.namespace),
            Self::Service { namespace } => Some(namespace),
            Self::Other => None,
        }
    }

    fn is_of(&self, account: &ServiceAccount) -> bool {
        match self {
            Self::Workload(named) => named == account,
            Self::Service { namespace } => *namespace == account.namespace,
            Self::Other => false,
        }
    }
}

/// Every name, and the right to sign every name: a CA certificate speaks for more than what stands in it, so it is none of
/// the names that a rule could compare.
fn asked<'a>(details: &CertificateDetails, csr: &'a Csr) -> Vec<Asked<'a>> {
    let sans = csr.sans();
    let name = |kind, text: &'a str, shape| Asked { kind, text: text.into(), shape };
    let other = |kind, text: Cow<'a, str>| Asked { kind, text, shape: Shape::Other };
    let ca = (details.is_ca || csr.asks_ca()).then(|| other("isCA", "true".into()));
    let uris = sans.uris.iter().map(|uri| name("URI", uri, of_uri(uri)));
    let dns = sans.dns.iter().map(|dns| name("DNS", dns, of_dns(dns)));
    let common = csr.common_names().iter();
    let common = common.filter_map(|common| Some(name("CN", common, of_common_name(common)?)));
    let ips = sans.ips.iter().map(|ip| other("IP", ip.to_string().into()));
    let emails = sans.emails.iter().map(|email| other("email", email.into()));
    let others = sans.others.iter().map(|der| other("other", der.into()));
    ca.into_iter().chain(uris).chain(dns).chain(common).chain(ips).chain(emails).chain(others).collect()
}

/// The scheme and the trust domain of a URI compare without case (RFC 3986); so do we, lest a spelling escape the rules. The
/// path compares as it stands: SPIFFE permits neither percent-encoding nor empty, `.` or `..` segments. Which trust domain
/// may be asked for is left to Vault's role.
fn of_uri(uri: &str) -> Shape {
    let Some((scheme, rest)) = uri.split_once("://") else {
        return Shape::Other;
    };
    let segments: Vec<_> = rest.split('/').collect();
    match segments.as_slice() {
        [domain, "ns", namespace, "sa", name]
            if scheme.eq_ignore_ascii_case("spiffe")
                && [domain, namespace, name].into_iter().all(|it| is_plain(it)) =>
        {
            Shape::Workload(ServiceAccount { namespace: (*namespace).to_owned(), name: (*name).to_owned() })
        }
        _ => Shape::Other,
    }
}

/// The characters of a SPIFFE id's parts.
fn is_plain(segment: &str) -> bool {
    let permitted = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    !matches!(segment, "" | "." | "..") && segment.bytes().all(permitted)
}

/// A second `svc` would leave open which label is the namespace: `a.b.svc.svc` is also a Pod `a` of Service `b` in namespace
/// `svc`. Names of Pods (`<pod>.<service>.<namespace>.svc`) and wildcards are another shape.
fn of_dns(name: &str) -> Shape {
    let name = name.to_ascii_lowercase();
    let labels: Vec<_> = name.split('.').collect();
    match labels.as_slice() {
        [_, namespace, "svc", domain @ ..] if labels.iter().all(|it| is_label(it)) && !domain.contains(&"svc") => {
            Shape::Service { namespace: (*namespace).to_owned() }
        }
        _ => Shape::Other,
    }
}

/// A label of a host name (RFC 1123), in lower case.
fn is_label(label: &str) -> bool {
    let permitted = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&label.len()) && label.bytes().all(permitted) && !label.starts_with('-') && !label.ends_with('-')
}

/// A common name is free text; it counts where a verifier that still reads it could take it for a host, a URI or an address.
fn of_common_name(text: &str) -> Option<Shape> {
    let is_prose = text.trim().contains(' ') && !text.contains(char::is_control);
    if is_prose || !text.contains(['.', ':', '@', '*', '#']) {
        return None;
    }
    let uri = of_uri(text);
    Some(if uri == Shape::Other { of_dns(text) } else { uri })
}

/// `system:serviceaccount:<namespace>:<name>`, as the API server names a ServiceAccount.
fn service_account(username: &str) -> Option<ServiceAccount> {
    let parts: Vec<_> = username.split(':').collect();
    match parts.as_slice() {
        ["system", "serviceaccount", namespace, name] if !namespace.is_empty() && !name.is_empty() => {
            Some(ServiceAccount { namespace: (*namespace).to_owned(), name: (*name).to_owned() })
        }
        _ => None,
    }
}

fn listed(refused: &[Asked<'_>]) -> String {
    let shown = refused.iter().take(MOST_SHOWN).map(|name| format!("{}:{}", name.kind, Words::new(&name.text, &[])));
    let mut listed = shown.collect::<Vec<_>>().join(", ");
    if let Some(more) = refused.len().checked_sub(MOST_SHOWN).filter(|more| *more > 0) {
        listed.push_str(&format!(" and {more} more"));
    }
    listed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x509::testing::{CA_CSR, csr_pem};

    const WEB: &str = "system:serviceaccount:shop:web";
    const CERT_MANAGER: &str = "system:serviceaccount:cert-manager:cert-manager";
    const ISTIO_CSR: &str = "system:serviceaccount:istio-system:istio-csr";

    fn account(namespace: &str, name: &str) -> ServiceAccount {
        ServiceAccount { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    fn policy(requester: bool, request_namespace: bool, broker: bool, other_names: OtherNames) -> SpiffePolicy {
        let brokers = broker.then(|| account("istio-system", "istio-csr")).into_iter().collect();
        SpiffePolicy { requester, request_namespace, brokers, other_names }
    }

    fn asks(requester: &str, namespace: &str) -> CertificateDetails {
        let (requester, namespace) = (requester.to_owned(), namespace.to_owned());
        CertificateDetails { requester, namespace, ..Default::default() }
    }

    fn csr(common_name: Option<&str>, names: &[&str]) -> Csr {
        let key = rcgen::KeyPair::generate().expect("a key");
        Csr::from_pem(csr_pem(&key, common_name, names).as_bytes()).expect("a request")
    }

    fn refusal(policy: &SpiffePolicy, details: &CertificateDetails, csr: &Csr) -> String {
        check(policy, details, csr).expect_err("names are refused").to_string()
    }

    #[test]
    fn a_uri_has_kubernetes_shape_only_if_every_segment_is_exact() {
        let shop = Shape::Workload(account("shop", "web"));
        for uri in [
            "spiffe://cluster.local/ns/shop/sa/web",
            "spiffe://td/ns/shop/sa/web",
            "SPIFFE://Cluster.Local/ns/shop/sa/web",
        ] {
            assert_eq!(of_uri(uri), shop, "{uri}");
        }
        assert_eq!(of_uri("spiffe://td/ns/Shop/sa/web.v1_x-y"), Shape::Workload(account("Shop", "web.v1_x-y")));
        for uri in [
            "",
            "spiffe://",
            "spiffe://cluster.local",
            "spiffe://cluster.local/",
            "spiffe:///ns/shop/sa/web",
            "spiffe:/cluster.local/ns/shop/sa/web",
            "https://cluster.local/ns/shop/sa/web",
            "spiffe://td/NS/shop/sa/web",
            "spiffe://td/ns/shop/SA/web",
            "spiffe://td/ns/shop/sa/",
            "spiffe://td/ns//sa/web",
            "spiffe://td/ns/shop/sa/web/",
            "spiffe://td/ns/shop/sa/web/extra",
            "spiffe://td//ns/shop/sa/web",
            "spiffe://td/x/../ns/shop/sa/web",
            "spiffe://td/ns/../sa/web",
            "spiffe://td/ns/./sa/web",
            "spiffe://td/ns/shop/sa/..",
            "spiffe://td/ns/sh%6fp/sa/web",
            "spiffe://td/ns/shop/sa/web?x",
            "spiffe://td/ns/shop/sa/web#x",
            "spiffe://user@td/ns/shop/sa/web",
            "spiffe://td:443/ns/shop/sa/web",
            "spiffe://td/ns/shop/sa/we b",
            "spiffe://td/ns/shop/sa/wéb",
            "spiffe://td\\ns\\shop\\sa\\web",
            "spiffe://td/sa/web/ns/shop",
            "spiffe://default/web",
            "kuma://kuma.io-service/web",
        ] {
            assert_eq!(of_uri(uri), Shape::Other, "{uri}");
        }
    }

    #[test]
    fn a_dns_name_has_kubernetes_shape_only_if_one_label_can_be_the_namespace() {
        let shop = Shape::Service { namespace: "shop".to_owned() };
        for name in [
            "web.shop.svc",
            "web.shop.svc.cluster.local",
            "web.shop.svc.mesh",
            "WEB.Shop.SVC.Cluster.Local",
            "svc.shop.svc",
            "a-1.shop.svc",
        ] {
            assert_eq!(of_dns(name), shop, "{name}");
        }
        assert_eq!(of_dns("web.svc.svc"), Shape::Service { namespace: "svc".to_owned() });
        for name in [
            "",
            ".",
            "web",
            "web.shop",
            "shop.svc",
            ".shop.svc",
            "web..svc",
            "web.shop.svc.",
            "web.shop.svc..local",
            "*.shop.svc",
            "web.*.svc",
            "web.shop.svc.*",
            "pod.web.shop.svc",
            "pod.web.shop.svc.cluster.local",
            "a.b.svc.svc",
            "a.b.svc.c.svc",
            "web.shop.services",
            "web.shop.example.svc",
            "-web.shop.svc",
            "web-.shop.svc",
            "web_1.shop.svc",
            "web.shop.svc\0",
            "web.shop.svc ",
            "wéb.shop.svc",
            "10.0.0.1",
            "bank.example",
        ] {
            assert_eq!(of_dns(name), Shape::Other, "{name:?}");
        }
        assert_eq!(of_dns(&format!("{}.shop.svc", "a".repeat(63))), shop);
        assert_eq!(of_dns(&format!("{}.shop.svc", "a".repeat(64))), Shape::Other);
    }

    #[test]
    fn a_common_name_counts_where_it_could_be_taken_for_a_name() {
        for prose in ["web", "Example Root", "C. Müller", "Open Service Mesh (v1.2)", "", "localhost"] {
            assert_eq!(of_common_name(prose), None, "{prose:?}");
        }
        assert_eq!(of_common_name("spiffe://td/ns/shop/sa/web"), Some(Shape::Workload(account("shop", "web"))));
        assert_eq!(of_common_name("Web.shop.svc"), Some(Shape::Service { namespace: "shop".to_owned() }));
        for other in [
            "bank.example",
            "*",
            "a@b",
            "10.0.0.1",
            "::1",
            "web.shop.svc\0 x",
            "bank.example ",
            " bank.example",
            "#1e02",
            "spiffe://td",
        ] {
            assert_eq!(of_common_name(other), Some(Shape::Other), "{other:?}");
        }
    }

    #[test]
    fn a_requester_is_a_service_account_only_if_it_is_called_exactly_so() {
        assert_eq!(service_account(WEB), Some(account("shop", "web")));
        for username in [
            "",
            "alice",
            "system:serviceaccount:shop",
            "system:serviceaccount:shop:",
            "system:serviceaccount::web",
            "system:serviceaccount:shop:web:x",
            "System:serviceaccount:shop:web",
            " system:serviceaccount:shop:web",
            "x:system:serviceaccount:shop:web",
            "system:serviceaccounts:shop:web",
            "system:node:web",
        ] {
            assert_eq!(service_account(username), None, "{username:?}");
        }
    }

    /// Who asks where for what, under which rules (requester, requestNamespace, brokers); whether it is granted.
    #[track_caller]
    fn row(rules: [bool; 3], who: &str, place: &str, name: &str, granted: bool) {
        let [requester, request_namespace, broker] = rules;
        for other_names in [OtherNames::Refuse, OtherNames::Allow] {
            let policy = policy(requester, request_namespace, broker, other_names);
            let in_a_common_name = csr(Some(name), &[]);
            for csr in [&csr(None, &[name]), &in_a_common_name] {
                let checked = check(&policy, &asks(who, place), csr);
                assert_eq!(checked.is_ok(), granted, "{rules:?} {who} in {place} for {name}: {checked:?}");
            }
        }
    }

    #[test]
    fn each_rule_grants_its_own_names_and_no_others() {
        let (own, sibling, foreign) =
            ("spiffe://td/ns/shop/sa/web", "spiffe://td/ns/shop/sa/db", "spiffe://td/ns/bank/sa/web");
        let (service, foreign_service) = ("any.shop.svc", "any.bank.svc.cluster.local");
        let requester = [true, false, false];
        row(requester, WEB, "shop", own, true);
        row(requester, WEB, "elsewhere", own, true);
        row(requester, WEB, "shop", sibling, false);
        row(requester, WEB, "shop", foreign, false);
        row(requester, WEB, "bank", foreign, false);
        row(requester, WEB, "shop", service, true);
        row(requester, WEB, "shop", foreign_service, false);
        row(requester, "alice", "shop", own, false);
        row(requester, "", "shop", own, false);
        row(requester, CERT_MANAGER, "shop", own, false);
        let namespace = [false, true, false];
        row(namespace, CERT_MANAGER, "shop", own, true);
        row(namespace, "alice", "shop", sibling, true);
        row(namespace, CERT_MANAGER, "shop", service, true);
        row(namespace, CERT_MANAGER, "shop", foreign, false);
        row(namespace, WEB, "bank", own, false);
        row(namespace, CERT_MANAGER, "shop", foreign_service, false);
        row(namespace, CERT_MANAGER, "", own, false);
        let broker = [false, false, true];
        row(broker, ISTIO_CSR, "istio-system", own, true);
        row(broker, ISTIO_CSR, "istio-system", foreign, true);
        row(broker, ISTIO_CSR, "istio-system", foreign_service, true);
        row(broker, WEB, "shop", own, false);
        row(broker, "system:serviceaccount:istio-system:istio-csr2", "istio-system", own, false);
        row(broker, "system:serviceaccount:other:istio-csr", "istio-system", own, false);
        let all = [true, true, true];
        row(all, WEB, "bank", own, true);
        row(all, WEB, "bank", foreign, true);
        row(all, WEB, "shop", foreign, false);
        row(all, ISTIO_CSR, "istio-system", foreign, true);
    }

    #[test]
    fn names_of_another_shape_are_the_operators_choice_even_for_a_broker() {
        for name in ["spiffe://td", "kuma://version/v1", "bank.example", "*.shop.svc", "10.0.0.1", "ops@shop.svc"] {
            for who in [WEB, ISTIO_CSR, CERT_MANAGER] {
                let allowed = |other| check(&policy(true, true, true, other), &asks(who, "shop"), &csr(None, &[name]));
                assert!(allowed(OtherNames::Refuse).is_err(), "{who}: {name}");
                assert_eq!(allowed(OtherNames::Allow), Ok(()), "{who}: {name}");
            }
        }
    }

    #[test]
    fn one_name_too_many_refuses_the_request_and_is_named() {
        let csr = csr(Some("web"), &["spiffe://td/ns/shop/sa/web", "spiffe://td/ns/bank/sa/web", "web.shop.svc"]);
        let said = refusal(&policy(true, false, false, OtherNames::Refuse), &asks(WEB, "shop"), &csr);
        let expected = "spec.request asks for URI:spiffe://td/ns/bank/sa/web, which the issuer's spec.policy.spiffe does not \
                        grant to system:serviceaccount:shop:web in namespace shop. Ask for your own names only, or change the \
                        issuer: in spec.policy.spiffe an entry in brokers lets this ServiceAccount ask for anyone's names";
        assert_eq!(said, expected);
    }

    #[test]
    fn what_istiod_asks_of_cert_manager_is_granted_by_the_requests_namespace() {
        let host = "istiod.istio-system.svc";
        let csr = csr(Some(host), &[host, "spiffe://cluster.local/ns/istio-system/sa/istiod-service-account"]);
        let details = asks(CERT_MANAGER, "istio-system");
        assert_eq!(check(&policy(false, true, false, OtherNames::Refuse), &details, &csr), Ok(()));
        let said = refusal(&policy(true, false, false, OtherNames::Refuse), &details, &csr);
        assert!(said.contains("CN:istiod") && said.contains("DNS:istiod") && said.contains("URI:spiffe"), "{said}");
        assert!(said.contains("requestNamespace: true") && !said.contains("requester: true"), "{said}");
    }

    #[test]
    fn the_advice_names_the_fields_that_would_help_and_no_others() {
        let own = csr(None, &["spiffe://td/ns/shop/sa/web", "bank.example"]);
        let said = refusal(&policy(false, false, true, OtherNames::Refuse), &asks(WEB, "shop"), &own);
        for field in ["requester: true", "requestNamespace: true", "an entry in brokers", "otherNames: Allow"] {
            assert!(said.contains(field), "{field}: {said}");
        }
        let foreign = csr(None, &["spiffe://td/ns/bank/sa/web"]);
        let said = refusal(&policy(true, true, true, OtherNames::Refuse), &asks("alice", "shop"), &foreign);
        assert!(said.ends_with("let the workload itself ask, or ask in the namespace of the names"), "{said}");
    }

    #[test]
    fn a_long_list_is_cut_and_counted_and_shows_no_control_characters() {
        let names: Vec<String> = (0..20).map(|number| format!("host-{number:02}.example")).collect();
        let csr = csr(None, &names.iter().map(String::as_str).collect::<Vec<_>>());
        let said = refusal(&policy(true, false, false, OtherNames::Refuse), &asks("a\u{1b}b", "shop"), &csr);
        assert!(said.contains("DNS:host-07.example and 12 more,") && !said.contains("host-08"), "{said}");
        assert!(said.contains("a\\u{1b}b"), "{said}");
    }

    #[test]
    fn a_ca_certificate_can_sign_every_name_and_so_is_of_another_shape() {
        let ca = Csr::from_pem(CA_CSR).expect("a request");
        let plain = csr(None, &["spiffe://td/ns/shop/sa/web"]);
        let flagged = CertificateDetails { is_ca: true, ..asks(WEB, "shop") };
        for (details, csr) in [(&asks(WEB, "shop"), &ca), (&flagged, &plain)] {
            let said = refusal(&policy(true, true, true, OtherNames::Refuse), details, csr);
            assert!(said.contains("isCA:true") && said.contains("otherNames: Allow"), "{said}");
        }
        assert_eq!(check(&policy(true, false, false, OtherNames::Allow), &flagged, &plain), Ok(()));
        let foreign = csr(None, &["spiffe://td/ns/bank/sa/web"]);
        assert!(check(&policy(true, false, false, OtherNames::Allow), &flagged, &foreign).is_err());
    }

    #[test]
    fn a_common_name_before_the_last_and_one_that_is_no_text_are_judged_too() {
        let mut parameters = rcgen::CertificateParams::default();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        let bmp = rcgen::string::BmpString::try_from("bank.example").expect("a string");
        // The library keeps one value a type; by its number the type is another one to it.
        let first = rcgen::DnType::CustomDnType(vec![2, 5, 4, 3]);
        parameters.distinguished_name.push(first, rcgen::DnValue::BmpString(bmp));
        parameters.distinguished_name.push(rcgen::DnType::CommonName, "web");
        let key = rcgen::KeyPair::generate().expect("a key");
        let pem = parameters.serialize_request(&key).expect("a request").pem().expect("PEM");
        let csr = Csr::from_pem(pem.as_bytes()).expect("a request");
        assert_eq!((csr.common_name(), csr.common_names().len()), (Some("web"), 2));
        let said = refusal(&policy(true, true, true, OtherNames::Refuse), &asks(WEB, "shop"), &csr);
        assert!(said.contains("CN:#0062006100"), "{said}");
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics_or_is_taken_for_two_namespaces(text in "[a-z./:%*@# \\x00]{0,40}") {
            let _ = (of_common_name(&text), service_account(&text));
            if let Shape::Workload(named) = of_uri(&text) {
                let path = format!("/ns/{}/sa/{}", named.namespace, named.name);
                proptest::prop_assert!(text.ends_with(&path));
            }
        }
    }
}
