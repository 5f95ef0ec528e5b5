//! What Vault makes of its certificates when they are no straight line, and what of it is published.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use testenv::{
    Bao, Chain, Csr, Hierarchy, HierarchyOptions, Issuer, Issuing, KeyAndCsr, Kube, Recipe, Request, ca_of,
    certificate_of, openssl,
};

use crate::{Outcome, Shared, Suite};

pub fn add(suite: &mut Suite) {
    suite.add("of a cross-signed CA the way to the anchor is published, in the same bytes each time", cross_signed);
    suite.add("issuer/<ref>/sign says which certificate of a cross-signed issuing CA is published", issuer_by_name);
    suite.add("of a reissued CA the certificate that lives longer is published", reissued);
    suite.add("a CA of path length 0 signs EC, RSA and Ed25519 keys with names of every kind", keys_and_names);
}

/// Generous: trials share two cores.
const SOON: Duration = Duration::from_secs(40);

/// Whom a trial speaks to, and its namespace.
struct Peers<'a> {
    kube: &'a Kube,
    bao: &'a Bao,
    namespace: &'a str,
}

/// A mount whose issuing CA was signed by a CA that has two certificates. The mount knows all of them, so that Vault's
/// `ca_chain` has two ways up. (Of two certificates of the issuing CA itself Vault answers with one: that of the issuer that
/// the path or the role names.)
pub struct Twice {
    pub recipe: Recipe,
    /// The two certificates of the CA above the issuing one.
    pub upper: [String; 2],
    /// The root above each.
    pub roots: [String; 2],
}

/// How the second certificate comes about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Second {
    /// From another root.
    CrossSigned,
    /// From the same root, a year longer.
    Reissued,
}

/// Makes such a mount, called `<prefix>-pki`, with everything that signs there.
pub async fn twice(bao: &Bao, prefix: &str, second: Second) -> Result<Twice> {
    let (mount, upper_mount) = (format!("{prefix}-pki"), format!("{prefix}-upper"));
    let options = HierarchyOptions::new(prefix, Chain::WithRoot);
    let old = bao.root(&options.root_mount, &options, "87600h").await?;
    let (new_mount, new) = match second {
        Second::Reissued => (options.root_mount.clone(), old.clone()),
        Second::CrossSigned => {
            let options = HierarchyOptions { root_name: format!("{prefix} new root"), ..options.clone() };
            let root_mount = format!("{prefix}-new-root");
            (root_mount.clone(), bao.root(&root_mount, &options, "87600h").await?)
        }
    };
    let upper_csr = csr_of(bao, &upper_mount, "internal", "upper").await?;
    let upper = [
        signed_by(bao, &options.root_mount, &upper_csr, "upper", "43800h").await?,
        signed_by(bao, &new_mount, &upper_csr, "upper", "52560h").await?,
    ];
    import(bao, &upper_mount, &upper.concat()).await?;
    bao.set_default_issuer(&upper_mount, &upper[1]).await?;
    let csr = csr_of(bao, &mount, "internal", "lower").await?;
    // It outlives the first certificate above it, so that the two ways differ in how long they live.
    let lower = signed_by(bao, &upper_mount, &csr, "lower", "50000h").await?;
    import(bao, &mount, &format!("{lower}{}{old}{new}", upper.concat())).await?;
    bao.set_default_issuer(&mount, &lower).await?;
    let root_mount = options.root_mount;
    let hierarchy = Hierarchy { mount, root_mount, root_pem: old.clone(), issuing_pem: lower };
    Ok(Twice { recipe: bao.recipe_around(prefix, hierarchy).await?, upper, roots: [old, new] })
}

/// A CSR for a CA of this name; the key is made (`internal`) or the mount's (`existing`).
async fn csr_of(bao: &Bao, mount: &str, key: &str, name: &str) -> Result<Value> {
    bao.mount(mount, "pki").await?;
    let mut body = json!({"common_name": name});
    if key == "internal" {
        body = json!({"common_name": name, "key_type": "ec", "key_bits": 256});
    }
    Ok(bao.write(&format!("{mount}/intermediate/generate/{key}"), body).await?["data"]["csr"].take())
}

async fn signed_by(bao: &Bao, mount: &str, csr: &Value, name: &str, ttl: &str) -> Result<String> {
    let body = json!({"csr": csr, "common_name": name, "ttl": ttl});
    let signed = bao.write(&format!("{mount}/root/sign-intermediate"), body).await?;
    Ok(format!("{}\n", signed["data"]["certificate"].as_str().context("no certificate")?.trim()))
}

