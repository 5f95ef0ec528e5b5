//! One session for one issuer: the token that all its requests share, and the one login that fetches it. Whoever finds no usable
//! token logs in while the others wait, and they share what comes of it, a token or an error.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Mutex;

use super::endpoints;
use super::envelope::{self, Envelope};
use super::table::Heard;
use super::token::{Standing, Token};
use super::transport::{Transport, TransportError};
use crate::api::auth::Credentials;
use crate::clock;
use crate::issuance::signer::SignError;
use crate::metrics::IssuerMetrics;

/// The session of one issuer. It ends with the issuer's spec and material: a change makes a new one.
pub struct Session {
    transport: Transport,
    credentials: Credentials,
    metrics: IssuerMetrics,
    state: Mutex<State>,
    /// How many logins have ended, in whichever way. Read before queueing, it tells a waiter what happened while it waited.
    ended: AtomicU64,
    end_known: AtomicBool,
}

#[derive(Default)]
struct State {
    token: Option<(u64, Token)>,
    /// Which login failed last, and why.
    failed: Option<(u64, SignError)>,
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
    pub fn new(transport: Transport, credentials: Credentials, metrics: IssuerMetrics) -> Self {
        // What was known of a former session's token is over.
        metrics.token_not_after(None);
        let (state, ended, end_known) = (Mutex::default(), AtomicU64::new(0), AtomicBool::new(false));
        Self { transport, credentials, metrics, state, ended, end_known }
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

    /// Logs in if there is no usable token, and uses none.
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

    /// Drops a token with counted uses that is not permitted to sign: no probe could show that this has changed.
    pub async fn discard_limited(&self, held: &Held) {
        let limited = |(id, token): &(u64, Token)| *id == held.id && !token.may_probe();
        if self.state.lock().await.token.as_ref().is_some_and(limited) {
            self.discard(held).await;
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
        let credential = match &self.credentials {
            Credentials::AppRole { secret_id, .. } => secret_id,
            Credentials::Token(token) => token,
        };
        let token = held.map(|held| held.secret.expose_secret());
        std::iter::once(credential.expose_secret()).chain(token).collect()
    }

    /// Learns once when a static token ends, where its policy lets it look at itself; a 403 means unknown.
    pub async fn learn_end(&self) {
        if !self.is_static() || self.end_known.load(Ordering::Relaxed) {
            return;
        }
        let Ok(held) = self.token().await else { return };
        let Ok(response) = self.transport.call(endpoints::lookup_self(), Some(held.secret())).await else { return };
        if response.status().is_server_error() {
            return;
        }
        self.end_known.store(true, Ordering::Relaxed);
        let data = Envelope::read(response.body()).filter(|_| response.status() == 200).map(|envelope| envelope.data);
        let end = data.as_ref().and_then(|data| data["expire_time"].as_str()).and_then(|end| end.parse().ok());
        self.metrics.token_not_after(end);
        let uses = data.as_ref().and_then(|data| envelope::uses(&data["num_uses"]));
        if let Some((_, token)) = &mut self.state.lock().await.token {
            token.limit(uses);
        }
    }

    async fn acquire(&self, purpose: Purpose) -> Result<Option<Held>, SignError> {
        let before = self.ended.load(Ordering::Acquire);
        let mut state = self.state.lock().await;
        let usable = state
            .token
            .as_ref()
            .is_some_and(|(_, token)| self.is_static() || token.standing(clock::monotonic()) == Standing::Use);
        if !usable {
            match &state.failed {
                Some((id, error)) if *id > before => return Err(error.clone()),
                Some(_) | None => self.renew(&mut state).await?,
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

    /// Logs in while the state is locked: that is the single flight. A caller who gives up half-way leaves the state unchanged.
    async fn renew(&self, state: &mut State) -> Result<(), SignError> {
        let result = self.log_in().await;
        let id = self.ended.fetch_add(1, Ordering::AcqRel) + 1;
        match result {
            Ok(token) => {
                *state = State { token: Some((id, token)), failed: None };
                Ok(())
            }
            Err(error) => {
                *state = State { token: None, failed: Some((id, error.clone())) };
                Err(error)
            }
        }
    }

    async fn log_in(&self) -> Result<Token, SignError> {
        match &self.credentials {
            Credentials::Token(token) => Ok(Token::fixed(token.clone(), clock::monotonic())),
            Credentials::AppRole { mount, role_id, secret_id } => {
                let login = endpoints::app_role_login(mount, role_id, secret_id.expose_secret());
                let result = self.ask_for_token(&format!("auth/{mount}/login"), login).await;
                self.metrics.login(result.is_ok());
                result
            }
        }
    }

    async fn ask_for_token<E: rustify::endpoint::Endpoint>(&self, path: &str, login: E) -> Result<Token, SignError> {
        let asked = clock::monotonic();
        let response = match self.transport.call(login, None).await {
            Ok(response) => response,
            Err(TransportError::Outage(outage)) => return Err(outage.into()),
            Err(TransportError::TooLarge { status }) => return Err(self.not_vault(status, &[])),
        };
        let status = response.status().as_u16();
        let Some(envelope) = Envelope::read(response.body()) else {
            return Err(self.not_vault(status, response.body()));
        };
        if !response.status().is_success() {
            let (secrets, server) = (self.secrets(None), self.transport.peer().authority.as_str());
            return Err(Heard { server, path, status, errors: &envelope.errors, secrets: &secrets }.login());
        }
        // The lease is counted from before the question: then it cannot end earlier than we think.
        envelope.auth.map(|login| Token::new(login, asked)).ok_or_else(|| self.not_vault(status, &[]))
    }

    fn not_vault(&self, status: u16, body: &[u8]) -> SignError {
        self.transport.peer().not_vault(status, body).into()
    }
}
