/* src/config/envoy_log.c: access logs, their formats and conditions. */
#include "config/envoy_int.h"

#define FILE_LOG "envoy.extensions.access_loggers.file.v3.FileAccessLog"
#define STDOUT_LOG "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog"
#define STDERR_LOG "envoy.extensions.access_loggers.stream.v3.StderrAccessLog"

enum { FORMAT_MAX = 64 * 1024 };

struct format *envoy_format(struct reader *r, const struct doc *d, struct str *content_type)
{
	const struct doc *v;
	struct format *f = NULL;
	struct source text;
	if (content_type)
		*content_type = read_str(r, d, "content_type");
	if ((v = read_field(d, "text_format"))) {
		struct str s = read_str(r, v, NULL);
		f = s.p ? format_compile(r->arena, r->diags, v, s) : NULL;
	} else if ((v = read_field(d, "text_format_source"))) {
		f = read_source(r, v, NULL, FORMAT_MAX, &text)
			    ? format_compile(r->arena, r->diags, v, text.content)
			    : NULL;
	} else if ((v = read_field(d, "json_format"))) {
		f = v->kind == DOC_MAP ? format_compile_json(r->arena, r->diags, v) : NULL;
	} else {
		diag_add(r->diags, DIAG_ERROR, d, "needs text_format_source or json_format");
	}
	if (f)
		f->omit_empty = read_bool(r, d, "omit_empty_values", false);
	return f;
}

/* ---- conditions ---- */

/* False: reported. *value of "op value". */
static bool comparison(struct reader *r, const struct doc *d, int *op, uint64_t *value)
{
	static const char *const ops[] = {"EQ", "GE", "LE", "NE", NULL};
	const struct doc *c = read_field(d, "comparison");
	if (!c || !read_field(c, "value")) {
		diag_add(r->diags, DIAG_ERROR, d, "needs comparison with value");
		return false;
	}
	*op = read_enum(r, c, "op", ops, 0);
	*value = read_uint(r, read_field(c, "value"), "default_value", 0, 0, UINT32_MAX);
	return true;
}

static void status_filter(struct reader *r, const struct doc *d, struct access_log_cfg *log)
{
	int op;
	uint64_t v;
	if (!comparison(r, d, &op, &v))
		return;
	uint16_t n = v > 999 ? 999 : (uint16_t)v;
	if (op == 3) {
		diag_add(r->diags, DIAG_ERROR, d, "NE is not supported");
		diag_hint(r->diags, "write two access logs, with LE and GE");
	}
	if (op != 2 && n > log->status_min)
		log->status_min = n;
	if (op != 1 && (log->status_max == 0 || n < log->status_max))
		log->status_max = n ? n : 1; /* 0 would be: no limit; no status is below 100 */
}

static void duration_filter(struct reader *r, const struct doc *d, struct access_log_cfg *log)
{
	int op;
	uint64_t ms;
	if (!comparison(r, d, &op, &ms))
		return;
	if (op != 1) {
		diag_add(r->diags, DIAG_ERROR, d, "only GE is supported for durations");
		return;
	}
	if (ms * 1000 > log->duration_min_us)
		log->duration_min_us = ms * 1000;
}

static void header_filter(struct reader *r, const struct doc *d, struct access_log_cfg *log)
{
	const struct doc *h = read_field(d, "header");
	struct field_match *m = envoy_array(r, 1, sizeof *m);
	if (!h || !m || log->header) {
		if (m)
			diag_add(r->diags, DIAG_ERROR, d,
				 h ? "only one header can be asked for" : "header is missing");
		return;
	}
	if (read_field_match(r, h, m))
		log->header = m;
}

