#!/bin/sh
# Vault as Red Hat's article sets it up: a root, an intermediate below it, a role for the workloads, and an AppRole that may do
# nothing yet. docs/meshes/openshift.md says what differs from the article and why. It writes the root, and the intermediate with
# the root below it, into the folder that it runs in.
set -eu

# The root: mount pki, ten years, one level of CAs below it.
vault secrets enable pki
vault secrets tune -max-lease-ttl=87600h pki
vault write -field=certificate pki/root/generate/internal \
  common_name="RH Custom Root CA" ou="RH-FSI" organization="Red Hat Consulting" country="US" \
  max_path_length=1 ttl=87600h issuer_name=rh-custom-root-ca key_bits=4096 > RH_Custom_CA.crt

# The intermediate that signs: mount pki_int_ca, five years, no CA below it.
vault secrets enable -path=pki_int_ca pki
vault secrets tune -max-lease-ttl=43800h pki_int_ca
vault write -field=csr pki_int_ca/intermediate/generate/internal \
  common_name="RH Custom Intermediate CA" ou="RH-FSI" organization="Red Hat Consulting" country="US" \
  key_bits=4096 > RH_Custom_Intermediate_CA.csr
vault write -field=certificate pki/root/sign-intermediate issuer_ref=rh-custom-root-ca \
  common_name="RH Custom Intermediate CA" ou="RH-FSI" organization="Red Hat Consulting" country="US" \
  max_path_length=0 ttl=43800h format=pem_bundle csr=@RH_Custom_Intermediate_CA.csr > RH_Custom_Intermediate_CA.pem
vault write pki_int_ca/intermediate/set-signed certificate=@RH_Custom_Intermediate_CA.pem

# What workloads get: any name, and the subject of the role.
vault write pki_int_ca/roles/rh-custom-issuer \
  ou="RH-SPPRT" organization="Red Hat Consulting" country="US" \
  allow_any_name=true allow_bare_domains=true enforce_hostnames=false allow_ip_sans=true \
  allowed_uri_sans="istio-system.svc, opentlc.com, cluster.local, spiffe://*" \
  require_cn=false use_csr_common_name=true ttl=4380h max_ttl=4380h

# Who asks for them: tokens of ten uses.
vault auth enable approle
vault write auth/approle/role/rh-vault-pki-role \
  secret_id_ttl=0 secret_id_num_uses=0 token_num_uses=10 token_ttl=10m token_max_ttl=15m
