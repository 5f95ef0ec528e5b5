//! From one leader to the next: what the former one wrote last may not have reached our store yet. A watch is late by as much as
//! the API server likes, while the Lease is free at once; a read by name is never late.

use futures::StreamExt as _;
use tracing::warn;

use super::Context;
use super::signing::current;
use crate::clock;
use crate::cluster::status::read_request;
use crate::issuance::triage::triage;
use crate::requests::certificate_request::{CertificateRequest, standing};

/// How many reads are under way at a time.
const AT_ONCE: usize = 8;

/// Reads each request once that our store would have signed, and notes those that are over. Where nobody acted before us the
/// store is still empty.
pub async fn catch_up(context: &Context) {
    let held = context.requests.state();
    let unfinished = held.iter().filter(|request| triage(&standing(request)).is_ok());
    let reads = futures::stream::iter(unfinished).for_each_concurrent(AT_ONCE, async |request| {
        if is_over(request, context).await {
            context.attempts.history(request.uid(), &standing(request), clock::now());
            context.attempts.written(request.uid());
            // The watch may have caught up meanwhile, and nobody would forget it then.
            if current(request, context).is_none() {
                context.attempts.forget(request.uid());
            }
        }
    });
    reads.await;
}

async fn is_over(request: &CertificateRequest, context: &Context) -> bool {
    let (namespace, name) = (request.namespace(), request.name());
    match read_request::<CertificateRequest>(&context.client, namespace, name).await {
        Ok(Some(current)) => current.uid() != request.uid() || standing(&current).finished,
        Ok(None) => true,
        Err(error) => {
            warn!(request_uid = request.uid(), "it may have been issued already, and could not be read: {error}");
            false
        }
    }
}
