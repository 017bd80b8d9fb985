/* src/config/envoy_test.c: small bootstraps and the models, or the mistakes, they become. */
#include "config/envoy_show_test.h"
#include "model/limits.h"
#include <unistd.h>

#define HCM_AT                                                                       \
	"          \"@type\": type.googleapis.com/envoy.extensions.filters.network." \
	"http_connection_manager.v3.HttpConnectionManager\n"
#define LISTENER              \
	"static_resources:\n" \
	"  listeners:\n"      \
	"  - name: main\n"    \
	"    address: {socket_address: {address: 127.0.0.1, port_value: 80}}\n"
#define HEAD                   \
	LISTENER               \
	"    filter_chains:\n" \
	"    - filters:\n"     \
	"      - name: h\n"    \
	"        typed_config:\n" HCM_AT "          stat_prefix: in\n"
#define ROUTER                                                            \
	"          http_filters:\n"                                       \
	"          - name: lua\n"                                         \
	"            typed_config: {\"@type\": "                          \
	"type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua}\n" \
	"          - name: router\n"                                      \
	"            typed_config: {\"@type\": "                          \
	"type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}\n"
#define VHOST                            \
	"          route_config:\n"      \
	"            virtual_hosts:\n"   \
	"            - name: v\n"        \
	"              domains: ['*']\n" \
	"              routes:\n"
#define ANSWER                                       \
	VHOST "              - match: {prefix: /}\n" \
	      "                direct_response: {status: 204}\n"
#define CLUSTERS                          \
	"  clusters:\n"                   \
	"  - {name: web, type: STATIC}\n" \
	"  - {name: old, type: STATIC}\n"
#define LUA_ROUTE "\"@type\": type.googleapis.com/envoy.extensions.filters.http.lua.v3.LuaPerRoute"
#define OFF "{\"@type\": type.googleapis.com/envoy.config.route.v3.FilterConfig, disabled: true}"
/* What every good one begins with. */
#define SHOWN(extra)                                                    \
	"listener main 127.0.0.1:80\n  chain \n   hcm in codec=0" extra \
	"\n    filters lua* router\n"
#define SHOWN_ANSWER "    routes  any\n     vhost v\n      prefix / -> 204 \"\"\n"
#define SHOWN_CLUSTERS "cluster web static round_robin\ncluster old static round_robin\n"
#define ROUTES(list) HEAD ROUTER VHOST list CLUSTERS
#define SHOWN_ROUTES(list) SHOWN_CLUSTERS SHOWN("") "    routes  any\n     vhost v\n" list

