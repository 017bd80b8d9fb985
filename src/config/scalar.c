/* src/config/scalar.c */
#include "config/scalar_int.h"
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* A JSON number (RFC 8259 6); strtod alone takes blanks, hexadecimal, "nan" and the locale's
 * point. */
static bool number_of(struct str s, double *out)
{
	char z[64];
	size_t i = s.n && s.p[0] == '-';
	bool dot = false, exp = false, digit = false;
	if (s.n == 0 || s.n >= sizeof z)
		return false;
	for (; i < s.n; i++) {
		char c = s.p[i];
		if (isdigit((unsigned char)c)) {
			digit = true;
		} else if (c == '.' && !dot && !exp && digit) {
			dot = true;
			digit = false;
		} else if ((c == 'e' || c == 'E') && digit && !exp) {
			exp = true;
			digit = false;
			if (i + 1 < s.n && (s.p[i + 1] == '+' || s.p[i + 1] == '-'))
				i++;
		} else {
			return false;
		}
	}
	if (!digit)
		return false;
	memcpy(z, s.p, s.n);
	z[s.n] = 0;
	*out = strtod(z, NULL);
	return true;
}

bool scalar_double(const struct doc *d, double *out)
{
	if (d->kind == DOC_NUMBER) {
		*out = d->number;
		return true;
	}
	if (d->kind != DOC_STRING)
		return false;
	if (str_eq(d->text, STR("NaN")))
		*out = (double)NAN;
	else if (str_eq(d->text, STR("Infinity")))
		*out = (double)INFINITY;
	else if (str_eq(d->text, STR("-Infinity")))
		*out = -(double)INFINITY;
	else
		return number_of(d->text, out);
	return true;
}

bool scalar_u64(const struct doc *d, uint64_t *out)
{
	double v;
	if (d->kind == DOC_NUMBER && d->is_int) {
		*out = (uint64_t)d->integer;
		return d->integer >= 0;
	}
	if (d->kind != DOC_NUMBER && d->kind != DOC_STRING)
		return false;
	if (str_u64(d->text, out))
		return true;
	/* 1e3 and 5.0 are whole numbers too. */
	if (!scalar_double(d, &v) || !(v >= 0 && v < 18446744073709551616.0) || v != floor(v))
		return false;
	*out = (uint64_t)v;
	return true;
}

bool scalar_i64(const struct doc *d, int64_t *out)
{
	uint64_t u;
	double v;
	struct str s = d->text;
	if (d->kind == DOC_NUMBER && d->is_int) {
		*out = d->integer;
		return true;
	}
	if (d->kind != DOC_NUMBER && d->kind != DOC_STRING)
		return false;
	bool minus = s.n && s.p[0] == '-';
	if (str_u64(str_from(s, minus), &u)) {
		if (u > (uint64_t)INT64_MAX + minus)
			return false;
		*out = minus ? (int64_t)(0 - u) : (int64_t)u;
		return true;
	}
	if (!scalar_double(d, &v) || !(v >= -9223372036854775808.0 && v < 9223372036854775808.0) ||
	    v != floor(v))
		return false;
	*out = (int64_t)v;
	return true;
}

