#!/bin/sh
# Sets Vault up for Istio as Tetrate's documentation does: mounts `pki` (the root) and `istioca` (the intermediate that signs for
# the mesh), role `cluster-local`, policy and AppRole `cert-manager`. An administrator of Vault runs it once, with VAULT_ADDR and
# VAULT_TOKEN set, in a folder that holds the root: ca.crt and its key ca.key.
set -eu

# The root. Its key is read from stdin, so that it stands on no command line.
vault secrets enable pki
vault secrets tune -max-lease-ttl=87600h pki
cat ca.crt ca.key | vault write pki/config/ca pem_bundle=-

# The intermediate. `internal` keeps its key in Vault.
vault secrets enable -path=istioca pki
vault secrets tune -max-lease-ttl=43800h istioca
vault write -field=csr istioca/intermediate/generate/internal common_name=istioca.tetrate.example ttl=43800h > istioca.csr
vault write -field=certificate pki/root/sign-intermediate csr=@istioca.csr format=pem_bundle ttl=43800h > istioca.crt
vault write istioca/intermediate/set-signed certificate=@istioca.crt

# What may be signed: names of services, and the identities of one trust domain. A role takes RSA keys only unless it says
# otherwise; with key_type=any it takes those of Istio's ECC_SIGNATURE_ALGORITHM as well.
vault write istioca/roles/cluster-local allowed_domains=svc allow_subdomains=true max_ttl=720h require_cn=false \
  allowed_uri_sans='spiffe://cluster.local/*'

# Who may have it signed. `update` on this one path is enough.
vault auth enable approle
vault policy write cert-manager - <<POLICY
path "istioca/sign/cluster-local" { capabilities = ["update"] }
POLICY
vault write auth/approle/role/cert-manager token_policies=cert-manager token_ttl=1h token_max_ttl=4h
