//! CONTRACT.md §4 and §6, the answers that must not reach a mesh: the right CA signs the wrong certificate (the trial holds its
//! key), or a real answer arrives garbled. Each row says which check refuses it, and that the right answer is taken afterwards.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::future::try_join_all;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, OtherNameValue, SanType,
};
use serde_json::{Value, json};
use testenv::{Action, Created, Csr, IssuerRef, Request, WrongSigner, certificate_of, condition};

use crate::midflight::is_sign;
use crate::replayed::Table;
use crate::support::{Corner, SOON, is_issued, says};
use crate::{Outcome, Shared, Suite};

/// A check is due 15 s after the last one, and the request that tries for all goes with it.
const NEXT_TRY: Duration = Duration::from_secs(90);
const HOUR: Duration = Duration::from_secs(3_600);

pub fn add(suite: &mut Suite) {
    suite
        .add("a certificate of the right CA with other names or as a CA fails its request, and no other", not_as_asked);
    suite.add("a certificate that the right CA cannot have meant is not believed", not_believed);
    suite.add("a certificate of another CA, or with another chain, is not believed", no_path);
    suite.add("other usages and lifetimes than asked for are told, refused or not believed", usages_and_lifetimes);
    suite.add("an answer that is garbled is not believed", garbled);
    suite.add("an answer that is only untidy is used, and what is published is tidy", untidy);
}

/// What becomes of a request whose answer is replaced.
enum Check {
    /// It fails with these words; the issuer stays Ready.
    FailsRequest(&'static [&'static str]),
    /// It waits; the issuer is not Ready with `AnswerUntrusted` and these words.
    StopsIssuer(&'static [&'static str]),
}
use Check::{FailsRequest, StopsIssuer};

