/* SPDX-License-Identifier: Apache-2.0
 *
 * One certificate that is got by itself: what is wanted, what is remembered of its tries, when the next is due, and
 * how it stands. What is remembered lies in the state under acme/APP, as long as there is a failure to remember.
 */
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "control/acme_priv.h"

/* --- what is remembered --- */

static void remember_key(const struct control_auto *a, char ret[SHIP_NAME + 8])
{
	snprintf(ret, SHIP_NAME + 8, "acme/%s", a->app);
}

void acme_remember(struct control *c, const struct control_auto *a, const char *reason)
{
	CLEANUP(json_decrefp) json_t *failed = json_array();
	CLEANUP(json_decrefp) json_t *value = NULL;
	char key[SHIP_NAME + 8];
	bool any = false;
	struct err e;

	for (int i = 0; i < RENEW_FAILURES; i++) {
		any |= a->renew.failed_ms[i] != 0;
		json_array_append_new(failed, json_integer((json_int_t)a->renew.failed_ms[i]));
	}
	value = json_pack("{s:I, s:O, s:s}", "failures", (json_int_t)a->renew.failures, "failed", failed, "reason",
			  reason);
	remember_key(a, key);
	if (state_put(c->state, key, any || a->renew.failures ? value : NULL, &e) < 0)
		log_warn("acme", "app=%s reason=\"%s\"", a->app, e.msg);
}

static void recall(struct control *c, struct control_auto *a)
{
	CLEANUP(json_decrefp) json_t *value = NULL;
	const char *reason;
	char key[SHIP_NAME + 8];
	struct err e;

	remember_key(a, key);
	if (state_get(c->state, key, &value, &e) < 0 || !value)
		return;
	a->renew.failures = (uint32_t)json_integer_value(json_object_get(value, "failures"));
	for (size_t i = 0; i < RENEW_FAILURES; i++)
		a->renew.failed_ms[i] =
			(uint64_t)json_integer_value(json_array_get(json_object_get(value, "failed"), i));
	reason = json_string_value(json_object_get(value, "reason"));
	util_text(a->reason, sizeof(a->reason), reason ? reason : "");
}

struct control_auto *control_auto_new(struct control *c, const struct conf_auto *conf)
{
	struct control_auto *a = util_alloc(sizeof(*a));

	util_copy(a->app, sizeof(a->app), conf->app->name);
	a->names = json_array();
	for (uint32_t i = 0; i < conf->names.len; i++)
		json_array_append_new(a->names, json_string(conf->names.items[i]));
	recall(c, a);
	a->asked = c->conf != NULL; /* a person changed something: perhaps what was in the way */
	return a;
}

void control_auto_free(struct control_auto *a)
{
	if (a)
		json_decref(a->names);
	free(a);
}

static struct renew_cert cert_of(const struct control_cert *row)
{
	/* One without a file is borrowed from another app, and gone after a restart. */
	bool fits = row->seen[0].ino && acme_has_names(row->names, row->automatic->names);

	return (struct renew_cert){row->from_ms, row->until_ms, fits};
}

/* Any bits, the same for each try: by its names, since many machines may have an app 'web'. */
static uint32_t dice(const struct control_auto *a)
{
	const char *name = json_string_value(json_array_get(a->names, 0));
	uint64_t hash = map_hash(name, strlen(name));

	hash = map_hash_more(hash, &a->renew.failures, sizeof(a->renew.failures));
	return (uint32_t)(hash ^ hash >> 32);
}

uint64_t acme_due(const struct control_cert *row, uint64_t now)
{
	const struct control_auto *a = row->automatic;
	struct renew_cert cert = cert_of(row);

	return renew_due(&a->renew, &cert, a->asked, dice(a), now);
}

/* --- telling --- */

const char *control_acme_status(struct control *c, const struct control_cert *row, char reason[500])
{
	static const char *const words[] = {
#define X(name, text) text,
		RENEW_STATUS_TABLE(X)
#undef X
	};
	const struct control_auto *a = row->automatic;
	struct renew_cert cert = cert_of(row);
	struct renew renew = a->renew;
	uint64_t now = clock_wall_ms();
	bool runs = strcmp(c->acme.app, a->app) == 0;
	char when[CLOCK_TEXT];
	int n;

	clock_text(row->until_ms, when);
	if (runs && renew.failures) /* it counts as failed already */
		renew.failures--;
	renew.failures += row->problem[0] != '\0';
	if (!cert.until_ms)
		n = snprintf(reason, 500, "there is no certificate yet");
	else if (cert.until_ms <= now)
		n = snprintf(reason, 500, "it expired %s", when);
	else
		n = snprintf(reason, 500, "valid until %s%s", when, cert.fits ? "" : ", but it lacks hosts or is another app's");
	if (row->problem[0])
		snprintf(reason + n, 500 - (size_t)n, "; its file cannot be used: %s", row->problem);
	else if (renew.failures)
		snprintf(reason + n, 500 - (size_t)n, "; getting a new one failed: %s", a->reason);
	else if (!cert.until_ms)
		snprintf(reason + n, 500 - (size_t)n, "; it is being asked for");
	return words[renew_status(&renew, &cert, now)];
}

json_t *control_acme_json(const struct control_cert *row)
{
	uint64_t due = acme_due(row, clock_wall_ms());
	char next[CLOCK_TEXT];

	return json_pack("{s:s, s:i, s:s}", "app", row->automatic->app, "failures", (int)row->automatic->renew.failures,
			 "next", clock_text(MAX(due, clock_wall_ms()), next));
}
