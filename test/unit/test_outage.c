/* SPDX-License-Identifier: Apache-2.0
 *
 * A switch dies, and all behind it with it: what checks, devices and incidents make of that together, over a small
 * world of measurements that take time and come in any order. Each seed has another shape of network,
 * other rules, another order; a failing one is printed.
 */
#include "unit.h"

#include <time.h>

#include "core/incident.h"

#define MINUTE 60000ull
#define BEHIND 500
#define DEVICES (BEHIND + 1)
#define PER_DEVICE 3
#define NODES 30  /* up to here others may need them */
#define LEAVES 40 /* from here on what is dead may look only bad */
#define NEVER UINT64_MAX

/* --- the world --- */

struct measurement {
	uint32_t device;
	struct check check;
	struct check_rule rule;
	uint64_t at_ms;	    /* when something happens to it next */
	uint64_t begun_ms;  /* it runs since then; NEVER: it waits for at_ms */
	enum status seen;   /* what comes out of it */
	uint64_t asked_ms;  /* it was asked for while it ran; NEVER */
	uint32_t heap_at;
};

static struct measurement world[DEVICES * PER_DEVICE], *heap[DEVICES * PER_DEVICE];
static uint32_t measured_count, heap_len, first_of[DEVICES + 1];
static uint64_t dies_ms[DEVICES], lives_ms[DEVICES]; /* [dies, lives): it does not work */
static struct device_need needs[DEVICES][2];
static struct device_in in[DEVICES];
static struct device_graph g;
static struct incidents is;
static struct incident list[64];
static uint32_t of[DEVICES];
static uint64_t now, next_pass_ms;
static struct device_told told[DEVICES];
static uint32_t seed, pages, opened, closed, asks, in_second, most_in_second;
static uint64_t second;
static bool noise; /* a packet is lost now and then */
static bool paired;

static uint32_t roll(uint32_t below)
{
	seed = seed * 1664525u + 1013904223u;
	return (uint32_t)((uint64_t)seed * below >> 32);
}

static void put(uint32_t k, struct measurement *m)
{
	heap[k] = m;
	m->heap_at = k;
}

static void moved(struct measurement *m)
{
	uint32_t k = m->heap_at;

	for (; k && heap[(k - 1) / 2]->at_ms > m->at_ms; k = (k - 1) / 2)
		put(k, heap[(k - 1) / 2]);
	for (;;) {
		uint32_t c = 2 * k + 1;

		if (c + 1 < heap_len && heap[c + 1]->at_ms < heap[c]->at_ms)
			c++;
		if (c >= heap_len || heap[c]->at_ms >= m->at_ms)
			break;
		put(k, heap[c]);
		k = c;
	}
	put(k, m);
}

/* Does it answer? Neither when it is dead, nor when all ways to it are. */
static bool reaches(uint32_t device)
{
	bool way = !in[device].need_count;

	if (now >= dies_ms[device] && now < lives_ms[device])
		return false;
	for (uint32_t k = 0; k < in[device].need_count && !way; k++)
		way = reaches(in[device].needs[k].device);
	return way;
}

static void begin(struct measurement *m)
{
	bool good = reaches(m->device) && !(noise && roll(200) == 0);

	if (now / 1000 != second)
		in_second = 0;
	second = now / 1000;
	most_in_second = MAX(most_in_second, ++in_second);
	m->begun_ms = now;
	m->seen = good ? STATUS_GOOD : m->device < LEAVES || roll(4) ? STATUS_UGLY : STATUS_BAD;
	m->at_ms = now + (good ? 1 + roll(300) : 1 + roll(5000)); /* what is dead times out, or is refused */
}

static void carry_out(void *arg UNUSED, const struct incident_action *a)
{
	pages += a->kind == INCIDENT_DO_PAGE;
	opened += a->kind == INCIDENT_DO_OPENED;
	closed += a->kind == INCIDENT_DO_CLOSED;
	if (a->kind == INCIDENT_DO_PAGE)
		incident_told(&is, a->incident->number, 1);
	if (a->kind == INCIDENT_DO_CLOSED)
		assert_int_equal(a->incident->told, 1);
}

