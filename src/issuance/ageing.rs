//! When does the CA end, and is that sooner than the certificates that are asked of it? Vault refuses to sign beyond it, or cuts, so
//! it is said in a condition of the issuer for as long as it is so, with both dates.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::inspection::Issued;
use super::signer::{Beyond, Outage, Refusal, SignError};
use crate::api::status::day;
use crate::x509::Certificate;

/// For how long a lifetime that was asked for is held against the CA: who asks less often has a certificate in the meantime.
const MEMORY: SignedDuration = SignedDuration::from_hours(24);

/// What signs and refusals have shown about the end of the CA.
#[derive(Debug, Default)]
pub struct Ageing {
    /// The longest lifetime that was asked for lately, and when.
    longest: Option<(Duration, Timestamp)>,
    /// The end of the CA that refused last, if it has neither signed nor changed since.
    refused: Option<Timestamp>,
    /// What is said, unchanged until another CA makes it wrong: a condition that changed with every request would be written
    /// with every request.
    told: Option<Beyond>,
}

impl Ageing {
    /// A certificate was issued. Where the CA's end has cut it, it is as long as was asked that counts.
    pub fn issued(&mut self, asked: Duration, issued: &Issued, now: Timestamp) {
        self.refused = None;
        let (leaf, ca) = (&issued.path.leaf, issued.path.issuers().next());
        let cut = ca.is_some_and(|ca| leaf.not_after() >= ca.not_after());
        let given = leaf.not_after().duration_since(now).unsigned_abs();
        self.asked(if cut { asked } else { given }, now);
    }

    /// Vault refused to sign beyond the end of its CA.
    pub fn refused(&mut self, beyond: Beyond, now: Timestamp) {
        self.refused = Some(beyond.ends);
        self.asked(beyond.life(now), now);
    }

    /// The mount shows another CA.
    pub fn renewed(&mut self) {
        self.refused = None;
    }

    fn asked(&mut self, life: Duration, now: Timestamp) {
        if self.lately(now).is_none_or(|longest| longest <= life) {
            self.longest = Some((life, now));
        }
    }

    fn lately(&self, now: Timestamp) -> Option<Duration> {
        self.longest.filter(|(_, at)| now.duration_since(*at) < MEMORY).map(|(life, _)| life)
    }

    /// Compares what is asked for with what the CA has left; `signing` is the CA as far as it is known. Returns whether there is
    /// news.
    pub fn look(&mut self, signing: Option<&Certificate>, now: Timestamp) -> bool {
        let ends = self.refused.or(signing.map(Certificate::not_after));
        let beyond = ends.zip(self.lately(now)).and_then(|(ends, life)| {
            let wanted = now.checked_add(SignedDuration::try_from(life).ok()?).ok()?;
            (wanted > ends).then_some(Beyond { wanted, ends })
        });
        let news = self.told.map(|told| told.ends) != beyond.map(|beyond| beyond.ends);
        if news {
            self.told = beyond;
        }
        news
    }

    /// When the CA that refused last ended, if its time is over.
    pub fn over(&self, now: Timestamp) -> Option<Timestamp> {
        self.refused.filter(|ends| *ends <= now)
    }

    /// What is to be said about it, if anything.
    pub fn message(&self, mount: &str) -> Option<String> {
        let Beyond { wanted, ends } = self.told?;
        Some(format!(
            "the CA of {mount} ends at {}, and certificates are asked for that would last until {}: requests for so long a life wait, \
             or get certificates that are good no longer than the CA (its leaf_not_after_behavior decides). Renew the CA in the mount and let the new one sign, or \
             ask for a shorter duration",
            day(ends),
            day(wanted)
        ))
    }
}

