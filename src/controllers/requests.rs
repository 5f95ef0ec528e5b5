//! A request → an attempt → a verdict → its status. Read `reconcile`, then `attempt`: the straight line of the program.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt as _, Stream, StreamExt as _};
use kube::runtime::reflector::ObjectRef;
use tracing::{error, info, warn};

use super::attempts::Answered;
use super::signing::{Admitted, current};
use super::{Context, Wake, schedule};
use crate::clock;
use crate::cluster::events::Kind;
use crate::cluster::status::{WriteError, Written, apply_request_status, read_request};
use crate::issuance::inspection::Issued;
use crate::issuance::triage::{Ignored, Standing, triage};
use crate::issuance::verdict::{DENIED, History, NotIssued, Notice, Verdict, Waiting, judge};
use crate::issuers::Turn;
use crate::requests::certificate_request::{CertificateRequest, NewStatus, standing, status};

/// The pause after a write that the API server did not take.
const WRITE_PAUSE: Duration = Duration::from_secs(2);

/// A request's name; shared, because whatever waits has it in several places.
pub type Name = Arc<ObjectRef<CertificateRequest>>;

fn name(request: &CertificateRequest) -> Name {
    Arc::new(ObjectRef::new(request.name()).within(request.namespace()))
}

/// Runs until the stream of requests ends or the process is to stop, and the attempts under way are over.
pub async fn run(
    requests: impl Stream<Item = kube::runtime::watcher::Result<CertificateRequest>> + Send,
    woken: impl Stream<Item = Name> + Send,
    context: Arc<Context>,
) {
    let shown = requests.filter_map(async |shown| {
        let request = shown.inspect_err(|error| warn!("certificate requests: {error}")).ok()?;
        Some(name(&request))
    });
    let stopped = context.stopped.clone();
    schedule::run(futures::stream::select(shown, woken), move |name| look(name, Arc::clone(&context)), stopped).await;
}

/// One look at a request; after which pause the next is due. It does not end before an answer is written: when the process is to
/// stop, looks are waited for, and the pauses between them are not.
async fn look(name: Name, context: Arc<Context>) -> Option<Duration> {
    loop {
        let request = context.requests.get(&name)?;
        let error = match reconcile(&request, &context).await {
            Ok(pause) => return pause,
            Err(error) => error,
        };
        warn!(request_uid = request.uid(), request = %name, "{error}");
        if !matches!(context.attempts.answer(request.uid()), Some(Answered::Kept(_))) {
            return Some(WRITE_PAUSE);
        }
        tokio::time::sleep(WRITE_PAUSE).await;
    }
}

/// The one meaning of this function's own error: the verdict could not be written.
async fn reconcile(request: &CertificateRequest, context: &Context) -> Result<Option<Duration>, WriteError> {
    let uid = request.uid();
    let standing = standing(request);
    let history = context.attempts.history(uid, &standing, clock::steady());
    // It may have gone between the event and now, and nobody else would forget it then.
    if current(request, context).is_none() {
        context.attempts.forget(uid);
        return Ok(None);
    }
    // The turn of what was signed lasts until it is written: no more answers are on their way than signs are let.
    let mut turn = None;
    let attempted = AssertUnwindSafe(attempt(request, &standing, &history, &mut turn, context)).catch_unwind().await;
    let attempted = attempted.unwrap_or_else(|panic| Err(broken(request, context, panic.as_ref())));
    let verdict = judge(attempted, &history, uid, clock::steady());
    // In a box, as the sign is: who waits for a turn needs no room for it.
    let carried_out = Box::pin(carry_out(&verdict, request, context)).await;
    drop(turn);
    carried_out
}

