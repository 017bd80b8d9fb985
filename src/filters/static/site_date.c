/* src/filters/static/site_date.c: HTTP dates (RFC 9110 5.6.7). */
#include "filters/static/site.h"
#include <stdio.h>
#include <time.h>

static const char days[][10] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
				"Thursday", "Friday", "Saturday"};
static const char months[][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
				 "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

void site_date(int64_t seconds, char *out)
{
	char b[64];
	time_t t = (time_t)seconds;
	struct tm tm;
	if (!gmtime_r(&t, &tm) || tm.tm_year < -1900 || tm.tm_year > 8099) {
		t = 0;
		gmtime_r(&t, &tm);
	}
	snprintf(b, sizeof b, "%.3s, %02d %s %04d %02d:%02d:%02d GMT", days[tm.tm_wday], tm.tm_mday,
		 months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
	memcpy(out, b, SITE_DATE);
}

static bool word(struct str *s, struct str w)
{
	if (!str_starts(*s, w))
		return false;
	*s = str_from(*s, w.n);
	return true;
}

static bool digits(struct str *s, size_t n, int *out)
{
	*out = 0;
	if (s->n < n)
		return false;
	for (size_t i = 0; i < n; i++) {
		if (s->p[i] < '0' || s->p[i] > '9')
			return false;
		*out = *out * 10 + (s->p[i] - '0');
	}
	*s = str_from(*s, n);
	return true;
}

static bool month(struct str *s, int *out)
{
	for (*out = 0; *out < 12; ++*out)
		if (word(s, str_of(months[*out])))
			return true;
	return false;
}

static bool clock_time(struct str *s, struct tm *tm)
{
	return digits(s, 2, &tm->tm_hour) && word(s, STR(":")) && digits(s, 2, &tm->tm_min) &&
	       word(s, STR(":")) && digits(s, 2, &tm->tm_sec);
}

/* The longest day name s begins with is dropped. */
static bool day_name(struct str *s, bool *whole)
{
	for (int i = 0; i < 7; i++) {
		if (word(s, str_of(days[i]))) {
			*whole = true;
			return true;
		}
	}
	for (int i = 0; i < 7; i++) {
		if (word(s, (struct str){days[i], 3})) {
			*whole = false;
			return true;
		}
	}
	return false;
}

bool site_date_read(struct str s, int64_t now, int64_t *seconds)
{
	struct tm tm = {0};
	bool whole = false;
	int year;
	if (!day_name(&s, &whole))
		return false;
	if (whole) { /* RFC 850: Sunday, 06-Nov-94 08:49:37 GMT */
		if (!word(&s, STR(", ")) || !digits(&s, 2, &tm.tm_mday) || !word(&s, STR("-")) ||
		    !month(&s, &tm.tm_mon) || !word(&s, STR("-")) || !digits(&s, 2, &year) ||
		    !word(&s, STR(" ")) || !clock_time(&s, &tm) || !word(&s, STR(" GMT")))
			return false;
		time_t t = (time_t)now;
		struct tm here;
		gmtime_r(&t, &here);
		year += (here.tm_year + 1900) / 100 * 100;
		if (year > here.tm_year + 1900 + 50) /* more than 50 years ahead means the past */
			year -= 100;
	} else if (word(&s, STR(", "))) { /* Sun, 06 Nov 1994 08:49:37 GMT */
		if (!digits(&s, 2, &tm.tm_mday) || !word(&s, STR(" ")) || !month(&s, &tm.tm_mon) ||
		    !word(&s, STR(" ")) || !digits(&s, 4, &year) || !word(&s, STR(" ")) ||
		    !clock_time(&s, &tm) || !word(&s, STR(" GMT")))
			return false;
	} else { /* asctime: Sun Nov  6 08:49:37 1994 */
		if (!word(&s, STR(" ")) || !month(&s, &tm.tm_mon) || !word(&s, STR(" ")))
			return false;
		if (!(word(&s, STR(" ")) ? digits(&s, 1, &tm.tm_mday) : digits(&s, 2, &tm.tm_mday)))
			return false;
		if (!word(&s, STR(" ")) || !clock_time(&s, &tm) || !word(&s, STR(" ")) ||
		    !digits(&s, 4, &year))
			return false;
	}
	if (s.n || tm.tm_mday < 1 || tm.tm_mday > 31 || tm.tm_hour > 23 || tm.tm_min > 59 ||
	    tm.tm_sec > 60)
		return false;
	tm.tm_year = year - 1900;
	*seconds = (int64_t)timegm(&tm);
	return true;
}
