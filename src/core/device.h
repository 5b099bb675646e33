/* SPDX-License-Identifier: Apache-2.0
 *
 * Devices that need one another: what each one's status is, who is the cause, and what is told.
 *
 * A device's own status is the worst of its checks. It needs others: all of its groups, of each group any one. (That
 * is enough for every tree of all-of and any-of: "any: [[a, b], c]" is the two groups a|c and b|c.) A device
 * is *down* when it is ugly, or when nobody measures it and a group that it needs is down; a group is down when all
 * in it are.
 *
 *	what is so                                     status                   stands
 *	---------------------------------------------  -----------------------  ---------------------------
 *	its checks say so                              worst of its checks      open
 *	it is not good, and a group it needs is down   the same                 folded under the topmost
 *	                                                                        device that is down
 *	of a group of several one is down              at least bad, though     folded under that one
 *	                                               users feel nothing
 *	no checks, and a group it needs is down        ugly                     folded
 *	no checks, and of a group nothing is known     unknown                  open
 *	no checks, no needs                            unknown                  open
 *
 * A device that measures well is not ugly whatever its parents seem to be: evidence goes before inference.
 *
 * The race: a child is often found down before its parent is, and its parent back before it. So what gets
 * worse is *held* first. The parents are asked to be measured at once when a check of a child fails, and again
 * when it is hard; the child is released, and told, when
 *
 *	- the checks that make its status are hard, and it still is worse than what was told,
 *	- no answer to an ask is due, of it or of its parents, and none of their checks is soft,
 *	- no parent, nor what it was folded under, came back within settle_ms (the child itself is asked then, at
 *	  some time in the first half of that),
 *	- and it is not folded under one that is held itself;
 *	- or it was held for most_ms: a hold always ends.
 *
 * What gets better is never held. Nothing that is measured is ever suppressed: only when it is told.
 *
 * How it is used:
 *
 *	device_graph_init()   at a (re)load, with memory of device_graph_size(); or it names a circle
 *	device_add_check()    each check, as it is
 *	device_restore()      what was told before
 *	device_feed()         each result: the check's step, and what it means for its device. Cheap: O(1)
 *	device_settle()       after a bundle of results, and at device_next_ms(): one pass in the order of the
 *	                      needs over what may have changed, each device at most once, O(those and their
 *	                      needs). Its actions are to be carried out (asks) and told (news, incidents); parents
 *	                      come before their children.
 *
 * Devices are numbered as they are given. Times are those of core/check.h.
 */
#pragma once

#include "core/check.h"

#define DEVICE_NONE UINT32_MAX
#define DEVICES_MAX 100000
#define DEVICE_CHECKS_MAX 10000 /* of one device */
#define DEVICE_NEEDS_MAX 1000	/* of one device */
#define DEVICE_CIRCLE_MAX 32	/* how many of a circle are named */
#define DEVICE_HELD_LOOK_MS 100 /* how often what is held is looked at */
#define DEVICE_ASK_GAP_MS 1000	/* at least between two asks of a device */

/* Needs of one group stand together: {a, 0}, {b, 0} is any of a and b; {a, 0}, {b, 1} is both. */
struct device_need {
	uint32_t device, group;
};

struct device_in {
	const struct device_need *needs;
	uint32_t need_count;
};

struct device_rule {
	uint64_t answer_ms; /* an ask is answered within this, or not waited for */
	uint64_t settle_ms; /* after a parent came back */
	uint64_t most_ms;   /* the longest that something is held */
};

/* X(NAME, lower) */
#define DEVICE_PLACE_TABLE(X)                                                                      \
	X(CLEAR, clear)	  /* it is good */                                                         \
	X(HELD, held)	  /* worse, and it is not yet clear on whose account */                    \
	X(FOLDED, folded) /* on account of its cause */                                            \
	X(OPEN, open)	  /* on its own account */

enum device_place {
#define X(name, lower) DEVICE_##name,
	DEVICE_PLACE_TABLE(X)
#undef X
	DEVICE_PLACE_COUNT
};

/* What was told of a device, to be stored and given to device_restore(). */
struct device_told {
	uint32_t cause; /* FOLDED: under which; else DEVICE_NONE */
	uint8_t status; /* enum status */
	uint8_t place;	/* enum device_place, never HELD */
	bool flaps;	/* a check of it does */
	bool half;	/* of a group of several that it needs one is down */
};

enum device_action_kind {
	DEVICE_ASK,  /* measure its checks, within_ms from now (0: at once) */
	DEVICE_TELL, /* its status or where it stands is another one: news */
	DEVICE_WAS,  /* it got worse, and good again before that was told: a remark on what was told */
};

struct device_action {
	enum device_action_kind kind;
	uint32_t device;
	uint64_t within_ms;
	struct device_told before, now;
	uint64_t since_ms; /* not ASK: when that began, by its results */
	/* Now good: what is over, as struct check_change has it. worst is GOOD where nothing was. */
	enum status worst;
	uint64_t worst_ms, away_ms;
};

typedef void device_act(void *arg, const struct device_action *a);

struct device; /* core/device_priv.h */

struct device_graph {
	struct device_rule rule;
	uint32_t count, need_count;
	/* By rank: parents before children. */
	struct device *devices;
	uint32_t *needs_at, *children_at; /* count + 1 */
	struct device_need *needs;	  /* ranks */
	uint32_t *children;		  /* ranks */
	uint32_t *rank_of, *index_of;
	uint64_t *dirty, *marks; /* bits by rank */
	uint32_t held, held_count;
	uint64_t held_look_ms;
	uint32_t pass, query;
};

size_t device_graph_size(uint32_t count, uint32_t needs);
/* memory: of that size, 8-aligned, the caller's, as long as the graph; the input may go. Returns 0, or how many
 * devices the circle in ret_circle has (at most DEVICE_CIRCLE_MAX are told): each needs the next, the last the first.
 * Every device of a need is < count. */
uint32_t device_graph_init(struct device_graph *g, void *memory, const struct device_in *in, uint32_t count,
			   const struct device_rule *rule, uint32_t ret_circle[DEVICE_CIRCLE_MAX]);
/* All that the roots need, transitively, and the roots, each once: what they need comes first. Returns how many
 * there are; at most max of them are written. */
uint32_t device_tree(struct device_graph *g, const uint32_t *roots, uint32_t n, uint32_t *ret, uint32_t max);

/* Is it the device itself, or one that it needs, transitively? */
bool device_leads_to(struct device_graph *g, uint32_t device, uint32_t needed);

void device_add_check(struct device_graph *g, uint32_t device, const struct check *c, const struct check_rule *r);
void device_restore(struct device_graph *g, uint32_t device, const struct device_told *told);
/* check_step(), or with outcome STATUS_COUNT check_look(). */
void device_feed(struct device_graph *g, uint32_t device, struct check *c, const struct check_rule *r,
		 enum status outcome, uint64_t now_ms, struct check_change *ret);
void device_settle(struct device_graph *g, uint64_t now_ms, device_act *act, void *arg);
/* When to settle again, without any result; UINT64_MAX: not at all. */
uint64_t device_next_ms(const struct device_graph *g);

/* --- what is so now, for pages --- */

enum status device_status(const struct device_graph *g, uint32_t device);
enum device_place device_place(const struct device_graph *g, uint32_t device);
/* The topmost device on whose account it is not good; DEVICE_NONE: none, or itself. */
uint32_t device_cause(const struct device_graph *g, uint32_t device);
