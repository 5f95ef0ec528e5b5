//! The chart, judged by helm: it is sound, refuses values it does not know, and what it renders has changed only where somebody
//! meant it to (`testdata/README.md` says how to render it anew).

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use testenv::Chart;

use crate::{Outcome, Shared, Suite};

pub fn add(suite: &mut Suite) {
    suite.add("helm lint finds nothing to complain about", sound);
    suite.add("what is rendered by default, and with every value set, is what it was", as_it_was);
    suite.add("the CRDs stay when the release goes, unless told otherwise", crds_stay);
    suite.add("a value that is misspelt, of another type or out of range is refused by its name", refused);
}

const CHART: &str = "deploy/helm";
const EVERYTHING: &str = "testdata/chart/everything.values.yaml";
const TEMPLATE: [&str; 5] = ["template", "vault-mesh-issuer", CHART, "--namespace", "vault-mesh-issuer"];

async fn sound(shared: Arc<Shared>) -> Outcome {
    for values in [&[][..], &["--values", EVERYTHING]] {
        let said = Chart::helm(&shared.run, &[&["lint", "--strict", CHART], values].concat()).await?;
        ensure!(said.contains("1 chart(s) linted, 0 chart(s) failed"), "{said}");
    }
    Ok(())
}

async fn as_it_was(shared: Arc<Shared>) -> Outcome {
    // The CRDs have a test of their own, which compares them with the types.
    let defaults: &[&str] = &["--set", "crds.enabled=false"];
    let everything: &[&str] = &["--values", EVERYTHING];
    for (name, values) in [("defaults", defaults), ("everything", everything)] {
        let rendered = Chart::helm(&shared.run, &[&TEMPLATE, values].concat()).await?;
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("testdata/chart/{name}.yaml"));
        let before = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let differs = rendered.lines().zip(before.lines()).find(|(now, before)| now != before);
        ensure!(differs.is_none(), "{name}.yaml holds another line: (now, before) = {differs:?}");
        ensure!(rendered == before, "{name}.yaml is longer or shorter than what is rendered now");
    }
    Ok(())
}

async fn crds_stay(shared: Arc<Shared>) -> Outcome {
    for (value, kept) in [("crds.keep=true", 2), ("crds.keep=false", 0)] {
        let rendered = Chart::helm(&shared.run, &[&TEMPLATE[..], &["--set", value]].concat()).await?;
        ensure!(rendered.matches("kind: CustomResourceDefinition").count() == 2, "{value}");
        ensure!(rendered.matches("helm.sh/resource-policy: keep").count() == kept, "{value}");
    }
    Ok(())
}

async fn refused(shared: Arc<Shared>) -> Outcome {
    let rows = [
        ("secret.namespaces={mesh}", "secret"),
        ("secrets.namespaces=mesh", "namespaces"),
        ("signsPerIssuer=0", "signsPerIssuer"),
        ("replicas=0", "replicas"),
        ("logFormat=xml", "logFormat"),
        ("approver.serviceAccount.nam=x", "nam"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
    ];
    for (value, named) in rows {
        let refusal = Chart::helm(&shared.run, &[&TEMPLATE[..], &["--set", value]].concat()).await;
        let Err(refusal) = refusal else { anyhow::bail!("{value} was taken") };
        let words = format!("{refusal:#}");
        ensure!(words.contains("don't meet the specifications") && words.contains(named), "{value}: {words}");
    }
    Ok(())
}
