//! Trials of a suite in which each starts peers of its own.

use std::sync::Arc;

use anyhow::Result;
use libtest_mimic::{Arguments, Completion, Conclusion, Trial};
use tokio::runtime::Runtime;

use crate::Run;

/// A trial's outcome; the text says what was expected and what was found.
pub type Outcome = Result<()>;

/// Collects trials, so that a file of trials is a list of sentences and functions.
pub struct Suite {
    runtime: Arc<Runtime>,
    run: Run,
    trials: Vec<Trial>,
}

impl Suite {
    /// A suite without trials.
    pub fn new(run: &Run) -> Result<Suite> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        Ok(Suite { runtime: Arc::new(runtime), run: run.clone(), trials: Vec::new() })
    }

    /// Adds a trial.
    pub fn add<F>(&mut self, sentence: &str, trial: impl FnOnce(Run) -> F + Send + 'static)
    where
        F: Future<Output = Outcome> + 'static,
    {
        self.add_unless(None, sentence, trial);
    }

    /// Adds a trial that is skipped, and says so, where there is a reason.
    pub fn add_unless<F>(
        &mut self,
        skipped: Option<&'static str>,
        sentence: &str,
        trial: impl FnOnce(Run) -> F + Send + 'static,
    ) where
        F: Future<Output = Outcome> + 'static,
    {
        let (runtime, run) = (Arc::clone(&self.runtime), self.run.clone());
        let trial = move || {
            if let Some(reason) = skipped {
                println!("skipped, because {reason}");
                return Ok(Completion::ignored_with(reason));
            }
            let outcome = runtime.block_on(trial(run));
            outcome.map(|()| Completion::Completed).map_err(|error| format!("{error:#}").into())
        };
        self.trials.push(Trial::ignorable_test(sentence, trial));
    }

    /// Plays all trials that were added since the last time and that the arguments choose.
    pub fn play(&mut self, arguments: &Arguments) -> Conclusion {
        libtest_mimic::run(arguments, std::mem::take(&mut self.trials))
    }
}
