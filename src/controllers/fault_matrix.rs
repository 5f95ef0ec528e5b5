//! Every fault at every step, as one table: what Vault is asked, what becomes of the request, and when it is looked at again. The
//! signer, the breaker and the verdict are the real ones; only Vault is not (see `vault/fake.rs`), and the clock is ours.

use std::num::NonZeroUsize;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use crate::api::auth::Credentials;
use crate::api::material::{Found, Material, Place};
use crate::api::{IssuerKey, IssuerKind};
use crate::issuance::discovery::Record;
use crate::issuance::signer::Signer as _;
use crate::issuance::trust::Anchors;
use crate::issuance::verdict::{History, NotIssued, Verdict, judge, not_issued};
use crate::issuers::{Live, Origin};
use crate::requests::certificate_request::{CertificateRequest, standing, status};
use crate::vault::VaultSigner;
use crate::vault::fake::{self, Call, FOR_EVER, Fake, Reply, refusal, text};
use crate::x509::testing::{Authority, now};

/// A row for each fault and a column for each step that it hits. A cell tells which calls reached Vault (L login, S sign, P
/// probe), then of a request with an owner and of one without: its reason after five minutes, after how many writes, and the pause
/// before the next try (or that only a wake helps). Of a check it tells first when the next one follows, and whether the issuer,
/// which was Ready, is Ready after each of three.
const MATRIX: &str = "
400 role          | L    Pending 1, Failed 2, 2s         | LS   Failed 1, Failed 1, none        | LP   300s Ready Ready Ready: goes on
403 policy        | L    Pending 1, Failed 2, 2s         | LSP  Pending 1, Failed 2, 2s         | LP   15s not not not: Pending 1, Failed 2, woken
403 dead token    | L    Pending 1, Failed 2, 2s         | LSLS Pending 1, Failed 2, 2s         | LPLP 15s not not not: Pending 1, Failed 2, woken
403 invalid token | L    Pending 1, Failed 2, 2s         | LSLS Pending 1, Failed 2, 2s         | LPLP 15s not not not: Pending 1, Failed 2, woken
404               | L    Pending 1, Failed 2, 2s         | LS   Pending 1, Failed 2, 2s         | LP   15s not not not: Pending 1, Failed 2, woken
412               | L    Pending 1, Failed 2, 2s         | LS   Pending 1, Failed 2, 2s         | LP   15s Ready not not: Pending 1, Failed 2, woken
429               | L    asks again in its turn, 100ms   | LS   asks again in its turn, 100ms   | LP   15s Ready Ready not: Pending 1, Failed 2, woken
500               | L    Pending 1, Failed 2, 2s         | LS   Pending 1, Failed 2, 2s         | LP   15s Ready not not: Pending 1, Failed 2, woken
502               | L    Pending 1, Failed 2, 2s         | LS   Pending 1, Failed 2, 2s         | LP   15s Ready not not: Pending 1, Failed 2, woken
503 sealed        | L    Pending 1, Failed 2, 2s         | LS   Pending 1, Failed 2, 2s         | LP   15s Ready not not: Pending 1, Failed 2, woken
refused           | -    Pending 1, Failed 2, 2s         | -    Pending 1, Failed 2, 2s         | -    15s Ready not not: Pending 1, Failed 2, woken
reset in answer   | L    Pending 1, Failed 2, 2s         | LS   Pending 1, Failed 2, 2s         | LP   15s Ready not not: Pending 1, Failed 2, woken
black hole        | L    Pending 1, Failed 2, 2s         | LS   Pending 1, Failed 2, 2s         | LP   15s Ready not not: Pending 1, Failed 2, woken
TLS failure       | -    Pending 1, Failed 2, 2s         | -    Pending 1, Failed 2, 2s         | -    15s Ready not not: Pending 1, Failed 2, woken
DNS failure       | -    Pending 1, Failed 2, 2s         | -    Pending 1, Failed 2, 2s         | -    15s Ready not not: Pending 1, Failed 2, woken
half a JSON       | L    Pending 1, Failed 2, 2s         | LS   Pending 1, Failed 2, 2s         | LP   15s not not not: Pending 1, Failed 2, woken
slow drip         | L    Pending 1, Failed 2, 2s         | LS   Pending 1, Failed 2, 2s         | LP   15s Ready not not: Pending 1, Failed 2, woken
";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Login,
    Sign,
    Check,
}

/// How a fault is made.
enum Fault {
    /// By what the server answers.
    Answer(fn() -> Reply),
    /// By where it is looked for; the argument is a server that is there.
    Address(fn(&str) -> String),
}

