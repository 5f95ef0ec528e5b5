//! One session for one issuer: the token that all its requests share, and the one login that fetches it. Whoever finds no usable
//! token logs in while the others wait, and they share what comes of it, a token or an error; renewals go the same way. When the
//! last user of the session is gone, its token is revoked.

mod calls;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;

use super::Common;
use super::endpoints;
use super::envelope::{Described, Envelope};
use super::revocation::Revocations;
use super::table::Unrenewed;
use super::token::{Standing, Token};
use super::transport::Transport;
use crate::api::auth::Credentials;
use crate::clock;
use crate::cluster::service_accounts::Account;
use crate::issuance::signer::{Outage, SignError};
use crate::metrics::IssuerMetrics;

/// How long everybody shares the error of a login that failed; doubling, and shorter than the time between two checks.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(8);

/// How long a renewal may take, or a login while the old token still lasts.
const EARLY: Duration = Duration::from_secs(5);

/// The session of one issuer. It ends with the issuer's spec and material: a change makes a new one.
pub struct Session {
    transport: Arc<Transport>,
    credentials: Credentials,
    /// Whose tokens the logins need.
    account: Option<Account>,
    metrics: IssuerMetrics,
    revocations: Revocations,
    state: Mutex<State>,
    /// How many logins have ended, in whichever way. Read before queueing, it tells a waiter what happened while it waited.
    ended: AtomicU64,
    described: AtomicBool,
    /// Leases hang on a token of this session: with it, certificates would be revoked.
    leased: AtomicBool,
}

#[derive(Default)]
struct State {
    token: Option<(u64, Token)>,
    /// The login that failed last, if none has succeeded since.
    failed: Option<Failed>,
    /// The policy lets no token of these credentials renew itself: that is tried once and not with every token.
    renewal_forbidden: bool,
    /// When a token that somebody else made ends for good, as far as is known.
    ends: Option<Timestamp>,
}

/// A login that failed.
struct Failed {
    id: u64,
    error: SignError,
    /// Until then its error is everybody's answer: who waits for a login must not make a storm of them.
    until: Instant,
    /// The next pause after a failure.
    pause: Duration,
}

/// A token for one call. It cannot be printed.
#[derive(Clone)]
pub struct Held {
    id: u64,
    secret: Arc<SecretString>,
}

impl Held {
    /// Tells apart the tokens of one session; the first is 1.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The token, for the call's header.
    pub fn secret(&self) -> &SecretString {
        &self.secret
    }
}

/// What a caller wants the token for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// To see that there is one.
    Check,
    /// A call that serves no request.
    Probe,
    /// A call that serves a request.
    Sign,
}

impl Session {
    /// A session that has not begun: the first call logs in.
    pub fn new(transport: Transport, credentials: Credentials, common: &Common, metrics: IssuerMetrics) -> Self {
        let account = match &credentials {
            Credentials::Token(_) => None,
            Credentials::Login(login) => login.requested.clone().map(|wanted| common.accounts.account(wanted)),
        };
        // What was known of a former session's token is over.
        metrics.token_not_after(None);
        let (transport, state, ended) = (Arc::new(transport), Mutex::default(), AtomicU64::new(0));
        let (described, leased) = (AtomicBool::new(false), AtomicBool::new(false));
        let revocations = common.revocations.clone();
        Self { transport, credentials, account, metrics, revocations, state, ended, described, leased }
    }

    /// The way to the server that this session's token belongs to.
    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Whether the token was made by somebody else, so that a dead one cannot be replaced.
    pub fn is_static(&self) -> bool {
        matches!(self.credentials, Credentials::Token(_))
    }

    /// A token for one call that serves a request; its use is counted.
    ///
    /// # Errors
    /// The login failed, now or for somebody whom this call waited for.
    pub async fn token(&self) -> Result<Held, SignError> {
        let held = self.acquire(Purpose::Sign).await?;
        // Only a probe may be left without.
        held.ok_or_else(|| self.not_vault(0, &[]))
    }

    /// A token for a call that serves no request; none where that would use up what requests need.
    ///
    /// # Errors
    /// As [`Session::token`].
    pub async fn probe_token(&self) -> Result<Option<Held>, SignError> {
        self.acquire(Purpose::Probe).await
    }

    /// The token that is there, for a call that nobody needs; none where its uses are counted.
    pub async fn spare_token(&self) -> Option<Held> {
        let state = self.state.lock().await;
        let (id, token) = state.token.as_ref().filter(|(_, token)| !token.is_counted())?;
        Some(Held { id: *id, secret: token.secret() })
    }