/// From the request to its certificate; every early exit says why there is none.
async fn attempt(
    request: &CertificateRequest,
    standing: &Standing,
    history: &History,
    turn: &mut Option<Turn>,
    context: &Context,
) -> Result<Arc<Issued>, NotIssued> {
    let answer = context.attempts.answer(request.uid());
    if matches!(answer, Some(Answered::Written)) {
        return Err(NotIssued::Ignored(Ignored::Written));
    }
    let key = triage(standing)?;
    if let Some(Answered::Kept(answer)) = answer {
        return answer.map_err(NotIssued::Refused);
    }
    if let Some(left) = context.attempts.rests(request.uid(), clock::steady()) {
        return Err(NotIssued::Resting(left));
    }
    context.attempts.waits(request.uid());
    let issuer = {
        let labels = super::watches::labels(&context.namespaces, request.namespace());
        context.issuers.ready(key, labels.as_ref())?
    };
    let pass = issuer.admit().map_err(|waiting| NotIssued::Waiting(key.clone(), waiting))?;
    let admitted = Admitted { request, key, issuer: &issuer, pass, history, context };
    admitted.signed_in_turn(turn).await
}

/// Writes what the verdict says, tells who has to know, and says when to look again.
async fn carry_out(
    verdict: &Verdict,
    request: &CertificateRequest,
    context: &Context,
) -> Result<Option<Duration>, WriteError> {
    // Before the write, which may fail: whatever becomes of it, Vault is asked later and later.
    if let Verdict::Wait { pause: Some(pause), firm, .. } = verdict {
        context.attempts.failed(request.uid(), *pause, *firm, clock::steady());
    }
    if let Some(status) = status(request, verdict, clock::now()) {
        let taken = write(request, &status, verdict, context).await?;
        if taken {
            tell(verdict, request, context);
        }
    }
    Ok(match verdict {
        Verdict::Ignore { look_again, notice } => {
            if let Some(notice) = notice {
                context.attempts.approval_missed(request.uid());
                publish(request, notice, context);
            }
            *look_again
        }
        Verdict::Wait { look_again, .. } => *look_again,
        Verdict::Deny | Verdict::Fail(_) | Verdict::Issue(_) => None,
    })
}

/// Applies a status to the request as it was read. Returns whether it is written. After a conflict the request is read again:
/// the same certificate is applied to the same request, and to nothing that took its name.
async fn write(
    request: &CertificateRequest,
    status: &NewStatus<'_>,
    verdict: &Verdict,
    context: &Context,
) -> Result<bool, WriteError> {
    let (namespace, name) = (request.namespace(), request.name());
    let writes = match verdict {
        // It keeps its turn at the issuer until it is written: behind thousands that are to wait, it would hold up everybody.
        Verdict::Issue(_) => &context.certificate_writes,
        Verdict::Ignore { .. } | Verdict::Deny | Verdict::Wait { .. } | Verdict::Fail(_) => &context.other_writes,
    };
    let _turn = writes.take(namespace).await;
    // Thousands may have waited to say that their issuer is missing when it comes: now they are to be signed.
    if matches!(verdict, Verdict::Wait { .. }) && context.attempts.is_woken(request.uid()) {
        return Ok(false);
    }
    let seen = request.resource_version();
    let mut version = context.attempts.newest_version(request.uid(), seen);
    // Each round needs somebody else's write in between; who loses a hundred of them is tried again later.
    for _ in 0..100 {
        match apply_request_status(&context.client, namespace, name, &version, status).await? {
            Written::Applied { version } => {
                match verdict {
                    Verdict::Wait { .. } => context.attempts.waits_as(request.uid(), seen, version),
                    Verdict::Ignore { .. } | Verdict::Deny | Verdict::Fail(_) | Verdict::Issue(_) => {
                        context.attempts.written(request.uid());
                    }
                }
                return Ok(true);
            }
            Written::Gone => return Ok(false),
            Written::Conflict => {}
        }
        let Some(current) = read_request::<CertificateRequest>(&context.client, namespace, name).await? else {
            return Ok(false);
        };
        let now_stands = standing(&current);
        let is_denial = matches!(verdict, Verdict::Deny);
        if current.uid() != request.uid() || now_stands.finished || (now_stands.denied && !is_denial) {
            return Ok(false);
        }
        // Whatever came in between is seen by the watch, which brings a fresh verdict; only an end may overtake it.
        if matches!(verdict, Verdict::Wait { .. }) {
            return Ok(false);
        }
        current.resource_version().clone_into(&mut version);
    }
    Err(WriteError::Contended)
}