/// A name, what takes the place of Vault's answer, and which check refuses it.
type Row = (&'static str, Action, Check);

/// A table whose mount signs with a key that the trial holds.
struct Wrong {
    table: Table,
    signer: Arc<WrongSigner>,
}

impl Wrong {
    async fn new(shared: &Arc<Shared>, name: &str) -> Result<Self> {
        let bao = &shared.plane.bao;
        let (signer, hierarchy) = WrongSigner::mount(bao, &format!("{name}-pki")).await?;
        let recipe = bao.recipe_around(name, hierarchy).await?;
        let table = Table::around(Corner::around(shared, name, recipe).await?).await?;
        Ok(Self { table, signer: Arc::new(signer) })
    }

    /// Each row has an issuer of its own, so that all of them are tried side by side.
    async fn refuses(&self, rows: Vec<Row>) -> Outcome {
        try_join_all(rows.into_iter().map(|row| async {
            let name = row.0;
            self.refuses_row(row).await.context(name)
        }))
        .await?;
        self.nothing_leaked().await
    }

    async fn refuses_row(&self, (name, action, check): Row) -> Outcome {
        let corner = &self.table.corner;
        let issuing = self.table.issuer(name).await?.create(corner.kube()).await?;
        issuing.ready(SOON).await?;
        let at = self.table.at(name);
        let rule = self.table.proxy.on(move |seen| at(seen) && is_sign(seen), action).times(1);
        let request = self.ask(name, name).await?;
        let right = match check {
            FailsRequest(words) => {
                corner.failed(&request, &[&["not what was asked for"][..], words].concat()).await?;
                let ready = condition(&issuing.get().await?, "Ready").cloned().unwrap_or_default();
                ensure!(ready["status"] == "True", "one request's trouble is not the issuer's: {ready}");
                self.ask(name, &format!("{name}-again")).await?
            }
            StopsIssuer(words) => {
                corner.pending(&request, "").await?;
                let ready = issuing.reason("AnswerUntrusted", SOON).await?;
                says(&ready["message"], &[&[self.table.path(name).as_str()][..], words].concat())?;
                request
            }
        };
        ensure!(rule.hits() == 1, "the answer was replaced {} times", rule.hits());
        rule.remove();
        is_issued(&right.ready(NEXT_TRY).await?, corner.recipe.root_pem()).await?;
        issuing.ready(SOON).await.map(drop)
    }

    /// A request for a name of each kind.
    fn request(&self, issuer: &str, name: &str) -> Result<Request> {
        let reference = IssuerRef::new("VaultMeshIssuer", issuer);
        let request = Request::new(&self.table.corner.name, name, &reference, &names(name).ec()?.csr_pem);
        Ok(request.duration("1h"))
    }

    async fn ask(&self, issuer: &str, name: &str) -> Result<Created> {
        self.request(issuer, name)?.create(self.table.corner.kube()).await
    }

    /// Not one certificate that was made here stands in a status.
    async fn nothing_leaked(&self) -> Outcome {
        let path = format!("/apis/cert-manager.io/v1/namespaces/{}/certificaterequests", self.table.corner.name);
        let made = self.signer.made();
        for request in self.table.corner.kube().list(&path).await? {
            if request["status"]["certificate"].is_null() {
                continue;
            }
            let chain = certificate_of(&request)?;
            ensure!(!made.iter().any(|one| chain.contains(one.trim())), "{}", request["metadata"]["name"]);
        }
        Ok(())
    }
}

/// A name of each kind.
fn names(name: &str) -> Csr {
    let host = format!("{name}.example");
    Csr::workload("wrong", name).dns(&host).ip("10.0.0.1").email(&format!("{name}@example.com"))
}

async fn not_as_asked(shared: Arc<Shared>) -> Outcome {
    let wrong = Wrong::new(&shared, "not-as-asked").await?;
    let (signer, mut rows) = (&wrong.signer, Vec::new());
    let added: [(&str, SanType, &'static [&'static str]); 6] = [
        ("dns-added", SanType::DnsName("evil.example".try_into()?), &["not asked for were DNS:evil.example"]),
        ("wildcard-added", SanType::DnsName("*.example".try_into()?), &["not asked for were DNS:*.example"]),
        ("uri-added", SanType::URI("spiffe://evil/x".try_into()?), &["not asked for were URI:spiffe://evil/x"]),
        ("ip-added", SanType::IpAddress([10, 0, 0, 2].into()), &["not asked for were IP:10.0.0.2"]),
        ("email-added", SanType::Rfc822Name("root@evil".try_into()?), &["not asked for were email:root@evil"]),
        (
            "other-added",
            SanType::OtherName((vec![1, 3, 6, 1, 4, 1, 311, 20, 2, 3], OtherNameValue::Utf8String("root".into()))),
            &["not asked for were other:"],
        ),
    ];
    for (name, san, words) in added {
        rows.push((name, signer.action(move |leaf| leaf.subject_alt_names.push(san.clone())), FailsRequest(words)));
    }
    type Kind = fn(&SanType) -> bool;
    let removed: [(&str, Kind, &'static [&'static str]); 5] = [
        ("dns-missing", |san| matches!(san, SanType::DnsName(_)), &["missing are DNS:", "allowed_domains"]),
        ("uri-missing", |san| matches!(san, SanType::URI(_)), &["missing are URI:", "allowed_uri_sans"]),
        ("ip-missing", |san| matches!(san, SanType::IpAddress(_)), &["missing are IP:10.0.0.1", "allow_ip_sans"]),
        ("email-missing", |san| matches!(san, SanType::Rfc822Name(_)), &["missing are email:", "e-mail"]),
        ("all-missing", |_| true, &["missing are URI:", "DNS:", "IP:", "email:", "use_csr_sans"]),
    ];
    for (name, is, words) in removed {
        let action = signer.action(move |leaf| leaf.subject_alt_names.retain(|san| !is(san)));
        rows.push((name, action, FailsRequest(words)));
    }
    let identity = SanType::URI("spiffe://cluster.local/ns/wrong/sa/other".try_into()?);
    let swap = move |leaf: &mut CertificateParams| {
        leaf.subject_alt_names.retain(|san| !matches!(san, SanType::URI(_)));
        leaf.subject_alt_names.push(identity.clone());
    };
    rows.push(("uri-swapped", signer.action(swap), FailsRequest(&["missing are URI:", "not asked for were URI:"])));
    let ca = signer.action(|leaf| leaf.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    rows.push(("ca", ca, FailsRequest(&["it is a CA certificate"])));
    wrong.refuses(rows).await
}