/// A lifetime beyond the CA's own end waits for another CA; one beyond the CA's whole life would wait for ever. `known` are the
/// certificates among which the CA is sought; if it is not there, nothing is known of its life.
pub fn weigh(error: SignError, known: &[Certificate], now: Timestamp) -> SignError {
    let SignError::Transient(Outage::BeyondCa { path, dates: Some(beyond), .. }) = &error else { return error };
    let (life, lives) = (beyond.life(now), |ca: &Certificate| ca.not_after().duration_since(ca.not_before()));
    let ca = known.iter().filter(|ca| ca.not_after() == beyond.ends).max_by_key(|ca| lives(ca));
    match ca {
        Some(ca) if life > lives(ca).unsigned_abs() => Refusal::BeyondCaLife {
            path: path.clone(),
            wanted: day(beyond.wanted),
            begins: day(ca.not_before()),
            ends: day(ca.not_after()),
        }
        .into(),
        Some(_) | None => error,
    }
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan as _;

    use super::*;
    use crate::issuance::words::Words;
    use crate::x509::CertificationPath;
    use crate::x509::testing::{Authority, now};

    const HOUR: Duration = Duration::from_secs(3_600);

    fn beyond(wanted: &str, ends: &str) -> Beyond {
        let at = |text: &str| text.parse().expect("a timestamp");
        Beyond { wanted: at(wanted), ends: at(ends) }
    }

    /// A leaf of this year under a CA of another.
    fn issued(leaf: i32, ca: i32) -> (Issued, Certificate) {
        let (root, authority) = (Authority::new("Root"), Authority::new("CA"));
        let signing = root.signs(&authority, ca);
        let path = CertificationPath {
            leaf: authority.leaf("a.example", leaf),
            intermediates: vec![signing.clone()],
            anchor: root.root(2040),
        };
        let (chain_pem, ca_pem, request_id) = (String::new(), String::new(), String::new());
        (Issued { path, chain_pem, ca_pem, request_id, concerns: Vec::new() }, signing)
    }

    #[test]
    fn a_refusal_is_told_once_with_both_dates_until_another_ca_signs() {
        let mut ageing = Ageing::default();
        assert!(!ageing.look(None, now()) && ageing.message("pki").is_none());
        ageing.refused(beyond("2030-06-02T00:00:00Z", "2030-06-01T02:00:00Z"), now());
        assert!(ageing.look(None, now()));
        let message = ageing.message("pki").expect("it is told");
        assert!(message.contains("ends at 2030-06-01T02:00:00Z") && message.contains("until 2030-06-02T00:00:00Z"));
        let later = now() + 1.minute();
        ageing.refused(beyond("2030-06-02T00:01:00Z", "2030-06-01T02:00:00Z"), later);
        assert!(!ageing.look(None, later), "the same again is no news");
        assert_eq!(ageing.message("pki"), Some(message));
        assert!(ageing.over(later).is_none() && ageing.over(now() + 2.hours()).is_some());
        let (_, renewed) = issued(2031, 2035);
        ageing.renewed();
        assert!(ageing.look(Some(&renewed), later) && ageing.message("pki").is_none());
    }

    #[test]
    fn a_ca_with_less_left_than_was_given_lately_is_told_ahead() {
        let mut ageing = Ageing::default();
        // Seven months, from a CA with nineteen left; then it has six.
        let (given, signing) = issued(2031, 2032);
        ageing.issued(HOUR * 24 * 3_650, &given, now());
        assert!(!ageing.look(Some(&signing), now()), "the role's own maximum is not held against the CA");
        let later = now() + (13 * 30 * 24).hours();
        ageing.issued(HOUR, &given, later);
        assert!(!ageing.look(Some(&signing), later), "who asked a year ago asks no more");
        ageing.asked(HOUR * 24 * 210, later);
        assert!(ageing.look(Some(&signing), later) && ageing.message("pki").is_some());
    }

    #[test]
    fn a_certificate_that_ends_with_its_ca_was_cut() {
        let mut ageing = Ageing::default();
        let (cut, signing) = issued(2031, 2031);
        ageing.issued(HOUR * 24 * 365, &cut, now());
        assert!(ageing.look(Some(&signing), now()));
    }

    #[test]
    fn only_what_no_ca_of_that_life_could_give_ends_a_request() {
        let root = Authority::new("Root");
        // Its life is ten years, of which seven months are left.
        let ca = root.signs(&Authority::new("CA"), 2031);
        let refusal = |dates| -> SignError {
            let (path, words) = ("pki/sign/web".to_owned(), Words::new("beyond", &[]));
            Outage::BeyondCa { path, words, dates }.into()
        };
        let ends = "2031-01-01T00:00:00Z";
        for waits in [refusal(None), refusal(Some(beyond("2035-01-01T00:00:00Z", ends)))] {
            assert_eq!(weigh(waits.clone(), std::slice::from_ref(&ca), now()), waits);
        }
        let never = refusal(Some(beyond("2045-01-01T00:00:00Z", ends)));
        assert_eq!(weigh(never.clone(), &[root.root(2040)], now()), never, "that CA is not known");
        let error = weigh(never, &[root.root(2040), ca], now());
        assert!(matches!(error, SignError::Request(Refusal::BeyondCaLife { .. })), "{error}");
        assert!(error.to_string().contains("2020-01-01T00:00:00Z") && error.to_string().contains(ends), "{error}");
    }
}