/* "300ms", "1m30s", "2h" and a bare "5" are what people write; the hint is the same in seconds. */
static void hint_duration(struct str s, char hint[24])
{
	double total = 0;
	while (s.n) {
		size_t n = 0;
		double v, unit;
		while (n < s.n && (isdigit((unsigned char)s.p[n]) || s.p[n] == '.'))
			n++;
		if (!number_of((struct str){s.p, n}, &v))
			return;
		s = str_from(str_trim(str_from(s, n)), 0);
		for (n = 0; n < s.n && isalpha((unsigned char)s.p[n]);)
			n++;
		struct str word = {s.p, n};
		if (str_eq(word, STR("ms")))
			unit = 0.001;
		else if (str_eq(word, STR("us")))
			unit = 0.000001;
		else if (str_eq(word, STR("m")) || str_eq(word, STR("min")))
			unit = 60;
		else if (str_eq(word, STR("h")))
			unit = 3600;
		else if (str_eq(word, STR("d")))
			unit = 86400;
		else if (n == 0 || str_eq(word, STR("s")) || str_eq(word, STR("sec")))
			unit = 1;
		else
			return;
		total += v * unit;
		s = str_trim(str_from(s, n));
	}
	if (total >= 0.000001 && total < 1e9) {
		int n = snprintf(hint, 22, "%.6f", total);
		while (n > 0 && hint[n - 1] == '0')
			n--;
		if (n > 0 && hint[n - 1] == '.')
			n--;
		memcpy(hint + n, "s", 2);
	}
}

bool scalar_duration(struct str s, int64_t *us, char hint[24])
{
	bool minus = s.n && s.p[0] == '-';
	struct str t = str_from(s, minus), whole, part;
	uint64_t sec = 0, nano = 0;
	hint[0] = 0;
	if (t.n < 2 || t.p[t.n - 1] != 's')
		goto bad;
	t.n--;
	bool dot = str_cut(t, '.', &whole, &part);
	if (!str_u64(whole, &sec) || (dot && (part.n == 0 || part.n > 9 || !str_u64(part, &nano))))
		goto bad;
	for (size_t i = part.n; i < 9; i++)
		nano *= 10;
	if (sec > SCALAR_DURATION_MAX_S || (sec == SCALAR_DURATION_MAX_S && nano))
		return false;
	*us = (int64_t)(sec * 1000000 + (nano + 999) / 1000);
	if (minus)
		*us = -*us;
	return true;
bad:
	hint_duration(str_trim(s), hint);
	return false;
}

static int base64_digit(unsigned char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '+' || c == '-')
		return 62;
	return c == '/' || c == '_' ? 63 : -1;
}

bool scalar_base64(struct str in, char *out, size_t *n)
{
	size_t len = in.n, at = 0;
	uint32_t bits = 0;
	unsigned have = 0;
	if (len % 4 == 0)
		for (int i = 0; i < 2 && len && in.p[len - 1] == '='; i++)
			len--;
	if (len % 4 == 1)
		return false;
	for (size_t i = 0; i < len; i++) {
		int v = base64_digit((unsigned char)in.p[i]);
		if (v < 0)
			return false;
		bits = bits << 6 | (uint32_t)v;
		have += 6;
		if (have >= 8) {
			have -= 8;
			if (out)
				out[at] = (char)(bits >> have & 0xff);
			at++;
		}
	}
	*n = at;
	return true;
}

const char *scalar_what(const struct doc *d)
{
	static const char *const names[] = {"null",     "true or false", "a number",
					    "a string", "a list",        "a map"};
	return names[d->kind];
}

void scalar_camel(const char *snake, char *out, size_t cap)
{
	size_t n = 0;
	bool raise = false;
	for (; *snake && n + 1 < cap; snake++) {
		if (*snake == '_') {
			raise = true;
			continue;
		}
		out[n++] = raise ? (char)toupper((unsigned char)*snake) : *snake;
		raise = false;
	}
	out[n] = 0;
}

bool scalar_number(struct doc *d)
{
	double v;
	uint64_t u;
	bool minus = d->text.n && d->text.p[0] == '-';
	if (!number_of(d->text, &v))
		return false;
	d->kind = DOC_NUMBER;
	d->number = v;
	if (str_u64(str_from(d->text, minus), &u)) {
		d->is_int = u <= (uint64_t)INT64_MAX + minus;
		if (d->is_int)
			d->integer = minus ? (int64_t)(0 - u) : (int64_t)u;
	} else if (v == floor(v) && fabs(v) < 9007199254740992.0) {
		d->is_int = true;
		d->integer = (int64_t)v;
	}
	return true;
}