const FAULTS: [(&str, Fault); 17] = [
    ("400 role", Fault::Answer(|| refusal(400, "common name a.example not allowed by this role"))),
    ("403 policy", Fault::Answer(|| refusal(403, "1 error occurred:\n\t* permission denied\n\n"))),
    ("403 dead token", Fault::Answer(|| refusal(403, "permission denied"))),
    (
        "403 invalid token",
        Fault::Answer(|| refusal(403, "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n")),
    ),
    ("404", Fault::Answer(|| refusal(404, "no handler for route \"pki/sign/web\". route entry not found."))),
    ("412", Fault::Answer(|| refusal(412, "required index state not present"))),
    ("429", Fault::Answer(|| refusal(429, "request path \"pki/sign/web\": rate limit quota exceeded"))),
    ("500", Fault::Answer(|| refusal(500, "internal error"))),
    ("502", Fault::Answer(|| text(502, "<html>Bad Gateway</html>"))),
    ("503 sealed", Fault::Answer(|| refusal(503, "Vault is sealed"))),
    ("refused", Fault::Address(|_| "http://127.0.0.1:1".to_owned())),
    ("reset in answer", Fault::Answer(|| Reply { missing: 9, ..text(200, "{\"request_id\"") })),
    ("black hole", Fault::Answer(|| Reply { after: FOR_EVER, ..text(200, "") })),
    ("TLS failure", Fault::Address(|server| server.replace("http://", "https://"))),
    ("DNS failure", Fault::Address(|_| "http://no-such-host.invalid:8200".to_owned())),
    ("half a JSON", Fault::Answer(|| text(200, "{\"request_id\": \"r-1\", \"da"))),
    ("slow drip", Fault::Answer(|| Reply { missing: 9, stays: FOR_EVER, ..text(200, "{\"requ") })),
];

#[tokio::test]
async fn every_fault_at_every_step_ends_as_the_table_says() {
    let mut lines = Vec::new();
    for (name, fault) in &FAULTS {
        let [login, sign] = [signed(fault, Step::Login).await, signed(fault, Step::Sign).await];
        lines.push(format!("{name:<17} | {login:<36} | {sign:<36} | {}", checked(fault).await));
    }
    let found = lines.join("\n");
    assert_eq!(found.trim(), MATRIX.trim(), "\n{found}\n");
}

/// The issuer, at a server with this fault at this step, and Ready so far.
async fn issuer(fault: &Fault, step: Step) -> (Fake, Live<VaultSigner>) {
    let answer = match fault {
        Fault::Answer(answer) => Some(*answer),
        Fault::Address(_) => None,
    };
    let fake = Fake::start(move |call: &Call| match (call.is_login(), step, answer) {
        (true, Step::Login, Some(answer)) | (false, Step::Sign | Step::Check, Some(answer))
            if is_sign_or_login(call) =>
        {
            answer()
        }
        (true, ..) => fake::login("t-1", 0),
        (false, ..) => text(404, "{\"errors\": []}"),
    })
    .await;
    let (server, credentials) = match fault {
        Fault::Answer(_) => (fake.url.clone(), fake::app_role()),
        // Such a server has never given a token.
        Fault::Address(_) if step != Step::Login => (address(fault, &fake), Credentials::Token("t-1".into())),
        Fault::Address(_) => (address(fault, &fake), fake::app_role()),
    };
    let config = fake::config(&server, |_| ());
    let root = Authority::new("Root").root(2040).pem().as_bytes().to_vec();
    let place = |field: &str| Place { field: field.to_owned(), object: None };
    let bundle = Found { place: place("spec.vault.caBundle"), value: root.clone() };
    let material = Material { server_ca: Some(bundle), ..fake::material(credentials) };
    let signer = VaultSigner::new(&config, &material, &fake::common(), fake::metrics()).expect("usable");
    let anchor = Found { place: place("spec.trust.anchors[0].pem"), value: root };
    let anchors = Anchors::configured(&[anchor], now()).expect("a root");
    let origin = Origin { uid: "uid".to_owned(), config, objects: Vec::new() };
    let live = Live::new(origin, Some(anchors), Record::default(), signer, NonZeroUsize::MIN, fake::metrics());
    live.attempted(None, now());
    (fake, live)
}

fn is_sign_or_login(call: &Call) -> bool {
    call.is_login() || call.line.contains("/sign/")
}

fn address(fault: &Fault, fake: &Fake) -> String {
    match fault {
        Fault::Answer(_) => fake.url.clone(),
        Fault::Address(address) => address(&fake.url),
    }
}