    /// Logs in if there is no valid token, renews one whose time for that has come, and makes no call with it.
    ///
    /// # Errors
    /// As [`Session::token`].
    pub async fn ensure(&self) -> Result<(), SignError> {
        self.acquire(Purpose::Check).await.map(|_| ())
    }

    /// Drops a token that Vault no longer takes, unless another has taken its place already.
    pub async fn discard(&self, held: &Held) {
        let mut state = self.state.lock().await;
        if state.token.as_ref().is_some_and(|(id, _)| *id == held.id) && !self.is_static() {
            state.token = None;
        }
    }

    /// Drops a token that is not permitted to sign, and has it revoked: it keeps the policies of its login, and one that is added
    /// later is seen by the next login only.
    pub async fn renounce(&self, held: &Held) {
        self.renounce_if(held, |_| true).await;
    }

    /// The same, if its uses are counted: no probe could show that this has changed.
    pub async fn renounce_limited(&self, held: &Held) {
        self.renounce_if(held, |token| !token.may_probe()).await;
    }

    async fn renounce_if(&self, held: &Held, wanted: impl Fn(&Token) -> bool) {
        let mut state = self.state.lock().await;
        let renounced = |(id, token): &mut (u64, Token)| *id == held.id && !self.is_static() && wanted(token);
        if let Some((_, token)) = state.token.take_if(renounced) {
            self.revoke(token);
        }
    }

    /// Counts one more call with a token that is held already.
    pub async fn spend(&self, held: &Held) {
        let mut state = self.state.lock().await;
        if let Some((_, token)) = state.token.as_mut().filter(|(id, _)| *id == held.id) {
            token.reserve();
        }
    }

    /// What must appear in no text: the credential and the token of a call.
    pub fn secrets<'a>(&'a self, held: Option<&'a Held>) -> Vec<&'a str> {
        let token = held.map(|held| &*held.secret);
        self.credentials.secrets().into_iter().chain(token).map(ExposeSecret::expose_secret).collect()
    }

    /// Learns once what a static token tells of itself, where its policy lets it; a 403 means unknown.
    pub async fn learn_end(&self) {
        if !self.is_static() || self.described.load(Ordering::Relaxed) {
            return;
        }
        let Ok(held) = self.token().await else { return };
        let asked = clock::monotonic();
        let Ok(response) = self.transport.call(endpoints::lookup_self(), Some(held.secret())).await else { return };
        if response.status().is_server_error() {
            return;
        }
        self.described.store(true, Ordering::Relaxed);
        let answer = Envelope::read(response.body()).filter(|_| response.status() == 200);
        let Some(described) = answer.map(|envelope| Described::read(&envelope.data)) else { return };
        let mut state = self.state.lock().await;
        let Some((_, token)) = &mut state.token else { return };
        token.learn(&described, asked);
        let ends = if token.is_renewable() { described.limit } else { described.expires };
        self.ends_at(&mut state, ends);
    }

    /// When the token ends and nobody but a person can replace it; none: it does not, or that is not known.
    pub async fn ends(&self) -> Option<Timestamp> {
        self.state.lock().await.ends
    }

    /// How long until a token that nobody asks for is to be renewed; none: there is no such token, or it is being renewed now.
    pub fn renewal_due(&self) -> Option<Duration> {
        self.state.try_lock().ok()?.token.as_ref()?.1.renewal_due(clock::monotonic())
    }

    /// A lease hangs on the token: it must not be revoked before its end. Returns whether that is news.
    pub fn keep_for_leases(&self) -> bool {
        !self.leased.swap(true, Ordering::Relaxed)
    }

    /// Whether leases hang on a token of this session.
    pub fn has_leases(&self) -> bool {
        self.leased.load(Ordering::Relaxed)
    }

    async fn acquire(&self, purpose: Purpose) -> Result<Option<Held>, SignError> {
        let before = self.ended.load(Ordering::Acquire);
        let mut state = self.state.lock().await;
        if self.needs(&state, purpose) == Standing::Renew {
            self.renew(&mut state).await;
        }
        if self.needs(&state, purpose) == Standing::LogInAgain {
            match &state.failed {
                Some(failed) if failed.id > before || clock::monotonic() < failed.until => {
                    return Err(failed.error.clone());
                }
                Some(_) | None => self.replace(&mut state).await?,
            }
        }
        let Some((id, token)) = &mut state.token else { return Ok(None) };
        match purpose {
            Purpose::Probe if !token.may_probe() => return Ok(None),
            Purpose::Probe | Purpose::Sign => token.reserve(),
            Purpose::Check => (),
        }
        Ok(Some(Held { id: *id, secret: token.secret() }))
    }

