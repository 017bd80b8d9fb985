/* src/config/schema_boot.c: the bootstrap. Numbers, types, oneofs as in Envoy 1.40. */
#include "config/schema_int.h"

static const struct schema_field bootstrap_fields[] = {
	F(1, node, MSG(node)),
	F(2, static_resources, MSG(static_resources)),
	F(3, dynamic_resources, TYPE(MESSAGE),
	  REFUSED("control planes are not spoken to yet; write listeners and clusters into "
		  "static_resources")),
	F(4, cluster_manager, MSG(cluster_manager)),
	F(5, flags_path, TYPE(STRING), HARMLESS("there are no flag files")),
	F(6, stats_sinks, LIST, TYPE(MESSAGE),
	  REFUSED("nothing is pushed; read /stats?format=prometheus of the admin listener")),
	F(7, stats_flush_interval, TYPE(DURATION),
	  HARMLESS("nothing is flushed; /stats reads live counters")),
	F(8, watchdog, TYPE(MESSAGE), OLD, HARMLESS("the supervisor watches the workers")),
	F(9, tracing, TYPE(MESSAGE), OLD, HARMLESS("no traces are sent")),
	F(12, admin, MSG(admin)),
	F(13, stats_config, TYPE(MESSAGE), HARMLESS("statistics keep their full names")),
	F(14, hds_config, TYPE(MESSAGE), REFUSED("no control planes")),
	F(15, overload_manager, TYPE(MESSAGE),
	  REFUSED("limits come from the descriptor limit, circuit breakers and "
		  "postern.heap_limit")),
	F(16, enable_dispatcher_stats, TYPE(BOOL),
	  HARMLESS("statistics have no such setting here")),
	F(17, layered_runtime, MSG(layered_runtime)),
	F(18, header_prefix, TYPE(STRING), REFUSED("headers are always named x-envoy-...")),
	F(19, stats_server_version_override, TYPE(UINT64), WRAP,
	  HARMLESS("statistics have no such setting here")),
	F(20, use_tcp_for_dns_lookups, TYPE(BOOL), OLD,
	  REFUSED("set it nowhere: DNS retries over TCP by itself")),
	F(21, bootstrap_extensions, LIST, MSG(typed_extension), REFUSED("")),
	F(22, config_sources, LIST, TYPE(MESSAGE), REFUSED("no control planes")),
	F(23, default_config_source, TYPE(MESSAGE), REFUSED("no control planes")),
	F(24, default_socket_interface, TYPE(STRING), REFUSED("")),
	F(25, certificate_provider_instances, MAP, MSG(typed_extension), REFUSED("")),
	F(26, node_context_params, LIST, TYPE(STRING), HARMLESS("told to control planes only")),
	F(27, watchdogs, TYPE(MESSAGE), HARMLESS("the supervisor watches the workers")),
	F(28, fatal_actions, LIST, TYPE(MESSAGE), HARMLESS("a crash always prints a report")),
	F(29, stats_flush_on_admin, TYPE(BOOL), ONEOF(1),
	  HARMLESS("statistics have no such setting here")),
	F(30, dns_resolution_config, MSG(dns_resolution_config), OLD,
	  REFUSED("set it on the cluster")),
	F(31, typed_dns_resolver_config, MSG(typed_extension), REFUSED("set it on the cluster")),
	F(32, inline_headers, LIST, TYPE(MESSAGE),
	  HARMLESS("every header is looked up equally fast")),
	F(33, perf_tracing_file_path, TYPE(STRING), HARMLESS("there is no such trace")),
	F(34, default_regex_engine, MSG(typed_extension),
	  REFUSED("regular expressions are always RE2")),
	F(35, xds_delegate_extension, MSG(typed_extension), REFUSED("no control planes")),
	F(36, xds_config_tracker_extension, MSG(typed_extension), REFUSED("no control planes")),
	F(37, listener_manager, MSG(typed_extension), REFUSED("")),
	F(38, application_log_config, TYPE(MESSAGE), HARMLESS("log lines keep their form")),
	F(39, deferred_stat_options, TYPE(MESSAGE),
	  HARMLESS("statistics have no such setting here")),
	F(40, grpc_async_client_manager_config, TYPE(MESSAGE), HARMLESS("there is no gRPC client")),
	F(41, memory_allocator_manager, TYPE(MESSAGE), HARMLESS("memory comes from the C library")),
	F(42, stats_eviction_interval, TYPE(DURATION), ONEOF(2),
	  HARMLESS("statistics have no such setting here")),
	F(43, enable_worker_cpu_affinity, TYPE(BOOL), HARMLESS("the kernel places the workers")),
	END};
