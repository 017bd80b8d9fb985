/* src/model/regex.cc: the only place that sees RE2. Nothing thrown by the C++ library leaves it. */
#include "model/regex.h"
#include <cstdio>
#include <cstdlib>
#include <re2/re2.h>
#include <string>

struct regex {
	RE2 re;
	regex(struct str pattern, const RE2::Options &o)
	    : re(re2::StringPiece(pattern.p, pattern.n), o)
	{
	}
};

static re2::StringPiece piece(struct str s)
{
	return re2::StringPiece(s.p ? s.p : "", s.n);
}

/* As Envoy 1.40 does: bytes, not UTF-8 ('.' is one byte); '.' does not match a newline; nothing is printed. */
struct regex *regex_new(struct str pattern, char *err, size_t cap)
{
	try {
		RE2::Options o(RE2::Latin1);
		o.set_log_errors(false);
		struct regex *r = new regex(pattern.p ? pattern : STR(""), o);
		if (r->re.ok())
			return r;
		snprintf(err, cap, "%s", r->re.error().c_str());
		delete r;
	} catch (...) {
		snprintf(err, cap, "no memory for the regular expression");
	}
	return nullptr;
}

void regex_free(struct regex *r)
{
	delete r;
}

bool regex_full_match(const struct regex *r, struct str s)
{
	try {
		return RE2::FullMatchN(piece(s), r->re, nullptr, 0);
	} catch (...) {
		return false;
	}
}

bool regex_replace(const struct regex *r, struct str s, struct str rewrite, char **out, size_t *n)
{
	try {
		std::string text(s.p ? s.p : "", s.n);
		RE2::GlobalReplace(&text, r->re, piece(rewrite));
		*out = static_cast<char *>(malloc(text.size() ? text.size() : 1));
		if (!*out)
			return false;
		memcpy(*out, text.data(), text.size());
		*n = text.size();
		return true;
	} catch (...) {
		return false;
	}
}

bool regex_check_rewrite(const struct regex *r, struct str rewrite, char *err, size_t cap)
{
	try {
		std::string why;
		if (r->re.CheckRewriteString(piece(rewrite), &why))
			return true;
		snprintf(err, cap, "%s", why.c_str());
	} catch (...) {
		snprintf(err, cap, "no memory to check the rewrite");
	}
	return false;
}
