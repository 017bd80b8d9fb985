/* src/config/schema_listener.c: listeners and filter chains. Numbers, types, oneofs as in Envoy
 * 1.40. */
#include "config/schema_int.h"

static const char *const e_drain_type[] = {"DEFAULT", "MODIFY_ONLY", NULL};
static const char *const e_traffic_direction[] = {"UNSPECIFIED", "INBOUND", "OUTBOUND", NULL};
static const char *const e_connection_source_type[] = {"ANY", "SAME_IP_OR_LOOPBACK", "EXTERNAL",
						       NULL};

static const struct schema_field listener_fields[] = {
	F(1, name, TYPE(STRING)),
	F(2, address, MSG(address)),
	F(3, filter_chains, LIST, MSG(filter_chain)),
	F(4, use_original_dst, TYPE(BOOL), WRAP, REFUSED("")),
	F(5, per_connection_buffer_limit_bytes, TYPE(UINT32), WRAP),
	F(6, metadata, MSG(metadata), HARMLESS("nothing reads the metadata of a listener")),
	F(7, deprecated_v1, TYPE(MESSAGE), OLD, REFUSED("write bind_to_port")),
	F(8, drain_type, ENUM(e_drain_type),
	  HARMLESS("listeners drain when they change and when the process ends")),
	F(9, listener_filters, LIST, MSG(listener_filter)),
	F(10, transparent, TYPE(BOOL), WRAP),
	F(11, freebind, TYPE(BOOL), WRAP),
	F(12, tcp_fast_open_queue_length, TYPE(UINT32), WRAP,
	  HARMLESS("TCP fast open is not used")),
	F(13, socket_options, LIST, TYPE(MESSAGE), REFUSED("")),
	F(15, listener_filters_timeout, TYPE(DURATION),
	  HARMLESS("transport_socket_connect_timeout limits the handshake")),
	F(16, traffic_direction, ENUM(e_traffic_direction),
	  HARMLESS("it is only said to control planes")),
	F(17, continue_on_listener_filters_timeout, TYPE(BOOL),
	  HARMLESS("transport_socket_connect_timeout limits the handshake")),
	F(18, udp_listener_config, TYPE(MESSAGE), REFUSED("UDP and HTTP/3 are not served")),
	F(19, api_listener, TYPE(MESSAGE), REFUSED("")),
	F(20, connection_balance_config, TYPE(MESSAGE),
	  HARMLESS("the kernel spreads connections over the workers")),
	F(21, reuse_port, TYPE(BOOL), OLD),
	F(22, access_log, LIST, MSG(access_log),
	  REFUSED("write it into the HTTP connection manager")),
	F(24, tcp_backlog_size, TYPE(UINT32), WRAP),
	F(25, default_filter_chain, MSG(filter_chain)),
	F(26, bind_to_port, TYPE(BOOL), WRAP),
	F(27, internal_listener, TYPE(MESSAGE), ONEOF(1), REFUSED("")),
	F(28, stat_prefix, TYPE(STRING), HARMLESS("statistics are named after the address")),
	F(29, enable_reuse_port, TYPE(BOOL), WRAP),
	F(30, enable_mptcp, TYPE(BOOL), REFUSED("")),
	F(31, ignore_global_conn_limit, TYPE(BOOL),
	  HARMLESS("there is no global limit but the descriptors")),
	F(32, filter_chain_matcher, TYPE(MESSAGE), REFUSED("use filter_chain_match")),
	F(33, additional_addresses, LIST, MSG(additional_address)),
	F(34, max_connections_to_accept_per_socket_event, TYPE(UINT32), WRAP,
	  HARMLESS("a turn accepts a bounded number anyway")),
	F(35, bypass_overload_manager, TYPE(BOOL), HARMLESS("there is no overload manager")),
	F(36, fcds_config, TYPE(MESSAGE), REFUSED("no control planes")),
	F(37, tcp_keepalive, MSG(tcp_keepalive), REFUSED("")),
	F(38, per_connection_buffer_high_watermark_timeout, TYPE(DURATION),
	  HARMLESS("stream_idle_timeout bounds the wait")),
	F(39, stats_matcher, TYPE(MESSAGE), HARMLESS("statistics have no such setting here")),
	END};
