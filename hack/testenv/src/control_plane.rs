//! A whole control plane: etcd, kube-apiserver, cert-manager and OpenBao, started
//! side by side where they do not need each other.

use std::path::PathBuf;

use anyhow::Result;

use crate::bao::{Bao, BaoOptions};
use crate::cert_manager;
use crate::kube::Kube;
use crate::kube_audit::KubeAudit;
use crate::kubernetes;
use crate::peer::Peer;
use crate::run::Run;

/// How a control plane differs from the usual one.
#[derive(Clone, Debug)]
pub struct Options {
    /// More flags for kube-apiserver, such as `--min-request-timeout=5`.
    pub apiserver_flags: Vec<String>,
    /// More flags for cert-manager's controllers, such as `--without=certificaterequests-approver`.
    pub cert_manager_flags: Vec<String>,
    /// Start cert-manager's controllers. Its CRDs and RBAC are there in any case.
    pub cert_manager: bool,
    /// Start cert-manager's webhook and have the API server ask it.
    pub webhook: bool,
    /// Keep the CRDs' selectableFields; without them they are as before cert-manager 1.20.
    pub selectable_fields: bool,
    /// OpenBao on raft storage, so that it can be killed and restarted.
    pub raft: bool,
    /// HashiCorp Vault in OpenBao's place.
    pub vault: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            apiserver_flags: Vec::new(),
            cert_manager_flags: Vec::new(),
            cert_manager: true,
            webhook: true,
            selectable_fields: true,
            raft: false,
            vault: false,
        }
    }
}

/// The running peers and the clients to talk to them. They end when it is dropped.
pub struct ControlPlane {
    /// The run it belongs to.
    pub run: Run,
    /// Its folder: logs, data, kubeconfigs.
    pub folder: PathBuf,
    /// etcd.
    pub etcd: Peer,
    /// kube-apiserver.
    pub apiserver: Peer,
    /// cert-manager's controllers.
    pub cert_manager: Option<Peer>,
    /// cert-manager's webhook.
    pub webhook: Option<Peer>,
    /// The API server, as admin.
    pub kube: Kube,
    /// The API server's audit log.
    pub kube_audit: KubeAudit,
    /// OpenBao, with its root token.
    pub bao: Bao,
    /// The public key file of ServiceAccount tokens (for OpenBao's jwt login).
    pub account_key: PathBuf,
}

impl ControlPlane {
    /// Starts everything.
    pub async fn start(run: &Run, options: Options) -> Result<ControlPlane> {
        let folder = run.new_folder("control-plane")?;
        let hosts = ["localhost", "127.0.0.1", "kubernetes.default.svc"];
        let server = run.authority().identity(&folder, "server", &hosts)?;
        let (kubernetes, rendered, bao) = tokio::try_join!(
            kubernetes::start(run, &folder, &server, &options.apiserver_flags),
            cert_manager::render(run, options.selectable_fields),
            Bao::start(run, BaoOptions { raft: options.raft, vault: options.vault }),
        )?;
        let kube = Kube::new(run, &folder, &kubernetes.url, &kubernetes.admin_token)?;
        rendered.install(&kube).await?;
        let webhook = async {
            Ok::<_, anyhow::Error>(match options.webhook {
                true => Some(rendered.start_webhook(&kube, &folder, &server).await?),
                false => None,
            })
        };
        let controller = async {
            Ok::<_, anyhow::Error>(match options.cert_manager {
                true => Some(cert_manager::start_controller(&kube, &folder, &options.cert_manager_flags).await?),
                false => None,
            })
        };
        let (webhook, cert_manager) = tokio::try_join!(webhook, controller)?;
        Ok(ControlPlane {
            run: run.clone(),
            etcd: kubernetes.etcd,
            apiserver: kubernetes.apiserver,
            cert_manager,
            webhook,
            kube_audit: KubeAudit::new(kubernetes.audit_log),
            account_key: kubernetes.account_key,
            kube,
            bao,
            folder,
        })
    }

    /// All its peers, for error reports and for measuring.
    pub fn peers(&self) -> Vec<&Peer> {
        let mut peers = vec![&self.etcd, &self.apiserver, self.bao.peer()];
        peers.extend(&self.cert_manager);
        peers.extend(&self.webhook);
        peers
    }
}
