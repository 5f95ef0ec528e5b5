//! The recipes users follow, as their documents have them (which is why their
//! roles take RSA keys only unless said otherwise), but with names of their own
//! so that several can live side by side.

use anyhow::Result;
use serde_json::json;

use super::{AppRole, AppRoleOptions, Bao, Chain, Hierarchy, HierarchyOptions};

/// A PKI with a role, a policy and an AppRole to sign with.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The mounts and certificates.
    pub hierarchy: Hierarchy,
    /// The pki role.
    pub role: String,
    /// `<mount>/sign/<role>`.
    pub sign_path: String,
    /// The policy that allows `update` on the sign path.
    pub policy: String,
    /// The login.
    pub app_role: AppRole,
}

impl Recipe {
    /// The root, PEM.
    pub fn root_pem(&self) -> &str {
        &self.hierarchy.root_pem
    }

    /// The signing mount.
    pub fn mount(&self) -> &str {
        &self.hierarchy.mount
    }
}

impl Bao {
    /// The plainest one: EC, a lenient role, the root known to the mount.
    pub async fn plain_recipe(&self, prefix: &str, chain: Chain) -> Result<Recipe> {
        self.recipe_with(prefix, &HierarchyOptions::new(prefix, chain)).await
    }

    /// [`Bao::plain_recipe`] with a hierarchy to one's liking; the signing mount is `<prefix>-pki`.
    pub async fn recipe_with(&self, prefix: &str, options: &HierarchyOptions) -> Result<Recipe> {
        let hierarchy = self.hierarchy(&format!("{prefix}-pki"), options).await?;
        self.recipe_around(prefix, hierarchy).await
    }

    /// [`Bao::plain_recipe`] around a hierarchy that is there already.
    pub async fn recipe_around(&self, prefix: &str, hierarchy: Hierarchy) -> Result<Recipe> {
        self.lenient_role(&hierarchy.mount, "mesh").await?;
        self.finish(prefix, hierarchy, "mesh").await
    }

    /// Tetrate Service Bridge with istio-csr: mounts `<prefix>-pki` and `<prefix>-istioca`,
    /// role `cluster-local`. Its root is not imported with the intermediate.
    pub async fn tetrate(&self, prefix: &str) -> Result<Recipe> {
        let options = HierarchyOptions {
            root_mount: format!("{prefix}-pki"),
            max_path_length: -1,
            ..HierarchyOptions::new(prefix, Chain::IntermediateOnly).rsa()
        };
        self.istio(prefix, &format!("{prefix}-istioca"), &options).await
    }

    /// [`Bao::tetrate`] where `istioca.crt` held the root as well.
    pub async fn tetrate_with_root(&self, prefix: &str) -> Result<Recipe> {
        let options = HierarchyOptions {
            root_mount: format!("{prefix}-pki"),
            max_path_length: -1,
            ..HierarchyOptions::new(prefix, Chain::WithRoot).rsa()
        };
        self.istio(prefix, &format!("{prefix}-istioca"), &options).await
    }

    async fn istio(&self, prefix: &str, mount: &str, options: &HierarchyOptions) -> Result<Recipe> {
        let hierarchy = self.hierarchy(mount, options).await?;
        let role = json!({
            "allowed_domains": "svc", "allow_subdomains": true, "max_ttl": "720h", "require_cn": false,
            "allowed_uri_sans": "spiffe://cluster.local/*",
        });
        self.pki_role(mount, "cluster-local", role).await?;
        self.finish(prefix, hierarchy, "cluster-local").await
    }

    /// OpenShift Service Mesh with istio-csr: mounts `<prefix>-pki` and `<prefix>-pki_int_ca`, role
    /// `rh-custom-issuer`, tokens of ten uses and ten minutes. As in its text the AppRole names no policy:
    /// signing is refused until [`Bao::openshift_policy`] adds one.
    pub async fn openshift(&self, prefix: &str) -> Result<Recipe> {
        let mount = format!("{prefix}-pki_int_ca");
        let options = HierarchyOptions {
            chain: Chain::WithRoot,
            key_type: "rsa",
            key_bits: 4096,
            max_path_length: 0,
            root_mount: format!("{prefix}-pki"),
            root_name: "opentlc.com".into(),
            ..HierarchyOptions::new(prefix, Chain::WithRoot)
        };
        let hierarchy = self.hierarchy(&mount, &options).await?;
        let issuers = self.read(&format!("{mount}/config/issuers")).await?.unwrap_or_default();
        let role = json!({
            "issuer_ref": issuers["data"]["default"], "allow_any_name": true, "allow_ip_sans": true, "ou": "OpenShift",
            "organization": "Red Hat", "country": "US", "use_csr_common_name": true, "ttl": "4380h", "max_ttl": "4380h",
            "enforce_hostnames": false, "allow_bare_domains": true, "require_cn": false,
            "allowed_uri_sans": "istio-system.svc, opentlc.com, cluster.local, spiffe://*",
        });
        self.pki_role(&mount, "rh-custom-issuer", role).await?;
        let sign_path = format!("{mount}/sign/rh-custom-issuer");
        let policy = self.sign_policy(&format!("{prefix}-rh-vault"), &sign_path).await?;
        let app_role = self.app_role(&format!("{prefix}-rh-vault-pki-role"), &openshift_role(&[])).await?;
        Ok(Recipe { hierarchy, role: "rh-custom-issuer".into(), sign_path, policy, app_role })
    }