async fn import(bao: &Bao, mount: &str, pem: &str) -> Result<()> {
    bao.write(&format!("{mount}/intermediate/set-signed"), json!({"certificate": pem})).await.map(drop)
}

/// The anchors decide which way up is published.
async fn cross_signed(shared: Arc<Shared>) -> Outcome {
    let peers = Peers::new(&shared, "cross-signed").await?;
    let Twice { recipe, upper, roots } = twice(peers.bao, peers.namespace, Second::CrossSigned).await?;
    peers.has_branches(&recipe, &upper).await?;
    let ways = upper.map(|upper| format!("{}{upper}", recipe.hierarchy.issuing_pem));
    let issuer = |name: &str| Issuer::app_role(peers.namespace, name, peers.bao, &recipe);
    for (name, which) in [("old", 0), ("new", 1)] {
        let issuing = peers.ready(issuer(name).anchors(&roots[which])).await?;
        peers.publishes(&issuing, &ways[which], &roots[which]).await.context(name)?;
    }
    // Both ways lead to an anchor, and the second lives longer.
    let issuing = peers.ready(issuer("any").anchors(&roots.concat())).await?;
    let published = peers.publishes(&issuing, &ways[1], "").await?;
    ensure!(roots.iter().all(|root| published.contains(root.as_str())), "status.ca lacks a root:\n{published}");
    // Without anchors the mount shows them, and one is taken: which one, the first request tells.
    let issuing = peers.ready(issuer("discovered")).await?;
    let first = peers.issued(&issuing, "first", &Csr::workload(peers.namespace, "first").ec()?).await?;
    let which = usize::from(ca_of(&first)? == roots[1]);
    peers.publishes(&issuing, &ways[which], &roots[which]).await.map(drop)
}

/// A CA certificate was replaced by one with the same name and key: the one that lives longer is published.
async fn reissued(shared: Arc<Shared>) -> Outcome {
    let peers = Peers::new(&shared, "reissued").await?;
    let Twice { recipe, upper, roots } = twice(peers.bao, peers.namespace, Second::Reissued).await?;
    peers.has_branches(&recipe, &upper).await?;
    let ways = upper.map(|upper| format!("{}{upper}", recipe.hierarchy.issuing_pem));
    let issuing = peers.ready(Issuer::app_role(peers.namespace, "mesh", peers.bao, &recipe)).await?;
    peers.publishes(&issuing, &ways[1], &roots[0]).await.map(drop)
}

/// The issuing CA itself has two certificates: `issuer/<ref>/sign/<role>` says which is published.
async fn issuer_by_name(shared: Arc<Shared>) -> Outcome {
    let peers = Peers::new(&shared, "issuer-by-name").await?;
    let (bao, prefix) = (peers.bao, peers.namespace);
    let recipe = bao.plain_recipe(prefix, Chain::WithRoot).await?;
    let (mount, name) = (recipe.mount(), format!("{} intermediate", recipe.mount()));
    let options = HierarchyOptions::new(&format!("{prefix}-new"), Chain::WithRoot);
    let new_root = bao.root(&options.root_mount, &options, "87600h").await?;
    let csr = csr_of(bao, mount, "existing", &name).await?;
    let second = signed_by(bao, &options.root_mount, &csr, &name, "43800h").await?;
    import(bao, mount, &format!("{second}{new_root}")).await?;
    bao.sign_policy(&recipe.policy, &format!("{mount}/issuer/+/sign/mesh")).await?;
    let ways = [("first", &recipe.hierarchy.issuing_pem, &recipe.hierarchy.root_pem), ("second", &second, &new_root)];
    for (name, ca, root) in ways {
        let path = format!("{mount}/issuer/{}/sign/mesh", bao.issuer_of(mount, ca).await?);
        let issuing = peers.ready(Issuer::app_role(prefix, name, bao, &recipe).set("vault/path", path.into())).await?;
        peers.publishes(&issuing, ca, root).await.context(name)?;
    }
    Ok(())
}

