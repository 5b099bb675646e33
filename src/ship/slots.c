/* SPDX-License-Identifier: Apache-2.0
 *
 * Places in the shared numbers. An app or target keeps its slot as long as it is in a routing
 * table; the slot itself bears the id, so a new controller finds the assignment there.
 */
#include "ship/ship.h"

struct slot_leaving {
	struct list link;
	uint64_t id, generation; /* free once all threads use a table newer than this */
};

static void learn(struct ship *s)
{
	for (uint32_t i = 0; i < SHM_SLOTS; i++) {
		uint64_t id = shm_get(&s->shm->slot[i].id);

		if (id)
			map_put(&s->slot_by_id, id, (void *)(uintptr_t)(i + 1));
	}
}

uint32_t ship_slot(struct ship *s, uint64_t id)
{
	uintptr_t known;
	struct slot_leaving *l, *tmp;

	ensure(id);
	if (!s->slot_by_id.cap)
		learn(s);
	known = (uintptr_t)map_get(&s->slot_by_id, id);
	if (known) {
		LIST_EACH_SAFE (l, tmp, &s->leaving, link) { /* it came back */
			if (l->id == id) {
				list_del(&l->link);
				free(l);
			}
		}
		return (uint32_t)known - 1;
	}
	for (uint32_t n = 0; n < SHM_SLOTS; n++) {
		uint32_t i = (s->slot_hint + n) % SHM_SLOTS;

		if (shm_get(&s->shm->slot[i].id))
			continue;
		s->slot_hint = i + 1;
		shm_zero_slot(s->shm, i);
		atomic_store(&s->shm->slot[i].id, id);
		map_put(&s->slot_by_id, id, (void *)(uintptr_t)(i + 1));
		return i;
	}
	/* Bounds of the configuration keep the number of apps and targets below that of slots. */
	ensure(!"a free slot");
	return 0;
}

static int compare_ids(const void *x, const void *y)
{
	uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;

	return a < b ? -1 : a > b;
}

void ship_slots_reclaim(struct ship *s)
{
	size_t n = 0, cap = s->unit_by_id.len + s->by_name.len;
	struct ship_app *a;
	struct ship_unit *x;

	LIST_EACH (a, &s->apps, link)
		cap += a->target_count;
	CLEANUP_FREE uint64_t *owned = util_alloc((cap + 1) * sizeof(*owned));
	LIST_EACH (a, &s->apps, link) {
		if (a->has_slot)
			owned[n++] = a->id;
		for (uint32_t i = 0; i < a->target_count; i++)
			owned[n++] = a->targets[i].id;
		LIST_EACH (x, &a->units, link)
			owned[n++] = x->id;
	}
	ensure(n <= cap);
	qsort(owned, n, sizeof(*owned), compare_ids);
	for (uint32_t i = 0; i < SHM_SLOTS; i++) {
		uint64_t id = shm_get(&s->shm->slot[i].id);

		if (id && !bsearch(&id, owned, n, sizeof(*owned), compare_ids))
			ship_slot_leave(s, id);
	}
}

void ship_slot_leave(struct ship *s, uint64_t id)
{
	struct slot_leaving *l;

	LIST_EACH (l, &s->leaving, link)
		if (l->id == id)
			return;
	l = util_alloc(sizeof(*l));
	l->id = id;
	l->generation = s->generation;
	list_add_tail(&s->leaving, &l->link);
}

uint64_t ship_applied(const struct ship *s)
{
	return shm_applied(s->shm);
}

void ship_slots_tidy(struct ship *s)
{
	struct slot_leaving *l, *tmp;
	uint64_t applied = ship_applied(s);

	LIST_EACH_SAFE (l, tmp, &s->leaving, link) {
		uintptr_t slot = (uintptr_t)map_get(&s->slot_by_id, l->id);
		struct shm_sum sum;

		if (applied <= l->generation || !slot)
			continue;
		shm_sum_slot(s->shm, (uint32_t)slot - 1, &sum);
		if (sum.inflight || sum.tunnels)
			continue;
		map_del(&s->slot_by_id, l->id);
		shm_zero_slot(s->shm, (uint32_t)slot - 1); /* also its id: free */
		list_del(&l->link);
		free(l);
	}
}
