//! From Vault's `data` to certificates: what a sign call and a mount's own endpoints return. Parsed here, believed nowhere.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use super::envelope::Envelope;
use crate::api::vault_path::is_name;
use crate::issuance::role::RoleOptions;
use crate::issuance::signer::{Answer, Mistrust};
use crate::issuance::words::Words;
use crate::x509::Certificate;

/// Reads the answer of a sign call.
///
/// # Errors
/// It holds no certificate, or something that no answer to a CSR may hold.
pub fn signed(path: &str, envelope: &Envelope, known: &KnownChain, secrets: &[&str]) -> Result<Answer, Mistrust> {
    let unreadable = |problem: &str| Mistrust::Unreadable { path: path.to_owned(), problem: problem.to_owned() };
    let data = &envelope.data;
    // OpenBao's CEL roles send the field with an empty text.
    if !data["private_key"].is_null() && data["private_key"] != "" {
        return Err(unreadable(
            "it holds a private key, so Vault made the key itself. spec.vault.path must name `sign`",
        ));
    }
    let text = data["certificate"].as_str().filter(|text| !text.trim().is_empty());
    let text = text.ok_or_else(|| unreadable("it holds no certificate"))?;
    let mut bag = bundle("certificate", text).map_err(|problem| unreadable(&problem))?.into_iter();
    let leaf = bag.next().ok_or_else(|| unreadable("it holds no certificate"))?;
    if bag.as_slice().iter().any(|other| !other.is_ca()) {
        return Err(unreadable("its certificate field holds several end-entity certificates, and one was asked for"));
    }
    let chain = chain(data).and_then(|texts| known.read(&texts)).map_err(|problem| unreadable(&problem))?;
    let mut seen = HashSet::from([leaf.clone()]);
    let others = bag.chain(chain).filter(|other| seen.insert(other.clone())).collect();
    let warnings = envelope.warnings.iter().map(|warning| Words::new(warning, secrets)).collect();
    Ok(Answer { leaf, others, warnings, request_id: Words::new(&envelope.request_id, secrets).as_str().to_owned() })
}

/// Reads `GET <mount>/issuer/<ref>/json`: the issuing certificate first, then its chain. None if it holds no certificate.
pub fn issuer(data: &Value) -> Option<Vec<Certificate>> {
    let certificate = data["certificate"].as_str()?;
    let issuing = Certificate::bundle_from_pem(certificate.as_bytes()).ok()?;
    let chain = KnownChain::default().read(&chain(data).ok()?).ok()?;
    let mut seen = HashSet::new();
    Some(issuing.into_iter().chain(chain).filter(|one| seen.insert(one.clone())).collect())
}

/// Reads `LIST <mount>/issuers`. None if that is not what it is, or if an id is no name that could stand in a path.
pub fn keys(data: &Value) -> Option<Vec<String>> {
    let id = |key: &Value| key.as_str().filter(|id| is_name(id)).map(str::to_owned);
    data["keys"].as_array()?.iter().map(id).collect()
}

