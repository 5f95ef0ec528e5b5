//! What the API server admits and what it refuses, in our words: every rule and every limit of the CRDs, tried as a dry run.

use std::sync::Arc;

use anyhow::{Result, ensure};
use serde_json::{Map, Value, json};
use testenv::{Answer, Kube};

use crate::{Outcome, Shared, Suite};

pub fn add(suite: &mut Suite) {
    suite.add("a server must be an http or https URL with a host and nothing secret in it", servers);
    suite.add("a path must end in sign/<role>, and what it cannot be is said", paths);
    suite.add("exactly one login method is admitted, with bounded fields", logins);
    suite.add("a token for a login comes from one place, with bounded fields", token_logins);
    suite.add("a login with a client certificate has one certificate and goes over https", certificate_logins);
    suite.add("auth.aws is refused in words, whatever it holds", aws);
    suite.add("CA bundles and client certificates are admitted once and in pairs", bundles);
    suite.add("trust anchors are 1 to 8 sources, each of exactly one kind", anchors);
    suite.add("durations are at least one second and in order", durations);
    suite.add("usages and the limits of CA certificates are bounded", authorities);
    suite.add("a namespaceSelector is for the cluster kind and holds known operators", selectors);
    suite.add("rules about names hold at least one rule, known words and bounded lists, for both kinds", names);
    suite.add("a field that is not in the type is refused where fields are checked", unknown_fields);
}

const SERVER: &str = "https://vault.example:8200";
const NO_URL: &str = "must be an http or https URL with a host";
const NO_USER: &str = "must hold no user, query or fragment";
const PATH: &str = "must be <mount>/sign/<role> or <mount>/issuer/<ref>/sign/<role>";
const DOTS: &str = "must not hold the segments . or ..";
const ISSUE: &str = "write sign/<role>";
const ONE_METHOD: &str = "set exactly one login method: appRole, tokenSecretRef, kubernetes, clientCertificate or jwt";
const NO_AWS: &str = "aws is not supported yet: use kubernetes or jwt with serviceAccountRef";
const ONE_ROLE_ID: &str = "set exactly one of roleId and roleIdSecretRef";
const ONE_TOKEN: &str = "set exactly one of secretRef and serviceAccountRef";
const HTTPS: &str = "auth.clientCertificate works over https only";
const ONE_CERTIFICATE: &str = "auth.clientCertificate needs exactly one certificate";
const NAME: &str = "must be an object's name";
const ONE_BUNDLE: &str = "set at most one of caBundle, caBundleSecretRef and caBundleConfigMapRef";
const PAIR: &str = "clientCertSecretRef and clientKeySecretRef belong together";
const ONE_SOURCE: &str = "set exactly one of configMap, secret and pem";
const DURATION: &str = "must be a duration of at least one second";
const ORDER: &str = "defaultDuration must not be longer than maxDuration";
const CLUSTER_ONLY: &str = "spec.policy.namespaceSelector is for VaultMeshClusterIssuer";
const NO_RULE: &str = "set at least one of requester, requestNamespace and brokers";
const OPERATOR: &str = "operator must be In, NotIn, Exists or DoesNotExist";
const VALUES: &str = "In and NotIn need values; Exists and DoesNotExist have none";

