//! A token of Vault's and how long it may be used: pure, and the token itself cannot be printed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use secrecy::SecretString;

use super::envelope::Login;

/// A token with what is known of its end.
pub struct Token {
    secret: Arc<SecretString>,
    obtained: Instant,
    lease: Option<Duration>,
    uses: Option<Uses>,
}

/// The uses of a token that is good for a number of calls only.
#[derive(Clone, Copy)]
struct Uses {
    granted: u32,
    left: u32,
}

/// What to do before the next call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The token is good.
    Use,
    /// Its life or its uses near their end.
    LogInAgain,
}

impl Token {
    /// The token of a login that was answered at `now`.
    pub fn new(login: Login, now: Instant) -> Self {
        let uses = login.uses.map(|granted| Uses { granted, left: granted });
        Self { secret: Arc::new(login.client_token), obtained: now, lease: login.lease, uses }
    }

    /// A token that somebody else made: used until Vault refuses it.
    pub fn fixed(secret: SecretString, now: Instant) -> Self {
        Self { secret: Arc::new(secret), obtained: now, lease: None, uses: None }
    }

    /// The secret, for a call.
    pub fn secret(&self) -> Arc<SecretString> {
        Arc::clone(&self.secret)
    }

    /// Two thirds of the lease are used; the last third is for clocks, for calls on their way and for a Vault that is away.
    pub fn standing(&self, now: Instant) -> Standing {
        let aged = self.lease.is_some_and(|lease| now.saturating_duration_since(self.obtained) >= lease - lease / 3);
        let used_up = self.uses.is_some_and(|uses| uses.left == 0);
        if aged || used_up { Standing::LogInAgain } else { Standing::Use }
    }

    /// Counts one call, before it is made: what Vault refuses costs a use as well.
    pub fn reserve(&mut self) {
        if let Some(uses) = &mut self.uses {
            uses.left = uses.left.saturating_sub(1);
        }
    }

    /// Learns how many calls are left: of a token that somebody else made, Vault tells only when asked.
    pub fn limit(&mut self, left: Option<u32>) {
        self.uses = left.map(|left| Uses { granted: left, left });
    }

    /// Whether it is good for a number of calls only.
    pub fn is_counted(&self) -> bool {
        self.uses.is_some()
    }

    /// Whether a call that serves no request may be made: on a token with counted uses only right after its login.
    pub fn may_probe(&self) -> bool {
        self.uses.is_none_or(|uses| uses.left == uses.granted)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "an Instant can be made in no other way")]

    use super::*;

    fn token(lease: u64, uses: Option<u32>, now: Instant) -> Token {
        let lease = Some(Duration::from_secs(lease)).filter(|lease| !lease.is_zero());
        Token::new(Login { client_token: SecretString::from("t"), lease, renewable: true, uses }, now)
    }

    #[track_caller]
    fn check(lease: u64, after: u64, expected: Standing) {
        let now = Instant::now();
        assert_eq!(
            token(lease, None, now).standing(now + Duration::from_secs(after)),
            expected,
            "{lease} s after {after} s"
        );
    }

    #[test]
    fn a_token_is_kept_until_two_thirds_of_its_lease() {
        check(3_600, 0, Standing::Use);
        check(3_600, 2_399, Standing::Use);
        check(3_600, 2_400, Standing::LogInAgain);
        check(1, 1, Standing::LogInAgain);
        check(0, 1_000_000, Standing::Use);
        check(u64::MAX, 1_000_000, Standing::Use);
    }

    #[test]
    fn counted_uses_end_before_vault_says_so() {
        let now = Instant::now();
        let mut token = token(0, Some(2), now);
        assert!(token.may_probe());
        token.reserve();
        assert!(!token.may_probe());
        assert_eq!(token.standing(now), Standing::Use);
        token.reserve();
        assert_eq!(token.standing(now), Standing::LogInAgain);
    }
}