static void take(void *arg UNUSED, const struct device_action *a)
{
	told[a->device] = a->kind == DEVICE_TELL ? a->now : told[a->device];
	if (a->kind == DEVICE_TELL)
		incident_tell(&is, a, now, carry_out, NULL);
	if (a->kind != DEVICE_ASK)
		return;
	asks++;
	for (uint32_t k = first_of[a->device]; k < first_of[a->device + 1]; k++) {
		struct measurement *m = &world[k];

		if (m->begun_ms != NEVER) {
			m->asked_ms = now + a->within_ms;
		} else if (m->at_ms > now + a->within_ms) {
			m->at_ms = now + a->within_ms;
			moved(m);
		}
	}
}

static void end(struct measurement *m)
{
	struct check_change change;

	device_feed(&g, m->device, &m->check, &m->rule, m->seen, m->begun_ms, &change);
	m->begun_ms = NEVER;
	m->at_ms = MIN(check_due_ms(&m->check, &m->rule, (uint64_t)(m - world), now), m->asked_ms);
	m->asked_ms = NEVER;
}

/* All that is not stored is lost: only the checks, what was told, and the incidents are. */
static void restart(void *memory)
{
	struct incident stored[ARRAY_LEN(list)];
	struct device_rule device_rules = g.rule;
	struct incident_rule rules = is.rule;
	uint32_t circle[DEVICE_CIRCLE_MAX];
	uint64_t next = is.next_number;

	memcpy(stored, list, sizeof(stored));
	memset(memory, 0xee, device_graph_size(DEVICES, 2 * DEVICES));
	assert_int_equal(device_graph_init(&g, memory, in, DEVICES, &device_rules, circle), 0);
	for (uint32_t k = 0; k < measured_count; k++) {
		assert_true(check_restore(&world[k].check, now));
		device_add_check(&g, world[k].device, &world[k].check, &world[k].rule);
	}
	incident_init(&is, &rules, list, ARRAY_LEN(list), of, DEVICES, next);
	for (size_t k = 0; k < ARRAY_LEN(stored); k++)
		assert_true(stored[k].state == INCIDENT_FREE || incident_restore(&is, &stored[k], now));
	for (uint32_t d = 0; d < DEVICES; d++) {
		device_restore(&g, d, &told[d]);
		incident_rejoin(&is, d, &told[d], now, now);
	}
	next_pass_ms = now + 1;
}

static void run_until(uint64_t until)
{
	while (MIN(heap[0]->at_ms, next_pass_ms) <= until) {
		now = MAX(now, MIN(heap[0]->at_ms, next_pass_ms));
		while (heap[0]->at_ms <= now) {
			struct measurement *m = heap[0];

			if (m->begun_ms == NEVER)
				begin(m);
			else
				end(m);
			moved(m);
		}
		device_settle(&g, now, take, NULL);
		incident_settle(&is, NULL, 0, &g, now, now, carry_out, NULL);
		next_pass_ms = MIN(device_next_ms(&g), incident_next_ms(&is));
		assert_true(next_pass_ms > now);
	}
	now = until;
}

/* Device 0 is the switch, 1 and 2 are a pair behind it, and all others need one of the two. */
static void shape_of_a_pair(void)
{
	for (uint32_t d = 1; d < DEVICES; d++) {
		needs[d][0] = (struct device_need){d > 2, 0};
		needs[d][1] = (struct device_need){2, 0};
		in[d] = (struct device_in){needs[d], d > 2 ? 2 : 1};
	}
}

/* Device 0 is the switch. Behind it either all at once, or other switches (some in pairs), racks that nobody measures,
 * and what stands in them: each needs one or two that come before it. */
static void shape(void)
{
	uint32_t nodes = roll(3) ? 1 + roll(NODES) : 0;

	for (uint32_t d = 1; d < DEVICES; d++) {
		uint32_t a = d <= nodes ? roll(MIN(d, 5u)) : nodes ? roll(nodes + 1) : 0;

		needs[d][0] = (struct device_need){a, 0};
		needs[d][1] = (struct device_need){nodes ? roll(MIN(d, nodes + 1)) : 0, 0};
		in[d] = (struct device_in){needs[d], 1 + (needs[d][1].device != a && !roll(4))};
	}
}

