//! Whether a certificate costs more where there are many: requests, issuers, requests of others, and finished ones at the start.

use anyhow::Result;
use testenv::requests_of_others;

use crate::arena::{Arena, Contender, Signing};
use crate::drain::{Waiting, drain, drained};
use crate::latency::closed_loop;
use crate::record::Record;

/// What each row's name begins with, and no other scenario's.
pub const NAME: &str = "growth: ";
const ISSUERS: usize = 200;
const CLIENTS: usize = 8;
const OF_OTHERS: &str = "/apis/cert-manager.io/v1/namespaces/others/certificaterequests";

/// One turn of all rows: with so many requests, ten and twenty times as many.
pub async fn turn(arena: &Arena, number: usize, few: usize, record: &mut Record) -> Result<()> {
    let (more, many, ours) = (10 * few, 20 * few, Contender::Ours);
    let one = |requests| Waiting { requests, issuers: 1 };
    for contender in Contender::in_turn(number) {
        for requests in [few, more] {
            let figures = drain(arena, contender, Signing::USUAL, one(requests)).await?;
            record.add(&row(&format!("{requests} requests")), contender.name(), figures);
        }
    }
    let figures = drained(arena, ours, Signing::USUAL, one(many), "many").await?;
    record.add(&row(&format!("{many} requests")), ours.name(), figures);
    arena.without_issuers(ours).await?;
    let figures = drained(arena, ours, Signing::USUAL, one(few), "late").await?;
    record.add(&row(&format!("{few} requests, started beside {many} finished ones")), ours.name(), figures);
    arena.clear(ours).await?;

    let spread = Waiting { requests: few, issuers: ISSUERS };
    let figures = drain(arena, ours, Signing::USUAL, spread).await?;
    record.add(&row(&format!("{few} requests, {ISSUERS} issuers")), ours.name(), figures);

    for issuers in [1, ISSUERS] {
        let figures = closed_loop(arena, ours, CLIENTS, issuers).await?;
        record.add(&row(&format!("{CLIENTS} clients, issuers that are Ready: {issuers}")), ours.name(), figures);
    }

    requests_of_others(&arena.plane.kube, "others", many).await?;
    for contender in Contender::in_turn(number) {
        let figures = drain(arena, contender, Signing::USUAL, one(few)).await?;
        record.add(&row(&format!("{few} requests beside {many} of others")), contender.name(), figures);
    }
    arena.delete_all(OF_OTHERS).await
}

fn row(what: &str) -> String {
    format!("{NAME}{what}")
}
