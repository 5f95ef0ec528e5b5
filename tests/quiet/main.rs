//! The quiet suite: one control plane with cert-manager, one OpenBao and one controller of ours, shared by trials that run side
//! by side, each with a namespace, a mount and a role of its own. What the whole run produced is judged at the end.

#![allow(clippy::print_stderr, clippy::print_stdout, reason = "a suite talks to the person who runs it")]
#![allow(clippy::indexing_slicing, reason = "an index into a JSON value that is not there gives null")]
#![allow(clippy::disallowed_methods, reason = "a trial measures how long things take")]

use std::future::Future;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use libtest_mimic::{Arguments, Completion, Trial};
use testenv::{ControlPlane, Controller, ControllerOptions, Options, Outcome, Run, exit_code};
use tokio::runtime::Runtime;

mod admission;
mod afterwards;
mod ageing;
mod authorities;
mod brake;
mod built_in;
mod chains;
mod chart;
mod check;
mod counting;
mod faults;
mod issuing;
mod logins;
mod midflight;
mod migrate;
mod names;
mod publishing;
mod recipes;
mod refused;
mod replayed;
mod requests;
mod roles;
mod roots;
mod rotation;
mod secrets;
mod standby;
mod support;
mod table;
mod tokens;
mod verbatim;
mod waiting;
mod wrong_answers;

/// Trials mostly wait, so more of them run at a time than there are cores.
const AT_A_TIME: usize = 12;

/// Adds the trials of one file.
type Topic = fn(&mut Suite);

/// The files of trials.
const TOPICS: &[(&str, Topic)] = &[
    // First, because its trials wait longest.
    ("faults", faults::add),
    ("admission", admission::add),
    ("chart", chart::add),
    ("check", check::add),
    ("issuing", issuing::add),
    ("logins", logins::add),
    ("authorities", authorities::add),
    ("verbatim", verbatim::add),
    ("recipes", recipes::add),
    ("waiting", waiting::add),
    ("midflight", midflight::add),
    ("publishing", publishing::add),
    ("refused", refused::add),
    ("requests", requests::add),
    ("table", table::add),
    ("tokens", tokens::add),
    ("ageing", ageing::add),
    ("roles", roles::add),
    ("replayed", replayed::add),
    ("roots", roots::add),
    ("rotation", rotation::add),
    ("wrong_answers", wrong_answers::add),
    ("chains", chains::add),
    ("built_in", built_in::add),
    ("migrate", migrate::add),
    ("secrets", secrets::add),
    ("names", names::add),
    ("brake", brake::add),
    ("counting", counting::add),
    ("standby", standby::add),
];

/// What every trial shares, and what it must leave behind as it found it.
struct Shared {
    run: Run,
    plane: Arc<ControlPlane>,
    ours: Arc<Controller>,
    /// The namespaces that this trial has made.
    namespaces: Mutex<Vec<String>>,
}

impl Shared {
    /// The same for one more trial.
    fn for_a_trial(&self) -> Arc<Self> {
        let (plane, ours) = (Arc::clone(&self.plane), Arc::clone(&self.ours));
        Arc::new(Self { run: self.run.clone(), plane, ours, namespaces: Mutex::default() })
    }

    fn namespaces(&self) -> MutexGuard<'_, Vec<String>> {
        self.namespaces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Deletes the issuers of a trial that is over: of all that issuers name, the controller watches 200 objects and reads the
    /// others once a minute, and each trial must see it as quick as the first did.
    async fn clear(&self) -> Outcome {
        let namespaces = std::mem::take(&mut *self.namespaces());
        for namespace in namespaces {
            let issuers = format!("/apis/vaultmesh.io/v1alpha1/namespaces/{namespace}/vaultmeshissuers");
            self.plane.kube.delete(&issuers).await?;
        }
        Ok(())
    }
}

/// Collects trials, so that a file of trials is a list of sentences and functions.
struct Suite {
    runtime: Arc<Runtime>,
    shared: Arc<Shared>,
    /// The file whose trials are being added; it stands before their names, so that they can be chosen by it.
    topic: &'static str,
    trials: Vec<Trial>,
    /// Why none of them can say anything.
    skipped: Option<&'static str>,
}