/// Reads `GET <mount>/roles/<role>`. What is not there, or not in its form, is not known.
pub fn role(data: &Value) -> RoleOptions {
    let truth = |name: &str| data[name].as_bool();
    let seconds = |name: &str| data[name].as_u64().map(Duration::from_secs);
    let texts = |name: &str| -> Option<Vec<String>> {
        // Without a value, Vault shows `null` or an empty list.
        let texts = data.get(name)?.as_array().map(Vec::as_slice).unwrap_or_default();
        Some(texts.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    };
    RoleOptions {
        require_cn: truth("require_cn"),
        key_type: data["key_type"].as_str().map(str::to_owned),
        allowed_uri_sans: texts("allowed_uri_sans"),
        use_csr_sans: truth("use_csr_sans"),
        max_ttl: seconds("max_ttl"),
        generate_lease: truth("generate_lease"),
        no_store: truth("no_store"),
        key_usage: texts("key_usage"),
        not_before_duration: seconds("not_before_duration"),
        issuer_ref: data["issuer_ref"].as_str().map(str::to_owned),
    }
}

/// `ca_chain` (a list or one text) and `issuing_ca`, each text with its field; or which of them is none.
fn chain(data: &Value) -> Result<Vec<(&'static str, &str)>, String> {
    let mut found = Vec::new();
    for name in ["ca_chain", "issuing_ca"] {
        let texts = match &data[name] {
            Value::Array(texts) => texts.as_slice(),
            Value::Null => &[],
            text => std::slice::from_ref(text),
        };
        for text in texts {
            let text = text.as_str().ok_or_else(|| format!("its {name} holds something that is no text"))?;
            // Vault joins an empty chain to an empty text.
            if !text.trim().is_empty() {
                found.push((name, text));
            }
        }
    }
    Ok(found)
}

/// The CAs of the last answer, by their text. An answer carries the same few as the one before, and they need not be read, nor
/// their signatures checked, again and again.
#[derive(Default)]
pub struct KnownChain(Mutex<HashMap<String, Vec<Certificate>>>);

impl KnownChain {
    /// Reads each text with its field, once; what is not among them is forgotten.
    fn read(&self, texts: &[(&'static str, &str)]) -> Result<Vec<Certificate>, String> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut now, mut found) = (HashMap::new(), Vec::new());
        for (name, text) in texts {
            if let Entry::Vacant(entry) = now.entry(*text) {
                let certificates = known.get(*text).map_or_else(|| bundle(name, text), |known| Ok(known.clone()))?;
                found.extend(entry.insert(certificates).iter().cloned());
            }
        }
        if now.len() != known.len() || now.keys().any(|text| !known.contains_key(*text)) {
            *known = now.into_iter().map(|(text, certificates)| (text.to_owned(), certificates)).collect();
        }
        Ok(found)
    }
}

fn bundle(name: &str, text: &str) -> Result<Vec<Certificate>, String> {
    Certificate::bundle_from_pem(text.as_bytes()).map_err(|error| format!("its {name} is no PEM certificate: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(name: &str) -> String {
        rcgen::generate_simple_self_signed([name.to_owned()]).expect("rcgen makes a certificate").cert.pem()
    }

    fn read(data: Value) -> Result<Answer, Mistrust> {
        read_after(&KnownChain::default(), data)
    }

    fn read_after(known: &KnownChain, data: Value) -> Result<Answer, Mistrust> {
        let body = serde_json::json!({"request_id": "r-1", "data": data, "warnings": ["said hvs.secret"]}).to_string();
        signed("pki/sign/web", &Envelope::read(body.as_bytes()).expect("it has a request id"), known, &["hvs.secret"])
    }

    #[track_caller]
    fn unreadable(data: Value, expected: &str) {
        let error = read(data).expect_err("this answer cannot be used").to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn chain_and_issuing_ca_are_gathered_once_each() {
        let (leaf, ca, root) = (certificate("leaf"), certificate("ca"), certificate("root"));
        for ca_chain in [serde_json::json!([ca, root]), format!("{ca}\n{root}").into()] {
            let answer = read(serde_json::json!({"certificate": leaf, "issuing_ca": ca, "ca_chain": ca_chain}))
                .expect("the answer is complete");
            assert_eq!(answer.others.len(), 2);
            assert_eq!(answer.request_id, "r-1");
            assert_eq!(answer.warnings[0].as_str(), "said [redacted]");
        }
        let alone =
            read(serde_json::json!({"certificate": leaf, "issuing_ca": "", "ca_chain": null, "private_key": null}));
        assert!(alone.expect("a leaf alone can be read").others.is_empty());
        assert!(read(serde_json::json!({"certificate": leaf, "private_key": ""})).is_ok());
    }

    #[test]
    fn the_chain_of_the_last_answer_is_known_and_no_other() {
        let (leaf, ca, root) = (certificate("leaf"), certificate("ca"), certificate("root"));
        let known = KnownChain::default();
        let same =
            |a: &Answer, b: &Answer| a.others.iter().zip(&b.others).all(|(a, b)| a.der().as_ptr() == b.der().as_ptr());
        let read = |chain: Value| read_after(&known, serde_json::json!({"certificate": leaf, "ca_chain": chain}));
        let both = serde_json::json!([ca, root]);
        let first = read(both.clone()).expect("a chain");
        assert!(same(&first, &read(both.clone()).expect("a chain")), "it was read again");
        read(serde_json::json!([ca, "rubbish"])).expect_err("a broken chain");
        assert!(same(&first, &read(both.clone()).expect("a chain")), "a broken one took its place");
        let other = read(serde_json::json!([root])).expect("another chain");
        assert_eq!((other.others.len(), other.others[0] == first.others[1]), (1, true));
        assert!(same(&other, &read(serde_json::json!([root])).expect("a chain")), "the last one is not kept");
        assert_eq!(known.0.lock().expect("a lock").len(), 1, "those before it are kept");
        assert_eq!(read(both).expect("a chain").others, first.others);
    }

    #[test]
    fn text_around_the_certificates_is_left_behind() {
        let (leaf, ca) = (certificate("leaf"), certificate("ca"));
        let chain = format!("subject=CN=ca\n{ca}some rubbish\n\u{1f512}\n{ca}more");
        let answer =
            read(serde_json::json!({"certificate": format!("x\n{leaf}y"), "ca_chain": chain})).expect("it can be read");
        assert_eq!((answer.leaf.pem(), answer.others.len()), (leaf.replace("\r\n", "\n").as_str(), 1));
    }

    #[test]
    fn ten_thousand_entries_of_a_chain_are_read_once_each() {
        let (leaf, ca) = (certificate("leaf"), certificate("ca"));
        let chain = |entry: &str| vec![entry.to_owned(); 10_000];
        let read = |chain: Vec<String>| read(serde_json::json!({"certificate": leaf, "ca_chain": chain}));
        assert_eq!(read(chain(&ca)).expect("one CA").others.len(), 1);
        assert!(read(chain("")).expect("no CA").others.is_empty());
        unreadable(
            serde_json::json!({"certificate": leaf, "ca_chain": chain("rubbish")}),
            "its ca_chain is no PEM certificate: it holds no PEM block",
        );
        let shown = issuer(&serde_json::json!({"certificate": ca, "ca_chain": chain(&ca)})).expect("an issuer");
        assert_eq!(shown.len(), 1);
    }

    #[test]
    fn text_between_the_blocks_of_a_chain_is_explanation_and_a_broken_block_is_not() {
        let (leaf, ca, root) = (certificate("leaf"), certificate("ca"), certificate("root"));
        let commented = format!("subject=ca\n{ca}\nrubbish: \u{1f600}\n{root}\nthe end");
        let answer = read(serde_json::json!({"certificate": leaf, "ca_chain": commented})).expect("a chain");
        assert_eq!(answer.others.len(), 2);
        let glued = format!("{}{}", ca.trim_end(), root);
        unreadable(
            serde_json::json!({"certificate": leaf, "ca_chain": glued}),
            "its ca_chain is no PEM certificate: PEM block 1 has no line of its own that reads -----END CERTIFICATE-----",
        );
        let key = "-----BEGIN PRIVATE KEY-----\nAQI=\n-----END PRIVATE KEY-----\n";
        unreadable(
            serde_json::json!({"certificate": leaf, "ca_chain": [ca, key]}),
            "its ca_chain is no PEM certificate: PEM block 1 is a PRIVATE KEY, and only CERTIFICATE belongs here",
        );
    }

    #[test]
    fn what_is_no_answer_to_a_csr_is_not_believed() {
        let leaf = certificate("leaf");
        unreadable(Value::Null, "no certificate");
        unreadable(serde_json::json!({"certificate": ""}), "no certificate");
        unreadable(serde_json::json!({"certificate": [1]}), "no certificate");
        unreadable(
            serde_json::json!({"certificate": "rubbish"}),
            "its certificate is no PEM certificate: it holds no PEM block",
        );
        unreadable(
            serde_json::json!({"certificate": leaf, "ca_chain": ["rubbish"]}),
            "its ca_chain is no PEM certificate: it holds no PEM block",
        );
        unreadable(
            serde_json::json!({"certificate": leaf, "issuing_ca": 7}),
            "its issuing_ca holds something that is no text",
        );
        let two = format!("{leaf}{}", certificate("another"));
        unreadable(serde_json::json!({"certificate": two}), "several end-entity certificates");
        unreadable(serde_json::json!({"certificate": leaf, "private_key": "k"}), "private key");
    }
}
