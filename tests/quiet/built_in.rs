//! cert-manager's built-in Vault issuer and ours, given the same request and the same recorded answer of Vault: the bytes are equal
//! in the plain case, and each case in which they differ stands here and, with its reason, in `docs/built-in-issuer.md`.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use serde_json::{Value, json};
use testenv::{
    Action, Chain, Created, Csr, Issuer, IssuerRef, Request, WrongSigner, ca_of, certificate_of, eventually, openssl,
};

use crate::chains::{Second, twice};
use crate::midflight::is_sign;
use crate::replayed::Table;
use crate::support::{Corner, SOON, ready_of, says};
use crate::{Outcome, Shared, Suite};

pub fn add(suite: &mut Suite) {
    suite.add("one recorded answer becomes the same bytes with both issuers", same);
    suite.add("where Vault does not hold the root, the built-in issuer names an intermediate as CA", root_missing);
    suite.add("an answer with two ways up or a stranger in it fails with the built-in issuer", branches);
    suite.add("an answer that is not what was asked for is handed on by the built-in issuer", not_as_asked);
    suite.add("both ask for the same lifetimes, but for none and 0s", lifetimes);
}

/// What both issuers made of one answer.
struct Both {
    built_in: Created,
    ours: Created,
}

/// The same `vault` block, CSR and duration for both.
struct Asked {
    table: Arc<Table>,
    name: &'static str,
    csr_pem: String,
    duration: Option<&'static str>,
    is_ca: bool,
}

impl Asked {
    fn new(table: &Arc<Table>, name: &'static str) -> Result<Self> {
        let csr_pem = Csr::workload(&table.corner.name, name).dns("web.example").ec()?.csr_pem;
        Ok(Self { table: Arc::clone(table), name, csr_pem, duration: Some("1h"), is_ca: false })
    }

    /// What Vault answers to the CSR, straight from the server.
    async fn recorded(&self) -> Result<Value> {
        let corner = &self.table.corner;
        corner.bao().write(&corner.recipe.sign_path, json!({"csr": self.csr_pem, "ttl": "1h"})).await
    }

    /// Replays `answer` to both; `change` is what our issuer has beside the `vault` block.
    async fn replayed(&self, answer: &Value, change: impl FnOnce(Issuer) -> Issuer) -> Result<Both> {
        let at = self.table.at(self.name);
        self.table.proxy.on(move |seen| at(seen) && is_sign(seen), Action::answer(200, answer));
        self.both(change).await
    }

    async fn both(&self, change: impl FnOnce(Issuer) -> Issuer) -> Result<Both> {
        let (kube, namespace) = (self.table.corner.kube(), &self.table.corner.name);
        let issuer = change(self.table.issuer(self.name).await?);
        let built_in = json!({
            "apiVersion": "cert-manager.io/v1", "kind": "Issuer", "metadata": {"name": self.name, "namespace": namespace},
            "spec": {"vault": issuer.object()["spec"]["vault"]},
        });
        // Ours first, because the Secret comes with it.
        issuer.create(kube).await?;
        let path = format!("/apis/cert-manager.io/v1/namespaces/{namespace}/issuers/{}", self.name);
        kube.apply_object(&path, "testenv", &built_in).await?;
        kube.wait_condition(&path, "Ready", "True", SOON).await?;
        let built_in = IssuerRef { group: "cert-manager.io".into(), kind: "Issuer".into(), name: self.name.into() };
        let ours = IssuerRef::new("VaultMeshIssuer", self.name);
        let ask = async |name: String, issuer: &IssuerRef| {
            let mut request = Request::new(namespace, &name, issuer, &self.csr_pem);
            if let Some(duration) = self.duration {
                request = request.duration(duration);
            }
            let request = if self.is_ca { request.ca() } else { request };
            request.create(kube).await
        };
        Ok(Both {
            built_in: ask(format!("{}-built-in", self.name), &built_in).await?,
            ours: ask(self.name.to_owned(), &ours).await?,
        })
    }
}

impl Both {
    /// Certificate and CA of both, the built-in issuer's first.
    async fn issued(&self) -> Result<[(String, String); 2]> {
        let published = async |request: &Created| -> Result<(String, String)> {
            let object = request.reason("Issued", SOON).await.with_context(|| request.name.clone())?;
            Ok((certificate_of(&object)?, ca_of(&object)?))
        };
        Ok([published(&self.built_in).await?, published(&self.ours).await?])
    }

