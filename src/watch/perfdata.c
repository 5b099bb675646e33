/* SPDX-License-Identifier: Apache-2.0
 *
 * What a monitoring plugin prints (Monitoring Plugins Development Guidelines, "Plugin Output for Nagios" and
 * "Performance data"):
 *
 *	TEXT | 'LABEL'=VALUE[UNIT];[WARN];[CRIT];[MIN];[MAX] LABEL=...
 *	more text
 *
 * The first line is for people; what is behind the '|' for programs. A quote within a quoted label is written twice.
 */
#include <ctype.h>
#include <math.h>
#include <string.h>
#include <strings.h>

#include "watch/watch_priv.h"

static double factor_of(const char *unit, size_t len, enum result_unit *ret)
{
	static const struct {
		const char *text;
		double factor;
		enum result_unit unit;
	} units[] = {{"s", 1000, RESULT_MS_UNIT},	  {"ms", 1, RESULT_MS_UNIT},
		     {"us", 0.001, RESULT_MS_UNIT},	  {"%", 1, RESULT_PERCENT_UNIT},
		     {"B", 1, RESULT_BYTES_UNIT},	  {"KB", 1024, RESULT_BYTES_UNIT},
		     {"MB", 1048576, RESULT_BYTES_UNIT},  {"GB", 1073741824, RESULT_BYTES_UNIT},
		     {"TB", 1099511627776, RESULT_BYTES_UNIT}};

	*ret = RESULT_NONE_UNIT;
	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		if (strlen(units[i].text) != len || strncasecmp(units[i].text, unit, len) != 0)
			continue;
		*ret = units[i].unit;
		return units[i].factor;
	}
	return 1;
}

/* Returns behind the label and its '=', or NULL. */
static const char *take_label(const char *p, struct perfdata *ret)
{
	bool quoted = *p == '\'';
	size_t n = 0;

	for (p += quoted; *p; p++) {
		if (quoted && *p == '\'') {
			if (p[1] != '\'')
				break;
			p++;
		} else if (!quoted && (*p == '=' || isspace((unsigned char)*p))) {
			break;
		}
		if (n + 1 < sizeof(ret->label))
			ret->label[n++] = *p;
	}
	ret->label[n] = '\0';
	if (quoted && *p++ != '\'')
		return NULL;
	return *p == '=' && n ? p + 1 : NULL;
}

bool perfdata_next(const char **at, struct perfdata *ret)
{
	for (;;) {
		const char *p = *at + strspn(*at, " \t\r\n"), *number;
		char *unit;

		if (!*p)
			return false;
		number = take_label(p, ret);
		*at = (number ? number : p) + strcspn(number ? number : p, " \t\r\n");
		/* "U": it is not known. And what strtod() would take beside decimal numbers. */
		if (!number || strspn(number, "+-") > 1 || strchr("nNiIuU", number[strspn(number, "+-")]) ||
		    strcspn(number, "xX") < strcspn(number, "; \t\r\n"))
			continue;
		ret->value = strtod(number, &unit);
		if (unit == number || !isfinite(ret->value))
			continue;
		ret->value *= factor_of(unit, strcspn(unit, "; \t\r\n"), &ret->unit);
		return true;
	}
}

char *plugin_split(char *output)
{
	char *end = output + strcspn(output, "\n"), *bar = memchr(output, '|', (size_t)(end - output));
	char *perf = bar ? bar + 1 : end;

	if (*end)
		*end = '\0';
	if (bar)
		*bar = '\0';
	return perf;
}

void plugin_strip_tags(char *text)
{
	char *to = text;

	for (const char *p = text; *p;) {
		const char *end = *p == '<' && (isalpha((unsigned char)p[1]) || p[1] == '/' || p[1] == '!') ? strchr(p, '>')
													     : NULL;

		if (end)
			p = end + 1;
		else
			*to++ = *p++;
	}
	while (to > text && isspace((unsigned char)to[-1]))
		to--;
	*to = '\0';
}
