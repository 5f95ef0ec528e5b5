//! An issuer's trust anchors → the object that `spec.trust.publish` names. It never touches the issuer's readiness: signing goes
//! on whatever becomes of it.

use std::time::Duration;

use kube::ResourceExt as _;
use tracing::info;

use super::Context;
use crate::api::material::Delivered;
use crate::api::{IssuerConfig, IssuerKey, IssuerResource, config};
use crate::clock;
use crate::cluster::publication::{Refusal, apply};
use crate::cluster::status::WriteError;
use crate::issuance::publication::{Entry, Publication, Step, Target, Unpublished};
use crate::issuance::trust::Anchors;
use crate::issuance::words::Words;
use crate::issuers::publishers::{Attempt, PAUSE, Publisher};

/// The pause while the watches have not shown all issuers.
const UNTIL_LISTED: Duration = Duration::from_secs(1);

/// What a watch has shown of an issuer: where it publishes, if it does.
pub fn shown<K: IssuerResource>(issuer: &K, key: &IssuerKey, context: &Context) {
    let target = config::publish(issuer.issuer_spec()).ok().flatten();
    let publisher = target.map(|target| Publisher {
        uid: issuer.meta().uid.clone().unwrap_or_default(),
        object: context.settings.object(key, target.kind, &target.name),
    });
    note(key, publisher, context);
}

/// An issuer is gone: who waited for its object may have it.
pub fn gone(key: &IssuerKey, context: &Context) {
    note(key, None, context);
}

fn note(key: &IssuerKey, publisher: Option<Publisher>, context: &Context) {
    for other in context.publishers.shown(key, publisher) {
        // A receiver that is gone means that the process ends.
        let _ = context.look_at.send(other);
    }
}

/// What is to be said where the anchors in force are not known.
pub fn without_anchors<K: IssuerResource>(issuer: &K) -> Publication {
    match issuer.issuer_spec().trust.as_ref().and_then(|trust| trust.publish.as_ref()) {
        Some(_) => Publication::Not(Unpublished::AnchorsUnknown),
        None => Publication::Unwanted,
    }
}

/// Publishes `anchors` where the spec wants them and they do not stand there. Returns what is to be said of it, and when to try
/// again if not at the next check.
pub async fn publish<K: IssuerResource>(
    issuer: &K,
    key: &IssuerKey,
    config: &IssuerConfig,
    anchors: Option<&Anchors>,
    context: &Context,
) -> (Publication, Option<Duration>) {
    let (Some(reference), Some(anchors)) = (&config.publish, anchors) else {
        return (without_anchors(issuer), None);
    };
    // Nobody is to trust what is on no record; writing the status brings the issuer back here.
    if !are_recorded(anchors, issuer) {
        return (Publication::AsWritten, None);
    }
    // One that owns the object might be taken for gone.
    if !context.issuers.all_listed() {
        return (Publication::AsWritten, Some(UNTIL_LISTED));
    }
    let object = context.settings.object(key, reference.kind, &reference.name);
    let target = Target { object, key: reference.key.clone() };
    let entry = Entry::new(target, anchors, key, &issuer.uid().unwrap_or_default());
    let seen = context.references.read(&entry.target.object);
    let outcome = match entry.step(&seen) {
        Step::Wait => return (Publication::AsWritten, None),
        Step::Nothing => Ok(()),
        Step::Refuse(why) => Err(why),
        Step::Write => write(Attempt { entry: entry.clone(), seen }, key, context).await,
    };
    match outcome {
        Ok(()) => (Publication::Done(entry.target), None),
        Err(why) => (Publication::Not(why), Some(PAUSE)),
    }
}

fn are_recorded<K: IssuerResource>(anchors: &Anchors, issuer: &K) -> bool {
    let recorded = issuer.issuer_status().and_then(|status| status.trust_anchors.as_deref()).unwrap_or_default();
    anchors.certificates().iter().all(|anchor| recorded.iter().any(|recorded| recorded.sha256 == anchor.sha256()))
}

/// One attempt, if it is not the last one in vain once more.
async fn write(attempt: Attempt, key: &IssuerKey, context: &Context) -> Result<(), Unpublished> {
    if let Some(why) = context.publishers.in_vain(key, &attempt, clock::now()) {
        return Err(why);
    }
    match apply_or_take(&attempt, key, context).await {
        Ok(by_force) => {
            info!(issuer = %key, target = %attempt.entry.target, "published the trust anchors in force");
            if by_force {
                context.publishers.took(key, attempt.entry, clock::now());
            }
        }
        Err(why) => {
            context.publishers.failed(key, attempt, why.clone(), clock::now());
            return Err(why);
        }
    }
    Ok(())
}

/// An apply, and another with force where what is in its way may be taken. Returns whether it took force.
async fn apply_or_take(
    Attempt { entry, seen }: &Attempt,
    key: &IssuerKey,
    context: &Context,
) -> Result<bool, Unpublished> {
    let object = &entry.target.object;
    let failed = |words| Unpublished::WriteFailed { object: object.clone(), words };
    let mut by_force = false;
    let written = match apply(&context.client, entry, false).await {
        Err(Refusal::Conflict(owners)) => {
            let another = |uid: &str| context.publishers.find(uid, object).filter(|other| other != key);
            entry.may_take(&owners, seen, another)?;
            // Whoever else writes the key by force would otherwise be answered as fast as the API server allows.
            if context.publishers.has_just_taken(key, entry, clock::now()) {
                return Err(failed(Words::new(
                    "it was taken over a moment ago, and somebody else has written it since",
                    &[],
                )));
            }
            info!(issuer = %key, target = %entry.target, ?owners, "taking over what belonged to others");
            by_force = true;
            apply(&context.client, entry, true).await
        }
        other => other,
    };
    written.map(|()| by_force).map_err(|refusal| match refusal {
        Refusal::Forbidden(words) => {
            Unpublished::WriteForbidden { object: object.clone(), missing: *seen == Delivered::Missing, words }
        }
        Refusal::Conflict(owners) => failed(Words::new(&format!("it belongs to {}", owners.join(", ")), &[])),
        Refusal::Failed(WriteError::Refused { words, .. }) => failed(words),
        Refusal::Failed(error) => failed(Words::new(&error.to_string(), &[])),
    })
}
