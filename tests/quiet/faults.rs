//! Everything that can come in the way of a login, a sign and a check, on real processes: an issuer and a proxy of its own for
//! each cell, an owned and an ownerless request, a fault that lasts a while and then goes. The same as a pure table is in
//! `controllers/fault_matrix.rs`; here the peers are real, and OpenBao's audit log says how often it signed.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::future::join_all;
use serde_json::{Value, json};
use testenv::{Action, Created, Csr, Door, Issuer, IssuerRef, Issuing, Proxy, Request, Rule, Seen};

use crate::midflight::is_sign;
use crate::support::{Corner, ready_of};
use crate::{Outcome, Shared, Suite};

pub fn add(suite: &mut Suite) {
    suite.add("every fault of a login passes without a request being given up", |shared| play(shared, "login", LOGIN));
    suite.add("every fault of a sign passes, and only the request's own ends it", |shared| play(shared, "sign", SIGN));
    suite.add("every fault of a check passes without a request being given up", |shared| play(shared, "check", CHECK));
}

/// What is disturbed.
#[derive(Clone, Copy, PartialEq)]
enum At {
    /// The login of a new issuer.
    Login,
    /// The check of a new issuer: the probe, which is a sign without a CSR.
    Probe,
    /// The signs of a Ready issuer, while its checks find nothing wrong.
    Sign,
    /// Signs and probes of a Ready issuer, as it is when the path itself is refused.
    SignPath,
    /// Every connection of a Ready issuer.
    Server,
}

/// What comes in the way.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    /// This is answered, and OpenBao never hears of it.
    Answer(u16, &'static [&'static str]),
    /// A gateway's page is answered.
    Gateway,
    /// OpenBao acts, and half of its JSON arrives as the whole answer.
    Half,
    /// OpenBao acts, and the connection ends in the middle of its answer.
    BrokenOff,
    /// OpenBao acts, and a byte of its answer arrives every second.
    Drip,
    /// Nothing is answered.
    BlackHole,
    /// Nobody listens.
    Refused,
    /// Who listens speaks no TLS.
    NoTls,
    /// Who listens has a certificate of another CA.
    WrongCertificate,
    /// The server's name leads nowhere.
    NoSuchName,
}

/// What the issuer shows while the fault lasts.
#[derive(Clone, Copy, PartialEq)]
enum Meanwhile {
    Ready,
    NotReady,
}

/// How both requests end.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Issued,
    Failed,
}

use At::{Login, Probe, Server, Sign, SignPath};
use End::{Failed, Issued};
use Fault::{Answer, BlackHole, BrokenOff, Drip, Gateway, Half, NoSuchName, NoTls, Refused, WrongCertificate};
use Meanwhile::{NotReady, Ready};