MESSAGE(bootstrap, "envoy.config.bootstrap.v3.Bootstrap");

static const struct schema_field static_resources_fields[] = {
	F(1, listeners, LIST, MSG(listener)), F(2, clusters, LIST, MSG(cluster)),
	F(3, secrets, LIST, TYPE(MESSAGE), REFUSED("write the certificate where it is used")), END};
MESSAGE(static_resources, "envoy.config.bootstrap.v3.Bootstrap.StaticResources");

static const struct schema_field cluster_manager_fields[] = {
	F(1, local_cluster_name, TYPE(STRING), HARMLESS("there is no zone-aware balancing")),
	F(2, outlier_detection, TYPE(MESSAGE), REFUSED("there is no outlier detection yet")),
	F(3, upstream_bind_config, MSG(bind_config), REFUSED("set it on the cluster")),
	F(4, load_stats_config, TYPE(MESSAGE), REFUSED("no control planes")),
	F(5, enable_deferred_cluster_creation, TYPE(BOOL),
	  HARMLESS("clusters cost nothing until used")),
	END};
MESSAGE(cluster_manager, "envoy.config.bootstrap.v3.ClusterManager");

static const struct schema_field admin_fields[] = {
	F(1, access_log_path, TYPE(STRING), OLD),
	F(2, profile_path, TYPE(STRING), HARMLESS("there is no profiler inside")),
	F(3, address, MSG(address)),
	F(4, socket_options, LIST, TYPE(MESSAGE), REFUSED("")),
	F(5, access_log, LIST, MSG(access_log)),
	F(6, ignore_global_conn_limit, TYPE(BOOL),
	  HARMLESS("the admin listener has its own reserve")),
	F(7, allow_paths, LIST, MSG(string_matcher),
	  REFUSED("bind the admin listener to a unix socket or to loopback")),
	END};
MESSAGE(admin, "envoy.config.bootstrap.v3.Admin");

static const struct schema_field layered_runtime_fields[] = {F(1, layers, LIST, MSG(runtime_layer)),
							     END};
MESSAGE(layered_runtime, "envoy.config.bootstrap.v3.LayeredRuntime");

static const struct schema_field runtime_layer_fields[] = {
	F(1, name, TYPE(STRING)),
	F(2, static_layer, TYPE(STRUCT), ONEOF(1)),
	F(3, disk_layer, TYPE(MESSAGE), ONEOF(1), REFUSED("only static_layer is read")),
	F(4, admin_layer, TYPE(MESSAGE), ONEOF(1),
	  HARMLESS("runtime keys cannot be changed while running")),
	F(5, rtds_layer, TYPE(MESSAGE), ONEOF(1), REFUSED("only static_layer is read")),
	END};
MESSAGE(runtime_layer, "envoy.config.bootstrap.v3.RuntimeLayer");

static const struct schema_field node_fields[] = {
	F(1, id, TYPE(STRING)),
	F(2, cluster, TYPE(STRING)),
	F(3, metadata, TYPE(STRUCT), HARMLESS("told to control planes only")),
	F(4, locality, MSG(locality), HARMLESS("told to control planes only")),
	F(6, user_agent_name, TYPE(STRING), HARMLESS("told to control planes only")),
	F(7, user_agent_version, TYPE(STRING), ONEOF(1), HARMLESS("told to control planes only")),
	F(8, user_agent_build_version, TYPE(MESSAGE), ONEOF(1),
	  HARMLESS("told to control planes only")),
	F(9, extensions, LIST, TYPE(MESSAGE), HARMLESS("told to control planes only")),
	F(10, client_features, LIST, TYPE(STRING), HARMLESS("told to control planes only")),
	F(11, listening_addresses, LIST, MSG(address), OLD,
	  HARMLESS("told to control planes only")),
	F(12, dynamic_parameters, MAP, TYPE(MESSAGE), HARMLESS("told to control planes only")),
	END};
MESSAGE(node, "envoy.config.core.v3.Node");