static const struct {
	const char *story, *yaml, *model;
} good[] = {
	{"nothing at all", "{}", ""},
	{"the least that answers", HEAD ROUTER ANSWER, SHOWN("") SHOWN_ANSWER},
	{"node and admin",
	 "node: {id: one, cluster: c}\nadmin: {address: {socket_address: {address: 127.0.0.1, "
	 "port_value: 9901}}}\n",
	 " node=one of=c admin=127.0.0.1:9901\n"},
	{"every way to match",
	 ROUTES("              - match: {path: /a, case_sensitive: false}\n"
		"                route: {cluster: web}\n"
		"              - match: {path_separated_prefix: /b}\n"
		"                route: {cluster: web}\n"
		"              - match: {safe_regex: {regex: '/c/[0-9]+'}}\n"
		"                route: {cluster: web}\n"
		"              - match:\n"
		"                  prefix: /\n"
		"                  headers:\n"
		"                  - {name: cookie, string_match: {safe_regex: {regex: "
		"'.*wp=1.*'}}}\n"
		"                  - {name: X-A, exact_match: one, invert_match: true}\n"
		"                  - {name: x-b, range_match: {start: -1, end: 5}, "
		"treat_missing_header_as_empty: true}\n"
		"                  - {name: x-c, present_match: false}\n"
		"                  - {name: host, prefix_match: www.}\n"
		"                  - {name: x-d}\n"
		"                  query_parameters:\n"
		"                  - {name: q, string_match: {prefix: X, ignore_case: true}}\n"
		"                  - {name: r}\n"
		"                  cookies:\n"
		"                  - {name: k, string_match: {exact: v}, invert_match: true}\n"
		"                  runtime_fraction: {default_value: {numerator: 5, denominator: "
		"TEN_THOUSAND}}\n"
		"                  grpc: {}\n"
		"                  tls_context: {presented: true, validated: false}\n"
		"                route: {cluster: web}\n"),
	 SHOWN_ROUTES("      path i:/a -> web\n"
		      "      separated /b -> web\n"
		      "      regex  -> web\n"
		      "      prefix / [cookie ~wp=1] [!x-a =one] [x-b -1..5 empty] [x-c absent] "
		      "[:authority ^www.] "
		      "[x-d present] [?q ^ix] [?r present] [!cookie k =v] 5/10000 grpc presented=1 "
		      "validated=0 -> web\n")},
	{"actions",
	 ROUTES("              - match: {prefix: /r}\n"
		"                redirect: {https_redirect: true, host_redirect: h, path_redirect: "
		"/x, "
		"response_code: PERMANENT_REDIRECT, strip_query: true, port_redirect: 444}\n"
		"              - match: {prefix: /s}\n"
		"                redirect: {regex_rewrite: {pattern: {regex: 'a(b)'}, "
		"substitution: '\\1'}}\n"
		"              - match: {prefix: /d}\n"
		"                direct_response: {status: 403, body: {inline_string: nope}}\n"
		"              - match: {prefix: /n}\n"
		"                non_forwarding_action: {}\n"
		"              - match: {prefix: /h}\n"
		"                route: {cluster_header: X-Cluster}\n"
		"              - match: {prefix: /w}\n"
		"                name: split\n"
		"                route:\n"
		"                  weighted_clusters:\n"
		"                    clusters:\n"
		"                    - {name: web, weight: 10, host_rewrite_literal: w, "
		"request_headers_to_remove: [a]}\n"
		"                    - name: old\n"
		"                      weight: 30\n"
		"                      typed_per_filter_config: {lua: {" LUA_ROUTE
		", disabled: true}}\n"),
	 SHOWN_ROUTES("      prefix /r -> redirect 308 https strip_query host=h path=/x port=444\n"
		      "      prefix /s -> redirect 301 regex with=\\1\n"
		      "      prefix /d -> 403 \"nope\"\n"
		      "      prefix /n -> none\n"
		      "      prefix /h -> header x-cluster\n"
		      "      prefix /w -> of 40 {web 10 host=w req(-a)} {old 30 filter0=own} "
		      "name=split\n")},
	{"what a route does",
	 ROUTES("              - match: {prefix: /}\n"
		"                metadata: {filter_metadata: {a: {b: 1}}}\n"
		"                request_headers_to_add:\n"
		"                - {header: {key: X-A, value: 'v %REQ(b)%'}, append_action: "
		"OVERWRITE_IF_EXISTS_OR_ADD}\n"
		"                - {header: {key: b, value: '100%%'}, append: false}\n"
		"                - {header: {key: c, value: d}}\n"
		"                request_headers_to_remove: [e]\n"
		"                response_headers_to_add:\n"
		"                - {header: {key: f, value: g}, append_action: ADD_IF_ABSENT}\n"
		"                response_headers_to_remove: [server]\n"
		"                route:\n"
		"                  cluster: web\n"
		"                  prefix_rewrite: /y\n"
		"                  host_rewrite_literal: host.example\n"
		"                  append_x_forwarded_host: true\n"
		"                  timeout: 0s\n"
		"                  idle_timeout: 1.5s\n"
		"                  max_stream_duration: {max_stream_duration: 2s}\n"
		"                  priority: HIGH\n"
		"                  cluster_not_found_response_code: NOT_FOUND\n"
		"                  upgrade_configs: [{upgrade_type: WebSocket}, {upgrade_type: "
		"other, enabled: false}]\n"
		"                  hash_policy:\n"
		"                  - {header: {header_name: X-H}, terminal: true}\n"
		"                  - {cookie: {name: k, ttl: 60s, path: /}}\n"
		"                  - {connection_properties: {source_ip: true}}\n"
		"                  - {query_parameter: {name: q}}\n"
		"                  retry_policy:\n"
		"                    retry_on: 5xx, retriable-status-codes,connect-failure\n"
		"                    num_retries: 2\n"
		"                    per_try_timeout: 0.25s\n"
		"                    retriable_status_codes: [404, 403]\n"
		"                    retry_back_off: {base_interval: 0.001s, max_interval: 0.1s}\n"
		"                    retriable_headers: [{name: x-again}]\n"
		"                    host_selection_retry_max_attempts: 3\n"
		"                    retry_host_predicate: [{name: "
		"envoy.retry_host_predicates.previous_hosts, typed_config: "
		"{\"@type\": type.googleapis.com/"
		"envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate}}]\n"
		"                    retry_priority: {name: p, typed_config: {\"@type\": "
		"type.googleapis.com/"
		"envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig, "
		"update_frequency: 1}}\n"),
	 SHOWN_ROUTES("      prefix / -> web not_found=404 prefix_rewrite=/y host=host.example xfh "
		      "req(-e) "
		      "req(=X-A:v <13>) req(=b:100%) req(+c:d) resp(-server) resp(?f:g) timeout=0 "
		      "idle=1500000 "
		      "max=2000000 retry{on=49 n=2 try=250000 404 403 [x-again present] base=1000 "
		      "max=100000 "
		      "previous_hosts attempts=3 previous_priorities=1} hash(header x-h terminal) "
		      "hash(cookie k "
		      "ttl=60000000 make) hash(ip ) hash(query q) high upgrade=websocket "
		      "no_upgrade=other metadata\n")},
	{"other rewrites",
	 ROUTES("              - match: {prefix: /}\n"
		"                route: {cluster: web, auto_host_rewrite: true, "
		"regex_rewrite: {pattern: {regex: '^/a'}, substitution: /b}}\n"
		"              - match: {prefix: /}\n"
		"                route: {cluster: web, host_rewrite_header: X-Host}\n"
		"              - match: {prefix: /}\n"
		"                route: {cluster: web, "
		"host_rewrite_path_regex: {pattern: {regex: '^/(.+)'}, substitution: '\\1'}}\n"),
	 SHOWN_ROUTES("      prefix / -> web regex_rewrite with=/b auto_host\n"
		      "      prefix / -> web host_header=x-host\n"
		      "      prefix / -> web host_regex\n")},
	{"domains, inherited retries, virtual clusters",
	 HEAD ROUTER "          route_config:\n"
		     "            name: rc\n"
		     "            ignore_port_in_host_matching: true\n"
		     "            most_specific_header_mutations_wins: true\n"
		     "            response_headers_to_add: [{header: {key: a, value: b}}]\n"
		     "            virtual_hosts:\n"
		     "            - name: one\n"
		     "              domains: [A.com, 'a.com:81', '*.a.com', '*.b.a.com', 'www.*']\n"
		     "              require_tls: ALL\n"
		     "              include_request_attempt_count: true\n"
		     "              retry_policy: {retry_on: reset}\n"
		     "              virtual_clusters: [{name: vc, headers: [{name: ':path', "
		     "prefix_match: /x}]}]\n"
		     "              routes:\n"
		     "              - {match: {prefix: /a}, route: {cluster: web}}\n"
		     "              - {match: {prefix: /b}, route: {cluster: web, retry_policy: "
		     "{retry_on: 5xx, num_retries: 0}}}\n"
		     "              - {match: {prefix: /c}, redirect: {}}\n"
		     "            - {name: two, domains: ['*']}\n" CLUSTERS,
	 SHOWN_CLUSTERS SHOWN("") "    routes rc exact=2 suffix=.b.a.com suffix=.a.com prefix=www. "
				  "any ignore_port "
				  "most_specific resp(+a:b)\n"
				  "     vhost one tls=2 virtual=vc\n"
				  "      prefix /a -> web retry{on=4 n=1} attempts\n"
				  "      prefix /b -> web retry{on=1 n=0} attempts\n"
				  "      prefix /c -> redirect 301 attempts\n"
				  "     vhost two\n"},
	{"an unknown cluster where validation is off",
	 HEAD ROUTER "          route_config:\n"
		     "            validate_clusters: false\n"
		     "            virtual_hosts: [{name: v, domains: ['*'], routes: "
		     "[{match: {prefix: /}, route: {cluster: later}}]}]\n",
	 SHOWN("") "    routes  any\n     vhost v\n      prefix / -> later(none)\n"},
	{"the most specific filter configuration wins",
	 HEAD ROUTER
	 "          route_config:\n"
	 "            typed_per_filter_config: {lua: " OFF "}\n"
	 "            virtual_hosts:\n"
	 "            - name: v\n"
	 "              domains: ['*']\n"
	 "              routes:\n"
	 "              - {match: {prefix: /a}, direct_response: {status: 200}}\n"
	 "              - match: {prefix: /b}\n"
	 "                direct_response: {status: 200}\n"
	 "                typed_per_filter_config: {lua: {" LUA_ROUTE "}}\n"
	 "            - name: w\n"
	 "              domains: [w]\n"
	 "              typed_per_filter_config: {lua: {\"@type\": "
	 "type.googleapis.com/envoy.config.route.v3.FilterConfig, config: {" LUA_ROUTE "}}}\n"
	 "              routes: [{match: {prefix: /c}, direct_response: {status: 200}}]\n",
	 SHOWN("") "    routes  exact=1 any\n"
		   "     vhost v\n"
		   "      prefix /a -> 200 \"\" filter0=off\n"
		   "      prefix /b -> 200 \"\" filter0=own\n"
		   "     vhost w\n"
		   "      prefix /c -> 200 \"\" filter0=own\n"},
	{"a filter that is off unless a route wants it",
	 HEAD "          http_filters:\n"
	      "          - {name: lua, disabled: true, typed_config: {\"@type\": "
	      "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua}}\n"
	      "          - {name: envoy.filters.http.router, typed_config: {\"@type\": "
	      "type.googleapis.com/envoy.config.filter.http.router.v2.Router}}\n" VHOST
	      "              - {match: {prefix: /a}, direct_response: {status: 200}}\n"
	      "              - match: {prefix: /b}\n"
	      "                direct_response: {status: 200}\n"
	      "                typed_per_filter_config: {lua: {" LUA_ROUTE "}}\n",
	 "listener main 127.0.0.1:80\n  chain \n   hcm in codec=0\n    filters lua* "
	 "envoy.filters.http.router\n"
	 "    routes  any\n     vhost v\n"
	 "      prefix /a -> 200 \"\" filter0=off\n"
	 "      prefix /b -> 200 \"\" filter0=own\n"},
	{"the connection manager",
	 HEAD
	 "          codec_type: HTTP1\n"
	 "          use_remote_address: true\n"
	 "          xff_num_trusted_hops: 2\n"
	 "          skip_xff_append: true\n"
	 "          via: me\n"
	 "          server_name: srv\n"
	 "          server_header_transformation: PASS_THROUGH\n"
	 "          generate_request_id: false\n"
	 "          preserve_external_request_id: true\n"
	 "          always_set_request_id_in_response: true\n"
	 "          forward_client_cert_details: SANITIZE_SET\n"
	 "          set_current_client_cert_details: {subject: true}\n"
	 "          normalize_path: true\n"
	 "          merge_slashes: true\n"
	 "          path_with_escaped_slashes_action: UNESCAPE_AND_REDIRECT\n"
	 "          strip_any_host_port: true\n"
	 "          strip_trailing_host_dot: true\n"
	 "          proxy_100_continue: true\n"
	 "          scheme_header_transformation: {scheme_to_overwrite: https}\n"
	 "          max_request_headers_kb: 96\n"
	 "          stream_idle_timeout: 0s\n"
	 "          request_timeout: 5s\n"
	 "          request_headers_timeout: 3s\n"
	 "          drain_timeout: 1s\n"
	 "          delayed_close_timeout: 0.5s\n"
	 "          upgrade_configs: [{upgrade_type: WebSocket}, {upgrade_type: x, enabled: "
	 "false}]\n"
	 "          common_http_protocol_options: {idle_timeout: 300s, max_headers_count: 200, "
	 "max_stream_duration: 9s, max_connection_duration: 8s, max_requests_per_connection: 7, "
	 "headers_with_underscores_action: REJECT_REQUEST}\n"
	 "          http_protocol_options: {accept_http_10: true, default_host_for_http_10: d, "
	 "enable_trailers: true, "
	 "header_key_format: {proper_case_words: {}}, allow_absolute_url: false}\n"
	 "          http2_protocol_options: {max_concurrent_streams: 50, "
	 "initial_stream_window_size: 70000, "
	 "connection_keepalive: {interval: 1s, timeout: 2s}}\n"
	 "          local_reply_config:\n"
	 "            mappers:\n"
	 "            - filter: {status_code_filter: {comparison: {op: GE, value: {default_value: "
	 "500, "
	 "runtime_key: k}}}}\n"
	 "              status_code: 502\n"
	 "              body: {inline_string: sorry}\n"
	 "              headers_to_add: [{header: {key: a, value: b}}]\n"
	 "            body_format: {json_format: {a: '%RESPONSE_CODE%'}}\n" ROUTER ANSWER,
	 "listener main 127.0.0.1:80\n  chain \n   hcm in codec=1 use_remote skip_xff "
	 "no_request_id preserve_id id_back "
	 "hops=2 via=me server=srv server_mode=2 xfcc=3 xfcc_subject normalize merge slashes=2 "
	 "strip_any strip_dot "
	 "underscores=1 http10 http10_host=d trailers proxy_100 proper no_absolute "
	 "upgrade=websocket head=98304 "
	 "fields=200 streams=50 window=70000 ping=1000000 scheme=https idle=300000000 "
	 "max_connection=8000000 "
	 "stream_idle=0 request=5000000 headers=3000000 drain=1000000 delayed=500000 "
	 "max_stream=9000000 "
	 "max_requests=7 reply(500-65535 status=502 body=sorry resp(+a:b)) local_body\n"
	 "    filters lua* router\n" SHOWN_ANSWER},
	{"access logs",
	 HEAD
	 "          access_log:\n"
	 "          - name: a\n"
	 "            filter: {and_filter: {filters: [{status_code_filter: {comparison: {op: GE, "
	 "value: "
	 "{default_value: 400, runtime_key: k}}}}, {status_code_filter: {comparison: {op: LE, "
	 "value: "
	 "{default_value: 499, runtime_key: k}}}}, {duration_filter: {comparison: {op: GE, value: "
	 "{default_value: 20, runtime_key: k}}}}, {not_health_check_filter: {}}, {header_filter: "
	 "{header: {name: x}}}, "
	 "{response_flag_filter: {flags: [UF, UT]}}, {runtime_filter: {runtime_key: k, "
	 "percent_sampled: "
	 "{numerator: 5}}}]}}\n"
	 "            typed_config: {\"@type\": "
	 "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: "
	 "/dev/null, "
	 "log_format: {text_format_source: {inline_string: 'x %PROTOCOL%'}}}\n"
	 "          - name: b\n"
	 "            typed_config: {\"@type\": "
	 "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog, "
	 "log_format: {json_format: {b: '%DURATION%', a: lit}}}\n" ROUTER ANSWER,
	 SHOWN("") "    log /dev/null from=400 to=499 longer=20000 not_health flags=UF,UT [x "
		   "present] 5/100 x <2>\n"
		   "    log /dev/stdout json {\"a\":\"lit\",\"b\":<9>}\n" SHOWN_ANSWER},
	{"listeners",
	 "static_resources:\n"
	 "  listeners:\n"
	 "  - address: {pipe: {path: /tmp/x.sock, mode: 438}}\n"
	 "    additional_addresses: [{address: {socket_address: {address: '::1', port_value: "
	 "81}}}]\n"
	 "    per_connection_buffer_limit_bytes: 32768\n"
	 "    tcp_backlog_size: 77\n"
	 "    transparent: true\n"
	 "    freebind: true\n"
	 "    bind_to_port: false\n"
	 "    enable_reuse_port: false\n"
	 "    listener_filters_timeout: 0s\n"
	 "    continue_on_listener_filters_timeout: true\n"
	 "    listener_filters: [{name: i, typed_config: {\"@type\": "
	 "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector}}]\n"
	 "    filter_chains:\n"
	 "    - name: sni\n"
	 "      filter_chain_match: {server_names: [A.com, '*.b.com'], application_protocols: "
	 "[h2], "
	 "transport_protocol: tls, destination_port: 443, prefix_ranges: [{address_prefix: "
	 "10.9.8.7, prefix_len: 12}]}\n"
	 "      transport_socket_connect_timeout: 3s\n"
	 "      filters: &filters\n"
	 "      - name: h\n"
	 "        typed_config: &hcm\n" HCM_AT "          stat_prefix: in\n" ROUTER ANSWER
	 "    default_filter_chain:\n"
	 "      filters: *filters\n",
	 "listener unix:/tmp/x.sock unix:/tmp/x.sock [::1]:81 backlog=77 buffer=32768 inspector "
	 "transparent freebind "
	 "unbound no_reuse_port inspect=0 continue mode=438\n"
	 "  chain sni names=a.com,*.b.com alpns=h2 transport=2 port=443 dest=10.0/12 "
	 "handshake=3000000\n"
	 "   hcm in codec=0\n    filters lua* router\n" SHOWN_ANSWER
	 "  default  chain \n   hcm in codec=0\n    filters lua* router\n" SHOWN_ANSWER},
	{"clusters",
	 "static_resources:\n"
	 "  clusters:\n"
	 "  - name: a\n"
	 "    type: STRICT_DNS\n"
	 "    alt_stat_name: aa\n"
	 "    connect_timeout: 1s\n"
	 "    per_connection_buffer_limit_bytes: 1000\n"
	 "    lb_policy: LEAST_REQUEST\n"
	 "    least_request_lb_config: {choice_count: 3}\n"
	 "    dns_lookup_family: V4_ONLY\n"
	 "    dns_refresh_rate: 1s\n"
	 "    respect_dns_ttl: true\n"
	 "    dns_resolvers: [{socket_address: {address: 9.9.9.9, port_value: 53}}]\n"
	 "    max_requests_per_connection: 9\n"
	 "    common_http_protocol_options: {idle_timeout: 7s}\n"
	 "    common_lb_config: {healthy_panic_threshold: {value: 10}}\n"
	 "    circuit_breakers: {thresholds: [{max_connections: 5, max_pending_requests: 6, "
	 "max_requests: 7, "
	 "max_retries: 8}, {priority: HIGH, retry_budget: {}}]}\n"
	 "    upstream_connection_options: {tcp_keepalive: {keepalive_time: 60}}\n"
	 "    upstream_bind_config: {source_address: {address: 127.0.0.2, port_value: 0}}\n"
	 "    load_assignment:\n"
	 "      cluster_name: a\n"
	 "      policy: {overprovisioning_factor: 100}\n"
	 "      endpoints:\n"
	 "      - lb_endpoints:\n"
	 "        - endpoint: {hostname: h, address: {socket_address: {address: one.example, "
	 "port_value: 80}}}\n"
	 "          load_balancing_weight: 5\n"
	 "      - priority: 1\n"
	 "        lb_endpoints:\n"
	 "        - endpoint: {address: {socket_address: {address: 10.0.0.1, port_value: 81}}}\n"
	 "          health_status: DRAINING\n"
	 "          metadata: {filter_metadata: {a: {b: c}}}\n"
	 "  - name: b\n"
	 "    lb_policy: RING_HASH\n"
	 "    ring_hash_lb_config: {minimum_ring_size: 64, maximum_ring_size: 128}\n"
	 "    typed_extension_protocol_options:\n"
	 "      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:\n"
	 "        \"@type\": "
	 "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\n"
	 "        common_http_protocol_options: {idle_timeout: 3s, max_stream_duration: 4s, "
	 "max_headers_count: 50, "
	 "max_response_headers_kb: 10}\n"
	 "        upstream_http_protocol_options: {auto_sni: true}\n"
	 "        explicit_http_config: {http_protocol_options: {enable_trailers: true, "
	 "header_key_format: {proper_case_words: {}}}}\n"
	 "    load_assignment: {cluster_name: b, endpoints: [{lb_endpoints: [{endpoint: {address: "
	 "{pipe: "
	 "{path: /run/x}}}}]}]}\n"
	 "    transport_socket: {name: t, typed_config: {\"@type\": "
	 "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, sni: "
	 "s.example, "
	 "common_tls_context: {alpn_protocols: [http/1.1], tls_params: "
	 "{tls_minimum_protocol_version: TLSv1_3, "
	 "cipher_suites: ['[A|B]', C], ecdh_curves: [X25519]}, validation_context: "
	 "{system_root_certs: {}, "
	 "match_typed_subject_alt_names: [{san_type: DNS, matcher: {suffix: .example}}], "
	 "verify_certificate_hash: "
	 "['DF:6F:F7:2F:E9:11:65:21:26:8F:6F:2D:D4:96:6F:51:DF:47:98:83:FE:70:37:B3:9F:75:91:6A:C3:"
	 "04:9D:1A'], "
	 "trust_chain_verification: ACCEPT_UNTRUSTED}}}}\n",
	 "cluster a strict_dns least_request alt=aa connect=1000000 buffer=1000 breaker0=5,6,7,8,0 "
	 "breaker1=1024,1024,1024,3,20 family=1 refresh=1000000 ttl resolver=9.9.9.9:53 "
	 "idle=7000000 max_requests=9 "
	 "choices=3 panic=10 over=100 keepalive=0,60,0 from=127.0.0.2\n"
	 "  one.example:80 weight=5 hostname=h\n"
	 "  10.0.0.1:81 priority=1 unhealthy metadata\n"
	 "cluster b static ring_hash trailers proper idle=3000000 max_stream=4000000 head=10240 "
	 "fields=50 ring_min=64 "
	 "ring_max=128 tls{client certs=0 min=772 alpn=http/1.1 ciphers=A:B:C curves=X25519 ca "
	 "system untrusted "
	 "san1$.example hash=df6ff72fe9116521268f6f2dd4966f51df479883fe7037b39f75916ac3049d1a "
	 "sni=s.example auto_sni}\n"
	 "  unix:/run/x\n"},
	{"camelCase, and names alone as old articles write them",
	 "staticResources:\n"
	 "  listeners:\n"
	 "  - name: main\n"
	 "    address: {socketAddress: {address: 127.0.0.1, portValue: 80}}\n"
	 "    filterChains:\n"
	 "    - filters:\n"
	 "      - name: h\n"
	 "        typedConfig:\n" HCM_AT "          statPrefix: in\n"
	 "          httpFilters: [{name: lua, typedConfig: {\"@type\": "
	 "type.googleapis.com/envoy.config.filter.http.lua.v2.Lua}}, {name: envoy.router}]\n"
	 "          routeConfig: {virtualHosts: [{name: v, domains: ['*'], routes: [{match: "
	 "{prefix: /}, "
	 "directResponse: {status: 204}}]}]}\n",
	 "listener main 127.0.0.1:80\n  chain \n   hcm in codec=0\n    filters lua* "
	 "envoy.router\n" SHOWN_ANSWER},
	{"postern's own options",
	 "layered_runtime: {layers: [{name: l, static_layer: {postern.max_target_bytes: 1000, "
	 "postern: {strict_path: true}}}]}\n" HEAD ROUTER ANSWER,
	 SHOWN(" strict target=1000") SHOWN_ANSWER},
};

