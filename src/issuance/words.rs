//! Words that somebody else wrote (Vault's `errors` and `warnings`, a TLS library's complaint), made fit to be shown: cut,
//! escaped, and with every secret we hold replaced. Foreign text reaches a condition, an event or a log line only as [`Words`].

use std::fmt;

/// The longest foreign text that is shown, in characters.
const LONGEST: usize = 1_024;
/// What stands where a secret stood.
const REDACTED: &str = "[redacted]";

/// Foreign text that is safe to show: at most 1,024 characters, no control characters, no secret of ours.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Words(String);

impl Words {
    /// Makes `text` fit to be shown. Every secret in `secrets` is replaced, in whatever form a server may echo it: as it is,
    /// base64, URL-escaped or JSON-escaped.
    pub fn new(text: &str, secrets: &[&str]) -> Self {
        let mut text = text.to_owned();
        for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
            for form in forms(secret) {
                if text.contains(&form) {
                    text = text.replace(&form, REDACTED);
                }
            }
        }
        let mut shown = String::with_capacity(text.len().min(LONGEST));
        for (index, character) in text.trim().chars().enumerate() {
            if index == LONGEST {
                shown.push('…');
                break;
            }
            match character {
                '\n' | '\t' => shown.push(' '),
                control if control.is_control() => shown.extend(control.escape_default()),
                plain => shown.push(plain),
            }
        }
        Self(shown)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "(no text)" } else { &self.0 })
    }
}

/// The forms in which a secret may come back, the longest first so that no form is left half replaced.
fn forms(secret: &str) -> Vec<String> {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
    let mut escaped = String::with_capacity(secret.len());
    for byte in secret.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => escaped.push(char::from(byte)),
            other => escaped.push_str(&format!("%{other:02X}")),
        }
    }
    let json = serde_json::Value::from(secret).to_string();
    let mut forms = vec![secret.to_owned(), escaped, json.trim_matches('"').to_owned()];
    forms.extend([STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD].map(|engine| engine.encode(secret)));
    forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
    forms.dedup();
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_replaced_in_every_form() {
        let secret = "hvs.a+b/\"c";
        for form in forms(secret) {
            let words = Words::new(&format!("echo: {form} end"), &[secret]);
            assert_eq!(words.as_str(), "echo: [redacted] end", "form {form}");
        }
    }

    #[test]
    fn long_text_is_cut_and_control_characters_are_escaped() {
        assert_eq!(Words::new(&"x".repeat(5_000), &[]).as_str().chars().count(), LONGEST + 1);
        assert_eq!(Words::new("a\u{1b}[31m\nb", &[]).as_str(), "a\\u{1b}[31m b");
    }

    #[test]
    fn an_empty_secret_replaces_nothing() {
        assert_eq!(Words::new("plain", &[""]).as_str(), "plain");
    }
}