/// Set by `hack/test --vault`: HashiCorp Vault stands in OpenBao's place.
const ON_VAULT: &str = "VMI_TEST_VAULT";

impl Suite {
    /// A trial of something that HashiCorp Vault 1.14 does not have.
    fn add_for_openbao<F>(&mut self, sentence: &str, trial: impl FnOnce(Arc<Shared>) -> F + Send + 'static)
    where
        F: Future<Output = Outcome> + 'static,
    {
        self.skipped = self.shared.plane.bao.is_vault().then_some("HashiCorp Vault 1.14 has no such thing");
        self.add(sentence, trial);
        self.skipped = None;
    }

    fn add<F>(&mut self, sentence: &str, trial: impl FnOnce(Arc<Shared>) -> F + Send + 'static)
    where
        F: Future<Output = Outcome> + 'static,
    {
        let (runtime, shared, skipped) = (Arc::clone(&self.runtime), self.shared.for_a_trial(), self.skipped);
        let trial = move || {
            if let Some(reason) = skipped {
                println!("skipped, because {reason}");
                return Ok(Completion::ignored_with(reason));
            }
            let outcome = runtime.block_on(async {
                trial(Arc::clone(&shared)).await?;
                shared.clear().await
            });
            outcome.map(|()| Completion::Completed).map_err(|error| format!("{error:#}").into())
        };
        self.trials.push(Trial::ignorable_test(format!("{}: {sentence}", self.topic), trial));
    }
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_A_TIME);
    exit_code("the environment", run(&arguments))
}

fn run(arguments: &Arguments) -> Outcome {
    let run = Run::start("quiet")?;
    let runtime = Arc::new(tokio::runtime::Builder::new_multi_thread().enable_all().build()?);
    let shared = Arc::new(runtime.block_on(start(&run))?);
    let mut suite = Suite { runtime, shared, topic: "", trials: Vec::new(), skipped: None };
    for (topic, add) in TOPICS {
        suite.topic = topic;
        add(&mut suite);
    }
    let during = libtest_mimic::run(arguments, std::mem::take(&mut suite.trials));
    suite.topic = "afterwards";
    suite.skipped =
        (during.num_filtered_out > 0).then_some("only a part of the suite ran, which cannot have shown everything");
    afterwards::add(&mut suite);
    let afterwards = libtest_mimic::run(arguments, std::mem::take(&mut suite.trials));
    drop(suite);
    let failed = during.has_failed() || afterwards.has_failed();
    run.finish(!failed);
    anyhow::ensure!(!failed, "{} trials failed", during.num_failed + afterwards.num_failed);
    Ok(())
}

async fn start(run: &Run) -> anyhow::Result<Shared> {
    let vault = std::env::var_os(ON_VAULT).is_some();
    let plane = ControlPlane::start(run, Options { vault, ..Options::default() }).await?;
    support::let_namespaces_decide_alone(&plane.kube).await?;
    let mut set = logins::prepare(&plane.kube).await?;
    // Off unless told otherwise; what is refused then is shown by the disruptive suite.
    set.push("publish.secrets=true".to_owned());
    let options = ControllerOptions {
        set,
        // What the most talkative level prints is searched for secrets at the end.
        rust_log: Some("trace".to_owned()),
        // The test's CA stands among the public roots, as Vault's would whose certificate was bought.
        env: vec![("SSL_CERT_FILE".to_owned(), public_roots(run)?)],
        ..ControllerOptions::new(env!("CARGO_BIN_EXE_vault-mesh-issuer"))
    };
    let ours = Controller::start(&plane, options).await?;
    let (plane, ours) = (Arc::new(plane), Arc::new(ours));
    Ok(Shared { run: run.clone(), plane, ours, namespaces: Mutex::default() })
}

/// This machine's public roots and the run's own CA, in one file.
fn public_roots(run: &Run) -> anyhow::Result<String> {
    let machine = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
    let public = machine.iter().find(|path| Path::new(path).exists()).map(std::fs::read_to_string).transpose()?;
    let path = run.folder().join("public-roots.crt");
    let roots = format!("{}\n{}", public.unwrap_or_default(), run.authority().pem());
    std::fs::write(&path, roots).with_context(|| format!("writing {}", path.display()))?;
    Ok(path.display().to_string())
}
