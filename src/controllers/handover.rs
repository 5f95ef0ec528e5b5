//! From one leader to the next: what the former one wrote last may not have reached our store yet. A watch is late by as much as
//! the API server likes, while the Lease is free at once; a read by name is never late.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use tokio::time::sleep;
use tracing::warn;

use super::Context;
use crate::clock;
use crate::cluster::status::read_request;
use crate::issuance::triage::triage;
use crate::requests::certificate_request::{CertificateRequest, standing};

/// How many reads are under way at a time.
const AT_ONCE: usize = 8;
/// A read that fails is repeated at this pace, and for so long after the first of all. A leader that cannot reach the API server
/// for so long has lost its Lease.
const RETRY: Duration = Duration::from_secs(1);
const RETRIES: Duration = Duration::from_secs(10);

/// Reads each request once that our store would have signed, and notes those that are over. Where nobody acted before us the
/// store is still empty. Ends at once when the process is to stop.
pub async fn catch_up(context: &Context) {
    let mut stopped = context.stopped.clone();
    let until = clock::monotonic() + RETRIES;
    let held = context.requests.state();
    let unfinished = held.iter().filter(|request| triage(&standing(request)).is_ok());
    let reads = futures::stream::iter(unfinished).for_each_concurrent(AT_ONCE, async |request| {
        if is_over(request, until, context).await {
            // The watch is not polled meanwhile: it has still to show this one's end, which ends the memory.
            context.attempts.history(request.uid(), &standing(request), clock::steady());
            context.attempts.written(request.uid());
        }
    });
    tokio::select! {
        () = reads => {}
        // A dropped sender means that the process is ending anyway.
        _ = stopped.wait_for(|stop| *stop) => {}
    }
}

async fn is_over(request: &CertificateRequest, until: Instant, context: &Context) -> bool {
    let (namespace, name) = (request.namespace(), request.name());
    loop {
        match read_request::<CertificateRequest>(&context.client, namespace, name).await {
            Ok(Some(current)) => return current.uid() != request.uid() || standing(&current).finished,
            Ok(None) => return true,
            Err(_) if clock::monotonic() < until => sleep(RETRY).await,
            Err(error) => {
                warn!(request_uid = request.uid(), "it may have been issued already, and could not be read: {error}");
                return false;
            }
        }
    }
}
