/* SPDX-License-Identifier: Apache-2.0
 *
 * Another router in the place of the one that serves, by order:
 *
 *	a second one starts beside it: the same sockets, the last table, its own rows in the numbers
 *	READY: it is the router now, and speaks for the targets; each thread of the one before is
 *	       given a socket to a thread of this one, hands over, and leaves when it is empty
 *
 * Not ready in time, or dead before: it is ended, and nothing has changed. Dead afterwards: it is started
 * anew like any router, and what the one before has left goes to that. There is one router
 * beside the one that serves at most, and that one is bounded in time: by itself, by its
 * apps' drains.
 */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "keep/keep_priv.h"
#include "wire/shm.h"

#define REPLACE_READY_MS 5000

void replace_tell(struct keeper *k)
{
	/* One that is about to end would take it along. */
	if (k->outcome_due && !k->parts[PART_CONTROLLER]->ending &&
	    part_send(k, PART_CONTROLLER, MSG_OUTCOME, &k->outcome, -1))
		k->outcome_due = false;
}

void replace_outcome(struct keeper *k, enum msg_type order, enum err_code error, const char *reason)
{
	if (order == MSG_RESTART && upgrade_router_outcome(k, error, reason))
		return;
	k->outcome = (struct msg_outcome){.order = order, .error = error};
	util_copy(k->outcome.reason, sizeof(k->outcome.reason), reason);
	k->outcome_due = true;
	if (error)
		log_warn("replace.refused", "reason=\"%s\"", reason);
	replace_tell(k);
}

/* A socket pair for each thread, an end to both routers. Without one the old router drains. */
static void hand_over(struct keeper *k)
{
	for (uint32_t i = 0; i < k->threads; i++) {
		struct msg_thread m = {i};
		int ends[2] = {-1, -1};

		if (msg_pair(ends) < 0)
			log_warn("replace", "reason=\"no socket for a thread to hand over: %s\"",
				 strerror(errno));
		else
			part_send(k, PART_ROUTER, MSG_TAKE, &m, ends[0]);
		part_send(k, PART_OTHER, MSG_LEAVE, &m, ends[1]);
		for (int j = 0; j < 2; j++)
			if (ends[j] >= 0)
				close(ends[j]);
	}
}

static void swap(struct keeper *k)
{
	struct part_proc *old = k->parts[PART_ROUTER], *new = k->parts[PART_OTHER];

	loop_timer_stop(&k->loop, &k->coming_limit);
	k->coming = false;
	new->starts = old->starts + 1;
	new->part = PART_ROUTER;
	old->part = PART_OTHER;
	k->parts[PART_ROUTER] = new;
	k->parts[PART_OTHER] = old;
	atomic_store(&k->shm->speaker, new->bank);
	util_copy(new->reason, sizeof(new->reason), "replaced, by order");
	old->reason[0] = '\0';
	loop_timer_stop(&k->loop, &old->pause); /* should it be dead just now, it is not missed */
	part_tell(new);
	part_tell(old);
	log_info("replace.router", "pid=%d before=%d", (int)new->child.pid, (int)old->child.pid);
	hand_over(k);
	replace_outcome(k, MSG_RESTART, ERR_OK, "");
}

void replace_ready(struct part_proc *p)
{
	struct keeper *k = p->keeper;

	if (p->part == PART_OTHER && k->coming)
		swap(k);
	else if (p->part == PART_ROUTER && !k->coming && k->parts[PART_OTHER]->child.pid)
		hand_over(k); /* a new heir */
}

void replace_ended(struct part_proc *p)
{
	struct keeper *k = p->keeper;
	char text[MSG_REASON];

	/* A connection of which the kernel told that process alone waits: the other looks anew. */
	listen_tell_all(k, PART_ROUTER);
	log_info("replace.ended", "pid_of=%s reason=\"%s\"", k->coming ? "the next router" : "the router before",
		 p->reason);
	if (!k->coming)
		return;
	loop_timer_stop(&k->loop, &k->coming_limit);
	k->coming = false;
	snprintf(text, sizeof(text), "the next router %.150s; the one that is there goes on", p->reason);
	replace_outcome(k, MSG_RESTART, ERR_GONE, text);
}

void replace_not_ready(struct loop_timer *timer)
{
	struct keeper *k = container_of(timer, struct keeper, coming_limit);

	part_kill(k->parts[PART_OTHER], "was not ready within 5 s");
}

void replace_router(struct keeper *k)
{
	struct part_proc *other = k->parts[PART_OTHER];

	if (k->phase != KEEP_RUNS) {
		replace_outcome(k, MSG_RESTART, ERR_REFUSED, "Upstate is ending");
	} else if (k->parts[PART_ROUTER]->state != PART_STATE_UP) {
		replace_outcome(k, MSG_RESTART, ERR_REFUSED, "the router is being started as it is");
	} else if (other->child.pid) {
		replace_outcome(k, MSG_RESTART, ERR_REFUSED,
				"the router before has not finished yet; `upstate status` shows it");
	} else {
		k->coming = true;
		loop_timer_set(&k->loop, &k->coming_limit, k->loop.now_ms + REPLACE_READY_MS);
		other->supervise = (struct supervise){0};
		other->reason[0] = '\0';
		part_start(other);
	}
}
