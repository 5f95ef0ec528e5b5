//! A token of Vault's and how long it may be used: pure, and the token itself cannot be printed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use secrecy::SecretString;

use super::envelope::{Described, Login};

/// The shortest pause after a renewal, or a login ahead of time, that Vault could not answer.
const SHORTEST_REST: Duration = Duration::from_secs(1);
/// A shorter last third passes between two checks of an idle issuer, which are a minute apart at least.
const KEPT_WHILE_IDLE: Duration = Duration::from_secs(60);

/// A token with what is known of its end.
pub struct Token {
    secret: Arc<SecretString>,
    lease: Option<Lease>,
    uses: Option<Uses>,
    /// Whether Vault would prolong it, as far as is known.
    renewable: bool,
    /// Whether it is ours to revoke: one of a login, and not of the kind that nobody can revoke.
    revocable: bool,
    /// Until then it is used as it is: Vault was away when it was to be renewed or replaced.
    rests: Option<Instant>,
}

/// The time that Vault has given.
#[derive(Clone, Copy)]
struct Lease {
    granted: Duration,
    ends: Instant,
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
    /// Its lease nears its end and can be prolonged.
    Renew,
    /// Its life or its uses near their end.
    LogInAgain,
}

impl Token {
    /// The token of a login that was asked for at `now`.
    pub fn new(login: Login, now: Instant) -> Self {
        let mut token = Self::fixed(login.client_token);
        token.lease = login.lease.and_then(|lease| Lease::new(lease, lease, now));
        token.uses = login.uses.map(|granted| Uses { granted, left: granted });
        (token.renewable, token.revocable) = (login.renewable, !login.batch);
        token
    }

    /// A token that somebody else made: used until Vault refuses it.
    pub fn fixed(secret: SecretString) -> Self {
        Self { secret: Arc::new(secret), lease: None, uses: None, renewable: false, revocable: false, rests: None }
    }

    /// Learns of a token that somebody else made what Vault tells only when asked, which was at `now`.
    pub fn learn(&mut self, described: &Described, now: Instant) {
        let Described { left, granted, renewable, uses, .. } = *described;
        self.lease = left.and_then(|left| Lease::new(granted.unwrap_or(left).max(left), left, now));
        // It has been used at least once, so no call is spent on it that serves no request.
        self.uses = uses.map(|left| Uses { granted: left.saturating_add(1), left });
        self.renewable = renewable;
    }

    /// The secret, for a call.
    pub fn secret(&self) -> Arc<SecretString> {
        Arc::clone(&self.secret)
    }

    /// Two thirds of the lease are used; the last third is for clocks, for calls on their way and for a Vault that is away.
    pub fn standing(&self, now: Instant) -> Standing {
        let rests = self.rests.is_some_and(|until| now < until);
        let aged = self.lease.is_some_and(|lease| lease.left(now) <= lease.granted / 3 && !rests);
        if self.is_over(now) || (aged && !self.is_renewable()) {
            Standing::LogInAgain
        } else if aged {
            Standing::Renew
        } else {
            Standing::Use
        }
    }

    /// Whether nothing can be done with it any more.
    pub fn is_over(&self, now: Instant) -> bool {
        self.lease.is_some_and(|lease| lease.left(now).is_zero()) || self.uses.is_some_and(|uses| uses.left == 0)
    }

    /// Whether a renewal could prolong it. One with counted uses is not worth a use for it.
    pub fn is_renewable(&self) -> bool {
        self.renewable && self.lease.is_some() && self.uses.is_none()
    }

    /// What is left of its lease; none: it has no end that is known.
    pub fn left(&self, now: Instant) -> Option<Duration> {
        self.lease.map(|lease| lease.left(now))
    }

