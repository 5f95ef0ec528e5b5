//! [`VaultSigner`]: the one implementation of [`Signer`]. A sign call is one POST with the session's token; a token found dead is
//! replaced once; a 403 that could mean three things is told apart by the probe, a POST with an empty CSR that signs nothing.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Response;
use rustify::endpoint::Endpoint;
use tracing::warn;

use super::Common;
use super::answer::{self, KnownChain};
use super::endpoints::{self, ListIssuers, ReadChain, ReadIssuer, ReadRole, SignCsr};
use super::envelope::Envelope;
use super::session::{Held, Session};
use super::table::{Heard, Meaning};
use super::transport::{Transport, TransportError};
use crate::api::config::IssuerConfig;
use crate::api::material::Material;
use crate::api::vault_path::SignPath;
use crate::issuance::role::RoleOptions;
use crate::issuance::signer::{
    Answer, Fact, Fault, Mistrust, Observation, Outage, Probe, Refusal, Shown, SignError, Signer, SigningRequest,
};
use crate::issuance::words::Words;
use crate::metrics::IssuerMetrics;
use crate::x509::Certificate;
use crate::x509::path::MOST_CERTIFICATES;

/// The most issuers of a mount that are asked for their certificates.
const MOST_ISSUERS: usize = 50;

/// One issuer's Vault or OpenBao, with the session that its requests share.
pub struct VaultSigner {
    session: Session,
    path: SignPath,
    /// Nobody has configured anchors: every issuer of the mount is of interest.
    discovers: bool,
    /// The token that may not read the role, 0 for none.
    role_closed_to: AtomicU64,
    chain: KnownChain,
}

impl VaultSigner {
    /// Prepares everything and calls nobody: the first check or sign logs in.
    ///
    /// # Errors
    /// The field or object whose content cannot be used.
    pub fn new(
        config: &IssuerConfig,
        material: &Material,
        common: &Common,
        metrics: IssuerMetrics,
    ) -> Result<Self, Fault> {
        let transport = Transport::new(config, material, &common.roots, common.leadership.clone())?;
        let session = Session::new(transport, material.credentials.clone(), common, metrics);
        let (path, discovers) = (config.vault.path.clone(), material.anchors.is_empty());
        Ok(Self { session, path, discovers, role_closed_to: AtomicU64::new(0), chain: KnownChain::default() })
    }
}

impl Signer for VaultSigner {
    async fn check(&self, probe: Probe) -> Observation {
        let (login, signing) = self.standing(probe).await;
        let role = match (&login, &signing) {
            (Fact::Yes(()), Fact::Yes(()) | Fact::Unknown) => self.role().await,
            (Fact::Yes(()) | Fact::No(_) | Fact::Unknown, _) => Fact::Unknown,
        };
        let mount = match login {
            // Vault is away: a second call would only wait for the same time limit.
            Fact::No(SignError::Transient(_)) => Fact::Unknown,
            Fact::Yes(()) | Fact::No(_) | Fact::Unknown => self.mount().await,
        };
        Observation { login, signing, mount, role, ends: self.session.ends().await }
    }

    fn check_due(&self) -> Option<Duration> {
        self.session.renewal_due()
    }

    async fn sign(&self, request: &SigningRequest) -> Result<Answer, SignError> {
        let held = self.session.token().await?;
        let call = endpoints::sign(request);
        let (held, result) = self.post_alive(held, &call).await?;
        match result {
            Ok(envelope) => {
                if envelope.leased && self.session.keep_for_leases() {
                    warn_of_leases(&call.path);
                }
                Ok(answer::signed(&call.path, &envelope, &self.chain, &self.session.secrets(Some(&held)))?)
            }
            Err(Meaning::Error(error)) => Err(error),
            Err(Meaning::EmptyCsr(words)) => Err(refused(&call.path, words).into()),
            Err(Meaning::TokenDead(words)) => Err(self.token_dead(words).into()),
            Err(Meaning::Forbidden(words)) => Err(self.forbidden(&held, &request.path, words).await),
        }
    }
}

impl VaultSigner {
    /// The facts about login and signing.
    async fn standing(&self, probe: Probe) -> (Fact<()>, Fact<()>) {
        if let Err(error) = self.session.ensure().await {
            return (Fact::No(error), Fact::Unknown);
        }
        let held = match probe {
            Probe::Skip => None,
            Probe::Ask => match self.session.probe_token().await {
                Ok(held) => held,
                Err(error) => return (Fact::No(error), Fact::Unknown),
            },
        };
        let facts = match held {
            Some(held) => self.probed(held).await,
            None => (Fact::Yes(()), Fact::Unknown),
        };
        if matches!(facts.0, Fact::Yes(())) {
            self.session.learn_end().await;
        }
        facts
    }

