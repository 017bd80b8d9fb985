/* src/config/schema_filter.c: HTTP filters. Numbers, types, oneofs as in Envoy 1.40. */
#include "config/schema_int.h"

static const char *const e_on_error[] = {"continue", "fail", NULL};
static const char *const e_libraries[] = {"standard", "strict", "full", NULL};

static const struct schema_field router_fields[] = {
	F(1, dynamic_stats, TYPE(BOOL), WRAP, HARMLESS("statistics are always kept")),
	F(2, start_child_span, TYPE(BOOL), OLD, HARMLESS("no traces are sent")),
	F(3, upstream_log, LIST, MSG(access_log),
	  REFUSED("there is no log for each attempt; use access_log")),
	F(4, suppress_envoy_headers, TYPE(BOOL)),
	F(5, strict_check_headers, LIST, TYPE(STRING),
	  REFUSED("x-envoy- headers that make no sense are passed over")),
	F(6, respect_expected_rq_timeout, TYPE(BOOL), REFUSED("")),
	F(7, suppress_grpc_request_failure_code_stats, TYPE(BOOL),
	  HARMLESS("statistics have no such setting here")),
	F(8, upstream_http_filters, LIST, MSG(http_filter),
	  REFUSED("filters stand in the HTTP connection manager")),
	F(9, upstream_log_options, TYPE(MESSAGE), HARMLESS("there is no log for each attempt")),
	F(10, reject_connect_request_early_data, TYPE(BOOL), WRAP, HARMLESS("CONNECT is refused")),
	END};
MESSAGE(router, "envoy.extensions.filters.http.router.v3.Router");

static const struct schema_field lua_fields[] = {F(1, inline_code, TYPE(STRING), OLD),
						 F(2, source_codes, MAP, MSG(data_source)),
						 F(3, default_source_code, MSG(data_source)),
						 F(4, stat_prefix, TYPE(STRING)),
						 F(5, clear_route_cache, TYPE(BOOL), WRAP),
						 F(6, filter_context, TYPE(STRUCT)),
						 F(7, package_paths, LIST, TYPE(STRING)),
						 F(8, package_cpaths, LIST, TYPE(STRING)),
						 F(9, shared_vm_id, TYPE(STRING)),
						 END};
MESSAGE(lua, "envoy.extensions.filters.http.lua.v3.Lua");

static const struct schema_field lua_route_fields[] = {
	F(1, disabled, TYPE(BOOL), ONEOF(1)),
	F(2, name, TYPE(STRING), ONEOF(1)),
	F(3, source_code, MSG(data_source), ONEOF(1)),
	F(4, filter_context, TYPE(STRUCT)),
	F(5, package_paths, LIST, TYPE(STRING)),
	F(6, package_cpaths, LIST, TYPE(STRING)),
	F(7, shared_vm_id, TYPE(STRING)),
	END};
MESSAGE(lua_route, "envoy.extensions.filters.http.lua.v3.LuaPerRoute");

static const struct schema_field own_lua_fields[] = {F(1, inline_code, TYPE(STRING), OLD),
						     F(2, source_codes, MAP, MSG(data_source)),
						     F(3, default_source_code, MSG(data_source)),
						     F(4, stat_prefix, TYPE(STRING)),
						     F(5, clear_route_cache, TYPE(BOOL), WRAP),
						     F(6, filter_context, TYPE(STRUCT)),
						     F(7, package_paths, LIST, TYPE(STRING)),
						     F(8, package_cpaths, LIST, TYPE(STRING)),
						     F(9, shared_vm_id, TYPE(STRING)),
						     F(101, on_error, ENUM(e_on_error)),
						     F(102, error_status, TYPE(UINT32)),
						     F(103, libraries, ENUM(e_libraries)),
						     F(104, respond_in_response, TYPE(BOOL)),
						     END};
MESSAGE(own_lua, "postern.filters.http.lua.v1.Lua");

static const struct schema_field own_lua_route_fields[] = {
	F(1, disabled, TYPE(BOOL), ONEOF(1)),
	F(2, name, TYPE(STRING), ONEOF(1)),
	F(3, source_code, MSG(data_source), ONEOF(1)),
	F(4, filter_context, TYPE(STRUCT)),
	F(5, package_paths, LIST, TYPE(STRING)),
	F(6, package_cpaths, LIST, TYPE(STRING)),
	F(7, shared_vm_id, TYPE(STRING)),
	F(101, on_error, ENUM(e_on_error)),
	F(102, error_status, TYPE(UINT32)),
	F(103, libraries, ENUM(e_libraries)),
	F(104, respond_in_response, TYPE(BOOL)),
	END};
MESSAGE(own_lua_route, "postern.filters.http.lua.v1.LuaPerRoute");

static const struct schema_field own_static_fields[] = {
	F(1, root, TYPE(STRING)), F(2, index, TYPE(STRING)), F(3, not_found, TYPE(STRING)), END};
MESSAGE(own_static, "postern.filters.http.static.v1.Static");

static const struct schema_field set_metadata_entry_fields[] = {
	F(1, metadata_namespace, TYPE(STRING)), F(2, allow_overwrite, TYPE(BOOL)),
	F(3, value, TYPE(STRUCT)), F(4, typed_value, TYPE(ANY), LENIENT), END};
MESSAGE(set_metadata_entry, "envoy.extensions.filters.http.set_metadata.v3.Metadata");

static const struct schema_field set_metadata_fields[] = {
	F(1, metadata_namespace, TYPE(STRING), OLD), F(2, value, TYPE(STRUCT), OLD),
	F(3, metadata, LIST, MSG(set_metadata_entry)), END};
MESSAGE(set_metadata, "envoy.extensions.filters.http.set_metadata.v3.Config");

static const char *const e_shared_with_upstream[] = {"NONE", "ONCE", "TRANSITIVE", NULL};
static const struct schema_field filter_state_value_fields[] = {
	F(1, object_key, TYPE(STRING)),
	F(2, format_string, MSG(format_string)),
	F(3, read_only, TYPE(BOOL)),
	F(4, shared_with_upstream, ENUM(e_shared_with_upstream),
	  HARMLESS("connections to origins take nothing from it")),
	F(5, skip_if_empty, TYPE(BOOL)),
	F(6, factory_key, TYPE(STRING)),
	END};
MESSAGE(filter_state_value, "envoy.extensions.filters.common.set_filter_state.v3.FilterStateValue");

static const struct schema_field set_filter_state_fields[] = {
	F(1, on_request_headers, LIST, MSG(filter_state_value)), END};
MESSAGE(set_filter_state, "envoy.extensions.filters.http.set_filter_state.v3.Config");