static void add(uint32_t device)
{
	struct measurement *m = &world[measured_count];

	*m = (struct measurement){.device = device, .begun_ms = NEVER, .asked_ms = NEVER};
	m->rule = (struct check_rule){.interval_ms = 20000 + roll(100000), .retry_ms = 3000 + roll(10000),
				      .rise = (uint8_t)(1 + roll(2)), .fall = (uint8_t)(noise ? 3 : 1 + roll(3)),
				      .flap_begin = CHECK_FLAP_BEGIN, .flap_end = CHECK_FLAP_END};
	check_init(&m->check, now);
	device_add_check(&g, device, &m->check, &m->rule);
	m->at_ms = check_first_ms(&m->rule, measured_count, now);
	put(heap_len++, m);
	moved(m);
	measured_count++;
}

static void begin_world(void *memory, uint32_t s)
{
	static const struct device_rule device_rules = {.answer_ms = 15000, .settle_ms = 3 * MINUTE,
							.most_ms = 15 * MINUTE};
	static const struct incident_rule incident_rules = {.page_from = STATUS_BAD, .settle_ms = 2 * MINUTE,
							    .repeat_ms = 120 * MINUTE, .repeat_most_ms = 240 * MINUTE};
	uint32_t circle[DEVICE_CIRCLE_MAX];
	bool racks;

	seed = s * 2654435761u;
	noise = s % 2;
	now = 1700000000000ull;
	pages = opened = closed = asks = most_in_second = measured_count = heap_len = 0;
	next_pass_ms = NEVER;
	if (paired)
		shape_of_a_pair();
	else
		shape();
	assert_int_equal(device_graph_init(&g, memory, in, DEVICES, &device_rules, circle), 0);
	incident_init(&is, &incident_rules, list, ARRAY_LEN(list), of, DEVICES, 1);
	racks = !paired && roll(2);
	for (uint32_t d = 0; d < DEVICES; d++) {
		dies_ms[d] = lives_ms[d] = NEVER;
		told[d] = (struct device_told){DEVICE_NONE, STATUS_UNKNOWN, DEVICE_OPEN, false, false};
		first_of[d] = measured_count;
		if (racks && d && d < NODES && roll(2))
			continue; /* nothing of it is measured */
		for (uint32_t k = 1 + roll(PER_DEVICE); k > 0; k--)
			add(d);
	}
	first_of[DEVICES] = measured_count;
}

static void count_told(uint32_t s, uint32_t *ret_folded)
{
	uint32_t open = 0;

	*ret_folded = 0;
	for (uint32_t d = 0; d < DEVICES; d++) {
		open += told[d].place == DEVICE_OPEN;
		*ret_folded += told[d].place == DEVICE_FOLDED && told[d].cause == 0;
	}
	if (open != (told[0].place == DEVICE_OPEN))
		fail_msg("seed %u: %u devices stand open", s, open);
}

#define EXPECT(s, what, is_, want)                                                                 \
	do {                                                                                       \
		if ((is_) != (want))                                                               \
			fail_msg("seed %u, %s: %u, wanted %u", s, what, (unsigned)(is_), (unsigned)(want)); \
	} while (0)