async fn not_believed(shared: Arc<Shared>) -> Outcome {
    let wrong = Wrong::new(&shared, "not-believed").await?;
    let signer = &wrong.signer;
    let foreign = signer.sign(&names("foreign-key").ec()?.csr_pem, |_| ())?;
    let second = Arc::clone(signer);
    let other = signer.sign(&names("other").ec()?.csr_pem, |_| ())?;
    let own = signer.chain().swap_remove(0);
    let cannot_be_read = &["its certificate is no PEM certificate"];
    let rows: Vec<Row> = vec![
        ("foreign-key", certificate(move |_| foreign.clone().into()), StopsIssuer(&["another key"])),
        ("ca-itself", certificate(move |_| own.clone().into()), StopsIssuer(&["another key"])),
        (
            "second-leaf",
            certificate(move |right| format!("{right}\n{other}").into()),
            StopsIssuer(&["several end-entity certificates"]),
        ),
        (
            "two-leaves",
            Action::patch_with(move |seen, answer| {
                let first = names("two-leaves").ec().and_then(|pair| second.sign(&pair.csr_pem, |_| ()));
                let right = second.answer(seen, |_| ());
                let first = first.unwrap_or_default();
                answer["data"]["certificate"] = format!("{first}{}", right.as_str().unwrap_or_default()).into();
            }),
            StopsIssuer(&["several end-entity certificates"]),
        ),
        (
            "expired",
            signer.action(|leaf| {
                leaf.not_before = (SystemTime::now() - 2 * HOUR).into();
                leaf.not_after = (SystemTime::now() - HOUR).into();
            }),
            StopsIssuer(&["the certificate ended at", "Compare the clocks"]),
        ),
        (
            // A second extension of names: one reader would see the first, another the last.
            "names-twice",
            signer.action(|leaf| {
                let evil = [&[0x30, 14, 0x82, 12][..], b"evil.example"].concat();
                leaf.custom_extensions.push(CustomExtension::from_oid_content(&[2, 5, 29, 17], evil));
            }),
            StopsIssuer(cannot_be_read),
        ),
    ];
    wrong.refuses(rows).await
}

async fn no_path(shared: Arc<Shared>) -> Outcome {
    let wrong = Wrong::new(&shared, "no-path").await?;
    let signer = &wrong.signer;
    let namesake = Arc::new(WrongSigner::new("no-path-pki intermediate")?);
    let (stranger, leaf_signer) = (Arc::clone(&namesake), Arc::new(signer.below("no CA", |it| it.is_ca = IsCa::NoCa)?));
    let broken = Arc::clone(signer);
    let crowd = (0..300).map(|_| signer.sign(&names("crowd").ec()?.csr_pem, |_| ())).collect::<Result<Vec<_>>>()?;
    let neither = &["does not lead to an anchor in force", "is neither in the answer nor an anchor"];
    let rows: Vec<Row> = vec![
        (
            "signature",
            Action::patch_with(move |seen, answer| {
                let right = broken.answer(seen, |_| ());
                answer["data"]["certificate"] = last_bit_flipped(right.as_str().unwrap_or_default()).into();
            }),
            StopsIssuer(neither),
        ),
        ("namesake", namesake.action(|_| ()), StopsIssuer(neither)),
        ("namesake-chain", from_another(stranger), StopsIssuer(&["which is not an anchor in force"])),
        ("by-a-leaf", from_another(leaf_signer), StopsIssuer(&["was signed by CN=no CA, which may not sign it"])),
        ("crowd", chain(crowd), StopsIssuer(&["are more than the 200 among which a path is sought"])),
    ];
    wrong.refuses(rows).await
}

