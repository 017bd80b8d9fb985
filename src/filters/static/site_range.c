/* src/filters/static/site_range.c: conditional requests and ranges (RFC 9110 13, 14). */
#include "filters/static/site.h"

/* Takes one entity tag off a list. False: the list is over or broken. */
static bool next_tag(struct str *list, bool *weak, struct str *tag)
{
	while (list->n && (list->p[0] == ' ' || list->p[0] == '\t' || list->p[0] == ','))
		*list = str_from(*list, 1);
	*weak = str_starts(*list, STR("W/"));
	if (*weak)
		*list = str_from(*list, 2);
	if (list->n < 2 || list->p[0] != '"')
		return false;
	const char *end = memchr(list->p + 1, '"', list->n - 1);
	if (!end)
		return false;
	*tag = (struct str){list->p, (size_t)(end - list->p) + 1};
	*list = str_from(*list, tag->n);
	return true;
}

/* RFC 9110 8.8.3.2; our own tag is always strong. */
static bool lists(struct str list, struct str etag, bool strongly)
{
	bool weak;
	struct str tag;
	if (str_eq(str_trim(list), STR("*")))
		return true;
	while (next_tag(&list, &weak, &tag))
		if (str_eq(tag, etag) && !(weak && strongly))
			return true;
	return false;
}

enum site_verdict site_evaluate(const struct site_conditions *c, const struct site_validators *v)
{
	int64_t date;
	if (c->if_match.p) {
		if (!lists(c->if_match, v->etag, true))
			return SITE_FAILED;
	} else if (c->if_unmodified_since.p &&
		   site_date_read(str_trim(c->if_unmodified_since), v->now, &date)) {
		if (v->modified > date)
			return SITE_FAILED;
	}
	if (c->if_none_match.p)
		return lists(c->if_none_match, v->etag, false) ? SITE_NOT_MODIFIED : SITE_SEND;
	if (c->if_modified_since.p &&
	    site_date_read(str_trim(c->if_modified_since), v->now, &date) && v->modified <= date)
		return SITE_NOT_MODIFIED;
	return SITE_SEND;
}

bool site_range_holds(const struct site_conditions *c, const struct site_validators *v)
{
	struct str s = str_trim(c->if_range), tag;
	bool weak;
	int64_t date;
	if (!c->if_range.p)
		return true;
	if (s.n && (s.p[0] == '"' || str_starts(s, STR("W/"))))
		return next_tag(&s, &weak, &tag) && !weak && s.n == 0 && str_eq(tag, v->etag);
	/* A date must be the very one, and a strong validator (8.8.2.2): older than the answer by a
	 * second or more. */
	return site_date_read(s, v->now, &date) && date == v->modified && v->modified < v->now;
}

/* Digits off the front. False: none. Too large a number is as good as the largest. */
static bool number(struct str *s, uint64_t *out)
{
	size_t n = 0;
	*out = 0;
	while (n < s->n && s->p[n] >= '0' && s->p[n] <= '9') {
		unsigned d = (unsigned)(s->p[n++] - '0');
		*out = *out > (UINT64_MAX - d) / 10 ? UINT64_MAX : *out * 10 + d;
	}
	*s = str_from(*s, n);
	return n != 0;
}

/* One range-spec. False: bad syntax. *some: it is satisfiable. */
static bool one_range(struct str s, uint64_t size, struct site_range *r, bool *some)
{
	uint64_t first, last;
	s = str_trim(s);
	if (s.n && s.p[0] == '-') {
		s = str_from(s, 1);
		if (!number(&s, &last) || s.n)
			return false;
		*some = last > 0 && size > 0;
		*r = (struct site_range){last < size ? size - last : 0, size};
		return true;
	}
	if (!number(&s, &first) || s.n == 0 || s.p[0] != '-')
		return false;
	s = str_from(s, 1);
	last = UINT64_MAX;
	if (s.n && (!number(&s, &last) || s.n || last < first))
		return false;
	*some = first < size;
	*r = (struct site_range){first, last < size ? last + 1 : size};
	return true;
}

int site_ranges(struct str value, uint64_t size, struct site_range *out)
{
	struct str unit, list, one;
	unsigned n = 0, asked = 0;
	uint64_t sum = 0;
	if (!str_cut(value, '=', &unit, &list) || !str_ieq(str_trim(unit), STR("bytes")))
		return 0;
	while (list.n) {
		struct site_range r;
		bool some;
		str_cut(list, ',', &one, &list);
		if (str_trim(one).n == 0)
			continue; /* RFC 9110 5.6.1.2 */
		if (!one_range(one, size, &r, &some) || ++asked > SITE_RANGES)
			return 0;
		if (!some)
			continue;
		out[n++] = r;
		sum += r.to - r.from;
	}
	if (!asked)
		return 0;
	/* overlapping ranges must not make an answer larger than the file (14.2) */
	if (n > 1 && sum >= size)
		return 0;
	return n ? (int)n : -1;
}
