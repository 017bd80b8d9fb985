/* src/config/schema_tls.c: TLS contexts. Numbers, types, oneofs as in Envoy 1.40. */
#include "config/schema_int.h"

static const char *const e_tls_protocol[] = {"TLS_AUTO", "TLSv1_0", "TLSv1_1",
					     "TLSv1_2",  "TLSv1_3", NULL};
static const char *const e_compliance_policy[] = {"FIPS_202205", "CNSA2_202603", "CNSA1_202603",
						  NULL};
static const char *const e_san_type[] = {"SAN_TYPE_UNSPECIFIED", "EMAIL",      "DNS", "URI",
					 "IP_ADDRESS",           "OTHER_NAME", NULL};
static const char *const e_trust_chain_verification[] = {"VERIFY_TRUST_CHAIN", "ACCEPT_UNTRUSTED",
							 NULL};
static const char *const e_ocsp_staple_policy[] = {"LENIENT_STAPLING", "STRICT_STAPLING",
						   "MUST_STAPLE", NULL};

static const struct schema_field tls_params_fields[] = {
	F(1, tls_minimum_protocol_version, ENUM(e_tls_protocol)),
	F(2, tls_maximum_protocol_version, ENUM(e_tls_protocol)),
	F(3, cipher_suites, LIST, TYPE(STRING)),
	F(4, ecdh_curves, LIST, TYPE(STRING)),
	F(5, signature_algorithms, LIST, TYPE(STRING), REFUSED("")),
	F(6, compliance_policies, LIST, ENUM(e_compliance_policy), REFUSED("")),
	END};
MESSAGE(tls_params, "envoy.extensions.transport_sockets.tls.v3.TlsParameters");

static const struct schema_field tls_certificate_fields[] = {
	F(1, certificate_chain, MSG(data_source)),
	F(2, private_key, MSG(data_source)),
	F(3, password, MSG(data_source), REFUSED("keys must be stored without a password")),
	F(4, ocsp_staple, MSG(data_source), REFUSED("")),
	F(5, signed_certificate_timestamp, LIST, MSG(data_source), REFUSED("")),
	F(6, private_key_provider, TYPE(MESSAGE), REFUSED("")),
	F(7, watched_directory, MSG(watched_directory),
	  HARMLESS("the files themselves are watched")),
	F(8, pkcs12, MSG(data_source), REFUSED("use certificate_chain and private_key in PEM")),
	F(9, tls_params, MSG(tls_params), REFUSED("set it in common_tls_context")),
	END};
MESSAGE(tls_certificate, "envoy.extensions.transport_sockets.tls.v3.TlsCertificate");

static const struct schema_field san_matcher_fields[] = {F(1, san_type, ENUM(e_san_type)),
							 F(2, matcher, MSG(string_matcher)),
							 F(3, oid, TYPE(STRING), REFUSED("")), END};
MESSAGE(san_matcher, "envoy.extensions.transport_sockets.tls.v3.SubjectAltNameMatcher");

static const struct schema_field validation_fields[] = {
	F(1, trusted_ca, MSG(data_source)),
	F(2, verify_certificate_hash, LIST, TYPE(STRING)),
	F(3, verify_certificate_spki, LIST, TYPE(STRING)),
	F(6, require_signed_certificate_timestamp, TYPE(BOOL), WRAP, REFUSED("")),
	F(7, crl, MSG(data_source)),
	F(8, allow_expired_certificate, TYPE(BOOL), REFUSED("")),
	F(9, match_subject_alt_names, LIST, MSG(string_matcher), OLD),
	F(10, trust_chain_verification, ENUM(e_trust_chain_verification)),
	F(11, watched_directory, MSG(watched_directory),
	  HARMLESS("the files themselves are watched")),
	F(12, custom_validator_config, MSG(typed_extension), REFUSED("")),
	F(13, ca_certificate_provider_instance, TYPE(MESSAGE), REFUSED("")),
	F(14, only_verify_leaf_cert_crl, TYPE(BOOL), REFUSED("")),
	F(15, match_typed_subject_alt_names, LIST, MSG(san_matcher)),
	F(16, max_verify_depth, TYPE(UINT32), WRAP, REFUSED("")),
	F(17, system_root_certs, MSG(system_roots)),
	F(18, suppress_client_ca_list, TYPE(BOOL), REFUSED("")),
	END};
