/* SPDX-License-Identifier: Apache-2.0
 *
 * The order of the devices: parents before children (Kahn, 1962), so that one pass from the first to the last
 * sees of each device all that it needs.
 */
#include "core/device_priv.h"

#include <string.h>

static size_t words(uint32_t count)
{
	return (count + 63) / 64;
}

/* Everything 8-aligned: rounded up to whole words of 8 bytes. */
static void *take(char **at, size_t bytes)
{
	char *p = *at;

	*at += (bytes + 7) / 8 * 8;
	return p;
}

static size_t lay_out(struct device_graph *g, char *memory)
{
	char *at = memory;
	size_t n = g->count;

	g->devices = take(&at, n * sizeof(*g->devices));
	g->needs_at = take(&at, (n + 1) * sizeof(*g->needs_at));
	g->children_at = take(&at, (n + 1) * sizeof(*g->children_at));
	g->needs = take(&at, g->need_count * sizeof(*g->needs));
	g->children = take(&at, g->need_count * sizeof(*g->children));
	g->rank_of = take(&at, n * sizeof(*g->rank_of));
	g->index_of = take(&at, n * sizeof(*g->index_of));
	g->dirty = take(&at, words(g->count) * 8);
	g->marks = take(&at, words(g->count) * 8);
	return (size_t)(at - memory);
}

size_t device_graph_size(uint32_t count, uint32_t needs)
{
	static char nothing[8];
	struct device_graph g = {.count = count, .need_count = needs};

	return lay_out(&g, nothing);
}

/* Who needs whom, by index. */
static void find_children(struct device_graph *g, const struct device_in *in)
{
	memset(g->children_at, 0, (g->count + 1) * sizeof(*g->children_at));
	for (uint32_t i = 0; i < g->count; i++)
		for (uint32_t k = 0; k < in[i].need_count; k++)
			g->children_at[in[i].needs[k].device + 1]++;
	for (uint32_t i = 0; i < g->count; i++)
		g->children_at[i + 1] += g->children_at[i];
	memcpy(g->rank_of, g->children_at, g->count * sizeof(*g->rank_of)); /* where the next one goes */
	for (uint32_t i = 0; i < g->count; i++)
		for (uint32_t k = 0; k < in[i].need_count; k++)
			g->children[g->rank_of[in[i].needs[k].device]++] = i;
}

/* Fills index_of; returns how many could be ordered. In rank_of stays how many needs of each are left. */
static uint32_t order(struct device_graph *g, const struct device_in *in)
{
	uint32_t *left = g->rank_of, done = 0, len = 0;

	for (uint32_t i = 0; i < g->count; i++) {
		left[i] = in[i].need_count;
		if (!left[i])
			g->index_of[len++] = i;
	}
	for (; done < len; done++) {
		uint32_t p = g->index_of[done];

		for (uint32_t k = g->children_at[p]; k < g->children_at[p + 1]; k++)
			if (--left[g->children[k]] == 0)
				g->index_of[len++] = g->children[k];
	}
	return len;
}

static uint32_t next_of_circle(const uint32_t *left, const struct device_in *d)
{
	uint32_t k = 0;

	while (!left[d->needs[k].device])
		k++;
	return d->needs[k].device;
}

/* Each that is left needs one that is left; so after as many steps as there are devices one goes round. */
static uint32_t name_circle(const struct device_graph *g, const struct device_in *in,
			    uint32_t ret[DEVICE_CIRCLE_MAX])
{
	const uint32_t *left = g->rank_of;
	uint32_t at = 0, first, n = 0;

	while (!left[at])
		at++;
	for (uint32_t i = 0; i < g->count; i++)
		at = next_of_circle(left, &in[at]);
	first = at;
	do {
		if (n < DEVICE_CIRCLE_MAX)
			ret[n] = at;
		n++;
		at = next_of_circle(left, &in[at]);
	} while (at != first);
	return n;
}

/* From indices to ranks. */
static void rank(struct device_graph *g, const struct device_in *in)
{
	uint32_t n = 0, kids = 0;

	for (uint32_t r = 0; r < g->count; r++)
		g->rank_of[g->index_of[r]] = r;
	for (uint32_t r = 0; r < g->count; r++) {
		const struct device_in *d = &in[g->index_of[r]];

		g->needs_at[r] = n;
		for (uint32_t k = 0; k < d->need_count; k++)
			g->needs[n++] = (struct device_need){g->rank_of[d->needs[k].device], d->needs[k].group};
	}
	g->needs_at[g->count] = n;
	/* The children again: counted, then each behind the one before. */
	memset(g->children_at, 0, (g->count + 1) * sizeof(*g->children_at));
	for (uint32_t k = 0; k < n; k++)
		g->children_at[g->needs[k].device]++;
	for (uint32_t r = 0; r <= g->count; r++) {
		kids += g->children_at[r];
		g->children_at[r] = kids;
	}
	for (uint32_t r = g->count; r-- > 0;)
		for (uint32_t k = g->needs_at[r + 1]; k-- > g->needs_at[r];)
			g->children[--g->children_at[g->needs[k].device]] = r;
}

uint32_t device_graph_init(struct device_graph *g, void *memory, const struct device_in *in, uint32_t count,
			   const struct device_rule *rule, uint32_t ret_circle[DEVICE_CIRCLE_MAX])
{
	*g = (struct device_graph){.rule = *rule, .count = count, .held = DEVICE_NONE};
	ensure(count <= DEVICES_MAX);
	for (uint32_t i = 0; i < count; i++) {
		ensure(in[i].need_count <= DEVICE_NEEDS_MAX);
		g->need_count += in[i].need_count;
		for (uint32_t k = 0; k < in[i].need_count; k++)
			ensure(in[i].needs[k].device < count);
	}
	memset(memory, 0, lay_out(g, memory));
	find_children(g, in);
	if (order(g, in) < count)
		return name_circle(g, in, ret_circle);
	rank(g, in);
	for (uint32_t r = 0; r < count; r++) {
		g->devices[r] = (struct device){
		    .own = STATUS_UNKNOWN, .status = STATUS_UNKNOWN, .place = DEVICE_OPEN, .cause = DEVICE_NONE,
		    .root = DEVICE_NONE, .told = {DEVICE_NONE, STATUS_UNKNOWN, DEVICE_OPEN, false, false}};
		device_mark(g->dirty, r);
	}
	return 0;
}

/* Marks all that those which are marked need. */
static void mark_needed(struct device_graph *g)
{
	for (uint32_t r = g->count; r-- > 0;)
		if (device_is_marked(g->marks, r))
			for (uint32_t k = g->needs_at[r]; k < g->needs_at[r + 1]; k++)
				device_mark(g->marks, g->needs[k].device);
}

uint32_t device_tree(struct device_graph *g, const uint32_t *roots, uint32_t n, uint32_t *ret, uint32_t max)
{
	uint32_t found = 0;

	memset(g->marks, 0, words(g->count) * 8);
	for (uint32_t i = 0; i < n; i++)
		device_mark(g->marks, g->rank_of[roots[i]]);
	mark_needed(g);
	for (uint32_t r = 0; r < g->count; r++) {
		if (!device_is_marked(g->marks, r))
			continue;
		if (found < max)
			ret[found] = g->index_of[r];
		found++;
	}
	return found;
}

bool device_leads_to(struct device_graph *g, uint32_t device, uint32_t needed)
{
	memset(g->marks, 0, words(g->count) * 8);
	device_mark(g->marks, g->rank_of[device]);
	mark_needed(g);
	return device_is_marked(g->marks, g->rank_of[needed]);
}
