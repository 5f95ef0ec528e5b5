//! docs/messages.md: every message that a user can see, with its cause and its cure.

use super::text;
use crate::api::auth::Method;
use crate::issuance::messages::{Entry, catalogue};
use crate::vault::login_hints::hints;
use crate::vault::table::{OTHER_ROLE_HINT, ROLE_HINTS};

const HEAD: &str = "\
<!-- Written by `vault-mesh-issuer crds --write-to .` from src/issuance/messages; edit these instead. -->
# Every message, with its cause and its cure

`{name}` stands for what is filled in; `{words}` are Vault's own, without secrets and cut at 1,024 characters. Search this page for
a piece of the message that you see. The reasons of the `Ready` condition, and when it is checked, are in
[conditions.md](conditions.md).

";

/// The page.
pub(super) fn page() -> String {
    let mut page = HEAD.to_owned();
    for section in catalogue() {
        page.push_str(&format!("## {}\n\n{}\n\n", section.title, section.about));
        page.extend(section.entries.iter().map(entry));
    }
    page.push_str(&logins());
    page.push_str(&roles());
    page
}

fn entry(entry: &Entry) -> String {
    let Entry { message, shown, cause, cure } = entry;
    let shown = if shown.is_empty() { String::new() } else { format!("Seen: {shown}. ") };
    format!("> {}\n\n{shown}Cause: {cause} Cure: {cure}\n\n", text(message))
}

fn logins() -> String {
    let mut section = "## What {hint} says of a login\n\nThe first row that fits Vault's words, in lower case.\n\n\
                       | method | Vault's words hold | what is said |\n|---|---|---|\n"
        .to_owned();
    for method in [Method::AppRole, Method::Kubernetes, Method::Jwt, Method::ClientCertificate] {
        let (rows, other) = hints(method);
        for (words, hint) in rows {
            section.push_str(&format!("| `{}` | {words} | {} |\n", method.field(), text(hint)));
        }
        section.push_str(&format!("| `{}` | anything else | {} |\n", method.field(), text(other)));
    }
    section.push('\n');
    section
}

fn roles() -> String {
    let mut section = "## What {hint} says of a role\n\nThe first row that fits Vault's words, in lower case.\n\n\
                       | Vault's words hold | what is said |\n|---|---|\n"
        .to_owned();
    for (words, hint) in ROLE_HINTS {
        section.push_str(&format!("| {} | {} |\n", words.join(" and "), text(hint)));
    }
    section.push_str(&format!("| anything else | {OTHER_ROLE_HINT} |\n"));
    section
}
