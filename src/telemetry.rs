//! Logs: a line of text or of JSON on standard error, filtered by `RUST_LOG`. Whatever that filter says, libraries that print
//! headers and bodies stay silent: a header holds the Vault token, a body holds Secrets.

use anyhow::Context as _;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::{EnvFilter, LevelFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Installs the process's logging.
///
/// # Errors
/// `RUST_LOG` cannot be read as a filter, or logging is installed already.
pub fn init(format: LogFormat) -> anyhow::Result<()> {
    #[expect(
        clippy::disallowed_methods,
        reason = "RUST_LOG is the one variable without a flag: it is everybody's name for the log filter"
    )]
    let filter = std::env::var_os("RUST_LOG").unwrap_or_default();
    let filter = filter.to_str().context("RUST_LOG is not text")?;
    // Not `init()` of the library: that would also forward records of the `log` crate, which rustls and others write to.
    tracing::subscriber::set_global_default(subscriber(filter, format, std::io::stderr)?)
        .context("cannot install logging")
}

fn subscriber<W>(filter: &str, format: LogFormat, writer: W) -> anyhow::Result<Box<dyn Subscriber + Send + Sync>>
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let wanted =
        EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).parse(filter).with_context(|| {
            format!(
                "RUST_LOG={filter:?} is no log filter; write a level such as debug, or vault_mesh_issuer=debug,info"
            )
        })?;
    // Both filter the whole subscriber: what either refuses is not written.
    let base = tracing_subscriber::registry().with(wanted).with(filter_fn(may_be_written));
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(writer);
    Ok(match format {
        LogFormat::Text => Box::new(base.with(lines)),
        LogFormat::Json => Box::new(base.with(lines.json().flatten_event(true))),
    })
}

/// What may be written at all. A list of what is known to be harmless, so that the next library is silent until somebody
/// has looked at what it prints.
fn may_be_written(metadata: &Metadata<'_>) -> bool {
    let ceiling = match metadata.target().split("::").next().unwrap_or_default() {
        "vault_mesh_issuer" => Level::TRACE,
        // Objects appear from debug on.
        "kube_runtime" => Level::INFO,
        // Everything else: hyper, h2, rustls, reqwest, rustify, vaultrs and tower print headers and bodies, and kube_client
        // prints a whole answer, a Secret perhaps, in a mere warning when it cannot be parsed. What they meet reaches us as
        // error values, and those we log ourselves.
        _ => return false,
    };
    *metadata.level() <= ceiling
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("lock").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(filter: &str, format: LogFormat, write: impl FnOnce()) -> String {
        let sink = Written::default();
        let writer = sink.clone();
        let subscriber = subscriber(filter, format, move || writer.clone()).expect("filter");
        tracing::subscriber::with_default(subscriber, write);
        String::from_utf8(sink.0.lock().expect("lock").clone()).expect("text")
    }

    #[test]
    fn no_filter_turns_on_a_library_that_prints_headers_or_bodies() {
        let filter = "trace,hyper=trace,hyper_util=trace,h2=trace,rustls=trace,reqwest=trace,rustify=trace,vaultrs=trace,tower=trace,kube_client=trace";
        let shown = written(filter, LogFormat::Text, || {
            tracing::error!(target: "hyper::proto", "leak");
            tracing::error!(target: "hyper_util::client", "leak");
            tracing::error!(target: "h2", "leak");
            tracing::error!(target: "rustls::client", "leak");
            tracing::error!(target: "reqwest::connect", "leak");
            tracing::error!(target: "rustify::http", "leak");
            tracing::error!(target: "vaultrs::api", "leak");
            tracing::error!(target: "tower::buffer", "leak");
            tracing::warn!(target: "kube_client::client", "leak");
            tracing::debug!(target: "kube_runtime::watcher", "leak");
            tracing::warn!(target: "kube_runtime::watcher", "kept of kube");
            tracing::trace!(target: "vault_mesh_issuer::vault", "kept of ours");
        });
        assert!(!shown.contains("leak"), "{shown}");
        assert!(shown.contains("kept of kube") && shown.contains("kept of ours"), "{shown}");
    }

    #[test]
    fn without_a_filter_info_is_written() {
        let shown = written("", LogFormat::Text, || {
            tracing::info!(target: "vault_mesh_issuer", "told");
            tracing::debug!(target: "vault_mesh_issuer", "untold");
        });
        assert!(shown.contains(" told") && !shown.contains("untold"), "{shown}");
    }

    #[test]
    fn json_lines_can_be_parsed() {
        let shown = written("", LogFormat::Json, || tracing::info!(target: "vault_mesh_issuer", uid = "u-1", "issued"));
        let line: serde_json::Value = serde_json::from_str(shown.trim()).expect("JSON");
        assert_eq!((&line["message"], &line["uid"], &line["level"]), (&"issued".into(), &"u-1".into(), &"INFO".into()));
    }

    #[test]
    fn a_filter_that_does_not_parse_is_told() {
        let error = subscriber("vault_mesh_issuer=loud", LogFormat::Text, io::sink).err().expect("error").to_string();
        assert!(error.starts_with("RUST_LOG=\"vault_mesh_issuer=loud\" is no log filter"), "{error}");
    }
}
