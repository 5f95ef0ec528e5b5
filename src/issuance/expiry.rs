//! A token that a person has made ends at a time that only a person can put off: said a day ahead, in a condition of the issuer.

use jiff::{SignedDuration, Timestamp};

/// How long before its end people hear of it.
const AHEAD: SignedDuration = SignedDuration::from_hours(24);

/// What is to be said of a token that ends then, if it is time to say it.
pub fn token_expiring(ends: Option<Timestamp>, now: Timestamp) -> Option<String> {
    let ends = ends.filter(|ends| ends.duration_since(now) <= AHEAD)?;
    Some(format!(
        "the token in the Secret of spec.vault.auth.tokenSecretRef is good until {}, and no renewal puts that off. Put a new one \
         into the Secret before then; it is taken over at once",
        ends.strftime("%Y-%m-%dT%H:%M:%SZ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_token_is_said_a_day_ahead_with_its_field_and_its_date() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().expect("a time");
        let said = |ends: &str| token_expiring(Some(ends.parse().expect("a time")), now);
        assert_eq!(said("2026-11-22T12:00:01Z"), None);
        let words = said("2026-11-22T12:00:00.9Z");
        assert_eq!(words, None, "a part of a second is time too");
        let words = said("2026-11-22T12:00:00Z").expect("it is time");
        assert!(words.contains("spec.vault.auth.tokenSecretRef is good until 2026-11-22T12:00:00Z"), "{words}");
        assert!(said("2026-11-20T12:00:00Z").is_some(), "what is over has to be replaced as well");
        assert_eq!(token_expiring(None, now), None);
    }
}
