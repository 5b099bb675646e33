/* SPDX-License-Identifier: Apache-2.0
 *
 * upstate explain URL: the answer of /v1/explain, for a person.
 */
#include <string.h>

#include "cli/cli_priv.h"

/* "  host *.example.org, path /api: why" */
static void add_match(const json_t *m, const char *title, const char *why, struct buf *out)
{
	buf_adds(out, title);
	show_clean(out, field_text(m, "app"));
	buf_adds(out, ": host ");
	show_clean(out, field_text(m, "host"));
	buf_adds(out, ", path ");
	show_clean(out, field_text(m, "path"));
	buf_addf(out, " (%s)\n", why);
}

static void add_targets(const struct cli *c, const json_t *answer, struct buf *out)
{
	static const char *const heads[] = {"TARGET", "RELEASE", "STATE", "USE", "INSIDE", "REMARK", NULL};
	struct show_table t = {.heads = heads, .colour = c->colour};
	const json_t *list = json_object_get(answer, "targets"), *g;
	char text[SHOW_TEXT];
	size_t i;

	json_array_foreach (list, i, g) {
		const char *release = field_text(g, "release"), *reason = field_text(g, "reason");

		show_cell(&t, "%s", field_text(g, "name"));
		show_cell(&t, "%s", *release ? release : "-");
		show_cell(&t, "%s", field_text(g, "state"));
		show_cell(&t, "%s", field_text(g, "use"));
		show_cell(&t, "%s", show_count(field_count(g, "inside"), text));
		show_cell(&t, "%s%s%s", field_text(g, "remark"), *reason ? ": " : "", reason);
	}
	buf_addc(out, '\n');
	show_table_end(&t, out);
}

/* Pairs of texts, two words of an object each. */
static void add_pairs(const json_t *list, const char *title, const char *a, const char *b, struct buf *out)
{
	const json_t *o;
	size_t i;

	if (json_array_size(list))
		buf_addf(out, "\n%s\n", title);
	json_array_foreach (list, i, o) {
		buf_adds(out, "  ");
		show_clean(out, field_text(o, a));
		buf_adds(out, ": ");
		show_clean(out, field_text(o, b));
		buf_addc(out, '\n');
	}
}

static void show_explained(const struct cli *c, const json_t *answer, struct buf *out)
{
	const json_t *match = json_object_get(answer, "match"), *lost = json_object_get(answer, "lost"),
		     *unknown = json_object_get(answer, "unknown"), *o;
	uint64_t status = field_count(answer, "status");
	size_t i;

	show_clean(out, field_text(answer, "method"));
	buf_addc(out, ' ');
	show_clean(out, field_text(answer, "url"));
	buf_adds(out, "\n\n");
	if (match)
		add_match(match, "app   ", field_text(match, "why"), out);
	json_array_foreach (lost, i, o)
		add_match(o, "lost  ", field_text(o, "lost"), out);
	buf_adds(out, "now   ");
	if (status)
		buf_addf(out, "%llu: ", (unsigned long long)status);
	show_clean(out, field_text(answer, "text"));
	buf_addc(out, '\n');
	if (json_array_size(json_object_get(answer, "targets")))
		add_targets(c, answer, out);
	add_pairs(json_object_get(answer, "otherwise"), "if", "if", "then", out);
	add_pairs(json_object_get(answer, "headers"), "headers that are added", "name", "value", out);
	if (json_array_size(unknown))
		buf_adds(out, "\nnot known\n");
	json_array_foreach (unknown, i, o) {
		buf_adds(out, "  ");
		show_clean(out, json_string_value(o));
		buf_addc(out, '\n');
	}
	if (json_is_false(json_object_get(answer, "applied")))
		buf_adds(out, "\nThe router has not taken up the newest table yet: ask again.\n");
}

static void add_param(struct buf *path, const char *name, const char *value)
{
	buf_addf(path, "%c%s=", strchr(buf_str(path), '?') ? '&' : '?', name);
	api_escape(path, value);
}

int verb_explain(struct cli *c, struct err *e)
{
	CLEANUP_BUF struct buf path = {0};
	struct buf out = {0};
	json_t *answer;
	int rc;

	buf_adds(&path, "/v1/explain");
	add_param(&path, "url", c->args[0]);
	if (c->values[OPTION_METHOD])
		add_param(&path, "method", c->values[OPTION_METHOD]);
	if (c->values[OPTION_FROM])
		add_param(&path, "from", c->values[OPTION_FROM]);
	for (int i = 0; i < c->header_count; i++)
		add_param(&path, "header", c->headers[i]);
	rc = cli_get(c, buf_str(&path), &answer, e);
	if (rc < 0)
		return rc;
	rc = strcmp(field_text(answer, "verdict"), "refuse") == 0;
	if (c->values[OPTION_JSON]) {
		cli_print_json(answer);
		return rc;
	}
	show_explained(c, answer, &out);
	cli_print(&out);
	json_decref(answer);
	return rc;
}