    /// The built-in issuer gives up with these words, ours publishes.
    async fn only_ours(&self, words: &str) -> Result<(String, String)> {
        let failed = self.built_in.reason("Failed", SOON).await?;
        says(&ready_of(&failed)?["message"], &[words])?;
        let object = self.ours.reason("Issued", SOON).await?;
        let (chain, ca) = (certificate_of(&object)?, ca_of(&object)?);
        openssl::verify(&chain, &ca).await?;
        Ok((chain, ca))
    }

    /// The built-in issuer publishes, ours refuses.
    async fn only_built_in(&self, reason: &str, words: &str) -> Result<String> {
        let object = self.built_in.reason("Issued", SOON).await?;
        let refused = self.ours.reason(reason, SOON).await?;
        says(&ready_of(&refused)?["message"], &[words])?;
        ensure!(refused["status"]["certificate"].is_null(), "{refused}");
        certificate_of(&object)
    }
}

async fn table(shared: &Arc<Shared>, name: &str, chain: Chain) -> Result<Arc<Table>> {
    Ok(Arc::new(Table::around(Corner::with_chain(shared, name, chain).await?).await?))
}

async fn same(shared: Arc<Shared>) -> Outcome {
    let with_root = table(&shared, "same-bytes", Chain::WithRoot).await?;
    let root_itself = table(&shared, "same-bytes-root", Chain::RootItself).await?;
    type Change = fn(&mut Value);
    let rows: [(&str, &Arc<Table>, Change); 5] = [
        ("plain", &with_root, |_| ()),
        ("root-itself", &root_itself, |_| ()),
        ("line-ends", &with_root, |data| {
            let right = data["certificate"].as_str().unwrap_or_default().replace('\n', "\r\n");
            data["certificate"] = format!("{right}\r\n\r\n").into();
        }),
        ("no-issuing-ca", &with_root, |data| data["issuing_ca"] = "".into()),
        ("reversed", &with_root, |data| data["ca_chain"].as_array_mut().into_iter().for_each(|chain| chain.reverse())),
    ];
    try_join_all(rows.map(|(name, table, change)| async move {
        let asked = Asked::new(table, name)?;
        let mut answer = asked.recorded().await?;
        change(&mut answer["data"]);
        let [built_in, ours] = asked.replayed(&answer, |issuer| issuer).await?.issued().await?;
        ensure!(built_in == ours, "{name}: the built-in issuer gives\n{built_in:?}\nours\n{ours:?}");
        ensure!(ours.1 == table.corner.recipe.root_pem(), "{name}: {}", ours.1);
        openssl::verify(&ours.0, &ours.1).await.context(name)
    }))
    .await
    .map(drop)
}

async fn root_missing(shared: Arc<Shared>) -> Outcome {
    let table = table(&shared, "root-missing", Chain::IntermediateOnly).await?;
    let (root, intermediate) = (table.corner.recipe.root_pem(), &table.corner.recipe.hierarchy.issuing_pem);
    let anchored = Asked::new(&table, "anchored")?;
    let both = anchored.replayed(&anchored.recorded().await?, |issuer| issuer.anchors(root)).await?;
    let [built_in, ours] = both.issued().await?;
    ensure!(built_in.0 == ours.0, "status.certificate is\n{}\nand\n{}", built_in.0, ours.0);
    ensure!(built_in.1 == *intermediate && ours.1 == root, "status.ca is\n{}\nand\n{}", built_in.1, ours.1);
    ensure!(openssl::verify(&built_in.0, &built_in.1).await.is_err(), "an intermediate is no root to openssl");
    openssl::verify(&ours.0, &ours.1).await?;

    // An answer without any chain: the built-in issuer has nothing to put into status.ca, and ours knows what the mount shows.
    let bare = Asked::new(&table, "no-chain")?;
    let mut answer = bare.recorded().await?;
    answer["data"]["ca_chain"] = json!([]);
    answer["data"]["issuing_ca"] = "".into();
    let both = bare.replayed(&answer, |issuer| issuer.anchors(root)).await?;
    let built_in = both.built_in.reason("Issued", SOON).await?;
    ensure!(built_in["status"]["ca"].is_null(), "{built_in}");
    table.corner.issued(&both.ours).await?;

    let unknown = Asked::new(&table, "unknown")?;
    let both = unknown.replayed(&unknown.recorded().await?, |issuer| issuer).await?;
    both.built_in.reason("Issued", SOON).await?;
    table.corner.pending(&both.ours, "is not Ready").await?;
    let path = "/apis/vaultmesh.io/v1alpha1/namespaces/root-missing/vaultmeshissuers/unknown";
    let issuer = table.corner.kube().wait_condition(path, "Ready", "False", SOON).await?;
    says(&ready_of(&issuer)?["message"], &["no root is known", "spec.trust.anchors"])
}

