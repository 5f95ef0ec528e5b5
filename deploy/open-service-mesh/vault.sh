#!/bin/sh
# Vault as Open Service Mesh's documentation sets it up: one mount that signs with its root, and one role. Root and role live long
# enough for the certificates of a decade that OSM asks for; docs/meshes/open-service-mesh.md says what the documentation's own
# figures lead to. An AppRole takes the place of OSM's token. It writes the root into the folder that it runs in.
set -eu

vault secrets enable pki
vault secrets tune -max-lease-ttl=131400h pki
vault write pki/config/urls \
  issuing_certificates="$VAULT_ADDR/v1/pki/ca" crl_distribution_points="$VAULT_ADDR/v1/pki/crl"
vault write pki/roles/openservicemesh \
  allow_any_name=true allow_subdomains=true allow_bare_domains=true allow_localhost=true max_ttl=87600h
vault write -field=certificate pki/root/generate/internal common_name=osm.root ttl=131400h > osm-root.crt

vault policy write openservicemesh - <<POLICY
path "pki/sign/openservicemesh" { capabilities = ["update"] }
POLICY
vault auth enable approle
vault write auth/approle/role/openservicemesh token_policies=openservicemesh token_ttl=1h token_max_ttl=4h