MESSAGE(listener, "envoy.config.listener.v3.Listener");

static const struct schema_field additional_address_fields[] = {
	F(1, address, MSG(address)), F(2, socket_options, TYPE(MESSAGE), REFUSED("")),
	F(3, tcp_keepalive, MSG(tcp_keepalive), REFUSED("")), END};
MESSAGE(additional_address, "envoy.config.listener.v3.AdditionalAddress");

static const struct schema_field filter_chain_fields[] = {
	F(1, filter_chain_match, MSG(filter_chain_match)),
	F(3, filters, LIST, MSG(filter)),
	F(4, use_proxy_proto, TYPE(BOOL), WRAP, OLD,
	  REFUSED("the PROXY protocol is not spoken yet")),
	F(5, metadata, MSG(metadata), HARMLESS("nothing reads the metadata of a filter chain")),
	F(6, transport_socket, MSG(transport_socket)),
	F(7, name, TYPE(STRING)),
	F(9, transport_socket_connect_timeout, TYPE(DURATION)),
	END};
MESSAGE(filter_chain, "envoy.config.listener.v3.FilterChain");

static const struct schema_field filter_chain_match_fields[] = {
	F(3, prefix_ranges, LIST, MSG(cidr_range)),
	F(4, address_suffix, TYPE(STRING), REFUSED("")),
	F(5, suffix_len, TYPE(UINT32), WRAP, REFUSED("")),
	F(6, source_prefix_ranges, LIST, MSG(cidr_range)),
	F(7, source_ports, LIST, TYPE(UINT32), REFUSED("")),
	F(8, destination_port, TYPE(UINT32), WRAP),
	F(9, transport_protocol, TYPE(STRING)),
	F(10, application_protocols, LIST, TYPE(STRING)),
	F(11, server_names, LIST, TYPE(STRING)),
	F(12, source_type, ENUM(e_connection_source_type), REFUSED("")),
	F(13, direct_source_prefix_ranges, LIST, MSG(cidr_range)),
	END};
MESSAGE(filter_chain_match, "envoy.config.listener.v3.FilterChainMatch");

static const struct schema_field filter_fields[] = {
	F(1, name, TYPE(STRING)), F(4, typed_config, TYPE(ANY), ONEOF(1)),
	F(5, config_discovery, TYPE(MESSAGE), ONEOF(1), REFUSED("no control planes")), END};
MESSAGE(filter, "envoy.config.listener.v3.Filter");

static const struct schema_field listener_filter_fields[] = {
	F(1, name, TYPE(STRING)), F(3, typed_config, TYPE(ANY), ONEOF(1)),
	F(4, filter_disabled, TYPE(MESSAGE), REFUSED("")),
	F(5, config_discovery, TYPE(MESSAGE), ONEOF(1), REFUSED("no control planes")), END};
MESSAGE(listener_filter, "envoy.config.listener.v3.ListenerFilter");

static const struct schema_field tls_inspector_fields[] = {
	F(1, enable_ja3_fingerprinting, TYPE(BOOL), WRAP, REFUSED("")),
	F(2, initial_read_buffer_size, TYPE(UINT32), WRAP,
	  HARMLESS("the buffer is sized by itself")),
	F(3, enable_ja4_fingerprinting, TYPE(BOOL), WRAP, REFUSED("")),
	F(4, close_connection_on_client_hello_parsing_errors, TYPE(BOOL),
	  HARMLESS("what is no TLS is left to the filter chains")),
	F(5, max_client_hello_size, TYPE(UINT32), WRAP,
	  HARMLESS("a ClientHello is bounded anyway")),
	END};
MESSAGE(tls_inspector, "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector");
