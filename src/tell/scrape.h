/* SPDX-License-Identifier: Apache-2.0
 *
 * All numbers of all apps and targets, told piece by piece: an answer of tens of megabytes
 * (10,000 apps) is made as its client takes it, one piece in a turn of the loop, and nothing else waits.
 *
 * Apps and targets may come and go meanwhile, and a slot of the numbers get another owner. So the list
 * of subjects is made at the beginning, by name; whoever writes looks each one up again, and leaves out
 * whom it does not find.
 */
#pragma once

#include "tell/tell_priv.h"

#define SCRAPE_PIECE (128u << 10)

/* An app (no id: the app's own), or one of its targets. */
struct scrape_subject {
	uint64_t id;
	uint32_t slot;
	uint32_t app;	 /* offset of the app's name in texts */
	uint32_t labels; /* offset of app="shop",target="shop@12/1" */
	bool target;
};

struct scrape {
	struct call *c;
	struct scrape_subject *subjects;
	uint32_t count, at;
	struct buf texts;
	struct buf out; /* the piece in hand */
	uint32_t step;	/* the writer's own */
	/* Appends to out, until it is a piece, and returns true when all is told. */
	bool (*more)(struct scrape *s);
	bool open_metrics;
};

/* Begins an answer of this type that more() makes; app: only this one, or NULL. Answers ERR_LIMIT itself. */
void scrape_begin(struct call *c, const char *type, const char *app, bool open_metrics,
		  bool (*more)(struct scrape *s));
void scrape_free(struct scrape *s);

static inline bool scrape_is_piece(const struct scrape *s)
{
	return s->out.len >= SCRAPE_PIECE || s->out.failed;
}
/* The app of a subject; NULL: it is no more, or its slot is another's. */
struct ship_app *scrape_app(const struct scrape *s, const struct scrape_subject *x);
/* The instance, or the configured target, that a subject is; both may be NULL. */
void scrape_target(struct ship_app *a, const struct scrape_subject *x, const struct rollout_unit **ret_unit,
		   const struct ship_target **ret_target);