/// A CA of path length 0 signs for every kind of key and every kind of name.
async fn keys_and_names(shared: Arc<Shared>) -> Outcome {
    let peers = Peers::new(&shared, "keys-and-names").await?;
    let options = HierarchyOptions { max_path_length: 0, ..HierarchyOptions::new(peers.namespace, Chain::WithRoot) };
    let recipe = peers.bao.recipe_with(peers.namespace, &options).await?;
    let ca = openssl::text(&recipe.hierarchy.issuing_pem).await?;
    ensure!(ca.contains("pathlen:0"), "{ca}");
    let issuing = peers.ready(Issuer::app_role(peers.namespace, "mesh", peers.bao, &recipe)).await?;
    let csr = Csr::new().cn("web.example").organization("").dns("web.example").dns("*.web.example");
    let csr = csr.uri("spiffe://cluster.local/ns/a/sa/b").uri("kuma://kuma.io/service/web");
    let csr = csr.ip("10.0.0.1").ip("2001:db8::1").email("web@example.com");
    let expected = [
        "DNS:web.example",
        "DNS:*.web.example",
        "URI:spiffe://cluster.local/ns/a/sa/b",
        "URI:kuma://kuma.io/service/web",
        "IP Address:10.0.0.1",
        "IP Address:2001:DB8:0:0:0:0:0:1",
        "email:web@example.com",
    ];
    let keys = [
        ("ec", csr.clone().ec()?, "id-ecPublicKey"),
        ("rsa", csr.clone().rsa(2048).await?, "rsaEncryption"),
        ("ed25519", csr.clone().ed25519().await?, "ED25519"),
    ];
    for (name, pair, algorithm) in keys {
        let object = peers.issued(&issuing, name, &pair).await.context(name)?;
        ensure!(ca_of(&object)? == recipe.root_pem(), "{name}: status.ca is another root");
        let text = openssl::text(&certificate_of(&object)?).await?;
        ensure!(text.contains(&format!("Public Key Algorithm: {algorithm}")), "{name}: {text}");
        let names =
            text.lines().skip_while(|line| !line.contains("Subject Alternative Name")).nth(1).unwrap_or_default();
        let names: Vec<_> = names.trim().split(", ").collect();
        ensure!(names.len() == expected.len() && expected.iter().all(|one| names.contains(one)), "{name}: {names:?}");
    }
    Ok(())
}

impl<'a> Peers<'a> {
    async fn new(shared: &'a Shared, namespace: &'a str) -> Result<Self> {
        shared.plane.kube.namespace(namespace).await?;
        Ok(Self { kube: &shared.plane.kube, bao: &shared.plane.bao, namespace })
    }

    /// Creates an issuer and waits until it is Ready.
    async fn ready(&self, issuer: Issuer) -> Result<Issuing> {
        let issuing = issuer.create(self.kube).await?;
        issuing.ready(SOON).await?;
        Ok(issuing)
    }

    /// Asks, and waits for what somebody else's code verifies with nothing but what was published.
    async fn issued(&self, issuing: &Issuing, name: &str, pair: &KeyAndCsr) -> Result<Value> {
        let request = Request::new(self.namespace, name, &issuing.issuer_ref, &pair.csr_pem).duration("1h");
        let object = request.create(self.kube).await?.reason("Issued", SOON).await?;
        openssl::verify(&certificate_of(&object)?, &ca_of(&object)?).await?;
        Ok(object)
    }

    /// Asks several times: above each leaf stand the `expected` bytes, and `status.ca` is the same each time, namely `root`
    /// where one is given. Gives `status.ca`.
    async fn publishes(&self, issuing: &Issuing, expected: &str, root: &str) -> Result<String> {
        let mut cas = Vec::new();
        for number in 0..4 {
            let name = format!("{}-{number}", issuing.issuer_ref.name);
            let object = self.issued(issuing, &name, &Csr::workload(self.namespace, &name).ec()?).await?;
            let (chain, ca) = (certificate_of(&object)?, ca_of(&object)?);
            let (_, above) = chain.split_once("-----END CERTIFICATE-----\n").context("the chain is empty")?;
            ensure!(above == expected, "{name}: above the leaf stands\n{above}\nand not\n{expected}");
            ensure!(root.is_empty() || ca == root, "{name}: status.ca is\n{ca}\nand not\n{root}");
            cas.push(ca);
        }
        cas.dedup();
        ensure!(cas.len() == 1, "status.ca differs between requests");
        cas.pop().context("nothing was asked")
    }

    /// Whether Vault's answer holds both certificates, so that there is more than one way up.
    async fn has_branches(&self, recipe: &Recipe, upper: &[String; 2]) -> Result<()> {
        let pair = Csr::workload(self.namespace, "branches").ec()?;
        let chain = self.bao.sign(&recipe.sign_path, &pair.csr_pem, "1h").await?["ca_chain"].take();
        let chain: Vec<String> = serde_json::from_value(chain).context("ca_chain")?;
        let held = |one: &String| chain.iter().any(|other| other.trim() == one.trim());
        ensure!(upper.iter().all(held), "the answer holds one way up only: {chain:?}");
        Ok(())
    }
}
