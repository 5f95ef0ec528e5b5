//! What recent signs show about lifetimes: is less than a third given of what is asked for? Said in a condition of the issuer for
//! as long as nothing shows the opposite.

use std::time::Duration;

use super::inspection::{Concern, Issued};

/// What shortens lifetimes, as far as signs have shown.
#[derive(Debug, Default)]
pub struct Lifetimes(Option<Cut>);

#[derive(Debug)]
struct Cut {
    /// The shortest lifetime that was asked for and cut.
    asked: Duration,
    /// That of the first one: a condition that changed with every request would be written with every request.
    message: String,
}

impl Lifetimes {
    /// A certificate was issued. Returns whether that is news: a cut where none was known, or the whole of a lifetime that was
    /// cut before. Who asks for less shows nothing.
    pub fn seen(&mut self, asked: Duration, issued: &Issued) -> bool {
        let cut = issued.concerns.iter().find(|concern| matches!(concern, Concern::LifetimeShortened { .. }));
        match (&mut self.0, cut) {
            (None, None) => false,
            (None, Some(cut)) => {
                self.0 = Some(Cut { asked, message: cut.to_string() });
                true
            }
            (Some(known), Some(_)) => {
                known.asked = known.asked.min(asked);
                false
            }
            (Some(known), None) => {
                let mended = asked >= known.asked;
                if mended {
                    self.0 = None;
                }
                mended
            }
        }
    }

    /// What is to be said about it, if anything.
    pub fn message(&self) -> Option<&str> {
        self.0.as_ref().map(|cut| cut.message.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x509::CertificationPath;
    use crate::x509::testing::Authority;

    #[test]
    fn a_cut_is_news_until_as_long_a_lifetime_is_given_whole() {
        let root = Authority::new("Root").root(2040);
        let path = CertificationPath { leaf: root.clone(), intermediates: Vec::new(), anchor: root };
        let issued = |given: Option<&str>| {
            let cut = |given: &str| Concern::LifetimeShortened {
                path: "pki/sign/mesh".to_owned(),
                asked: "24h".to_owned(),
                given: given.to_owned(),
            };
            let (chain_pem, ca_pem, request_id) = (String::new(), String::new(), String::new());
            Issued { path: path.clone(), chain_pem, ca_pem, request_id, concerns: given.map(cut).into_iter().collect() }
        };
        let hours = |hours: u64| Duration::from_secs(hours * 3_600);
        let mut lifetimes = Lifetimes::default();
        assert!(!lifetimes.seen(hours(24), &issued(None)));
        assert!(lifetimes.seen(hours(24), &issued(Some("1h"))));
        assert!(!lifetimes.seen(hours(12), &issued(Some("2h"))));
        assert!(lifetimes.message().is_some_and(|message| message.contains("1h given")), "{lifetimes:?}");
        assert!(!lifetimes.seen(hours(11), &issued(None)), "less than what was cut shows nothing");
        assert!(lifetimes.message().is_some());
        assert!(lifetimes.seen(hours(12), &issued(None)));
        assert_eq!(lifetimes.message(), None);
    }
}