/// A cell: its name, what is disturbed, by what, what the issuer shows meanwhile, and how the requests end.
type Cell = (&'static str, At, Fault, Meanwhile, End);

const POLICY: &[&str] = &["1 error occurred:\n\t* permission denied\n\n"];
const DEAD: &[&str] = &["permission denied"];
const DEAD_IN_NEWER_WORDS: &[&str] = &["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"];
const NO_ROUTE: &[&str] = &["no handler for route \"elsewhere/sign/mesh\". route entry not found."];
const STATE: &[&str] = &["required index state not present"];
const LIMIT: &[&str] = &["request path \"x\": rate limit quota exceeded"];
const INTERNAL: &[&str] = &["internal error"];
const SEALED: &[&str] = &["Vault is sealed"];

const LOGIN: &[Cell] = &[
    ("credentials-400", Login, Answer(400, &["invalid role or secret ID"]), NotReady, Issued),
    ("policy-403", Login, Answer(403, POLICY), NotReady, Issued),
    ("no-mount-403", Login, Answer(403, DEAD), NotReady, Issued),
    ("no-route-404", Login, Answer(404, NO_ROUTE), NotReady, Issued),
    ("state-412", Login, Answer(412, STATE), NotReady, Issued),
    ("limit-429", Login, Answer(429, LIMIT), NotReady, Issued),
    ("internal-500", Login, Answer(500, INTERNAL), NotReady, Issued),
    ("gateway-502", Login, Gateway, NotReady, Issued),
    ("sealed-503", Login, Answer(503, SEALED), NotReady, Issued),
    ("half", Login, Half, NotReady, Issued),
    ("broken-off", Login, BrokenOff, NotReady, Issued),
    ("drip", Login, Drip, NotReady, Issued),
    ("black-hole", Login, BlackHole, NotReady, Issued),
    ("refused", Login, Refused, NotReady, Issued),
    ("no-tls", Login, NoTls, NotReady, Issued),
    ("wrong-certificate", Login, WrongCertificate, NotReady, Issued),
    ("no-such-name", Login, NoSuchName, NotReady, Issued),
];

const SIGN: &[Cell] = &[
    ("role-400", Sign, Answer(400, &["uri_sans not allowed by this role: spiffe://x"]), Ready, Failed),
    ("policy-403", SignPath, Answer(403, POLICY), NotReady, Issued),
    ("dead-token-403", SignPath, Answer(403, DEAD), NotReady, Issued),
    ("dead-token-403-newer", SignPath, Answer(403, DEAD_IN_NEWER_WORDS), NotReady, Issued),
    ("no-route-404", SignPath, Answer(404, NO_ROUTE), NotReady, Issued),
    ("state-412", Sign, Answer(412, STATE), Ready, Issued),
    ("limit-429", Sign, Answer(429, LIMIT), Ready, Issued),
    ("internal-500", Sign, Answer(500, INTERNAL), Ready, Issued),
    ("gateway-502", Sign, Gateway, Ready, Issued),
    ("sealed-503", SignPath, Answer(503, SEALED), NotReady, Issued),
    ("half", Sign, Half, NotReady, Issued),
    ("broken-off", Sign, BrokenOff, Ready, Issued),
    ("drip", Sign, Drip, Ready, Issued),
    ("black-hole", Sign, BlackHole, Ready, Issued),
    ("refused", Server, Refused, NotReady, Issued),
    ("no-tls", Server, NoTls, NotReady, Issued),
    ("wrong-certificate", Server, WrongCertificate, NotReady, Issued),
];

/// Connections that cannot be made are the rows of `Server` above: they fail a check in the same way as a sign.
const CHECK: &[Cell] = &[
    ("no-role-400", Probe, Answer(400, &["unknown role: mesh"]), NotReady, Issued),
    ("policy-403", Probe, Answer(403, POLICY), NotReady, Issued),
    ("dead-token-403", Probe, Answer(403, DEAD), NotReady, Issued),
    ("dead-token-403-newer", Probe, Answer(403, DEAD_IN_NEWER_WORDS), NotReady, Issued),
    ("no-route-404", Probe, Answer(404, NO_ROUTE), NotReady, Issued),
    ("state-412", Probe, Answer(412, STATE), NotReady, Issued),
    ("limit-429", Probe, Answer(429, LIMIT), NotReady, Issued),
    ("internal-500", Probe, Answer(500, INTERNAL), NotReady, Issued),
    ("gateway-502", Probe, Gateway, NotReady, Issued),
    ("sealed-503", Probe, Answer(503, SEALED), NotReady, Issued),
    ("half", Probe, Half, NotReady, Issued),
    ("broken-off", Probe, BrokenOff, NotReady, Issued),
    ("drip", Probe, Drip, NotReady, Issued),
    ("black-hole", Probe, BlackHole, NotReady, Issued),
];

/// A call is given up after 30 s, and a fault that passes may need two checks until it is believed. Of those that wait in a rate
/// limit one asks at a time, every 15 s in the end, and only who has asked is told that it waits.
const SHOWS: Duration = Duration::from_secs(240);
/// How long a fault stays when all of its effects have been seen.
const STAYS: Duration = Duration::from_secs(5);
/// The third check in a row that fails is followed by a pause of a minute and a fifth; then the next is made.
const RECOVERS: Duration = Duration::from_secs(180);

/// Plays all cells side by side, and then asks OpenBao's audit log how often it signed for each.
async fn play(shared: Arc<Shared>, step: &str, cells: &[Cell]) -> Outcome {
    let corner = Corner::new(&shared, &format!("faults-{step}")).await?;
    let mount = corner.recipe.mount().to_owned();
    corner.bao().sign_policy(&corner.recipe.policy, &format!("{mount}/sign/+")).await?;
    let role = &corner.recipe.app_role;
    corner.kube().secret(&corner.name, "approle", &[("secretId", &role.secret_id)]).await?;
    let played = join_all(cells.iter().map(async |cell| (cell, played(&corner, cell).await))).await;

    let calls = corner.calls()?;
    let mut wrong = Vec::new();
    for ((name, _, _, _, end), outcome) in played {
        let path = format!("{mount}/sign/{name}");
        let signs = calls.keep(|call| call.path == path).signs(&path);
        match outcome {
            Err(error) => wrong.push(format!("{name}: {error:#}")),
            Ok(lost) => {
                let wanted = if *end == Issued { 2 + lost } else { 0 };
                if signs != wanted {
                    wrong.push(format!("{name}: {signs} signs instead of {wanted}, {lost} of them lost on the way"));
                }
            }
        }
    }
    ensure!(wrong.is_empty(), "{} of {} cells:\n{}", wrong.len(), cells.len(), wrong.join("\n"));
    Ok(())
}

/// Plays one cell; gives how many signs OpenBao made whose answers could not arrive.
async fn played(corner: &Corner, cell: &Cell) -> Result<usize> {
    let &(name, at, fault, meanwhile, end) = cell;
    corner.bao().lenient_role(corner.recipe.mount(), name).await?;
    let proxy = corner.proxy().await?;
    let is_new = matches!(at, Login | Probe);
    let (issuing, struck) = if is_new {
        let struck = Struck::by(&proxy, at, fault);
        (issuer(corner, name, &struck.server(&proxy)).create(corner.kube()).await?, struck)
    } else {
        let issuing = corner.ready(issuer(corner, name, proxy.url())).await?;
        (issuing, Struck::by(&proxy, at, fault))
    };
    let before = issuing.get().await?;
    let requests = [ask(corner, name, true).await?, ask(corner, name, false).await?];
    match end {
        Issued => {
            for request in &requests {
                request.reason("Pending", SHOWS).await.context("while the fault lasts")?;
            }
        }
        Failed => return ended(corner, &issuing, &before, &requests).await,
    }
    if meanwhile == NotReady {
        issuing.not_ready(SHOWS).await.context("while the fault lasts")?;
    }
    tokio::time::sleep(STAYS).await;
    for request in &requests {
        ensure!(ready_of(&request.get().await?)?["reason"] == "Pending", "{} has been given up", request.name);
    }
    if meanwhile == Ready {
        stayed_ready(&issuing, &before).await?;
    }
    ensure!(struck.hits() > 0 || struck.rule.is_none(), "the fault met nothing");
    let issuing = struck.lift(corner, &proxy, issuing, name).await?;

    issuing.ready(RECOVERS).await.context("after the fault")?;
    for request in &requests {
        request.ready(RECOVERS).await.context("after the fault")?;
        corner.issued(request).await?;
    }
    let delivers = matches!(fault, Half | BrokenOff | Drip) && matches!(at, Sign | SignPath);
    Ok(if delivers { struck.hits() } else { 0 })
}

/// A fault of the request's own: both end Failed with Vault's words, and the issuer does not care.
async fn ended(corner: &Corner, issuing: &Issuing, before: &Value, requests: &[Created]) -> Result<usize> {
    for request in requests {
        corner.failed(request, &["uri_sans not allowed by this role"]).await?;
    }
    stayed_ready(issuing, before).await?;
    Ok(0)
}

/// It is Ready, and was so all the time: a condition that changes has another time than the one from before the fault.
async fn stayed_ready(issuing: &Issuing, before: &Value) -> Result<()> {
    let now = issuing.get().await?;
    let (before, now) = (ready_of(before)?, ready_of(&now)?);
    let same = now["status"] == "True" && now["lastTransitionTime"] == before["lastTransitionTime"];
    ensure!(same, "the issuer was {before} and is {now}");
    Ok(())
}

fn issuer(corner: &Corner, name: &str, server: &str) -> Issuer {
    let role = &corner.recipe.app_role;
    let path = format!("{}/sign/{name}", corner.recipe.mount());
    let auth = json!({"appRole": {"path": role.mount, "roleId": role.role_id, "secretRef": {"name": "approle", "key": "secretId"}}});
    Issuer::with_auth(&corner.name, name, &corner.bao().with_address(server), &path, auth)
}

async fn ask(corner: &Corner, cell: &str, owned: bool) -> Result<Created> {
    let name = format!("{cell}-{}", if owned { "owned" } else { "ownerless" });
    let pair = Csr::workload(&corner.name, &name).ec()?;
    let reference = IssuerRef::new("VaultMeshIssuer", cell);
    let request = Request::new(&corner.name, &name, &reference, &pair.csr_pem).duration("1h");
    let request = if owned { request.owner("ConfigMap", &name, &format!("uid-of-{name}")) } else { request };
    request.create(corner.kube()).await
}

/// A fault in force.
struct Struck {
    fault: Fault,
    rule: Option<Rule>,
}

impl Struck {
    fn by(proxy: &Proxy, at: At, fault: Fault) -> Self {
        let action = match fault {
            Answer(status, errors) => Action::answer(status, &json!({"errors": errors})),
            Gateway => Action::raw(502, &[("content-type", "text/html")], "<html>Bad Gateway</html>"),
            Half => Action::Halve,
            BrokenOff => Action::BreakOff,
            Drip => Action::Drip(Duration::from_secs(1)),
            BlackHole => Action::Hold,
            Refused | NoTls | WrongCertificate => {
                proxy.door(match fault {
                    Refused => Door::Shut,
                    NoTls => Door::Plain,
                    _ => Door::Stranger,
                });
                return Self { fault, rule: None };
            }
            NoSuchName => return Self { fault, rule: None },
        };
        Self { fault, rule: Some(proxy.on(move |seen| meets(at, seen), action)) }
    }

    /// Where the issuer looks for Vault while the fault lasts.
    fn server(&self, proxy: &Proxy) -> String {
        match self.fault {
            // RFC 6761 promises that this name leads nowhere.
            NoSuchName => proxy.url().replace("127.0.0.1", "vault.invalid"),
            _ => proxy.url().to_owned(),
        }
    }

    fn hits(&self) -> usize {
        self.rule.as_ref().map_or(0, Rule::hits)
    }

    async fn lift(&self, corner: &Corner, proxy: &Proxy, issuing: Issuing, name: &str) -> Result<Issuing> {
        if self.fault == NoSuchName {
            return issuer(corner, name, proxy.url()).create(corner.kube()).await;
        }
        match &self.rule {
            Some(rule) => rule.remove(),
            None => proxy.door(Door::Open),
        }
        // Who still waits in the hole hears at last that nobody will answer; OpenBao never hears of it.
        proxy.discard();
        Ok(issuing)
    }
}

fn meets(at: At, seen: &Seen) -> bool {
    let signs = seen.method != "GET" && seen.path.contains("/sign/");
    match at {
        Login => seen.path.contains("/login"),
        Probe => signs && !is_sign(seen),
        Sign => is_sign(seen),
        SignPath => signs,
        Server => true,
    }
}