    /// What has to be done before a call. A login may use up the secret id, so only a request has one made ahead of time; and for
    /// a token that somebody else made there is none.
    fn needs(&self, state: &State, purpose: Purpose) -> Standing {
        let Some((_, token)) = &state.token else { return Standing::LogInAgain };
        let now = clock::monotonic();
        match token.standing(now) {
            Standing::LogInAgain if self.is_static() => Standing::Use,
            Standing::LogInAgain if purpose != Purpose::Sign && !token.is_over(now) => Standing::Use,
            standing => standing,
        }
    }

    /// Logs in while the state is locked: that is the single flight. A caller who gives up half-way leaves the state unchanged.
    async fn replace(&self, state: &mut State) -> Result<(), SignError> {
        let login = Box::pin(self.log_in());
        let result = match &state.token {
            Some((_, token)) if !token.is_over(clock::monotonic()) => {
                early(token, login).await.unwrap_or_else(|| Err(self.silent()))
            }
            Some(_) | None => login.await,
        };
        let id = self.ended.fetch_add(1, Ordering::AcqRel) + 1;
        let error = match result {
            Ok(mut token) => {
                if state.renewal_forbidden {
                    token.keep_as_it_is();
                }
                (state.token, state.failed) = (Some((id, token)), None);
                return Ok(());
            }
            Err(error) => error,
        };
        let now = clock::monotonic();
        // A Vault that is away is no reason to drop a token that still lasts.
        if let (SignError::Transient(_), Some((_, token))) = (&error, &mut state.token)
            && !token.is_over(now)
        {
            token.rest(now);
            return Ok(());
        }
        let pause = state.failed.take().map_or(FIRST_REST, |failed| failed.pause);
        let (until, next) = (now.checked_add(pause).unwrap_or(now), (pause * 2).min(LONGEST_REST));
        (state.token, state.failed) = (None, Some(Failed { id, error: error.clone(), until, pause: next }));
        Err(error)
    }

    /// Renews the token while the state is locked. Whatever comes of it, the token's standing says what is to be done next.
    async fn renew(&self, state: &mut State) {
        let Some((_, token)) = &mut state.token else { return };
        let asked = clock::monotonic();
        let result = early(token, self.ask_for_renewal(&token.secret())).await.unwrap_or(Err(Unrenewed::Passing));
        self.metrics.renewal(result.is_ok());
        match result {
            Ok(login) => token.renewed(login.lease, asked),
            Err(Unrenewed::Passing) => token.rest(clock::monotonic()),
            // A dead one is replaced by whoever wants to sign; that a static one is dead is found and said by the next call.
            Err(Unrenewed::Dead | Unrenewed::Refused) => token.keep_as_it_is(),
            Err(Unrenewed::Forbidden) => {
                token.keep_as_it_is();
                state.renewal_forbidden = true;
            }
        }
        if self.is_static() && !token.is_renewable() {
            let left = token.left(clock::monotonic());
            let ends = left.and_then(|left| clock::now().checked_add(left).ok());
            self.ends_at(state, ends);
        }
    }

    fn ends_at(&self, state: &mut State, ends: Option<Timestamp>) {
        self.metrics.token_not_after(ends);
        state.ends = ends;
    }

    fn silent(&self) -> SignError {
        Outage::Interrupted { server: self.transport.peer().authority.clone(), class: "timeout" }.into()
    }

    fn not_vault(&self, status: u16, body: &[u8]) -> SignError {
        self.transport.peer().not_vault(status, body).into()
    }
}

impl Drop for Session {
    /// Whoever still signed with this session has ended: nobody holds it any more.
    fn drop(&mut self) {
        if let Some((_, token)) = self.state.get_mut().token.take() {
            self.revoke(token);
        }
    }
}

/// What is done ahead of time, while the token in use still lasts. Everybody who signs waits for it, so it may not take long.
async fn early<T>(token: &Token, call: impl Future<Output = T>) -> Option<T> {
    let left = token.left(clock::monotonic()).map_or(EARLY, |left| left / 4);
    tokio::time::timeout(EARLY.min(left), call).await.ok()
}

#[cfg(test)]
mod tests;
