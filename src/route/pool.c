/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory of the data path. After warm-up a request allocates nothing: buffers and
 * objects come from free lists of the thread, which keep a bounded number. When
 * memory is gone, the request at hand fails, and nothing else.
 */
#include "route/route_priv.h"

static struct pool *buffers_of(struct thread *t, uint32_t cap)
{
	return cap == BUFFER_SMALL ? &t->small : cap == BUFFER_LARGE ? &t->large : NULL;
}

struct buffer *buffer_get(struct thread *t, uint32_t cap)
{
	struct buffer *b;
	struct pool *p;

	cap = cap <= BUFFER_SMALL ? BUFFER_SMALL : MAX(cap, BUFFER_LARGE);
	p = buffers_of(t, cap);
	if (p && p->first) {
		b = p->first;
		p->first = b->next;
		p->count--;
	} else {
		b = malloc(sizeof(*b) + cap);
		if (!b) {
			shm_add(&t->n->no_memory, 1);
			return NULL;
		}
		b->cap = cap;
	}
	b->at = b->len = 0;
	return b;
}

void buffer_put(struct thread *t, struct buffer **pb)
{
	struct buffer *b = *pb;
	struct pool *p;

	if (!b)
		return;
	*pb = NULL;
	p = buffers_of(t, b->cap);
	if (!p || p->count >= POOL_KEEPS) {
		free(b);
		return;
	}
	b->next = p->first;
	p->first = b;
	p->count++;
}

/* A free object's first word is the link; what is behind it (a timer that is still in the heap)
 * stays as it was. Objects therefore begin with a word that is set anew each time. */
void *pool_get(struct thread *t, struct pool *p)
{
	void *object = p->first;

	if (object) {
		p->first = *(void **)object;
		p->count--;
		return object;
	}
	object = calloc(1, p->size);
	if (!object)
		shm_add(&t->n->no_memory, 1);
	return object;
}

bool pool_put(struct pool *p, void *object)
{
	if (p->count >= POOL_KEEPS)
		return false;
	*(void **)object = p->first;
	p->first = object;
	p->count++;
	return true;
}