    /// What the probe tells about both.
    async fn probed(&self, held: Held) -> (Fact<()>, Fact<()>) {
        let (held, meaning) = match self.post_alive(held, &endpoints::probe(&self.path)).await {
            Err(error) => return (Fact::No(error), Fact::Unknown),
            Ok((_, Ok(_))) => return (Fact::Yes(()), Fact::Yes(())),
            Ok((held, Err(meaning))) => (held, meaning),
        };
        match meaning {
            Meaning::EmptyCsr(_) => (Fact::Yes(()), Fact::Yes(())),
            Meaning::TokenDead(words) => (Fact::No(self.token_dead(words).into()), Fact::Unknown),
            Meaning::Forbidden(words) => {
                self.session.renounce(&held).await;
                (Fact::Yes(()), Fact::No(sign_forbidden(&self.path, words).into()))
            }
            // A role's refusal is about a request, and this was none.
            Meaning::Error(SignError::Request(_)) => (Fact::Yes(()), Fact::Unknown),
            Meaning::Error(error) => (Fact::Yes(()), Fact::No(error)),
        }
    }

    /// A sign call was forbidden: is it the path, or what was asked? Only the same token can tell.
    async fn forbidden(&self, held: &Held, path: &SignPath, words: Words) -> SignError {
        self.session.spend(held).await;
        match self.post(held, &endpoints::probe(path)).await {
            Err(Meaning::Forbidden(words)) => {
                // Elsewhere than at the issuer's own path the token may be as good as it was.
                if *path == self.path {
                    self.session.renounce_limited(held).await;
                }
                sign_forbidden(path, words).into()
            }
            // Its last use, or its end: nothing was learnt, and the next try has another token.
            Err(Meaning::TokenDead(words)) => {
                self.session.discard(held).await;
                let server = self.transport().peer().authority.clone();
                Outage::Status { server, status: 403, words }.into()
            }
            Err(Meaning::Error(error @ (SignError::Issuer(_) | SignError::Transient(_)))) => error,
            Ok(_) | Err(Meaning::EmptyCsr(_) | Meaning::Error(_)) => {
                Refusal::Parameters { path: path.to_string(), words }.into()
            }
        }
    }

    /// A call to the signing path whose token, found dead, is replaced once. The outer error is that of the login.
    async fn post_alive(&self, held: Held, call: &SignCsr) -> Result<(Held, Result<Envelope, Meaning>), SignError> {
        let result = self.post(&held, call).await;
        if !matches!(result, Err(Meaning::TokenDead(_))) || self.session.is_static() {
            return Ok((held, result));
        }
        self.session.discard(&held).await;
        let fresh = self.session.token().await?;
        let result = self.post(&fresh, call).await;
        if matches!(result, Err(Meaning::TokenDead(_))) {
            self.session.discard(&fresh).await;
        }
        Ok((fresh, result))
    }

    /// One call to the signing path.
    async fn post(&self, held: &Held, call: &SignCsr) -> Result<Envelope, Meaning> {
        let path = call.path.as_str();
        let response = match self.transport().call(call.clone(), Some(held.secret())).await {
            Ok(response) => response,
            Err(TransportError::Outage(outage)) => return Err(Meaning::Error(outage.into())),
            Err(TransportError::TooLarge { status: 200 }) => return Err(unreadable(path, "it is larger than 1 MiB")),
            Err(TransportError::TooLarge { status }) => return Err(Meaning::Error(self.not_vault(status, &[]).into())),
        };
        let status = response.status().as_u16();
        match (Envelope::read(response.body()), response.status().is_success()) {
            (Some(envelope), true) => Ok(envelope),
            (None, true) => Err(unreadable(path, "it is not Vault's JSON")),
            (None, false) => Err(Meaning::Error(self.not_vault(status, response.body()).into())),
            (Some(envelope), false) if (300..400).contains(&status) => {
                drop(envelope);
                Err(Meaning::Error(self.not_vault(status, &[]).into()))
            }
            (Some(envelope), false) => {
                let server = self.transport().peer().authority.as_str();
                let secrets = self.session.secrets(Some(held));
                Err(Heard { server, path, status, errors: &envelope.errors, secrets: &secrets }.sign())
            }
        }
    }

    /// The role's options, where our login may look at them. Nobody needs this call, so it costs no counted use, and a token that
    /// was refused does not ask again.
    async fn role(&self) -> Fact<RoleOptions> {
        let Some(role) = self.path.role() else { return Fact::Unknown };
        let Some(held) = self.session.spare_token().await else { return Fact::Unknown };
        if self.role_closed_to.load(Ordering::Relaxed) == held.id() {
            return Fact::Unknown;
        }
        let call = ReadRole { mount: self.path.mount().to_owned(), role: role.to_owned() };
        let Ok(response) = self.transport().call(call, Some(held.secret())).await else { return Fact::Unknown };
        if response.status() == 403 {
            self.role_closed_to.store(held.id(), Ordering::Relaxed);
        }
        let envelope = ok_body(&response).and_then(Envelope::read);
        envelope.map_or(Fact::Unknown, |envelope| Fact::Yes(answer::role(&envelope.data)))
    }