/// The calls that arrived, without those that only look at the mount.
fn calls(fake: &Fake) -> String {
    let letter = |call: &Call| match (call.is_login(), call.body["csr"].as_str()) {
        (true, _) => "L",
        (false, Some("")) => "P",
        (false, Some(_)) => "S",
        (false, None) => "",
    };
    let calls: String = fake.calls().iter().filter(|call| is_sign_or_login(call)).map(letter).collect();
    if calls.is_empty() { "-".to_owned() } else { calls }
}

async fn signed(fault: &Fault, step: Step) -> String {
    let (fake, live) = issuer(fault, step).await;
    let going = live.leave().await;
    let plan = fake::request("pki/sign/web", &[], None);
    let error = fake.outlasted(live.signer().sign(&plan)).await.expect_err("there is a fault");
    let calls = calls(&fake);
    if live.was_slowed(going, Some(&error), now()) {
        return format!("{calls:<4} asks again in its turn, {}", round(live.due_in(now())));
    }
    live.attempted(Some(&error), now());
    format!("{calls:<4} {}", ends(&not_issued(&key(), error)))
}

fn key() -> IssuerKey {
    IssuerKey::new(IssuerKind::Namespaced, "mesh", "vault")
}

/// What becomes of requests that meet this again and again, with an owner and without.
fn ends(attempt: &NotIssued) -> String {
    let [(owned, pause), (ownerless, _)] = [true, false].map(|owned| end(owned, attempt));
    let finished = pause.is_none() && owned.starts_with("Failed");
    let pause = pause.map_or_else(|| if finished { "none" } else { "woken" }.to_owned(), round);
    format!("{owned}, {ownerless}, {pause}")
}

/// The reason of such a request, and after how many writes, once it was tried twice and then after five minutes; and its first
/// pause.
fn end(owned: bool, attempt: &NotIssued) -> (String, Option<Duration>) {
    let owners =
        if owned { json!([{"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": "u-2"}]) } else { json!([]) };
    let mut object = json!({
        "metadata": {"name": "web-1", "namespace": "mesh", "uid": "u-1", "ownerReferences": owners},
        "spec": {"issuerRef": {"group": "vaultmesh.io", "kind": "VaultMeshIssuer", "name": "vault"}, "request": "Y3Ny"},
        "status": {"conditions": [{"type": "Approved", "status": "True"}]},
    });
    let (mut history, mut writes, mut first) = (History::new(now()), 0, None);
    for passed in [0, 5, 301] {
        let request: CertificateRequest = serde_json::from_value(object.clone()).expect("a request");
        if standing(&request).finished {
            break;
        }
        let now: Timestamp = now() + Duration::from_secs(passed);
        history.seen(&standing(&request), now);
        let verdict = judge(Err(attempt.clone()), &history, "uid", now);
        if let Verdict::Wait { pause, look_again, .. } = &verdict {
            history.tries += 1;
            first = first.or(*pause);
            assert!(owned || look_again.is_some(), "nobody has to wake it in time");
        }
        if let Some(written) = status(&request, &verdict, now) {
            writes += 1;
            object["status"] = serde_json::to_value(written).expect("a status is JSON");
            let conditions = object["status"]["conditions"].as_array_mut().expect("there are conditions");
            conditions.push(json!({"type": "Approved", "status": "True"}));
        }
    }
    let reason = object["status"]["conditions"][0]["reason"].as_str().unwrap_or("nothing");
    (format!("{reason} {writes}"), first)
}

async fn checked(fault: &Fault) -> String {
    let (fake, live) = issuer(fault, Step::Check).await;
    let mut cell = String::new();
    for passed in [100, 115, 145] {
        let now = now() + Duration::from_secs(passed);
        fake.outlasted(live.check(move || now)).await;
        if cell.is_empty() {
            cell = format!("{:<4} {}", calls(&fake), round(live.due_in(now)));
        }
        cell.push_str(if live.report().health.ready { " Ready" } else { " not" });
        live.announced(&live.report());
    }
    match live.admit() {
        Ok(_) => cell + ": goes on",
        Err(waiting) => cell + ": " + &ends(&NotIssued::Waiting(key(), waiting)),
    }
}

/// To the nearest round figure: pauses are spread by a fifth.
fn round(pause: Duration) -> String {
    let rounds = [100_u64, 2_000, 15_000, 300_000];
    let fits = |millis: &&u64| {
        let millis = Duration::from_millis(**millis);
        pause >= millis.mul_f64(0.79) && pause <= millis.mul_f64(1.21)
    };
    rounds
        .iter()
        .find(fits)
        .map_or_else(|| format!("{pause:?}"), |millis| format!("{:?}", Duration::from_millis(*millis)))
}