/// One change of a good spec, and the words of the refusal; none: it is admitted.
type Row = (Value, Option<&'static str>);

fn good() -> Value {
    json!({"vault": {"server": SERVER, "path": "pki/sign/mesh", "auth": {"tokenSecretRef": {"name": "token"}}}})
}

/// The good spec with a merge patch, as the API server would apply it.
fn merged(mut base: Value, change: &Value) -> Value {
    match change {
        Value::Object(fields) => {
            let object = match base.as_object_mut() {
                Some(object) => object,
                None => {
                    base = Value::Object(Map::new());
                    return merged(base, change);
                }
            };
            for (key, value) in fields {
                let inner = object.remove(key).unwrap_or_default();
                if !value.is_null() {
                    object.insert(key.clone(), merged(inner, value));
                }
            }
            base
        }
        other => other.clone(),
    }
}

async fn try_one(kube: &Kube, cluster: bool, spec: &Value) -> Result<Answer> {
    let (kind, place) = match cluster {
        true => ("VaultMeshClusterIssuer", "vaultmeshclusterissuers"),
        false => ("VaultMeshIssuer", "namespaces/default/vaultmeshissuers"),
    };
    let metadata = json!({"name": "tried"});
    let object = json!({"apiVersion": "vaultmesh.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec});
    let path = format!("/apis/vaultmesh.io/v1alpha1/{place}?dryRun=All&fieldValidation=Strict");
    kube.send("POST", &path, "application/json", Some(&object)).await
}

async fn check(kube: &Kube, cluster: bool, rows: &[Row]) -> Result<()> {
    for (change, refusal) in rows {
        let answer = try_one(kube, cluster, &merged(good(), change)).await?;
        let (shown, words) = (change.to_string().chars().take(200).collect::<String>(), answer.words());
        match refusal {
            None => ensure!(answer.status == 201, "{shown} should be admitted: {} {words}", answer.status),
            Some(part) => {
                ensure!(
                    answer.status == 422 && words.contains(part),
                    "{shown}: {} {words}\nexpected: {part}",
                    answer.status
                );
            }
        }
    }
    Ok(())
}

/// Both kinds have one spec type, and both CRDs carry its rules.
async fn check_both(shared: &Shared, rows: &[Row]) -> Result<()> {
    check(&shared.plane.kube, false, rows).await?;
    check(&shared.plane.kube, true, rows).await
}

/// Rows about one field below `spec`.
fn field<'a>(path: &str, values: impl IntoIterator<Item = (Value, Option<&'static str>)> + 'a) -> Vec<Row> {
    let nest = |value: Value| path.rsplit('/').fold(value, |value, key| json!({key: value}));
    values.into_iter().map(|(value, refusal)| (nest(value), refusal)).collect()
}

async fn servers(shared: Arc<Shared>) -> Outcome {
    let long = |length: usize| format!("https://{}", "a".repeat(length - 8));
    let rows = [
        (json!("http://127.0.0.1:8200"), None),
        (json!("https://[2001:db8::1]:8200"), None),
        (json!("https://vault.example/base/"), None),
        (json!(long(512)), None),
        (json!(long(513)), Some("512")),
        (json!(""), Some("spec.vault.server")),
        (json!(null), Some("spec.vault.server: Required value")),
        (json!("vault.example:8200"), Some(NO_URL)),
        (json!("vault"), Some(NO_URL)),
        (json!("ftp://vault.example"), Some(NO_URL)),
        (json!("https://"), Some(NO_URL)),
        (json!("https:///v1"), Some(NO_URL)),
        (json!("https://user:password@vault.example"), Some(NO_USER)),
        (json!("https://vault.example?x=1"), Some(NO_USER)),
        (json!("https://vault.example/#x"), Some(NO_USER)),
    ];
    check_both(&shared, &field("vault/server", rows)).await?;
    let namespaces = ["../root", "team a", "team//a", "."].map(|it| (json!(it), Some("must be a namespace path")));
    check_both(&shared, &field("vault/namespace", namespaces)).await?;
    let namespaces = ["team-a", "team-a/mesh/", "/team-a"].map(|it| (json!(it), None));
    check_both(&shared, &field("vault/namespace", namespaces)).await?;
    let names = [(json!("vault.internal"), None), (json!("a".repeat(254)), Some("253"))];
    check_both(&shared, &field("vault/serverName", names)).await
}

async fn paths(shared: Arc<Shared>) -> Outcome {
    let admitted = [
        "istioca/sign/cluster-local",
        "/pki/sign/mesh",
        "/v1/pki/sign/mesh",
        "v1/pki/sign/mesh",
        "team/a/pki/sign/mesh",
        "pki/issuer/blue/sign/mesh",
        "pki-issue/sign/mesh",
        "issue/sign/issue",
        "pki/sign/a.b~c@d:e+f=g-h_i",
        "pki/sign-verbatim",
        "pki/sign-verbatim/mesh",
        "pki/issuer/blue/sign-verbatim/mesh",
        "team/a/pki/root/sign-intermediate",
        "pki/issuer/blue/sign-intermediate",
        "pki/cel/sign/mesh",
    ];
    check_both(&shared, &field("vault/path", admitted.map(|path| (json!(path), None)))).await?;
    let refused = [
        ("pki/issue/mesh", ISSUE),
        ("/v1/pki/issue/mesh", ISSUE),
        ("pki/issuer/blue/issue/mesh", ISSUE),
        ("../sys/sign/mesh", DOTS),
        ("pki/../sys/sign/mesh", DOTS),
        ("pki/./sign/mesh", DOTS),
        ("pki/sign/..", DOTS),
        ("pki/sign", PATH),
        ("pki/sign/", PATH),
        ("sign/mesh", "names no mount"),
        ("/sign/mesh", "names no mount"),
        ("pki//sign/mesh", PATH),
        ("pki/sign/mesh/", PATH),
        ("pki/sign/a b", PATH),
        ("pki/sign/a?b=c", PATH),
        ("pki/sign/a%2fb", PATH),
        ("sign-verbatim/mesh", "names no mount"),
        ("root/sign-intermediate", "names no mount"),
        ("pki/sign-intermediate", PATH),
        ("pki/sign-verbatim/a/b", PATH),
        ("pki/cel/roles/mesh", PATH),
        ("", "spec.vault.path"),
    ];
    let rows = refused.map(|(path, words)| (json!(path), Some(words)));
    check_both(&shared, &field("vault/path", rows)).await?;
    let long = |length: usize| json!(format!("pki/sign/{}", "a".repeat(length - 9)));
    check_both(
        &shared,
        &field("vault/path", [(long(512), None), (long(513), Some("512")), (json!(null), Some("Required"))]),
    )
    .await
}

async fn logins(shared: Arc<Shared>) -> Outcome {
    let role = |change: Value| {
        let role = json!({"roleId": "role", "secretRef": {"name": "approle"}});
        json!({"vault": {"auth": {"tokenSecretRef": null, "appRole": merged(role, &change)}}})
    };
    let rows = [
        (json!({"vault": {"auth": {"tokenSecretRef": null}}}), Some(ONE_METHOD)),
        (json!({"vault": {"auth": null}}), Some("spec.vault.auth: Required value")),
        (json!({"vault": {"auth": {"appRole": {"roleId": "r", "secretRef": {"name": "s"}}}}}), Some(ONE_METHOD)),
        (role(json!({})), None),
        (role(json!({"path": "auth-of/team-a", "secretRef": {"key": "id"}})), None),
        (role(json!({"path": "../sys"})), Some(DOTS)),
        (role(json!({"path": "a".repeat(257)})), Some("256")),
        (role(json!({"roleId": null})), Some(ONE_ROLE_ID)),
        (role(json!({"roleId": null, "roleIdSecretRef": {"name": "approle"}})), None),
        (role(json!({"roleIdSecretRef": {"name": "approle"}})), Some(ONE_ROLE_ID)),
        (role(json!({"roleId": null, "roleIdSecretRef": {"name": "A"}})), Some(NAME)),
        (role(json!({"roleId": ""})), Some("roleId")),
        (role(json!({"roleId": "a".repeat(512)})), None),
        (role(json!({"roleId": "a".repeat(513)})), Some("512")),
        (role(json!({"secretRef": null})), Some("secretRef: Required value")),
        (role(json!({"secretRef": {"name": ""}})), Some("secretRef.name")),
        (role(json!({"secretRef": {"name": "a".repeat(254)}})), Some("253")),
        (role(json!({"secretRef": {"key": "a".repeat(254)}})), Some("253")),
        (json!({"vault": {"auth": {"tokenSecretRef": {"name": null}}}}), Some("name: Required value")),
        (json!({"vault": {"auth": {"tokenSecretRef": {"key": "t"}}}}), None),
    ];
    check_both(&shared, &rows).await
}

/// The two methods that log in with a ServiceAccount's token, and how each writes its mount.
async fn token_logins(shared: Arc<Shared>) -> Outcome {
    for (method, mount, example) in [("kubernetes", "mountPath", "/v1/auth/blue"), ("jwt", "path", "blue")] {
        let login = |change: Value| {
            let login = merged(json!({"role": "mesh", "serviceAccountRef": {"name": "login"}}), &change);
            json!({"vault": {"auth": {"tokenSecretRef": null, method: login}}})
        };
        let secret = json!({"name": "token"});
        let account = |name: Value| login(json!({"serviceAccountRef": {"name": name}}));
        let audiences = |list: Value| login(json!({"serviceAccountRef": {"audiences": list}}));
        let rows = [
            (login(json!({})), None),
            (json!({"vault": {"auth": {method: {"role": "mesh", "secretRef": secret}}}}), Some(ONE_METHOD)),
            (login(json!({"serviceAccountRef": null, "secretRef": secret})), None),
            (login(json!({"serviceAccountRef": null, "secretRef": {"name": "token", "key": "jwt"}})), None),
            (login(json!({"serviceAccountRef": null})), Some(ONE_TOKEN)),
            (login(json!({"secretRef": secret})), Some(ONE_TOKEN)),
            (login(json!({mount: example})), None),
            (login(json!({mount: "/v1/auth/../sys"})), Some(DOTS)),
            (login(json!({mount: "a".repeat(257)})), Some("256")),
            (login(json!({"role": null})), Some("role: Required value")),
            (login(json!({"role": ""})), Some("role")),
            (login(json!({"role": "a".repeat(513)})), Some("512")),
            (account(json!(null)), Some("name: Required value")),
            (account(json!("../x")), Some(NAME)),
            (account(json!("a".repeat(254))), Some("253")),
            (audiences(json!([])), None),
            (audiences(json!(vec!["vault"; 16])), None),
            (audiences(json!(vec!["vault"; 17])), Some("at most 16 items")),
            (audiences(json!([""])), Some("audiences")),
            (audiences(json!(["a".repeat(513)])), Some("512")),
        ];
        check_both(&shared, &rows).await?;
    }
    Ok(())
}

async fn certificate_logins(shared: Arc<Shared>) -> Outcome {
    let login = |more: Value, change: Value| {
        let login = merged(json!({"secretName": "login"}), &change);
        let auth = json!({"tokenSecretRef": null, "clientCertificate": login});
        json!({"vault": merged(json!({"auth": auth}), &more)})
    };
    let own = json!({"clientCertSecretRef": {"name": "own"}, "clientKeySecretRef": {"name": "own"}});
    let (none, without) = (json!({}), json!({"secretName": null}));
    let rows = [
        (login(none.clone(), none.clone()), None),
        (login(own.clone(), without.clone()), None),
        (login(own, none.clone()), Some(ONE_CERTIFICATE)),
        (login(none.clone(), without), Some(ONE_CERTIFICATE)),
        (login(json!({"server": "http://vault.example"}), none.clone()), Some(HTTPS)),
        (login(none.clone(), json!({"mountPath": "/v1/auth/tls", "name": "mesh"})), None),
        (login(none.clone(), json!({"mountPath": "/v1/auth/.."})), Some(DOTS)),
        (login(none.clone(), json!({"mountPath": "a".repeat(257)})), Some("256")),
        (login(none.clone(), json!({"name": "a".repeat(513)})), Some("512")),
        (login(none.clone(), json!({"secretName": "a".repeat(254)})), Some("253")),
        (login(none, json!({"secretName": "A"})), Some(NAME)),
    ];
    check_both(&shared, &rows).await
}

async fn aws(shared: Arc<Shared>) -> Outcome {
    let block =
        json!({"role": "mesh", "region": "eu-central-1", "serviceAccountRef": {"name": "a"}, "iamRoleArn": "arn:x"});
    let rows = [
        (json!({"vault": {"auth": {"tokenSecretRef": null, "aws": block}}}), Some(NO_AWS)),
        (json!({"vault": {"auth": {"tokenSecretRef": null, "aws": {}}}}), Some(NO_AWS)),
        (json!({"vault": {"auth": {"aws": block}}}), Some(NO_AWS)),
    ];
    check_both(&shared, &rows).await
}

async fn bundles(shared: Arc<Shared>) -> Outcome {
    let reference = json!({"name": "vault-ca"});
    let vault = |change: Value| json!({"vault": change});
    let rows = [
        (vault(json!({"caBundle": "LS0t"})), None),
        (vault(json!({"caBundleSecretRef": reference})), None),
        (vault(json!({"caBundleConfigMapRef": {"name": "vault-ca", "key": "root.pem"}})), None),
        (vault(json!({"caBundle": "LS0t", "caBundleSecretRef": reference})), Some(ONE_BUNDLE)),
        (vault(json!({"caBundle": "LS0t", "caBundleConfigMapRef": reference})), Some(ONE_BUNDLE)),
        (vault(json!({"caBundleSecretRef": reference, "caBundleConfigMapRef": reference})), Some(ONE_BUNDLE)),
        (vault(json!({"caBundle": "a".repeat(440_000)})), None),
        (vault(json!({"caBundle": "a".repeat(440_001)})), Some("440000")),
        (vault(json!({"clientCertSecretRef": reference, "clientKeySecretRef": reference})), None),
        (vault(json!({"clientCertSecretRef": reference})), Some(PAIR)),
        (vault(json!({"clientKeySecretRef": reference})), Some(PAIR)),
    ];
    check_both(&shared, &rows).await
}

async fn anchors(shared: Arc<Shared>) -> Outcome {
    let map = json!({"configMap": {"name": "root"}});
    let secret = json!({"secret": {"name": "root", "key": "ca.pem"}});
    let pem = json!({"pem": "x"});
    let rows = [
        (json!([map]), None),
        (json!([secret, map, pem]), None),
        (json!(vec![pem.clone(); 8]), None),
        (json!(vec![pem; 9]), Some("at most 8 items")),
        (json!([]), Some("at least 1 items")),
        (json!(null), Some("set anchors, publish or both")),
        (json!([{}]), Some(ONE_SOURCE)),
        (json!([{"configMap": {"name": "root"}, "pem": "x"}]), Some(ONE_SOURCE)),
        (json!([map, {"configMap": {"name": "root"}, "secret": {"name": "root"}}]), Some(ONE_SOURCE)),
        (json!([{"pem": ""}]), Some("pem")),
        (json!([{"pem": "a".repeat(330_000)}]), None),
        (json!([{"pem": "a".repeat(330_001)}]), Some("330000")),
    ];
    // An absent list needs its own spelling: a merge with null would drop the field.
    let rows = field(
        "trust",
        rows.map(|(value, refusal)| match value {
            Value::Null => (json!({}), refusal),
            list => (json!({"anchors": list}), refusal),
        }),
    );
    check_both(&shared, &rows).await?;
    let rows = [
        (json!({"configMap": {"name": "bundle"}}), None),
        (json!({"secret": {"name": "bundle", "key": "ca.pem"}}), None),
        (json!({}), Some("set exactly one of configMap and secret")),
        (json!({"configMap": {"name": "a"}, "secret": {"name": "b"}}), Some("set exactly one of configMap and secret")),
        (json!({"configMap": {"name": "A"}}), Some("must be an object's name")),
    ];
    check_both(&shared, &field("trust/publish", rows)).await
}

async fn durations(shared: Arc<Shared>) -> Outcome {
    for name in ["certificates/defaultDuration", "certificates/maxDuration"] {
        let admitted = ["1s", "24h", "2160h0m0s", "1.5h", "1500ms", "90m"].map(|it| (json!(it), None));
        check_both(&shared, &field(name, admitted)).await?;
        let refused =
            ["0s", "-1h", "999ms", "1 day", "1d", "24", "h", "+1h", "1us"].map(|it| (json!(it), Some(DURATION)));
        check_both(&shared, &field(name, refused)).await?;
        check_both(&shared, &field(name, [(json!(""), Some(name.rsplit('/').next().unwrap_or(name)))])).await?;
        check_both(&shared, &field(name, [(json!("0".repeat(32) + "1s"), Some("32"))])).await?;
    }
    let both = |default: &str, max: &str| json!({"certificates": {"defaultDuration": default, "maxDuration": max}});
    let rows = [(both("24h", "24h"), None), (both("1h", "24h"), None), (both("24h0m1s", "24h"), Some(ORDER))];
    check_both(&shared, &rows).await
}

async fn authorities(shared: Arc<Shared>) -> Outcome {
    let usages = [("Warn", None), ("Enforce", None), ("warn", Some("must be Warn or Enforce")), ("", Some("usages"))];
    check_both(&shared, &field("certificates/usages", usages.map(|(value, words)| (json!(value), words)))).await?;
    check_both(&shared, &field("certificates/allowCA", [(json!({}), None), (json!([]), Some("allowCA"))])).await?;
    let lengths = [(0, None), (9, None), (10, Some("9")), (-1, Some("0"))].map(|(value, words)| (json!(value), words));
    check_both(&shared, &field("certificates/allowCA/maxPathLength", lengths)).await?;
    let durations = [("8760h", None), ("1 day", Some(DURATION)), ("0s", Some(DURATION))];
    let durations = durations.map(|(value, words)| (json!(value), words));
    check_both(&shared, &field("certificates/allowCA/maxDuration", durations)).await
}

async fn selectors(shared: Arc<Shared>) -> Outcome {
    let one = |change: Value| json!({"policy": {"namespaceSelector": {"matchExpressions": [merged(json!({"key": "mesh"}), &change)]}}});
    let labels = |count: usize| -> Value {
        let labels: Map<_, _> = (0..count).map(|number| (format!("label-{number}"), json!("x"))).collect();
        json!({"policy": {"namespaceSelector": {"matchLabels": labels}}})
    };
    let rows = [
        (json!({"policy": {}}), None),
        (json!({"policy": {"namespaceSelector": {}}}), None),
        (labels(32), None),
        (labels(33), Some("32")),
        (json!({"policy": {"namespaceSelector": {"matchLabels": {"mesh": "x".repeat(64)}}}}), Some("63")),
        (one(json!({"operator": "In", "values": ["on"]})), None),
        (one(json!({"operator": "NotIn", "values": ["on", "off"]})), None),
        (one(json!({"operator": "Exists"})), None),
        (one(json!({"operator": "DoesNotExist"})), None),
        (one(json!({"operator": "Gt", "values": ["1"]})), Some(OPERATOR)),
        (one(json!({"operator": "in", "values": ["on"]})), Some(OPERATOR)),
        (one(json!({"operator": "In"})), Some(VALUES)),
        (one(json!({"operator": "NotIn", "values": []})), Some(VALUES)),
        (one(json!({"operator": "Exists", "values": ["on"]})), Some(VALUES)),
        (one(json!({"operator": "In", "values": vec!["on"; 65]})), Some("64")),
        (one(json!({"operator": "In", "values": ["x".repeat(64)]})), Some("63")),
        (one(json!({"operator": "Exists", "key": ""})), Some("key")),
        (one(json!({"operator": "Exists", "key": "x".repeat(318)})), Some("317")),
        (one(json!({})), Some("operator: Required value")),
    ];
    check(&shared.plane.kube, true, &rows).await?;
    let spiffe = json!({"requester": true});
    let namespaced = [
        (json!({"policy": {}}), None),
        (json!({"policy": {"spiffe": spiffe}}), None),
        (json!({"policy": {"namespaceSelector": {}}}), Some(CLUSTER_ONLY)),
        (json!({"policy": {"namespaceSelector": {}, "spiffe": spiffe}}), Some(CLUSTER_ONLY)),
    ];
    check(&shared.plane.kube, false, &namespaced).await
}

async fn names(shared: Arc<Shared>) -> Outcome {
    let broker = |namespace: &str, name: &str| json!({"brokers": [{"namespace": namespace, "name": name}]});
    let brokers = |count: usize| json!({"brokers": vec![json!({"namespace": "mesh", "name": "istio-csr"}); count]});
    let rows = [
        (json!({"requester": true}), None),
        (json!({"requestNamespace": true}), None),
        (json!({"requester": true, "requestNamespace": false, "otherNames": "Refuse"}), None),
        (json!({"requester": true, "requestNamespace": true, "brokers": [], "otherNames": "Allow"}), None),
        (json!({}), Some(NO_RULE)),
        (json!({"requester": false, "requestNamespace": false}), Some(NO_RULE)),
        (json!({"brokers": []}), Some(NO_RULE)),
        (json!({"otherNames": "Allow"}), Some(NO_RULE)),
        (json!({"requester": true, "otherNames": "allow"}), Some("must be Refuse or Allow")),
        (json!({"requester": true, "otherNames": ""}), Some("must be Refuse or Allow")),
        (json!({"requester": "yes"}), Some("requester")),
        (brokers(1), None),
        (brokers(16), None),
        (brokers(17), Some("16")),
        (broker(&"n".repeat(63), &"a".repeat(253)), None),
        (broker(&"n".repeat(64), "a"), Some("63")),
        (broker("n", &"a".repeat(254)), Some("253")),
        (broker("", "a"), Some("namespace")),
        (broker("n", ""), Some("name")),
        (json!({"brokers": [{"name": "istio-csr"}]}), Some("namespace: Required value")),
        (json!({"brokers": [{"namespace": "mesh"}]}), Some("name: Required value")),
    ];
    check_both(&shared, &field("policy/spiffe", rows)).await
}

async fn unknown_fields(shared: Arc<Shared>) -> Outcome {
    // A field that is accepted and does nothing would be a defect; these come with later issues.
    let later = [
        json!({"vault": {"auth": {"userpass": {"role": "mesh"}}}}),
        json!({"vault": {"skipVerify": true}}),
        json!({"certificates": {"allowCA": {"keyUsages": ["cert sign"]}}}),
    ];
    for change in later {
        for cluster in [false, true] {
            let answer = try_one(&shared.plane.kube, cluster, &merged(good(), &change)).await?;
            let refused = answer.status == 400 && answer.words().contains("unknown field");
            ensure!(refused, "{change}: {} {}", answer.status, answer.words());
        }
    }
    Ok(())
}