    /// The signing mount's certificates, asked for without a token.
    async fn mount(&self) -> Fact<Shown> {
        match self.shown().await {
            Ok(Some(shown)) => Fact::Yes(shown),
            Ok(None) => Fact::Unknown,
            Err(outage) => Fact::No(outage.into()),
        }
    }

    async fn shown(&self) -> Result<Option<Shown>, Outage> {
        let named = self.path.issuer().is_some();
        let issuing = match self.issuer(self.path.issuer().unwrap_or("default")).await? {
            Some(certificates) => Some(certificates),
            // Mounts from before there were several issuers know this one only, and it always means the default.
            None if !named => self.chain().await?,
            None => None,
        };
        let Some(mut certificates) = issuing else { return Ok(None) };
        let others = if self.discovers { self.others().await? } else { None };
        let complete = others.is_some();
        let mut seen: HashSet<_> = certificates.iter().cloned().collect();
        certificates.extend(others.into_iter().flatten().filter(|other| seen.insert(other.clone())));
        // Among so many no path could be sought, and each of them costs time that other issuers need.
        Ok((certificates.len() <= MOST_CERTIFICATES).then_some(Shown { certificates, named, complete }))
    }

    /// The certificates of all issuers of the mount; none where it does not list them, or more than we ask for.
    async fn others(&self) -> Result<Option<Vec<Certificate>>, Outage> {
        let Some(response) = self.ask(ListIssuers { mount: self.path.mount().to_owned() }).await? else {
            return Ok(None);
        };
        let envelope = ok_body(&response).and_then(Envelope::read);
        let Some(ids) = envelope.and_then(|envelope| answer::keys(&envelope.data)) else { return Ok(None) };
        if ids.len() > MOST_ISSUERS {
            return Ok(None);
        }
        let mut found = Vec::new();
        for id in ids {
            let Some(certificates) = self.issuer(&id).await? else { return Ok(None) };
            found.extend(certificates);
        }
        Ok(Some(found))
    }

    /// One issuer's certificate and its chain.
    async fn issuer(&self, reference: &str) -> Result<Option<Vec<Certificate>>, Outage> {
        let call = ReadIssuer { mount: self.path.mount().to_owned(), reference: reference.to_owned() };
        let response = self.ask(call).await?;
        let envelope = response.as_ref().and_then(ok_body).and_then(Envelope::read);
        Ok(envelope.and_then(|envelope| answer::issuer(&envelope.data)))
    }

    /// The default issuer's chain as older mounts have it.
    async fn chain(&self) -> Result<Option<Vec<Certificate>>, Outage> {
        let response = self.ask(ReadChain { mount: self.path.mount().to_owned() }).await?;
        let certificates = response.as_ref().and_then(ok_body).and_then(|body| Certificate::bundle_from_pem(body).ok());
        Ok(certificates.filter(|certificates| !certificates.is_empty()))
    }

    /// A call without a token; none where the answer is too large to be read.
    async fn ask<E: Endpoint>(&self, call: E) -> Result<Option<Response<Vec<u8>>>, Outage> {
        match self.transport().call(call, None).await {
            Ok(response) => Ok(Some(response)),
            Err(TransportError::TooLarge { .. }) => Ok(None),
            Err(TransportError::Outage(outage)) => Err(outage),
        }
    }

    fn transport(&self) -> &Transport {
        self.session.transport()
    }

    fn not_vault(&self, status: u16, body: &[u8]) -> Outage {
        self.transport().peer().not_vault(status, body)
    }

    fn token_dead(&self, words: Words) -> Fault {
        let hint = if self.session.is_static() {
            "It has expired, was revoked, or belongs to another server or namespace: put a new one into the Secret of \
             spec.vault.auth.tokenSecretRef"
        } else {
            "It came straight from a login: does the login's role give tokens of zero uses or of another namespace, or do several \
             servers that share no storage answer at spec.vault.server?"
        };
        Fault::TokenDead { words, hint: hint.to_owned() }
    }
}

/// The body of an answer that says yes.
fn ok_body(response: &Response<Vec<u8>>) -> Option<&[u8]> {
    (response.status() == 200).then(|| response.body().as_slice())
}

fn warn_of_leases(path: &str) {
    warn!(
        "the role at {path} has generate_lease=true: Vault revokes certificates when the token that signed them ends. Their token \
         is therefore never revoked by this controller; set generate_lease=false in the role"
    );
}

fn unreadable(path: &str, problem: &str) -> Meaning {
    Meaning::Error(Mistrust::Unreadable { path: path.to_owned(), problem: problem.to_owned() }.into())
}

fn refused(path: &str, words: Words) -> Refusal {
    Refusal::Role { path: path.to_owned(), words, hint: "The CSR in spec.request is empty to Vault".to_owned() }
}

fn sign_forbidden(path: &SignPath, words: Words) -> Fault {
    Fault::SignForbidden { path: path.to_string(), words }
}

#[cfg(test)]
mod tests;