#define AT_ROUTE                                                                               \
	"static_resources.listeners[0].filter_chains[0].filters[0].typed_config.route_config." \
	"virtual_hosts[0]"
#define AT_HCM "static_resources.listeners[0].filter_chains[0].filters[0].typed_config"

/* Each: what is told, notices left out; all of it, so that one mistake does not bring others. */
static const struct {
	const char *story, *yaml, *told;
} bad[] = {
	{"nothing to read", "[1]",
	 "E 1:1: a bootstrap is a map with static_resources, admin and so on"},
	{"an unknown cluster, with a suggestion",
	 ROUTES("              - match: {prefix: /}\n"
		"                route: {cluster: wep}\n"),
	 "E 22:34 " AT_ROUTE
	 ".routes[0].route.cluster: there is no cluster \"wep\" (did you mean \"web\"?)"},
	{"several mistakes at once",
	 ROUTES("              - match: {prefix: /}\n"
		"                route: {cluster: wep, timeout: -1s}\n"
		"              - match: {safe_regex: {regex: '('}}\n"
		"                route: {cluster: web, prefix_rewrit: /}\n"),
	 "E 24:39 " AT_ROUTE
	 ".routes[1].route.prefix_rewrit: unknown field of RouteAction (did you mean "
	 "\"prefix_rewrite\"?)\n"
	 "E 22:34 " AT_ROUTE
	 ".routes[0].route.cluster: there is no cluster \"wep\" (did you mean \"web\"?)\n"
	 "E 22:48 " AT_ROUTE ".routes[0].route.timeout: must not be negative\n"
	 "E 23:45 " AT_ROUTE
	 ".routes[1].match.safe_regex.regex: bad regular expression: missing ): ("},
	{"an unknown weighted cluster and no weight",
	 ROUTES("              - match: {prefix: /}\n"
		"                route: {weighted_clusters: {clusters: [{name: zzz, weight: "
		"0}]}}\n"),
	 "E 22:63 " AT_ROUTE
	 ".routes[0].route.weighted_clusters.clusters[0].name: there is no cluster \"zzz\"\n"
	 "E 22:44 " AT_ROUTE ".routes[0].route.weighted_clusters: the weights add up to 0"},
	{"no action, no match",
	 HEAD ROUTER VHOST "              - match: {prefix: /}\n"
			   "              - direct_response: {status: 200}\n"
			   "              - match: {}\n"
			   "                direct_response: {status: 99}\n",
	 "E 21:17 " AT_ROUTE ".routes[0]: needs route, redirect or direct_response\n"
	 "E 22:17 " AT_ROUTE ".routes[1]: match is missing\n"
	 "E 23:24 " AT_ROUTE
	 ".routes[2].match: needs prefix, path, safe_regex or path_separated_prefix\n"
	 "E 24:43 " AT_ROUTE ".routes[2].direct_response.status: 99 is out of range, 200 to 599"},
	{"domains twice",
	 HEAD ROUTER "          route_config:\n"
		     "            virtual_hosts:\n"
		     "            - {name: a, domains: [x.com, '*.y', '*']}\n"
		     "            - {name: b, domains: [X.com, '*.y', '*', 'z*']}\n"
		     "            - {name: c, domains: []}\n",
	 "E 20:15 "
	 "static_resources.listeners[0].filter_chains[0].filters[0].typed_config.route_config."
	 "virtual_hosts[2]"
	 ": domains is missing\n"
	 "E 19:35 "
	 "static_resources.listeners[0].filter_chains[0].filters[0].typed_config.route_config."
	 "virtual_hosts[1]"
	 ".domains[0]: \"x.com\" belongs to the virtual host \"a\" on line 18 already\n"
	 "E 19:42 "
	 "static_resources.listeners[0].filter_chains[0].filters[0].typed_config.route_config."
	 "virtual_hosts[1]"
	 ".domains[1]: \"*.y\" belongs to the virtual host \"a\" on line 18 already\n"
	 "E 19:49 "
	 "static_resources.listeners[0].filter_chains[0].filters[0].typed_config.route_config."
	 "virtual_hosts[1]"
	 ".domains[2]: \"*\" belongs to the virtual host \"a\" on line 18 already"},
	{"a rewrite of a group that is not there, two rewrites",
	 ROUTES("              - match: {prefix: /}\n"
		"                route: {cluster: web, prefix_rewrite: /, regex_rewrite: {pattern: "
		"{regex: a}, "
		"substitution: b}}\n"
		"              - match: {prefix: /}\n"
		"                route: {cluster: web, regex_rewrite: {pattern: {regex: a}, "
		"substitution: '\\1'}}\n"),
	 "E 22:73 " AT_ROUTE ".routes[0].route.regex_rewrite: excludes prefix_rewrite\n"
	 "E 24:54 " AT_ROUTE
	 ".routes[1].route.regex_rewrite: substitution: Rewrite schema requests 1 matches, but the "
	 "regexp only has 0 parenthesized subexpressions."},
	{"headers that may not change, and a bad format",
	 ROUTES("              - match: {prefix: /}\n"
		"                route: {cluster: web}\n"
		"                request_headers_to_add: [{header: {key: ':path', value: x}}, "
		"{header: {key: a, "
		"value: '%PROTOCOLL%'}}]\n"
		"                request_headers_to_remove: [Host]\n"),
	 "E 24:45 " AT_ROUTE
	 ".routes[0].request_headers_to_remove[0]: \":\" names and host cannot be changed here\n"
	 "E 23:57 " AT_ROUTE
	 ".routes[0].request_headers_to_add[0].header.key: \":\" names and host cannot be changed "
	 "here\n"
	 "E 23:103 " AT_ROUTE
	 ".routes[0].request_headers_to_add[1].header.value: unknown command %PROTOCOLL% (did you "
	 "mean \"PROTOCOL\"?)"},
	{"the filter chain",
	 HEAD "          http_filters:\n"
	      "          - {name: r, typed_config: {\"@type\": "
	      "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}\n"
	      "          - {name: l, typed_config: {\"@type\": "
	      "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua, inline_code: "
	      "bad}}\n" ANSWER,
	 "E 13:122 " AT_HCM ".http_filters[1].typed_config.inline_code: script load error\n"
	 "E 12:13: r answers every request: it must be the last filter"},
	{"the chain without an answer",
	 HEAD "          http_filters:\n"
	      "          - {name: l, typed_config: {\"@type\": "
	      "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua}}\n" ANSWER,
	 "E 12:13: l cannot be the last filter: one that answers must follow, mostly the router"},
	{"nothing in the connection manager",
	 LISTENER "    filter_chains:\n"
		  "    - filters:\n"
		  "      - name: h\n"
		  "        typed_config:\n" HCM_AT,
	 "E 9:11 " AT_HCM ": stat_prefix is missing\n"
	 "E 9:11 " AT_HCM ": http_filters is missing: the last of them answers, mostly the router\n"
	 "E 9:11 " AT_HCM ": route_config is missing"},
	{"per-route configuration of another filter, of none, of nothing",
	 HEAD ROUTER VHOST "              - match: {prefix: /}\n"
			   "                direct_response: {status: 200}\n"
			   "                typed_per_filter_config:\n"
			   "                  lau: {" LUA_ROUTE "}\n"
			   "                  router: {" LUA_ROUTE "}\n"
			   "                  lua: {\"@type\": "
			   "type.googleapis.com/envoy.config.route.v3.FilterConfig}\n",
	 "W 24:24 " AT_ROUTE
	 ".routes[0].typed_per_filter_config.lau: has no effect: no filter of this connection "
	 "manager has that name (did you mean \"lua\"?)\n"
	 "E 25:27 " AT_ROUTE ".routes[0].typed_per_filter_config.router: "
	 "envoy.extensions.filters.http.lua.v3.LuaPerRoute does not configure router, a filter of "
	 "type "
	 "envoy.filters.http.router\n"
	 "E 26:24 " AT_ROUTE
	 ".routes[0].typed_per_filter_config.lua: needs config or disabled: true"},
	{"limits are hard",
	 HEAD "          max_request_headers_kb: 8193\n"
	      "          common_http_protocol_options: {max_headers_count: 10001}\n"
	      "          http2_protocol_options: {hpack_table_size: 65537, max_outbound_frames: "
	      "100001}\n" ROUTER ANSWER,
	 "E 12:61 " AT_HCM
	 ".common_http_protocol_options.max_headers_count: 10001 is out of range, 1 to 10000\n"
	 "E 11:35 " AT_HCM ".max_request_headers_kb: 8193 is out of range, 1 to 8192\n"
	 "E 13:54 " AT_HCM
	 ".http2_protocol_options.hpack_table_size: 65537 is out of range, 0 to 65536\n"
	 "E 13:82 " AT_HCM
	 ".http2_protocol_options.max_outbound_frames: 100001 is out of range, 1 to 100000"},
	{"clusters twice, names where there are none, two in one",
	 "static_resources:\n"
	 "  clusters:\n"
	 "  - {name: a, type: STATIC}\n"
	 "  - {name: a, type: STATIC}\n"
	 "  - {name: b, type: STATIC, load_assignment: {endpoints: [{lb_endpoints: [{endpoint: "
	 "{address: "
	 "{socket_address: {address: host, port_value: 1}}}}]}]}}\n"
	 "  - {name: c, type: LOGICAL_DNS, load_assignment: {endpoints: []}}\n"
	 "  - {name: d, lb_policy: MAGLEV, connect_timeout: 0s, http2_protocol_options: {}}\n",
	 "E 4:12 static_resources.clusters[1].name: there is a cluster \"a\" already, on line 3\n"
	 "E 5:123 "
	 "static_resources.clusters[2].load_assignment.endpoints[0].lb_endpoints[0].endpoint."
	 "address."
	 "socket_address.address: \"host\" is no IP address (a host name needs a cluster of type "
	 "STRICT_DNS or "
	 "LOGICAL_DNS)\n"
	 "E 6:63 static_resources.clusters[3].load_assignment.endpoints: a cluster of type "
	 "LOGICAL_DNS has exactly one "
	 "endpoint\n"
	 "E 7:51 static_resources.clusters[4].connect_timeout: must be longer than 0\n"
	 "E 7:26 static_resources.clusters[4].lb_policy: is not supported (use ROUND_ROBIN, "
	 "LEAST_REQUEST, RING_HASH or "
	 "RANDOM)\n"
	 "E 7:79 static_resources.clusters[4].http2_protocol_options: HTTP/2 towards origins is "
	 "not spoken yet (leave it "
	 "out: the origin is then asked over HTTP/1.1)"},
	{"listeners twice, chains twice",
	 "static_resources:\n"
	 "  listeners:\n"
	 "  - name: a\n"
	 "    address: {socket_address: {address: 127.0.0.1, port_value: 80}}\n"
	 "    filter_chains: [{filters: &f [{name: h, typed_config: &hcm {\"@type\": "
	 "type.googleapis.com/"
	 "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, "
	 "stat_prefix: s, http_filters: [{name: r, typed_config: {\"@type\": "
	 "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}], route_config: "
	 "{}}}]}, {filters: *f}]\n"
	 "  - name: a\n"
	 "    address: {socket_address: {address: 127.0.0.1, port_value: 81}}\n"
	 "    filter_chains: [{filters: *f}]\n"
	 "  - name: b\n"
	 "    address: {socket_address: {address: 127.0.0.1, port_value: 80}}\n"
	 "    filter_chains: [{filters: *f}]\n"
	 "  - name: c\n"
	 "    address: {socket_address: {address: 127.0.0.1, port_value: 82}}\n"
	 "    filter_chains: [{filters: []}]\n"
	 "  - name: d\n"
	 "    address: {socket_address: {address: 127.0.0.1, port_value: 83}}\n",
	 "E 5:335: this filter chain matches the same connections as the one on line 5\n"
	 "E 6:5 static_resources.listeners[1]: there is a listener \"a\" already, on line 3\n"
	 "E 9:5 static_resources.listeners[2]: 127.0.0.1:80 is taken by the listener on line 3\n"
	 "E 14:31 static_resources.listeners[3].filter_chains[0].filters: a filter chain needs one "
	 "filter, the HTTP "
	 "connection manager\n"
	 "E 15:5 static_resources.listeners[4]: filter_chains is missing"},
	{"TLS without a certificate, below 1.2, with a missing file",
	 LISTENER
	 "    filter_chains:\n"
	 "    - transport_socket: {name: t, typed_config: {\"@type\": "
	 "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, "
	 "common_tls_context: "
	 "{tls_params: {tls_maximum_protocol_version: TLSv1_1}}}}\n"
	 "      filters: &f [{name: h, typed_config: {\"@type\": "
	 "type.googleapis.com/"
	 "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, "
	 "stat_prefix: s, http_filters: [{name: r, typed_config: {\"@type\": "
	 "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}], route_config: "
	 "{}}}]\n"
	 "    - filter_chain_match: {server_names: ['a*b']}\n"
	 "      filters: *f\n"
	 "      transport_socket: {name: t, typed_config: {\"@type\": "
	 "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, "
	 "common_tls_context: "
	 "{tls_certificates: [{certificate_chain: {inline_string: x}, private_key: {filename: "
	 "/nonexistent/key}}]}}}\n"
	 "    - filter_chain_match: {transport_protocol: tsl}\n"
	 "      filters: *f\n"
	 "      transport_socket: {name: t, typed_config: {\"@type\": "
	 "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext}}\n",
	 "E 6:207 "
	 "static_resources.listeners[0].filter_chains[0].transport_socket.typed_config.common_tls_"
	 "context."
	 "tls_params.tls_maximum_protocol_version: only TLS 1.2 and 1.3 are spoken\n"
	 "E 6:49 static_resources.listeners[0].filter_chains[0].transport_socket.typed_config: a "
	 "server needs "
	 "tls_certificates\n"
	 "E 8:43 "
	 "static_resources.listeners[0].filter_chains[1].filter_chain_match.server_names[0]: is "
	 "neither a host name "
	 "nor \"*.\" and a host name\n"
	 "E 10:247 "
	 "static_resources.listeners[0].filter_chains[1].transport_socket.typed_config.common_tls_"
	 "context."
	 "tls_certificates[0].private_key.filename: /nonexistent/key: No such file or directory\n"
	 "E 10:203 "
	 "static_resources.listeners[0].filter_chains[1].transport_socket.typed_config.common_tls_"
	 "context."
	 "tls_certificates[0].certificate_chain: holds no PEM certificate\n"
	 "E 11:48 "
	 "static_resources.listeners[0].filter_chains[2].filter_chain_match.transport_protocol: "
	 "must be tls or "
	 "raw_buffer (did you mean \"tls\"?)\n"
	 "E 13:49 static_resources.listeners[0].filter_chains[2].transport_socket.typed_config: "
	 "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext is no transport socket for "
	 "a listener"},
	{"retries: words nobody knows are told, not refused",
	 ROUTES("              - match: {prefix: /}\n"
		"                route: {cluster: web, retry_policy: {retry_on: "
		"'5xx,conect-failure,unavailable', "
		"retry_back_off: {base_interval: 1s, max_interval: 0.5s}}}\n"),
	 "W 22:64 " AT_ROUTE
	 ".routes[0].route.retry_policy.retry_on: \"conect-failure\" is no condition and has no "
	 "effect (did you mean \"connect-failure\"?)\n"
	 "W 22:64 " AT_ROUTE
	 ".routes[0].route.retry_policy.retry_on: \"unavailable\" has no effect: gRPC statuses are "
	 "not looked at\n"
	 "E 22:148 " AT_ROUTE
	 ".routes[0].route.retry_policy.retry_back_off.max_interval: must not be less than "
	 "base_interval"},
	{"access logs that cannot be",
	 HEAD
	 "          access_log:\n"
	 "          - {name: a}\n"
	 "          - name: b\n"
	 "            filter: {and_filter: {filters: [{status_code_filter: {comparison: {op: NE, "
	 "value: "
	 "{default_value: 1, runtime_key: k}}}}, {duration_filter: {comparison: {op: LE, value: "
	 "{default_value: 1, "
	 "runtime_key: k}}}}, {response_flag_filter: {flags: [XX]}}, {status_code_filter: {}}]}}\n"
	 "            typed_config: {\"@type\": "
	 "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, log_format: "
	 "{}}\n"
	 "          - {name: c, typed_config: {\"@type\": "
	 "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: x, "
	 "log_format: {}}}\n"
	 "          - {name: d, typed_config: {\"@type\": "
	 "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}\n" ROUTER ANSWER,
	 "E 12:13 " AT_HCM ".access_log[0]: typed_config is missing\n"
	 "E 15:27 " AT_HCM ".access_log[1].typed_config: path is missing\n"
	 "E 14:66 " AT_HCM ".access_log[1].filter.and_filter.filters[0].status_code_filter: NE is "
	 "not supported (write two access logs, with LE and GE)\n"
	 "E 14:152 " AT_HCM ".access_log[1].filter.and_filter.filters[1].duration_filter: only GE "
	 "is supported for durations\n"
	 "E 14:251 " AT_HCM ".access_log[1].filter.and_filter.filters[2].response_flag_filter."
	 "flags: unknown response flag \"XX\"\n"
	 "E 14:280 " AT_HCM ".access_log[1].filter.and_filter.filters[3].status_code_filter: needs "
	 "comparison with value\n"
	 "E 15:124 " AT_HCM
	 ".access_log[1].typed_config.log_format: needs text_format_source or json_format\n"
	 "E 16:143 " AT_HCM
	 ".access_log[2].typed_config.log_format: needs text_format_source or json_format\n"
	 "E 17:37 " AT_HCM ".access_log[3].typed_config: "
	 "envoy.extensions.filters.http.router.v3.Router is no access log"},
};

