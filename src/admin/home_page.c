/* src/admin/home_page.c: the page at /. */
#include "admin/admin_int.h"

/* No script, no style from elsewhere: it works offline. What changes state is a form, as only POST
 * does. */
#define PAGE_LINK(path, what) "<tr><td><a href='" path "'>" path "</a><td>" what "\n"
#define PAGE_FORM(path, what)                                                                     \
	"<tr><td><form method='post' action='" path "'><button>" path "</button></form><td>" what \
	"\n"

/* clang-format off: one row a line */
#define ROWS                                                            \
	PAGE_LINK("certs", "certificates in use")                       \
	PAGE_LINK("clusters", "origins and what they do")               \
	PAGE_LINK("config_dump", "the configuration as it was loaded")  \
	PAGE_FORM("drain_listeners", "stop accepting connections")      \
	PAGE_FORM("healthcheck/fail", "/ready says no")                 \
	PAGE_FORM("healthcheck/ok", "/ready says yes again")            \
	PAGE_LINK("help", "all paths")                                  \
	PAGE_LINK("listeners", "addresses listened on")                 \
	PAGE_LINK("logging", "log levels")                              \
	PAGE_LINK("memory", "memory in use")                            \
	PAGE_FORM("quitquitquit", "end the process")                    \
	PAGE_LINK("ready", "LIVE, or why not")                          \
	PAGE_FORM("reload", "read the configuration again")             \
	PAGE_FORM("reopen_logs", "open log files anew, after rotation") \
	PAGE_FORM("reset_counters", "counters back to zero")            \
	PAGE_LINK("runtime", "postern's own options")                   \
	PAGE_LINK("server_info", "version, state, options")             \
	PAGE_LINK("stats", "statistics")                                \
	PAGE_LINK("stats/prometheus", "statistics for Prometheus")
/* clang-format on */

void home_page(struct page *p)
{
	page_add(p, STR("<!doctype html>\n<html lang='en'><meta charset='utf-8'>"
			"<title>postern admin</title>\n"
			"<style>body{font-family:sans-serif;margin:2em}"
			"td{padding:.2em 1em .2em 0}form{margin:0}</style>\n"
			"<h1>postern</h1>\n<table>\n" ROWS "</table>\n"));
}