static void one_switch_dies_and_comes_back(void **state UNUSED)
{
	void *memory = util_alloc(device_graph_size(DEVICES, 2 * DEVICES));
	uint32_t folded, asked_most = 0, busiest = 0;

	for (uint32_t s = 1; s <= 60; s++) {
		uint64_t dead, back;

		begin_world(memory, s);
		run_until(now + 5 * MINUTE);
		count_told(s, &folded);
		EXPECT(s, "pages before", pages, 0);
		EXPECT(s, "entries before", folded, 0);
		dead = dies_ms[0] = now + roll(60000);
		back = lives_ms[0] = dead + 8 * MINUTE + roll(60000);
		for (uint32_t k = s % 3; k > 0; k--) { /* in the midst of it, at any time */
			run_until(now + roll(3 * MINUTE));
			restart(memory);
		}
		run_until(back - 1);
		count_told(s, &folded);
		EXPECT(s, "pages", pages, 1);
		EXPECT(s, "incidents", opened, 1);
		EXPECT(s, "folded", folded, BEHIND);
		EXPECT(s, "in the incident", list[0].now, DEVICES);
		EXPECT(s, "the cause", list[0].cause, 0);
		assert_true(list[0].start_ms >= dead - noise * 2 * MINUTE && list[0].start_ms <= dead + 2 * MINUTE);
		asked_most = MAX(asked_most, asks);
		/* It is back; what is behind it needs up to a minute more. */
		for (uint32_t d = 1; d < DEVICES; d++) {
			dies_ms[d] = dead;
			lives_ms[d] = back + roll(60000);
		}
		most_in_second = 0;
		for (uint32_t k = s % 3; k > 0; k--) {
			run_until(now + 1 + roll(MINUTE));
			restart(memory);
		}
		run_until(back + 30 * MINUTE);
		count_told(s, &folded);
		EXPECT(s, "pages after", pages, 1);
		EXPECT(s, "incidents after", opened, 1);
		EXPECT(s, "ended", closed, 1);
		EXPECT(s, "folded after", folded, 0);
		for (uint32_t d = 0; d < DEVICES; d++)
			EXPECT(s, "status after", told[d].status, STATUS_GOOD);
		/* No more at once than while they were down: each about every retry_ms, 8 s in the mean. */
		busiest = MAX(busiest, most_in_second);
		assert_true(most_in_second < measured_count / 3);
	}
	printf("	most asks in an outage: %u; most measurements in a second after it: %u\n", asked_most, busiest);
	free(memory);
}

static void who_does_not_come_back_with_it_is_told(void **state UNUSED)
{
	void *memory = util_alloc(device_graph_size(DEVICES, 2 * DEVICES));

	for (uint32_t s = 1; s <= 20; s++) {
		uint32_t dead;

		begin_world(memory, s);
		dead = LEAVES - 1 - roll(LEAVES - NODES - 1); /* nothing needs it, and it is measured as ugly */
		run_until(now + 5 * MINUTE);
		dies_ms[0] = now;
		lives_ms[0] = now + 5 * MINUTE;
		dies_ms[dead] = now + MINUTE;
		run_until(now + 8 * MINUTE - 1);
		EXPECT(s, "pages", pages, 1);
		run_until(now + 20 * MINUTE);
		EXPECT(s, "pages after", pages, 2);
		EXPECT(s, "incidents", opened, 2);
		EXPECT(s, "ended", closed, 1);
		EXPECT(s, "place", told[dead].place, DEVICE_OPEN);
		EXPECT(s, "the cause", incident_find(&is, 2)->cause, dead);
	}
	free(memory);
}

static void of_a_pair_one_dies_and_then_the_other(void **state UNUSED)
{
	void *memory = util_alloc(device_graph_size(DEVICES, 2 * DEVICES));

	paired = true;
	for (uint32_t s = 1; s <= 12; s++) {
		uint64_t first, second_dies;

		begin_world(memory, s);
		run_until(now + 5 * MINUTE);
		first = 1 + roll(2);
		dies_ms[first] = now + roll(60000);
		run_until(now + 8 * MINUTE);
		/* Users feel nothing, and yet all that need it say so, folded under it. */
		EXPECT(s, "pages for the first", pages, 1);
		for (uint32_t d = 3; d < DEVICES; d++) {
			EXPECT(s, "status of those behind", told[d].status, STATUS_BAD);
			EXPECT(s, "their cause", told[d].cause, first);
		}
		second_dies = dies_ms[3 - first] = now + roll(60000);
		lives_ms[3 - first] = second_dies + 8 * MINUTE;
		run_until(lives_ms[3 - first] - 1);
		EXPECT(s, "pages for both", pages, 2);
		for (uint32_t d = 3; d < DEVICES; d++) {
			EXPECT(s, "status behind both", told[d].status != STATUS_GOOD, true);
			EXPECT(s, "the last straw", told[d].cause, 3 - first);
		}
		run_until(now + 10 * MINUTE);
		EXPECT(s, "pages when one is back", pages, 2);
		for (uint32_t d = 3; d < DEVICES; d++)
			EXPECT(s, "status when one is back", told[d].status, STATUS_BAD);
		lives_ms[first] = now;
		run_until(now + 20 * MINUTE);
		EXPECT(s, "pages after", pages, 2);
		EXPECT(s, "ended", closed, 2);
		for (uint32_t d = 0; d < DEVICES; d++)
			EXPECT(s, "status after", told[d].status, STATUS_GOOD);
	}
	paired = false;
	free(memory);
}

