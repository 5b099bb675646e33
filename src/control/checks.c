/* SPDX-License-Identifier: Apache-2.0
 *
 * The list of checks for the watcher, out of the configuration in force: JSON in a sealed memory file, which the keeper holds for
 * watchers to come. It may have secrets in it (fields of requests); so it is nowhere else.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/log.h"
#include "conf/schema.h"
#include "control/control_priv.h"

/* "NAME\0VALUE" */
static json_t *fields_json(const struct conf_text_list *l)
{
	json_t *o = json_object();

	for (uint32_t i = 0; i < l->len; i++)
		json_object_set_new(o, l->items[i], json_string(l->items[i] + strlen(l->items[i]) + 1));
	return o;
}

static json_t *value_json(const struct schema_row *row, const struct conf_check *c)
{
	const void *field = (const char *)c + row->offset;

	switch (row->type) {
	case SCHEMA_TEXT:
		return *(char *const *)field ? json_string(*(char *const *)field) : NULL;
	case SCHEMA_WORD:
		return json_string(row->words[*(const int *)field]);
	case SCHEMA_BOOL:
		return json_boolean(*(const bool *)field);
	case SCHEMA_FIELDS:
		return ((const struct conf_text_list *)field)->len ? fields_json(field) : NULL;
	default:
		return json_integer(*(const uint32_t *)field);
	}
}

/* All keys that its kind has, as the schema says. */
static json_t *check_json(const struct conf_check *c)
{
	json_t *o = json_object(), *value;
	char id[20];

	snprintf(id, sizeof(id), "%016llx", (unsigned long long)c->id);
	json_object_set_new(o, "id", json_string(id));
	json_object_set_new(o, "kind", json_string(conf_check_name(c->kind)));
	json_object_set_new(o, "what", json_string(c->what));
	for (size_t i = 0; i < schema_len; i++) {
		const struct schema_row *row = &schema_rows[i];

		if (row->owner != SCHEMA_CHECK || (row->kinds && !(row->kinds & 1u << c->kind)) ||
		    conf_check_kind(row->path) != CONF_CHECK_COUNT)
			continue;
		value = value_json(row, c);
		if (value)
			json_object_set_new(o, row->path, value);
	}
	return o;
}

static int seal(json_t *list, struct err *e)
{
	CLEANUP_FD int fd = memfd_create("upstate-checks", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || json_dumpfd(list, fd, JSON_COMPACT) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
		return err_sys(e, "making the list of checks");
	return TAKE_FD(fd);
}

void control_checks_send(struct control *c)
{
	CLEANUP(json_decrefp) json_t *list = json_array();
	struct msg_checks m = {clock_wall_ms()};
	CLEANUP_FD int fd = -1;
	struct err e;

	for (uint32_t i = 0; i < c->conf->device_count; i++)
		for (uint32_t k = 0; k < c->conf->devices[i].check_count; k++)
			if (c->conf->devices[i].checks[k].kind != CONF_CHECK_PUSH)
				json_array_append_new(list, check_json(&c->conf->devices[i].checks[k]));
	fd = seal(list, &e);
	if (fd < 0)
		log_error("checks", "reason=\"%s\"", e.msg);
	else
		msg_send(&c->keeper, MSG_CHECKS, &m, NULL, 0, &fd, 1);
}
