//! The calls of a session about its token: the login that gives it, the renewal that prolongs it, the revocation that ends it.

use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use tracing::debug;

use super::Session;
use crate::api::auth::{Credentials, Login};
use crate::clock;
use crate::issuance::signer::SignError;
use crate::vault::endpoints::{self, RenewSelf, RevokeSelf};
use crate::vault::envelope::{self, Envelope};
use crate::vault::table::{Heard, Unrenewed};
use crate::vault::token::Token;
use crate::vault::transport::TransportError;

impl Session {
    /// One login.
    pub(super) async fn log_in(&self) -> Result<Token, SignError> {
        match &self.credentials {
            Credentials::Token(token) => Ok(Token::fixed(token.clone())),
            Credentials::Login(login) => {
                let result = self.ask_for_token(login).await;
                self.metrics.login(result.is_ok());
                result
            }
        }
    }

    async fn ask_for_token(&self, login: &Login) -> Result<Token, SignError> {
        let requested = match &self.account {
            Some(account) => Some(account.token().await?),
            None => None,
        };
        let asked = clock::monotonic();
        let response = match self.transport.call(endpoints::log_in(login, requested.as_ref()), None).await {
            Ok(response) => response,
            Err(TransportError::Outage(outage)) => return Err(outage.into()),
            Err(TransportError::TooLarge { status }) => return Err(self.not_vault(status, &[])),
        };
        let status = response.status().as_u16();
        let Some(envelope) = Envelope::read(response.body()) else {
            return Err(self.not_vault(status, response.body()));
        };
        if !response.status().is_success() {
            let (mut secrets, server) = (self.secrets(None), self.transport.peer().authority.as_str());
            secrets.extend(requested.as_ref().map(ExposeSecret::expose_secret));
            let heard = Heard { server, path: &login.path, status, errors: &envelope.errors, secrets: &secrets };
            return Err(heard.login(login.method));
        }
        // The lease is counted from before the question: then it cannot end earlier than we think.
        envelope.auth.map(|login| Token::new(login, asked)).ok_or_else(|| self.not_vault(status, &[]))
    }

    /// One renewal.
    pub(super) async fn ask_for_renewal(&self, secret: &SecretString) -> Result<envelope::Login, Unrenewed> {
        let response = self.transport.call(RenewSelf {}, Some(secret)).await.map_err(|_| Unrenewed::Passing)?;
        let envelope = Envelope::read(response.body()).ok_or(Unrenewed::Passing)?;
        if response.status().is_success() {
            return envelope.auth.ok_or(Unrenewed::Passing);
        }
        let (server, status) = (self.transport.peer().authority.as_str(), response.status().as_u16());
        Err(Heard { server, path: "auth/token/renew-self", status, errors: &envelope.errors, secrets: &[] }.renewal())
    }

    /// Has a token revoked that nobody needs any more, unless leases hang on it or nothing is left of it.
    pub(super) fn revoke(&self, token: Token) {
        if self.has_leases() || !token.is_revocable(clock::monotonic()) {
            return;
        }
        let (transport, metrics) = (Arc::clone(&self.transport), self.metrics.clone());
        self.revocations.begin(async move {
            let result = transport.call(RevokeSelf {}, Some(&token.secret())).await;
            let revoked = result.is_ok_and(|response| response.status().is_success());
            metrics.revocation(revoked);
            if !revoked {
                debug!(server = transport.peer().authority, "a token was not revoked; it ends with its lease");
            }
            revoked
        });
    }
}