MESSAGE(validation, "envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext");

EMPTY(system_roots,
      "envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext.SystemRootCerts");

static const struct schema_field common_tls_fields[] = {
	F(1, tls_params, MSG(tls_params)),
	F(2, tls_certificates, LIST, MSG(tls_certificate)),
	F(3, validation_context, MSG(validation), ONEOF(1)),
	F(4, alpn_protocols, LIST, TYPE(STRING)),
	F(6, tls_certificate_sds_secret_configs, LIST, TYPE(MESSAGE),
	  REFUSED("secrets come from files or inline")),
	F(7, validation_context_sds_secret_config, TYPE(MESSAGE), ONEOF(1),
	  REFUSED("secrets come from files or inline")),
	F(8, combined_validation_context, TYPE(MESSAGE), ONEOF(1),
	  REFUSED("secrets come from files or inline")),
	F(9, tls_certificate_certificate_provider, TYPE(MESSAGE), OLD,
	  REFUSED("secrets come from files or inline")),
	F(10, validation_context_certificate_provider, TYPE(MESSAGE), ONEOF(1), OLD,
	  REFUSED("secrets come from files or inline")),
	F(11, tls_certificate_certificate_provider_instance, TYPE(MESSAGE), OLD,
	  REFUSED("secrets come from files or inline")),
	F(12, validation_context_certificate_provider_instance, TYPE(MESSAGE), ONEOF(1), OLD,
	  REFUSED("secrets come from files or inline")),
	F(13, custom_handshaker, MSG(typed_extension), REFUSED("")),
	F(14, tls_certificate_provider_instance, TYPE(MESSAGE),
	  REFUSED("secrets come from files or inline")),
	F(15, key_log, TYPE(MESSAGE), REFUSED("")),
	F(16, custom_tls_certificate_selector, MSG(typed_extension), REFUSED("")),
	END};
MESSAGE(common_tls, "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext");

static const struct schema_field upstream_tls_fields[] = {
	F(1, common_tls_context, MSG(common_tls)),
	F(2, sni, TYPE(STRING)),
	F(3, allow_renegotiation, TYPE(BOOL)),
	F(4, max_session_keys, TYPE(UINT32), WRAP),
	F(5, enforce_rsa_key_usage, TYPE(BOOL), WRAP, OLD,
	  HARMLESS("OpenSSL decides on the key usage")),
	F(6, auto_host_sni, TYPE(BOOL),
	  REFUSED("write sni, or auto_sni in upstream_http_protocol_options")),
	F(7, auto_sni_san_validation, TYPE(BOOL),
	  REFUSED("use auto_san_validation in upstream_http_protocol_options")),
	END};
MESSAGE(upstream_tls, "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext");

static const struct schema_field downstream_tls_fields[] = {
	F(1, common_tls_context, MSG(common_tls)),
	F(2, require_client_certificate, TYPE(BOOL), WRAP),
	F(3, require_sni, TYPE(BOOL), WRAP, REFUSED("use filter_chain_match.server_names")),
	F(4, session_ticket_keys, TYPE(MESSAGE), ONEOF(1),
	  REFUSED("ticket keys are made at start")),
	F(5, session_ticket_keys_sds_secret_config, TYPE(MESSAGE), ONEOF(1),
	  REFUSED("secrets come from files or inline")),
	F(6, session_timeout, TYPE(DURATION)),
	F(7, disable_stateless_session_resumption, TYPE(BOOL), ONEOF(1)),
	F(8, ocsp_staple_policy, ENUM(e_ocsp_staple_policy), REFUSED("there is no OCSP stapling")),
	F(9, full_scan_certs_on_sni_mismatch, TYPE(BOOL), WRAP,
	  HARMLESS("which certificate serves an unknown name stays the same")),
	F(10, disable_stateful_session_resumption, TYPE(BOOL)),
	F(11, prefer_client_ciphers, TYPE(BOOL), REFUSED("")),
	END};
MESSAGE(downstream_tls, "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext");

EMPTY(raw_buffer, "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer");
