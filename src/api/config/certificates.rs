//! `spec.certificates`: lifetimes, usages, and whether CA certificates may be asked for.

use std::time::Duration;

use super::SpecError;
use crate::api::spec::{AllowCaSpec, IssuerSpec};

/// A certificate without a requested duration gets cert-manager's own default: 90 days.
const DEFAULT_DURATION: Duration = Duration::from_secs(2_160 * 3_600);

/// What certificates may be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificates {
    /// Lifetimes.
    pub durations: Durations,
    /// What a certificate means that lacks usages.
    pub usages: Usages,
    /// Which CA certificates; none at all if this is none.
    pub allow_ca: Option<AllowCa>,
}

/// Which lifetimes are asked for and permitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Durations {
    /// For requests that name none.
    pub default: Duration,
    /// The longest that is passed on; none: Vault's role decides.
    pub max: Option<Duration>,
}

/// What to do about a certificate that lacks usages which its request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usages {
    /// Hand it out, and say so.
    Warn,
    /// Refuse it.
    Enforce,
}

/// Which CA certificates may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AllowCa {
    /// The path length that is written into them.
    pub max_path_length: u8,
    /// The longest lifetime that is passed on.
    pub max_duration: Option<Duration>,
}

pub(super) fn parse(spec: &IssuerSpec) -> Result<Certificates, SpecError> {
    let written = spec.certificates.clone().unwrap_or_default();
    let durations = durations(spec)?;
    let usages = match written.usages.as_deref() {
        None | Some("Warn") => Usages::Warn,
        Some("Enforce") => Usages::Enforce,
        Some(other) => {
            let problem = format!("{other:?} is none of Warn and Enforce");
            return Err(SpecError::new("spec.certificates.usages", problem));
        }
    };
    let allow_ca = written.allow_ca.map(|allow| allow_ca(&allow, durations.max)).transpose()?;
    Ok(Certificates { durations, usages, allow_ca })
}

fn allow_ca(written: &AllowCaSpec, max: Option<Duration>) -> Result<AllowCa, SpecError> {
    let field = "spec.certificates.allowCA.maxDuration";
    let own = written.max_duration.as_ref().map(|text| positive(field, text)).transpose()?;
    Ok(AllowCa { max_path_length: written.max_path_length.unwrap_or(0), max_duration: own.or(max) })
}

fn durations(spec: &IssuerSpec) -> Result<Durations, SpecError> {
    let certificates = spec.certificates.clone().unwrap_or_default();
    let parse = |field: &str, text: Option<&String>| text.map(|text| positive(field, text)).transpose();
    let max = parse("spec.certificates.maxDuration", certificates.max_duration.as_ref())?;
    let default = parse("spec.certificates.defaultDuration", certificates.default_duration.as_ref())?;
    match (default, max) {
        (Some(default), Some(max)) if default > max => {
            Err(SpecError::new("spec.certificates.defaultDuration", "is longer than spec.certificates.maxDuration"))
        }
        // A maximum below cert-manager's default lowers the default too: what the user wrote must work by itself.
        (default, max) => {
            let fallback = max.map_or(DEFAULT_DURATION, |max| max.min(DEFAULT_DURATION));
            Ok(Durations { default: default.unwrap_or(fallback), max })
        }
    }
}

fn positive(field: &str, text: &str) -> Result<Duration, SpecError> {
    match go_duration(text) {
        Some(GoDuration::Positive(duration)) if duration >= Duration::from_secs(1) => Ok(duration),
        _ => Err(SpecError::new(field, format!("{text:?} is no duration of at least one second, for example 24h"))),
    }
}

/// A duration as Go writes it, with its sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GoDuration {
    /// Above zero.
    Positive(Duration),
    /// `0s`.
    Zero,
    /// Below zero.
    Negative,
}

/// The longest text that is read as a duration: each of its numbers is bounded, and so is their sum.
const LONGEST: usize = 64;

/// Parses a Go duration such as `1h30m`; none if it is not one. Nothing else reaches the library's parser: it panics on a sign
/// inside the text and on numbers that no duration holds (Go itself ends at 292 years).
pub fn go_duration(text: &str) -> Option<GoDuration> {
    let (text, negative) = match text.strip_prefix('-') {
        Some(rest) => (rest, true),
        None => (text.strip_prefix('+').unwrap_or(text), false),
    };
    let numbers_are_small = text.split(|c: char| !c.is_ascii_digit()).all(|digits| digits.len() <= 12);
    let no_sign_inside = text.chars().all(|c| c.is_ascii_digit() || c == '.' || c.is_alphabetic());
    if text.is_empty() || text.len() > LONGEST || !numbers_are_small || !no_sign_inside {
        return None;
    }
    let duration = text.parse::<kube::core::Duration>().ok().map(Duration::from)?;
    Some(match (duration.is_zero(), negative) {
        (true, _) => GoDuration::Zero,
        (false, true) => GoDuration::Negative,
        (false, false) => GoDuration::Positive(duration),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        let seconds = |seconds| Some(GoDuration::Positive(Duration::from_secs(seconds)));
        for (text, expected) in [
            ("1h30m", seconds(5_400)),
            ("1.5h", seconds(5_400)),
            ("2160h0m0s", seconds(2_160 * 3_600)),
            ("0s", Some(GoDuration::Zero)),
            ("0", Some(GoDuration::Zero)),
            ("-1h", Some(GoDuration::Negative)),
            ("1 day", None),
            ("", None),
            ("-", None),
            ("1h-5m", None),
            ("99999999999999999999h", None),
            ("1d", None),
            (&"999999999999h".repeat(5), None),
        ] {
            assert_eq!(go_duration(text), expected, "{text}");
        }
    }
}
