//! One request in its turn at its issuer: it waits, looks whether it is still wanted, and is signed. A rate limit sends nobody back
//! into the queue: who was refused keeps the turn, and all turns of the issuer keep one pace.

use std::sync::Arc;

use kube::runtime::reflector::ObjectRef;
use tracing::{debug, warn};

use super::Context;
use crate::api::IssuerKey;
use crate::clock;
use crate::issuance::authority::aside;
use crate::issuance::breaker::Pass;
use crate::issuance::inspection::{Issued, inspect};
use crate::issuance::policy;
use crate::issuance::signer::{Refusal, SignError, Signer as _, SigningRequest};
use crate::issuance::triage::{Ignored, triage};
use crate::issuance::trust::Anchors;
use crate::issuance::verdict::{History, NotIssued, Waiting, not_issued};
use crate::issuers::{Going, Live, Turn};
use crate::metrics::Outcome;
use crate::requests::certificate_request::{CertificateRequest, details, standing};
use crate::vault::VaultSigner;

/// A request that its issuer has let pass. Thousands of them may wait here, so everything that costs is done in the turn.
pub struct Admitted<'a> {
    /// The request.
    pub request: &'a CertificateRequest,
    /// The issuer that it names.
    pub key: &'a IssuerKey,
    /// That issuer, as it was when it let the request pass.
    pub issuer: &'a Arc<Live<VaultSigner>>,
    /// The issuer's leave.
    pub pass: Pass,
    /// How long it has waited.
    pub history: &'a History,
    /// Everything else.
    pub context: &'a Context,
}

