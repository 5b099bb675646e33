/* SPDX-License-Identifier: Apache-2.0
 *
 * Intrusive doubly linked list. The head is a `struct list` that points at
 * itself when empty; an unlinked element is zero or points at itself.
 */
#pragma once

#include "base/util.h"

struct list {
	struct list *next, *prev;
};

static inline void list_init(struct list *l)
{
	l->next = l->prev = l;
}

static inline bool list_empty(const struct list *l)
{
	return l->next == l;
}

/* Is the element in a list? */
static inline bool list_linked(const struct list *e)
{
	return e->next && e->next != e;
}

static inline void list_add_tail(struct list *head, struct list *e)
{
	e->prev = head->prev;
	e->next = head;
	head->prev->next = e;
	head->prev = e;
}

static inline void list_add(struct list *head, struct list *e)
{
	list_add_tail(head->next, e);
}

/* Harmless on an element that is in no list. */
static inline void list_del(struct list *e)
{
	if (!e->next)
		return;
	e->prev->next = e->next;
	e->next->prev = e->prev;
	list_init(e);
}

#define LIST_EACH(it, head, member)                                                                \
	for (it = container_of((head)->next, __typeof__(*it), member); &it->member != (head);      \
	     it = container_of(it->member.next, __typeof__(*it), member))

/* May remove `it` while walking; tmp is another pointer of the same type. */
#define LIST_EACH_SAFE(it, tmp, head, member)                                                      \
	for (it = container_of((head)->next, __typeof__(*it), member),                             \
	    tmp = container_of(it->member.next, __typeof__(*it), member);                          \
	     &it->member != (head);                                                                \
	     it = tmp, tmp = container_of(it->member.next, __typeof__(*it), member))