async fn garbled(shared: Arc<Shared>) -> Outcome {
    let wrong = Wrong::new(&shared, "garbled").await?;
    let html = [("content-type", "text/html")];
    let gzip = [("content-type", "text/html"), ("content-encoding", "gzip")];
    let not_json = || StopsIssuer(&["it is not Vault's JSON"]);
    let too_large = || StopsIssuer(&["it is larger than 1 MiB"]);
    let none = || StopsIssuer(&["it holds no certificate"]);
    let no_pem = || StopsIssuer(&["its certificate is no PEM certificate"]);
    let ca = wrong.signer.chain().swap_remove(0);
    let rows: Vec<Row> = vec![
        ("login-page", Action::raw(200, &html, "<html>log in</html>").after_delivery(), not_json()),
        ("gzip", Action::raw(200, &gzip, b"\x1f\x8b\x08\x00rubbish".to_vec()), not_json()),
        ("empty", Action::raw(200, &[], ""), not_json()),
        ("cut-json", Action::raw(200, &[], "{\"request_id\": \"x\", \"data\": {\"certifi"), not_json()),
        ("no-envelope", Action::patch(|answer| *answer = answer["data"].take()), not_json()),
        ("huge", Action::raw(200, &[], vec![b' '; 50 << 20]), too_large()),
        ("ten-thousand", chain(vec![ca; 10_000]), too_large()),
        ("no-data", Action::patch(|answer| answer["data"] = Value::Null), none()),
        ("no-certificate", certificate(|_| Value::Null), none()),
        ("number", certificate(|_| 7.into()), none()),
        ("list", certificate(|right| json!([right])), none()),
        ("cut-pem", certificate(|right| right.get(..right.len() / 2).unwrap_or_default().into()), no_pem()),
        ("no-base64", certificate(|right| right.replace("MII", "M*I").into()), no_pem()),
        ("other-der", certificate(|_| pem("CERTIFICATE", b"0\x03\x02\x01\x01").into()), no_pem()),
        ("more-der", certificate(|right| pem("CERTIFICATE", &[der(right), vec![0]].concat()).into()), no_pem()),
        ("label", certificate(|right| right.replace("CERTIFICATE", "PUBLIC KEY").into()), no_pem()),
        ("rubbish-inside", certificate(|right| right.replacen('\n', "\n<script>\n", 1).into()), no_pem()),
        ("chain-rubbish", chain(vec!["rubbish".into()]), StopsIssuer(&["its ca_chain is no PEM certificate"])),
        (
            "private-key",
            Action::patch(|answer| answer["data"]["private_key"] = "a key".into()),
            StopsIssuer(&["it holds a private key"]),
        ),
    ];
    wrong.refuses(rows).await
}

async fn untidy(shared: Arc<Shared>) -> Outcome {
    let wrong = Wrong::new(&shared, "untidy").await?;
    let corner = &wrong.table.corner;
    let stranger = WrongSigner::new("stranger")?.chain();
    let ca = wrong.signer.chain();
    let shuffled: Vec<_> = ca.iter().chain(&stranger).chain(&ca).rev().cloned().collect();
    let rows: Vec<(&str, Action)> = vec![
        // What every row above starts from: without its one fault it would be published.
        ("nothing-wrong", wrong.signer.action(|_| ())),
        ("text-around", certificate(|right| format!("Subject: x\n\n{right}\nand rubbish behind\n").into())),
        ("windows", certificate(|right| right.replace('\n', "\r\n").into())),
        // The mount itself shows what is missing here.
        ("no-chain", chain(Vec::new())),
        ("other-chain", chain(stranger)),
        ("shuffled", chain(shuffled)),
        ("one-text", Action::patch(move |answer| answer["data"]["ca_chain"] = ca.join("\n\n").into())),
    ];
    try_join_all(rows.into_iter().map(|(name, action)| {
        let (wrong, corner) = (&wrong, corner);
        async move {
            wrong.table.issuer(name).await?.create(corner.kube()).await?.ready(SOON).await?;
            let at = wrong.table.at(name);
            let rule = wrong.table.proxy.on(move |seen| at(seen) && is_sign(seen), action);
            let object = corner.issued(&wrong.ask(name, name).await?).await.context(name)?;
            let blocks = certificate_of(&object)?.matches("BEGIN").count();
            ensure!(rule.hits() == 1 && blocks == 2, "{name}: {} hits, {blocks} certificates", rule.hits());
            Ok(())
        }
    }))
    .await
    .map(drop)
}