/* --- what it costs: printed, since what else runs here is not ours --- */

static double cpu_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void nothing(void *arg, const struct device_action *a UNUSED)
{
	++*(uint32_t *)arg;
}

#define MANY 10000u
#define EACH 10u

static void ten_thousand_devices(void **state UNUSED)
{
	static const struct device_rule device_rules = {.answer_ms = 15000, .settle_ms = MINUTE, .most_ms = 10 * MINUTE};
	static const struct check_rule rule = {.interval_ms = MINUTE, .retry_ms = 10000, .rise = 2, .fall = 3,
					       .flap_begin = CHECK_FLAP_BEGIN, .flap_end = CHECK_FLAP_END};
	struct device_need *n = util_alloc(2 * MANY * sizeof(*n));
	struct device_in *d = util_alloc(MANY * sizeof(*d));
	struct check *c = util_alloc((size_t)MANY * EACH * sizeof(*c));
	size_t size = device_graph_size(MANY, 2 * MANY);
	void *memory = util_alloc(size);
	uint32_t circle[DEVICE_CIRCLE_MAX], *tree = util_alloc(MANY * sizeof(*tree)), told_count = 0;
	struct check_change change;
	double begun = cpu_s();

	/* 100 switches behind one, in pairs; each server at a pair, and needs a disk shelf. */
	for (uint32_t i = 1; i < MANY; i++) {
		n[2 * i] = (struct device_need){i <= 100 ? 0 : 1 + i % 100, 0};
		n[2 * i + 1] = (struct device_need){i <= 100 ? 0 : 1 + (i + 1) % 100, 0};
		d[i] = (struct device_in){&n[2 * i], i <= 100 ? 1 : 2};
	}
	assert_int_equal(device_graph_init(&g, memory, d, MANY, &device_rules, circle), 0);
	for (uint32_t i = 0; i < MANY * EACH; i++) {
		check_init(&c[i], 1);
		device_add_check(&g, i % MANY, &c[i], &rule);
	}
	now = 1000;
	device_settle(&g, now, nothing, &told_count);
	printf("	built: %.1f ms; %zu bytes a device, %zu a check\n", (cpu_s() - begun) * 1e3, size / MANY, sizeof(*c));
	for (int round = 0; round < 4; round++) {
		static const char *const what[] = {"first minute, all good", "a minute without news",
						   "a minute with 1 % bad results", "the first switch dies: a minute"};
		double worst = 0, at;

		begun = cpu_s();
		told_count = 0;
		for (uint32_t i = 0; i < MANY * EACH; i++) {
			enum status s = round == 3 ? STATUS_UGLY : round == 2 && i % 97 == 0 ? STATUS_BAD : STATUS_GOOD;

			for (int again = round == 3 ? 3 : 1; again > 0; again--)
				device_feed(&g, i % MANY, &c[i], &rule, s, now, &change);
			if (i % 167 && i != MANY * EACH - 1)
				continue;
			now += 100; /* each tenth of a second's results make a pass */
			at = cpu_s();
			device_settle(&g, now, nothing, &told_count);
			worst = MAX(worst, cpu_s() - at);
		}
		printf("	%s: %.1f ms of CPU, longest pass %.2f ms, %u actions\n", what[round], (cpu_s() - begun) * 1e3,
		       worst * 1e3, told_count);
	}
	begun = cpu_s();
	assert_int_equal(device_tree(&g, (uint32_t[]){MANY - 1}, 1, tree, MANY), 4);
	printf("	the tree of an app: %.3f ms\n", (cpu_s() - begun) * 1e3);
	free(n);
	free(d);
	free(c);
	free(memory);
	free(tree);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_switch_dies_and_comes_back),
		cmocka_unit_test(who_does_not_come_back_with_it_is_told),
		cmocka_unit_test(of_a_pair_one_dies_and_then_the_other),
		cmocka_unit_test(ten_thousand_devices),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