static int differ;

/* All that differ are shown before the test fails. */
static void same(const char *story, const char *got, const char *wanted)
{
	if (strcmp(got, wanted) == 0)
		return;
	fprintf(stderr, "%s\n--- got\n%s\n--- wanted\n%s\n", story, got, wanted);
	differ++;
}

/* yaml's model or NULL; the diags, notices left out, in *told (free). */
static struct model *compile_text(const char *yaml, char **told, struct diags *d)
{
	struct config_source src = {.yaml = str_of(yaml)};
	struct model *m = config_compile(&src, show_types, d);
	if (told) {
		struct diags some = *d;
		some.first = some.last = NULL;
		struct diag **to = &some.first,
			    *copies = calloc(1 + d->errors + d->warnings, sizeof *copies),
			    *c = copies;
		must(copies != NULL);
		for (struct diag *g = d->first; g; g = g->next)
			if (g->level != DIAG_NOTICE) {
				*c = *g;
				c->next = NULL;
				*to = c;
				to = &c->next;
				c++;
			}
		*told = test_diags(&some);
		free(copies);
	}
	return m;
}

static char *shown(const struct model *m)
{
	char *out = NULL;
	size_t n = 0;
	show_to = open_memstream(&out, &n);
	must(show_to != NULL);
	show_model(m);
	fclose(show_to);
	return out;
}

