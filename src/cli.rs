//! The command line. Every setting is here, so that `--help` lists them all; each flag of `run` is also a variable `VMI_…`.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::issuance::servers::AllowedServers;
use crate::telemetry::LogFormat;

/// A cert-manager external issuer that signs with HashiCorp Vault or OpenBao and keeps service meshes in mind.
#[derive(Debug, Parser)]
#[command(name = "vault-mesh-issuer", version, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the controller.
    ///
    /// The cluster is found as kubectl finds it: KUBECONFIG, else the ServiceAccount of the pod. The variable RUST_LOG filters
    /// the log (a level such as debug, or vault_mesh_issuer=debug,info; default info).
    Run(RunArgs),
    /// Look at issuers as the controller does, and say all that is found.
    ///
    /// Login, signing path, CA, trust and the role of each issuer are tried at Vault, which signs nothing for it; tokens are revoked
    /// at the end. A finding is right, wrong (the issuer cannot sign), unsuited (it signs, and refuses what meshes ask for or cuts
    /// them off), hint or unknown. The exit code is 0 where nothing is wrong or unsuited, 1 where something is, and 2 where not
    /// everything could be looked at: a wrong option, a file or an object that cannot be read, or no issuer at all.
    ///
    /// The cluster is found as kubectl finds it: KUBECONFIG, else the ServiceAccount of the pod.
    Check(CheckArgs),
    /// Print the CustomResourceDefinitions as YAML, ready for kubectl apply.
    Crds(CrdsArgs),
    /// Turn cert-manager's built-in Vault issuers into ours, as YAML on standard output.
    ///
    /// Standard error says of each what to look at. Issuers of other sorts are named and skipped. The exit code is 0, or 1 when
    /// something was not migrated (the rest is printed all the same) or a file could not be read (nothing is), or 2 for a wrong
    /// command line.
    Migrate(MigrateArgs),
}

/// Settings of `run`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct RunArgs {
    /// The namespace in which a VaultMeshClusterIssuer's Secrets and ConfigMaps lie; the controller's own namespace by default.
    #[arg(long, env = "VMI_CLUSTER_RESOURCE_NAMESPACE", value_name = "NAMESPACE")]
    pub cluster_resource_namespace: Option<String>,
    /// The address that serves /livez, /readyz and /metrics over plain HTTP.
    #[arg(long, env = "VMI_HTTP_ADDRESS", value_name = "IP:PORT", default_value = "0.0.0.0:8080")]
    pub http_address: SocketAddr,
    /// How many certificates of one issuer may be with Vault for signing at the same time.
    #[arg(long, env = "VMI_SIGNS_PER_ISSUER", value_name = "COUNT", default_value = "32")]
    pub signs_per_issuer: NonZeroUsize,
    /// The Vault servers that issuers may name, as host, host:port or *.example.com, separated by commas; empty allows all.
    #[arg(long, env = "VMI_ALLOWED_SERVERS", value_name = "HOSTS", default_value = "")]
    pub allowed_servers: AllowedServers,
    /// Stand for election, so that of several replicas one signs and writes while the others stand by.
    #[arg(long, env = "VMI_LEADER_ELECTION")]
    pub leader_election: bool,
    /// The namespace of the Lease that the leader holds; the controller's own namespace by default.
    #[arg(long, env = "VMI_LEADER_ELECTION_NAMESPACE", value_name = "NAMESPACE")]
    pub leader_election_namespace: Option<String>,
    /// How log lines are written.
    #[arg(long, env = "VMI_LOG_FORMAT", value_name = "FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
}

/// Settings of `check`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct CheckArgs {
    /// Manifests of issuers, ours or cert-manager's built-in ones for Vault, as YAML or JSON; - reads standard input. Secrets and
    /// ConfigMaps that they name may lie in these files too; the others are read from the cluster. Without a file, the
    /// VaultMeshIssuers in the namespace are looked at.
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The namespace of manifests that name none, and of the issuers in the cluster; that of the current context by default.
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Look at the issuers of all namespaces, and at the VaultMeshClusterIssuers.
    #[arg(short = 'A', long, conflicts_with_all = ["files", "namespace"])]
    pub all_namespaces: bool,
    /// The namespace in which a VaultMeshClusterIssuer's Secrets and ConfigMaps lie; in a pod, its own by default.
    #[arg(long, env = "VMI_CLUSTER_RESOURCE_NAMESPACE", value_name = "NAMESPACE")]
    pub cluster_resource_namespace: Option<String>,
    /// How the findings are printed.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: CheckOutput,
}

/// How findings are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum CheckOutput {
    /// A table for each issuer.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// Settings of `crds`.
#[derive(Debug, Args)]
pub struct CrdsArgs {
    /// Write every generated file into this checkout of the project (crds/, deploy/helm/files/crds/, docs/reference.md and
    /// docs/messages.md) instead of printing the CRDs.
    #[arg(long, value_name = "PROJECT")]
    pub write_to: Option<PathBuf>,
}

/// Settings of `migrate`.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// Issuers and ClusterIssuers of cert-manager.io as YAML or JSON, lists as kubectl get -o yaml prints them included; - reads
    /// standard input.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_setting_of_run_has_a_variable_and_a_help_sentence() {
        let command = Cli::command();
        let run = command.find_subcommand("run").expect("run");
        for argument in run.get_arguments() {
            let name = argument.get_long().expect("long");
            let variable = format!("VMI_{}", name.replace('-', "_").to_uppercase());
            assert_eq!(argument.get_env().and_then(|name| name.to_str()), Some(variable.as_str()), "--{name}");
            assert!(argument.get_help().is_some_and(|help| help.to_string().len() > 20), "--{name}");
        }
    }

    #[test]
    fn every_setting_of_run_stands_in_the_users_page() {
        let page = include_str!("../docs/install.md");
        let command = Cli::command();
        let run = command.find_subcommand("run").expect("run");
        for argument in run.get_arguments() {
            let variable = argument.get_env().and_then(|name| name.to_str()).expect("a variable");
            let row = format!("| `--{}` | `{variable}` |", argument.get_long().expect("long"));
            assert!(page.contains(&row), "no row {row}");
        }
        assert_eq!(page.matches("| `--").count(), run.get_arguments().count());
    }

    #[test]
    fn nonsense_is_refused_in_words() {
        for (flag, words) in [
            ("--signs-per-issuer=0", "zero"),
            ("--http-address=8080", "socket address"),
            ("--allowed-servers=https://v", "is no host pattern"),
            ("--log-format=xml", "possible values: text, json"),
        ] {
            let error = Cli::try_parse_from(["vault-mesh-issuer", "run", flag]).expect_err(flag).to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
