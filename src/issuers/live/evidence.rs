//! What signs show of their issuer: each that ends, well or not, is evidence about the authority, its CA and its root.

use std::time::Duration;

use jiff::Timestamp;

use super::{Live, State};
use crate::api::status::day;
use crate::issuance::ageing::weigh;
use crate::issuance::breaker::Sight;
use crate::issuance::discovery::in_force;
use crate::issuance::inspection::Issued;
use crate::issuance::signer::{Beyond, Fault, Mistrust, Outage, SignError, Signer};
use crate::issuance::trust::Anchors;
use crate::x509::Certificate;

impl<S: Signer> Live<S> {
    /// An attempt ended. Returns whether the issuer has to be looked at.
    pub fn attempted(&self, error: Option<&SignError>, now: Timestamp) -> bool {
        let mut state = self.state();
        match error {
            None => {
                (state.last_signed, state.unsigned) = (Some(now), None);
                let confirmed = std::mem::take(&mut state.record.provisional);
                // One that was signed before the root changed does not open what that closed.
                let changed = state.record.elsewhere.is_some();
                (!changed && state.breaker.signed()) || confirmed
            }
            // The authority answered, and refused this request only: that says nothing against it.
            Some(SignError::Request(_)) => state.breaker.void(),
            Some(SignError::Transient(Outage::BeyondCa { dates, .. })) => self.beyond_ca(&mut state, *dates, now),
            Some(error @ (SignError::Issuer(_) | SignError::Transient(_) | SignError::Untrusted(_))) => {
                if let SignError::Untrusted(Mistrust::NoPath { root: Some(root), .. }) = error
                    && let Some(news) = self.ended_at(&mut state, root, now)
                {
                    return news;
                }
                state.breaker.sign_failed(error, now);
                if matches!(error, SignError::Untrusted(_)) {
                    state.trouble = Some(error.clone());
                }
                (state.last_signed, state.unsigned) = (None, Some(error.clone()));
                true
            }
        }
    }

    /// What a failed sign means for its request, with all that is known of the CA.
    pub fn weigh(&self, error: SignError, now: Timestamp) -> SignError {
        let state = self.state();
        let known: Vec<_> = state.shown.certificates.iter().chain(&state.signing).cloned().collect();
        weigh(error, &known, now)
    }

    /// A request asked for more than the CA has left. Returns whether the issuer has to be looked at.
    fn beyond_ca(&self, state: &mut State, dates: Option<Beyond>, now: Timestamp) -> bool {
        if let Some(beyond) = dates {
            state.ageing.refused(beyond, now);
        }
        if let Some(ended) = state.ageing.over(now) {
            let (mount, ca) = (self.mount().to_owned(), format!("one that ended at {}", day(ended)));
            let expired = SignError::from(Fault::CaExpired { mount, ca });
            state.breaker.sign_failed(&expired, now);
            (state.last_signed, state.unsigned) = (None, Some(expired));
            return true;
        }
        // It says nothing against the authority; and because such a request asks again, it must not be woken by giving the
        // trial back.
        state.breaker.void();
        state.look_at_age(now)
    }

    /// A CA certificate was signed at a path of its own: that shows nothing of the path that signs leaves.
    pub fn attempted_elsewhere(&self) -> bool {
        let mut state = self.state();
        // The anchors have been handed out with it: from now on a change takes a person's word.
        let confirmed = std::mem::take(&mut state.record.provisional);
        state.breaker.void() || confirmed
    }

    /// A certificate was issued at the issuer's own path. Returns whether its CA is another than the one known to sign, or its
    /// lifetime is news.
    pub fn issued(&self, asked: Duration, issued: &Issued, now: Timestamp) -> bool {
        let mut state = self.state();
        let lifetime = state.lifetimes.seen(asked, issued);
        state.ageing.issued(asked, issued, now);
        let Some(signing) = issued.path.issuers().next() else { return lifetime };
        let other = state.signing.as_ref() != Some(signing);
        state.record.signing = Some(signing.sha256().to_owned());
        state.signing = Some(signing.clone());
        let age = state.look_at_age(now);
        lifetime || other || age
    }

    /// An answer ended at a root that was not in force when its request passed. If the mount has this root, it is no forgery:
    /// either it is followed from now on, or somebody has to accept it. Returns whether the issuer has to be looked at; none:
    /// the mount does not show such a root.
    fn ended_at(&self, state: &mut State, root: &Certificate, now: Timestamp) -> Option<bool> {
        let is_root = |anchors: &Anchors| anchors.certificates().contains(root);
        if state.anchors.as_ref().is_some_and(is_root) {
            return Some(state.breaker.void());
        }
        let known_already = matches!(&state.trouble, Some(SignError::Issuer(Fault::AnchorsChanged { .. })))
            && state.record.elsewhere.as_ref().is_some_and(|elsewhere| elsewhere.sha256 == root.sha256());
        if known_already {
            return Some(false);
        }
        state.record.elsewhere = Some(root.into());
        let found = in_force(&state.shown, state.anchors.as_ref(), &state.record, self.mount(), now);
        if let Err(fault @ Fault::AnchorsChanged { .. }) = found {
            let trouble = fault.into();
            state.breaker.checked(Some(&trouble), Sight::Seen, &self.origin.uid, now);
            state.trouble = Some(trouble);
            return Some(true);
        }
        let anchors = found.ok().filter(is_root)?;
        self.settle(state, anchors);
        state.breaker.void();
        Some(true)
    }
}