async fn branches(shared: Arc<Shared>) -> Outcome {
    const BROKEN: &str = "certificate chain is malformed or broken";
    for (name, second) in [("built-in-crossed", Second::CrossSigned), ("built-in-reissued", Second::Reissued)] {
        let made = twice(&shared.plane.bao, name, second).await?;
        let corner = Corner::around(&shared, name, made.recipe).await?;
        let asked = Asked::new(&Arc::new(Table::around(corner).await?), name)?;
        let answer = asked.recorded().await?;
        let both = asked.replayed(&answer, |issuer| issuer.anchors(&made.roots[1])).await?;
        let (chain, ca) = both.only_ours(BROKEN).await.context(name)?;
        ensure!(chain.ends_with(made.upper[1].as_str()) && ca == made.roots[1], "{name}: {chain}\n{ca}");
    }
    let table = table(&shared, "built-in-stranger", Chain::WithRoot).await?;
    let asked = Asked::new(&table, "stranger")?;
    let mut answer = asked.recorded().await?;
    let stranger = WrongSigner::new("stranger")?.chain();
    answer["data"]["ca_chain"].as_array_mut().context("ca_chain")?.extend(stranger.into_iter().map(Value::from));
    asked.replayed(&answer, |issuer| issuer).await?.only_ours(BROKEN).await.map(drop)
}

async fn not_as_asked(shared: Arc<Shared>) -> Outcome {
    let table = table(&shared, "built-in-checks", Chain::WithRoot).await?;
    let (bao, mount) = (table.corner.bao(), table.corner.recipe.mount());

    let foreign = Asked::new(&table, "foreign-key")?;
    let another = Asked::new(&table, "foreign-key")?.recorded().await?;
    let both = foreign.replayed(&another, |issuer| issuer).await?;
    both.only_built_in("Pending", "").await.context("foreign key")?;

    // A role that drops the names of the CSR, without a warning.
    let dropped = Asked::new(&table, "names")?;
    let role = json!({"use_csr_sans": false, "allow_any_name": true, "require_cn": false, "key_type": "any"});
    bao.pki_role(mount, "drops", role).await?;
    let answer = bao.write(&format!("{mount}/sign/drops"), json!({"csr": dropped.csr_pem, "ttl": "1h"})).await?;
    let both = dropped.replayed(&answer, |issuer| issuer).await?;
    let published = both.only_built_in("Failed", "missing are URI:spiffe://").await.context("names")?;
    ensure!(!openssl::text(&published).await?.contains("Subject Alternative Name"), "{published}");

    // `sign` makes a leaf of a CSR that asks for a CA.
    let csr_pem = Csr::new().cn("identity.linkerd").dns("identity.linkerd").ca().ec()?.csr_pem;
    let asked = Asked { csr_pem, is_ca: true, ..Asked::new(&table, "is-ca")? };
    let both = asked.replayed(&asked.recorded().await?, |issuer| issuer).await?;
    let published = both.only_built_in("Failed", "spec.isCA").await.context("isCA")?;
    ensure!(!openssl::text(&published).await?.contains("CA:TRUE"), "{published}");
    Ok(())
}

async fn lifetimes(shared: Arc<Shared>) -> Outcome {
    let table = table(&shared, "built-in-lifetimes", Chain::WithRoot).await?;
    // Name, spec.duration, and the ttl that each sends to Vault.
    let rows: [(&str, Option<&str>, &str, &str); 4] = [
        ("second", Some("1s"), "1s", "1s"),
        ("minutes", Some("90m"), "1h30m0s", "5400s"),
        // Vault takes 0s for its role's own default.
        ("zero", Some("0s"), "0s", "7776000s"),
        ("none", None, "2160h0m0s", "7776000s"),
    ];
    try_join_all(rows.map(|(name, duration, built_in, ours)| {
        let table = &table;
        async move {
            let asked = Asked { duration, ..Asked::new(table, name)? };
            asked.both(|issuer| issuer).await?;
            let at = table.at(name);
            let ttls = eventually(&format!("both have asked ({name})"), SOON, async || {
                let signs = table.proxy.recorded().into_iter().filter(|it| at(&it.seen) && is_sign(&it.seen));
                let mut ttls: Vec<_> = signs.map(|it| it.seen.json()["ttl"].clone()).collect();
                ttls.sort_by_key(Value::to_string);
                Ok((ttls.len() >= 2).then_some(ttls))
            })
            .await?;
            ensure!(ttls == [built_in, ours], "{name}: {ttls:?}");
            Ok(())
        }
    }))
    .await
    .map(drop)
}