    /// Adds the policy that the OpenShift text forgets. The role-id and secret-id stay.
    pub async fn openshift_policy(&self, recipe: &Recipe) -> Result<()> {
        let path = format!("auth/{}/role/{}", recipe.app_role.mount, recipe.app_role.name);
        self.write(&path, json!({"token_policies": [recipe.policy]})).await.map(drop)
    }

    /// Open Service Mesh: mount `<prefix>-pki` signs with the root itself, role
    /// `openservicemesh`, by the text of its documentation (max_ttl 24h).
    pub async fn osm(&self, prefix: &str) -> Result<Recipe> {
        let role = json!({
            "allow_any_name": true, "allow_subdomains": true, "allow_bare_domains": true, "allow_localhost": true,
            "max_ttl": "24h",
        });
        self.osm_with(prefix, role).await
    }

    /// [`Bao::osm`] by its demo script: no max_ttl, so that 87600h reach beyond the root.
    pub async fn osm_script(&self, prefix: &str) -> Result<Recipe> {
        self.osm_with(prefix, json!({"allow_any_name": true, "allow_subdomains": true})).await
    }

    async fn osm_with(&self, prefix: &str, role: serde_json::Value) -> Result<Recipe> {
        let mount = format!("{prefix}-pki");
        let options =
            HierarchyOptions { root_name: "osm.root".into(), ..HierarchyOptions::new(prefix, Chain::RootItself) };
        let hierarchy = self.hierarchy(&mount, &options.rsa().ttl("87600h")).await?;
        self.pki_role(&mount, "openservicemesh", role).await?;
        self.finish(prefix, hierarchy, "openservicemesh").await
    }

    /// Kong Mesh: mount `<prefix>-kuma-pki-default`, role `dataplanes`. The policy is on `sign/`;
    /// its own text has `issue/`. A token is made with [`Bao::make_token`], a client-certificate
    /// login with [`Bao::certificate_login`].
    pub async fn kong(&self, prefix: &str, chain: Chain) -> Result<Recipe> {
        let mount = format!("{prefix}-kuma-pki-default");
        let hierarchy = self.hierarchy(&mount, &HierarchyOptions::new(prefix, chain).rsa()).await?;
        let role = json!({
            "allowed_uri_sans": "spiffe://default/*,kuma://*",
            "key_usage": "KeyUsageKeyEncipherment,KeyUsageKeyAgreement,KeyUsageDigitalSignature",
            "ext_key_usage": "ExtKeyUsageServerAuth,ExtKeyUsageClientAuth", "client_flag": true, "require_cn": false,
            "basic_constraints_valid_for_non_ca": true, "max_ttl": "720h", "ttl": "720h",
        });
        self.pki_role(&mount, "dataplanes", role).await?;
        self.finish(prefix, hierarchy, "dataplanes").await
    }

    async fn finish(&self, prefix: &str, hierarchy: Hierarchy, role: &str) -> Result<Recipe> {
        let sign_path = format!("{}/sign/{role}", hierarchy.mount);
        let policy = self.sign_policy(&format!("{prefix}-cert-manager"), &sign_path).await?;
        let app_role = self.app_role(&format!("{prefix}-cert-manager"), &AppRoleOptions::new(&[&policy])).await?;
        Ok(Recipe { hierarchy, role: role.into(), sign_path, policy, app_role })
    }
}

fn openshift_role(policies: &[&str]) -> AppRoleOptions {
    AppRoleOptions {
        token_ttl: "10m".into(),
        token_max_ttl: "15m".into(),
        token_num_uses: 10,
        more: json!({"secret_id_ttl": "0"}),
        ..AppRoleOptions::new(policies)
    }
}