    /// A renewal that was asked for at `now` gave this. Less than before means that the token's own end is near, and that a further
    /// renewal would give nothing.
    pub fn renewed(&mut self, lease: Option<Duration>, now: Instant) {
        let (Some(before), Some(given)) = (self.lease, lease) else { return self.keep_as_it_is() };
        if given < before.granted {
            self.keep_as_it_is();
            // What is left was rounded up to whole seconds.
            let given = given.saturating_sub(Duration::from_secs(1));
            self.lease = Lease::new(given, given, now);
        } else {
            self.lease = Lease::new(given, given, now);
        }
    }

    /// Vault does not renew it.
    pub fn keep_as_it_is(&mut self) {
        self.renewable = false;
    }

    /// Vault could not be asked: the token is used for a while before that is tried again.
    pub fn rest(&mut self, now: Instant) {
        let pause = self.left(now).unwrap_or_default() / 8;
        self.rests = now.checked_add(pause.max(SHORTEST_REST));
    }

    /// How long until its renewal is due, if it is to be kept although nobody asks for it.
    pub fn renewal_due(&self, now: Instant) -> Option<Duration> {
        let lease = self.lease.filter(|lease| self.is_renewable() && lease.granted / 3 >= KEPT_WHILE_IDLE)?;
        let rest = self.rests.map(|until| until.saturating_duration_since(now)).unwrap_or_default();
        Some(lease.left(now).saturating_sub(lease.granted / 3).max(rest))
    }

    /// Whether it may and need be revoked once nobody uses it.
    pub fn is_revocable(&self, now: Instant) -> bool {
        self.revocable && !self.is_over(now)
    }