/// The auditor's line for every end, and an event where a person should act.
fn tell(verdict: &Verdict, request: &CertificateRequest, context: &Context) {
    match verdict {
        Verdict::Issue(issued) => {
            audit_issued(request, issued);
            for concern in &issued.concerns {
                let (reason, note) = (concern.reason(), concern.to_string());
                warn!(request_uid = request.uid(), namespace = request.namespace(), "issued, but {reason}: {note}");
                publish(request, &Notice { reason, note }, context);
            }
        }
        Verdict::Fail(refusal) => {
            audit_refused(request, "Failed", &refusal.to_string());
            publish(request, &Notice { reason: "Failed", note: refusal.to_string() }, context);
        }
        Verdict::Deny => {
            audit_refused(request, "Denied", "denied by the approver");
            publish(request, &Notice { reason: "Denied", note: DENIED.to_owned() }, context);
        }
        Verdict::Wait { notice: Some(notice), .. } => publish(request, notice, context),
        Verdict::Wait { notice: None, .. } | Verdict::Ignore { .. } => {}
    }
}

/// istio-csr and others delete their requests: this line is what remains. `vault_request_id` joins Vault's own audit log.
fn audit_issued(request: &CertificateRequest, issued: &Issued) {
    let leaf = &issued.path.leaf;
    let issuer = standing(request).issuer.map(|issuer| issuer.to_string());
    info!(
        request_uid = request.uid(),
        request = format!("{}/{}", request.namespace(), request.name()),
        requester = request.requester(),
        issuer,
        sans = %leaf.sans(),
        serial = leaf.serial(),
        not_after = %leaf.not_after(),
        vault_request_id = issued.request_id,
        "issued"
    );
}

fn audit_refused(request: &CertificateRequest, outcome: &str, cause: &str) {
    let issuer = standing(request).issuer.map(|issuer| issuer.to_string());
    info!(
        request_uid = request.uid(),
        request = format!("{}/{}", request.namespace(), request.name()),
        requester = request.requester(),
        issuer,
        outcome,
        cause,
        "refused"
    );
}

fn publish(request: &CertificateRequest, notice: &Notice, context: &Context) {
    context.events.publish(&request.reference(), Kind::Warning, notice.reason, notice.note.clone());
}

/// A panic in one attempt is a defect of ours: it is counted and logged, and that request waits at the slowest pace.
fn broken(request: &CertificateRequest, context: &Context, panic: &(dyn std::any::Any + Send)) -> NotIssued {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    context.metrics.panicked();
    error!(request_uid = request.uid(), "a defect: the attempt panicked: {}", text.unwrap_or("without a message"));
    match standing(request).issuer {
        Some(issuer) => NotIssued::Waiting(issuer, Waiting::Broken),
        None => NotIssued::Ignored(Ignored::NotOurs),
    }
}

/// The requests that `woken` means.
pub fn waiting_for(
    woken: impl Stream<Item = Wake> + Send + 'static,
    context: Arc<Context>,
) -> impl Stream<Item = Name> + Send + 'static {
    woken.flat_map(move |wake| {
        select(&context, |request| {
            let means = standing(request).issuer.is_some_and(|issuer| wake.means(&issuer));
            if means {
                context.attempts.woken(request.uid());
            }
            means
        })
    })
}

/// The requests that may go on because their namespace has other labels now.
pub fn in_namespace(
    relabelled: impl Stream<Item = String> + Send + 'static,
    context: Arc<Context>,
) -> impl Stream<Item = Name> + Send + 'static {
    relabelled.flat_map(move |namespace| select(&context, |request| request.namespace() == namespace))
}

fn select(
    context: &Context,
    wanted: impl Fn(&CertificateRequest) -> bool,
) -> futures::stream::Iter<std::vec::IntoIter<Name>> {
    let state = context.requests.state();
    let selected: Vec<_> = state.iter().filter(|it| wanted(it)).map(|it| name(it)).collect();
    futures::stream::iter(selected)
}