/* "UF,UT"; "*" for any. */
static void flags_filter(struct reader *r, const struct doc *d, struct access_log_cfg *log)
{
	static const char *const known[] = {"LH", "UH", "UT",  "LR",    "UR",   "UF",   "UC", "UO",
					    "NR", "DI", "FI",  "RL",    "UAEX", "RLSE", "DC", "URX",
					    "SI", "IH", "DPE", "UMSDR", "RFCF", "NFCF", "DT", "UPE",
					    "NC", "OM", "DF",  "DO",    "DR",   "UDO",  NULL};
	unsigned n;
	struct str *flags = read_strs(r, d, "flags", &n);
	size_t bytes = 1, at = 0;
	for (unsigned i = 0; i < n; i++) {
		const char *const *k = known;
		while (*k && !str_eq(flags[i], str_of(*k)))
			k++;
		if (!*k)
			diag_add(r->diags, DIAG_ERROR, read_field(d, "flags"),
				 "unknown response flag \"%.*s\"", STR_ARG(flags[i]));
		bytes += flags[i].n + 1;
	}
	if (log->response_flags.p) {
		diag_add(r->diags, DIAG_ERROR, d, "only one response_flag_filter can hold");
		return;
	}
	if (n == 0) {
		log->response_flags = STR("*");
		return;
	}
	char *p = arena_alloc(r->arena, bytes);
	if (!p) {
		envoy_no_memory(r, d);
		return;
	}
	for (unsigned i = 0; i < n; i++) {
		if (i)
			p[at++] = ',';
		memcpy(p + at, flags[i].p, flags[i].n);
		at += flags[i].n;
	}
	log->response_flags = (struct str){p, at};
}

void envoy_log_filter(struct reader *r, const struct doc *d, struct access_log_cfg *log)
{
	const struct doc *v;
	if ((v = read_field(d, "status_code_filter")))
		status_filter(r, v, log);
	else if ((v = read_field(d, "duration_filter")))
		duration_filter(r, v, log);
	else if (read_field(d, "not_health_check_filter"))
		log->not_health_check = true;
	else if ((v = read_field(d, "runtime_filter")))
		read_fraction(r, v, "percent_sampled", &log->runtime_fraction, &log->runtime_of);
	else if ((v = read_field(d, "header_filter")))
		header_filter(r, v, log);
	else if ((v = read_field(d, "response_flag_filter")))
		flags_filter(r, v, log);
	else if ((v = read_field(d, "and_filter")))
		/* Documents are at most 64 deep: so is this. */
		doc_each (f, envoy_list(v, "filters"))
			envoy_log_filter(r, f, log);
	/* The others are the schema's to refuse. */
}

/* ---- a log ---- */

/* FileAccessLog's own fields of old times, or log_format. */
static struct format *log_format(struct reader *r, const struct doc *d)
{
	const struct doc *v;
	if ((v = read_field(d, "log_format")))
		return envoy_format(r, v, NULL);
	if ((v = read_field(d, "json_format")) || (v = read_field(d, "typed_json_format")))
		return v->kind == DOC_MAP ? format_compile_json(r->arena, r->diags, v) : NULL;
	struct str s = read_str(r, d, "format");
	return format_compile(r->arena, r->diags, d, s.n ? s : str_of(format_default_line));
}

static bool read_log(struct reader *r, const struct doc *d, struct access_log_cfg *log)
{
	struct str type;
	const struct doc *any = read_field(d, "typed_config"), *filter = read_field(d, "filter");
	if (!any) {
		diag_add(r->diags, DIAG_ERROR, d, "typed_config is missing");
		return false;
	}
	const struct doc *body = read_any(r, any, &type);
	if (!type.p)
		return false;
	if (str_eq(type, STR(STDOUT_LOG))) {
		log->path = STR("/dev/stdout");
	} else if (str_eq(type, STR(STDERR_LOG))) {
		log->path = STR("/dev/stderr");
	} else if (str_eq(type, STR(FILE_LOG))) {
		log->path = read_str_needed(r, body, "path");
		if (log->path.p)
			log->path = read_path(r, log->path);
	} else {
		if (schema_find(type))
			diag_add(r->diags, DIAG_ERROR, any, "%.*s is no access log", STR_ARG(type));
		return false;
	}
	envoy_log_filter(r, filter, log);
	log->format = log_format(r, body);
	log->json = log->own_newline = log->format && log->format->kind == FORMAT_JSON;
	return log->path.p && log->format;
}

struct access_log_cfg *envoy_access_logs(struct reader *r, const struct doc *list, unsigned *n)
{
	struct access_log_cfg *logs = envoy_array(r, list ? list->n : 0, sizeof *logs);
	*n = 0;
	if (logs)
		doc_each (d, list)
			*n += read_log(r, d, &logs[*n]);
	return logs;
}