    /// Counts one call, before it is made: what Vault refuses costs a use as well.
    pub fn reserve(&mut self) {
        if let Some(uses) = &mut self.uses {
            uses.left = uses.left.saturating_sub(1);
        }
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

impl Lease {
    /// None where the end lies beyond what can be told.
    fn new(granted: Duration, left: Duration, now: Instant) -> Option<Self> {
        Some(Self { granted, ends: now.checked_add(left)? })
    }

    fn left(self, now: Instant) -> Duration {
        self.ends.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "an Instant can be made in no other way")]

    use super::*;

    const HOUR: u64 = 3_600;

    fn login(lease: u64, renewable: bool, uses: Option<u32>) -> Login {
        let lease = Some(Duration::from_secs(lease)).filter(|lease| !lease.is_zero());
        Login { client_token: SecretString::from("t"), lease, renewable, uses, batch: false }
    }

    fn token(lease: u64, uses: Option<u32>, now: Instant) -> Token {
        Token::new(login(lease, true, uses), now)
    }

    fn after(now: Instant, seconds: u64) -> Instant {
        now + Duration::from_secs(seconds)
    }

    #[track_caller]
    fn stands(token: &Token, now: Instant, expected: &[(u64, Standing)]) {
        for (seconds, expected) in expected {
            assert_eq!(token.standing(after(now, *seconds)), *expected, "after {seconds} s");
        }
    }

    #[test]
    fn a_token_is_used_as_it_is_until_two_thirds_of_its_lease() {
        let now = Instant::now();
        let hour = [(0, Standing::Use), (2_399, Standing::Use), (2_400, Standing::Renew), (HOUR, Standing::LogInAgain)];
        stands(&token(HOUR, None, now), now, &hour);
        stands(&token(0, None, now), now, &[(1_000_000, Standing::Use)]);
        stands(&token(u64::MAX, None, now), now, &[(1_000_000, Standing::Use)]);
        let fixed = Token::fixed(SecretString::from("t"));
        stands(&fixed, now, &[(1_000_000, Standing::Use)]);
    }

    #[test]
    fn what_cannot_be_renewed_is_logged_in_for_anew() {
        let now = Instant::now();
        let batch = Token::new(Login { batch: true, ..login(HOUR, false, None) }, now);
        stands(&batch, now, &[(2_399, Standing::Use), (2_400, Standing::LogInAgain)]);
        stands(&token(HOUR, Some(5), now), now, &[(2_399, Standing::Use), (2_400, Standing::LogInAgain)]);
    }

    #[test]
    fn a_whole_renewal_begins_the_lease_anew_and_a_shrunk_one_is_the_last() {
        let now = Instant::now();
        let mut token = token(10, None, now);
        stands(&token, now, &[(6, Standing::Use), (7, Standing::Renew)]);
        token.renewed(Some(Duration::from_secs(10)), after(now, 7));
        stands(&token, now, &[(13, Standing::Use), (14, Standing::Renew)]);
        // 20 s are all that this token gets; 5.2 s of them were left, which Vault rounds up.
        token.renewed(Some(Duration::from_secs(6)), after(now, 14));
        stands(&token, now, &[(17, Standing::Use), (18, Standing::LogInAgain)]);
        assert!(!token.is_over(after(now, 18)) && token.is_over(after(now, 19)));
    }

    #[test]
    fn a_renewal_without_a_lease_changes_nothing_and_is_the_last() {
        let now = Instant::now();
        let mut token = token(HOUR, None, now);
        token.renewed(None, after(now, 2_400));
        stands(&token, now, &[(2_400, Standing::LogInAgain), (HOUR, Standing::LogInAgain)]);
        assert!(token.is_over(after(now, HOUR)));
    }

    #[test]
    fn a_vault_that_is_away_is_not_asked_with_every_request() {
        let now = Instant::now();
        let mut token = token(HOUR, None, now);
        token.rest(after(now, 2_400));
        stands(&token, now, &[(2_400, Standing::Use), (2_549, Standing::Use), (2_550, Standing::Renew)]);
        token.rest(after(now, HOUR - 2));
        stands(&token, now, &[(HOUR - 2, Standing::Use), (HOUR - 1, Standing::Renew), (HOUR, Standing::LogInAgain)]);
    }

    #[test]
    fn a_token_is_kept_while_idle_where_a_check_comes_in_time() {
        let now = Instant::now();
        let due = |token: &Token, seconds| token.renewal_due(after(now, seconds)).map(|due| due.as_secs());
        let mut hour = token(HOUR, None, now);
        assert_eq!((due(&hour, 0), due(&hour, 2_300), due(&hour, 3_000)), (Some(2_400), Some(100), Some(0)));
        hour.rest(after(now, 2_400));
        assert_eq!(due(&hour, 2_400), Some(150));
        assert_eq!(due(&token(180, None, now), 0), Some(120));
        assert_eq!(due(&token(179, None, now), 0), None);
        assert_eq!(due(&token(HOUR, Some(10), now), 0), None);
        hour.keep_as_it_is();
        assert_eq!(due(&hour, 0), None);
    }

    #[test]
    fn a_token_that_somebody_else_made_is_renewed_at_two_thirds_of_its_own_lease() {
        let now = Instant::now();
        let mut token = Token::fixed(SecretString::from("t"));
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let described =
            Described { left: seconds(1_800), granted: seconds(HOUR), renewable: true, ..Described::default() };
        token.learn(&described, now);
        stands(&token, now, &[(599, Standing::Use), (600, Standing::Renew)]);
        token.renewed(seconds(HOUR), after(now, 600));
        stands(&token, now, &[(2_999, Standing::Use), (3_000, Standing::Renew)]);
        assert!(!token.is_revocable(now), "it is not ours");
        token.learn(&Described { uses: Some(2), ..described }, now);
        stands(&token, now, &[(600, Standing::LogInAgain)]);
    }

    #[test]
    fn what_is_over_or_nobodys_to_revoke_is_left_alone() {
        let now = Instant::now();
        let mut counted = token(HOUR, Some(1), now);
        assert!(counted.is_revocable(now) && !counted.is_revocable(after(now, HOUR)));
        counted.reserve();
        assert!(!counted.is_revocable(now));
        assert!(!Token::new(Login { batch: true, ..login(HOUR, false, None) }, now).is_revocable(now));
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