/// Certificates of the right CA and with the right names whose lifetime or usages are not what was asked for.
async fn usages_and_lifetimes(shared: Arc<Shared>) -> Outcome {
    let wrong = Wrong::new(&shared, "other-usages").await?;
    let signer = &wrong.signer;
    let server_only =
        |leaf: &mut CertificateParams| leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let rows: Vec<Row> = vec![
        (
            "begins-later",
            signer.action(|leaf| leaf.not_before = (SystemTime::now() + HOUR / 2).into()),
            StopsIssuer(&["begins at", "Compare the clocks"]),
        ),
        (
            "ends-before-it-begins",
            signer.action(|leaf| leaf.not_before = (SystemTime::now() + 2 * HOUR).into()),
            StopsIssuer(&["begins at", "Compare the clocks"]),
        ),
    ];
    wrong.refuses(rows).await?;
    let no_key_usage = |leaf: &mut CertificateParams| leaf.key_usages.clear();
    let short = |leaf: &mut CertificateParams| leaf.not_after = (SystemTime::now() + HOUR / 4).into();
    let rows: [(&str, &str, Action, &str); 5] = [
        ("server-only", "Warn", signer.action(server_only), "client auth"),
        ("server-only-refused", "Enforce", signer.action(server_only), "client auth"),
        ("no-key-usage", "Warn", signer.action(no_key_usage), "digital signature"),
        ("no-key-usage-refused", "Enforce", signer.action(no_key_usage), "digital signature"),
        ("short-life", "Enforce", signer.action(short), "cuts lifetimes"),
    ];
    for (name, usages, action, words) in rows {
        let (corner, at) = (&wrong.table.corner, wrong.table.at(name));
        let issuer = wrong.table.issuer(name).await?.set("certificates/usages", usages.into());
        issuer.create(corner.kube()).await?.ready(SOON).await?;
        wrong.table.proxy.on(move |seen| at(seen) && is_sign(seen), action);
        let request = wrong.request(name, name)?.usages(&["digital signature", "client auth"]);
        let request = request.create(corner.kube()).await?;
        if name.ends_with("refused") {
            corner.failed(&request, &[words]).await?;
            continue;
        }
        is_issued(&request.ready(SOON).await?, corner.recipe.root_pem()).await?;
        let reason = if name == "short-life" { "LifetimeShortened" } else { "UsagesMissing" };
        let event = corner.event(name, reason).await.context(name)?;
        ensure!(event["type"] == "Warning" && event["note"].to_string().contains(words), "{name}: {event}");
    }
    Ok(())
}

/// Puts something else in the place of `certificate`, made from what Vault signed.
fn certificate(make: impl Fn(&str) -> Value + Send + Sync + 'static) -> Action {
    Action::patch(move |answer| {
        let right = answer["data"]["certificate"].as_str().unwrap_or_default().to_owned();
        answer["data"]["certificate"] = make(&right);
    })
}

/// Puts these in the place of `ca_chain`, and nothing in that of `issuing_ca`.
fn chain(certificates: Vec<String>) -> Action {
    Action::patch(move |answer| {
        answer["data"]["ca_chain"] = json!(certificates);
        answer["data"]["issuing_ca"] = "".into();
    })
}

/// Certificate and chain of somebody else.
fn from_another(signer: Arc<WrongSigner>) -> Action {
    Action::patch_with(move |seen, answer| {
        answer["data"]["certificate"] = signer.answer(seen, |_| ());
        answer["data"]["ca_chain"] = json!(signer.chain());
    })
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

fn der(pem: &str) -> Vec<u8> {
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    STANDARD.decode(body).unwrap_or_default()
}

/// The last byte of a certificate belongs to its signature.
fn last_bit_flipped(right: &str) -> String {
    let mut der = der(right);
    if let Some(last) = der.last_mut() {
        *last ^= 1;
    }
    pem("CERTIFICATE", &der)
}