impl Admitted<'_> {
    /// Waits for the turn, fair between namespaces, and has the request signed in it. `turn` lasts until the caller ends it.
    ///
    /// # Errors
    /// Why it is not signed, or not any more.
    pub async fn signed_in_turn(&self, turn: &mut Option<Turn>) -> Result<Arc<Issued>, NotIssued> {
        *turn = Some(self.in_time(self.issuer.turn(self.request.namespace())).await?);
        // In a box: it is the bulk of a look, and who waits for a turn needs no room for it.
        Box::pin(self.signed()).await
    }

    async fn signed(&self) -> Result<Arc<Issued>, NotIssued> {
        self.still_wanted().inspect_err(|_| self.withdraw())?;
        let plan = self.plan().inspect_err(|_| self.withdraw())?;
        loop {
            let going = self.in_time(self.issuer.leave()).await?;
            let anchors = self.still_wanted().inspect_err(|_| self.withdraw())?;
            match self.sign(&plan, &anchors, going).await {
                Ok(issued) => {
                    let issued = Arc::new(issued);
                    self.keep(Ok(Arc::clone(&issued)));
                    return Ok(issued);
                }
                Err(NotSigned::Slowed) => {}
                Err(NotSigned::For(error)) => {
                    let why = not_issued(self.key, error);
                    if let NotIssued::Refused(refusal) = &why {
                        self.keep(Err(refusal.clone()));
                    }
                    return Err(why);
                }
            }
        }
    }

    fn keep(&self, answer: Result<Arc<Issued>, Refusal>) {
        self.context.attempts.keep(self.request.uid(), answer);
    }

    /// What Vault will be asked, if the issuer's policy has it and the request's Certificate does not ask for ever.
    fn plan(&self) -> Result<SigningRequest, NotIssued> {
        let plan = policy::plan(&details(self.request), self.issuer.config()).map_err(NotIssued::Refused)?;
        let owner = self.request.owner();
        match owner.and_then(|owner| self.context.brakes.pause(owner, plan.ttl, clock::now())) {
            Some(pause) => Err(NotIssued::Waiting(self.key.clone(), Waiting::TooOften(pause))),
            None => Ok(plan),
        }
    }

    /// It does not go on, for a reason of its own. If the issuer had let it alone pass, another may.
    fn withdraw(&self) {
        if self.issuer.withdrawn(self.pass) {
            self.look_at_issuer();
        }
    }

    fn look_at_issuer(&self) {
        // Whoever looks at issuers ends first when the process is to stop.
        if self.context.look_at.send(self.key.clone()).is_err() && !*self.context.stopped.borrow() {
            warn!("{} needs to be looked at, and its controller has ended", self.key);
        }
    }

    /// Waits as long as the request and the process may.
    async fn in_time<T>(&self, wait: impl Future<Output = T>) -> Result<T, NotIssued> {
        let mut stopped = self.context.stopped.clone();
        let patience = self.history.patience(clock::steady());
        let limit = async {
            match patience {
                Some(left) => tokio::time::sleep(left).await,
                None => futures::future::pending().await,
            }
        };
        let missed = tokio::select! {
            biased;
            done = wait => return Ok(done),
            _ = stopped.wait_for(|stop| *stop) => NotIssued::Ignored(Ignored::Stopping),
            () = limit => NotIssued::Waiting(self.key.clone(), Waiting::Turn(self.issuer.held_up_by())),
        };
        self.withdraw();
        Err(missed)
    }

    /// While a request waits for its turn it may be deleted or denied, its issuer may fail or change, and we may have to go: none
    /// of it costs a sign. Where the answer has to end may have changed, too: it is what is in force now.
    fn still_wanted(&self) -> Result<Anchors, NotIssued> {
        if *self.context.stopped.borrow() {
            return Err(NotIssued::Ignored(Ignored::Stopping));
        }
        let Some(current) = current(self.request, self.context) else {
            return Err(NotIssued::Ignored(Ignored::Vanished));
        };
        triage(&standing(&current))?;
        let waiting = |waiting| NotIssued::Waiting(self.key.clone(), waiting);
        // What has taken the issuer's place, or its end, wakes its requests.
        if !self.context.issuers.is_current(self.key, self.issuer) {
            return Err(waiting(Waiting::IssuerUnseen));
        }
        self.issuer.still_admits(self.pass).map_err(waiting)
    }

    /// One sign, checked, counted, and told to whoever looks after the issuer.
    async fn sign(&self, plan: &SigningRequest, anchors: &Anchors, going: Going<'_>) -> Result<Issued, NotSigned> {
        let issuer = self.issuer;
        let started = clock::monotonic();
        let elsewhere = plan.path != issuer.config().vault.path;
        let signed = match issuer.signer().sign(plan).await {
            Ok(answer) => inspect(&answer.beside(issuer.mount_certificates()), plan, anchors, clock::now()),
            Err(error) => Err(error),
        };
        let signed = if elsewhere { signed.map_err(aside) } else { signed };
        let signed = signed.map_err(|error| issuer.weigh(error, clock::now()));
        let error = signed.as_ref().err();
        issuer.metrics().signed(outcome(error), started.elapsed());
        if issuer.was_slowed(going, error, clock::now()) {
            debug!(issuer = %self.key, "a rate limit: asked again after a pause");
            return Err(NotSigned::Slowed);
        }
        let news = match &signed {
            Ok(_) if elsewhere => issuer.attempted_elsewhere(),
            Ok(issued) => issuer.attempted(None, clock::now()) | issuer.issued(plan.ttl, issued, clock::now()),
            Err(error) => issuer.attempted(Some(error), clock::now()),
        };
        if news {
            self.look_at_issuer();
        }
        if let (Ok(issued), Some(owner)) = (&signed, self.request.owner()) {
            self.context.brakes.issued(owner, plan.ttl, issued.path.leaf.not_after(), clock::now());
        }
        signed.map_err(|error| {
            warn!(issuer = %self.key, "not signed: {error}");
            NotSigned::For(error)
        })
    }
}

/// Why one call gave no certificate.
enum NotSigned {
    /// A rate limit: the request asks again in the same turn.
    Slowed,
    /// This.
    For(SignError),
}

/// The request as the watch has shown it last; none if it is gone, whatever has its name now.
pub fn current(request: &CertificateRequest, context: &Context) -> Option<Arc<CertificateRequest>> {
    context.requests.get(&ObjectRef::from_obj(request)).filter(|current| current.uid() == request.uid())
}

fn outcome(error: Option<&SignError>) -> Outcome {
    match error {
        None => Outcome::Issued,
        Some(SignError::Request(_)) => Outcome::Refused,
        Some(SignError::Issuer(_)) => Outcome::IssuerFault,
        Some(error @ SignError::Transient(_)) if error.throttle().is_some() => Outcome::Throttled,
        Some(SignError::Transient(_)) => Outcome::Transient,
        Some(SignError::Untrusted(_)) => Outcome::Untrusted,
    }
}
