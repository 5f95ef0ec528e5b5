//! `spec.policy`: which namespaces may use a cluster issuer, and which names who may ask for.

use kube::core::{Expression, Selector};

use super::SpecError;
use crate::api::spec::{IssuerSpec, LabelExpressionSpec};

/// Which names who may ask for. A name is granted if one rule grants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpiffePolicy {
    /// Grants the requester its own names.
    pub requester: bool,
    /// Grants the names of the request's namespace.
    pub request_namespace: bool,
    /// Who may ask for anyone's names.
    pub brokers: Vec<ServiceAccount>,
    /// What names of another shape mean.
    pub other_names: OtherNames,
}

/// A ServiceAccount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccount {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What to do about names that are neither SPIFFE ids of Kubernetes' shape nor names of Services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherNames {
    /// Fail the request.
    Refuse,
    /// Leave them to Vault's role.
    Allow,
}

pub(super) fn spiffe(spec: &IssuerSpec) -> Result<Option<SpiffePolicy>, SpecError> {
    let Some(written) = spec.policy.as_ref().and_then(|policy| policy.spiffe.as_ref()) else {
        return Ok(None);
    };
    let other_names = match written.other_names.as_deref() {
        None | Some("Refuse") => OtherNames::Refuse,
        Some("Allow") => OtherNames::Allow,
        Some(other) => {
            let problem = format!("{other:?} is none of Refuse and Allow");
            return Err(SpecError::new("spec.policy.spiffe.otherNames", problem));
        }
    };
    let brokers = written.brokers.iter().flatten();
    let policy = SpiffePolicy {
        requester: written.requester.unwrap_or(false),
        request_namespace: written.request_namespace.unwrap_or(false),
        brokers: brokers
            .map(|broker| ServiceAccount { namespace: broker.namespace.clone(), name: broker.name.clone() })
            .collect(),
        other_names,
    };
    if !policy.requester && !policy.request_namespace && policy.brokers.is_empty() {
        let problem = "sets none of requester, requestNamespace and brokers; without a rule nothing could be granted";
        return Err(SpecError::new("spec.policy.spiffe", problem));
    }
    Ok(Some(policy))
}

pub(super) fn namespaces(spec: &IssuerSpec) -> Result<Selector, SpecError> {
    let Some(selector) = spec.policy.as_ref().and_then(|policy| policy.namespace_selector.as_ref()) else {
        return Ok(Selector::default());
    };
    let labels = selector.match_labels.clone().unwrap_or_default();
    let equal = labels.into_iter().map(|(key, value)| Ok(Expression::Equal(key, value)));
    let expressions = selector.match_expressions.iter().flatten().map(expression);
    Ok(equal.chain(expressions).collect::<Result<Vec<_>, _>>()?.into_iter().collect())
}

fn expression(spec: &LabelExpressionSpec) -> Result<Expression, SpecError> {
    let LabelExpressionSpec { key, operator, values } = spec;
    let (key, values) = (key.clone(), values.iter().flatten().cloned().collect());
    match operator.as_str() {
        "In" => Ok(Expression::In(key, values)),
        "NotIn" => Ok(Expression::NotIn(key, values)),
        "Exists" => Ok(Expression::Exists(key)),
        "DoesNotExist" => Ok(Expression::DoesNotExist(key)),
        _ => Err(SpecError::new(
            "spec.policy.namespaceSelector.matchExpressions",
            format!("{operator:?} is no operator; write In, NotIn, Exists or DoesNotExist"),
        )),
    }
}