static void models(void)
{
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		struct diags d;
		char *told;
		diags_init(&d);
		struct model *m = compile_text(good[i].yaml, &told, &d);
		same(good[i].story, told, "");
		if (!m)
			continue;
		must(model_seal(m));
		char *text = shown(m);
		same(good[i].story, text, good[i].model);
		free(text);
		free(told);
		diags_fini(&d);
		model_unref(m);
		must(show_live == 0);
	}
}

static void mistakes(void)
{
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct diags d;
		char *told;
		diags_init(&d);
		struct model *m = compile_text(bad[i].yaml, &told, &d);
		must(m == NULL && show_live == 0);
		same(bad[i].story, told, bad[i].told);
		for (struct diag *g = d.first; g; g = g->next) /* outlives the refused model */
			must(!g->at.file || strcmp(g->at.file, "--config-yaml") == 0);
		free(told);
		diags_fini(&d);
	}
}

/* ---- sources ---- */

static void two_sources(void)
{
	char path[] = "/tmp/postern-envoy-test-XXXXXX";
	int fd = mkstemp(path);
	static const char text[] = "node: {id: a, cluster: b}\n"
				   "static_resources:\n"
				   "  clusters: [{name: one, type: STATIC, connect_timeout: 1s}]\n";
	struct diags d;
	diags_init(&d);
	must(fd >= 0 && write(fd, text, sizeof text - 1) == (ssize_t)sizeof text - 1);
	close(fd);
	struct config_source src = {.path = path,
				    .yaml = STR("node: {id: c}\nstaticResources: {clusters: "
						"[{name: two, type: STATIC}]}\n"),
				    .admin = "localhost:77",
				    .node_cluster = "z"};
	struct model *m = config_compile(&src, show_types, &d);
	diags_print(&d, stderr);
	must(m != NULL);
	must(str_eq(m->node_id, STR("c")) && str_eq(m->node_cluster, STR("z")));
	must(m->nclusters == 2 && str_eq(m->clusters[1]->name, STR("two")));
	must(m->nwatched == 1 && str_eq(m->watched[0], str_of(path)));
	must(m->admin && str_eq(m->admin->text, STR("127.0.0.1:77")));

	must(model_add_admin_listener(m, show_types, &d) && m->nlisteners == 1);
	const struct listener_cfg *l = m->listeners[0];
	must(l->is_admin && l->nchains == 1 && l->chains[0].hcm->is_admin);
	must(str_eq(l->chains[0].hcm->filters[0].name, STR("postern.admin")));
	must(vhost_match(l->chains[0].hcm->routes, STR("any")) != NULL);
	must(model_seal(m));
	model_unref(m);

	src.admin = "nowhere";
	must(!config_compile(&src, show_types, &d) && d.errors == 1);
	diags_fini(&d);
	src.admin = "unix:/run/a.sock";
	m = config_compile(&src, show_types, &d);
	must(m && str_eq(m->admin->text, STR("unix:/run/a.sock")));
	model_unref(m);
	unlink(path);
	must(!config_compile(&src, show_types, &d) && d.errors == 1);
	diags_fini(&d);
	must(!config_compile(&(struct config_source){0}, show_types, &d) && d.errors == 1);
	diags_fini(&d);
}

/* Fail the first allocation, the second, … until none fails any more. */
static void out_of_memory(const char *yaml)
{
	for (uint64_t nth = 1;; nth++) {
		struct diags d;
		diags_init(&d);
		arena_trim(); /* or cached blocks would serve */
		mem_fail_nth(nth);
		struct model *m = compile_text(yaml, NULL, &d);
		bool made = m != NULL;
		if (m && !model_add_admin_listener(m, show_types, &d))
			made = false;
		uint64_t left = mem_fail_left();
		mem_fail_nth(0);
		/* Refused with a message, or the failure was survived; never half a model. */
		must(made ? model_seal(m) : d.errors > 0);
		must(left == 0 || made);
		model_unref(m);
		must(show_live == 0);
		diags_fini(&d);
		if (left)
			return;
	}
}

int main(void)
{
	models();
	mistakes();
	must(differ == 0);
	two_sources();
	for (size_t i = 1; i < sizeof good / sizeof *good; i++)
		out_of_memory(good[i].yaml);
	out_of_memory("admin: {address: {socket_address: {address: 127.0.0.1, port_value: 1}}, "
		      "access_log_path: a.log}");
	arena_trim();
	return 0;
}
