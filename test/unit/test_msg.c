/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

#include "wire/msg.h"

static struct loop loop;
static struct msg_channel a, b;
static int raw[2]; /* another pair: raw[0] is bare, raw[1] belongs to b when a test says so */
static struct msg last;
static char last_body[4096], last_tail[MSG_TAIL_MAX];
static int got, ended, kept_fd;
static char end_reason[1024];
static bool keep_fd;

static void on_msg(struct msg_channel *ch UNUSED, struct msg *m)
{
	got++;
	last = *m;
	memcpy(last_body, m->body, msg_body_size(m->type));
	memcpy(last_tail, m->tail, m->tail_len);
	if (keep_fd && m->fds_len)
		kept_fd = TAKE_FD(m->fds[0]);
}

static void on_end(struct msg_channel *ch UNUSED, const char *reason)
{
	ended++;
	util_copy(end_reason, sizeof(end_reason), reason);
}

static int open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static int setup(void **state UNUSED)
{
	int ends[2];

	got = ended = 0;
	kept_fd = -1;
	keep_fd = false;
	a = (struct msg_channel){.on_msg = on_msg, .on_end = on_end};
	b = a;
	if (loop_init(&loop) < 0 || msg_pair(ends) < 0 || msg_pair(raw) < 0)
		return -1;
	return msg_channel_open(&a, &loop, ends[0]) | msg_channel_open(&b, &loop, ends[1]);
}

static int teardown(void **state UNUSED)
{
	msg_channel_close(&a);
	msg_channel_close(&b);
	for (int i = 0; i < 2; i++)
		if (raw[i] >= 0)
			close(raw[i]);
	loop_fini(&loop);
	return 0;
}

static void turn(void)
{
	for (int i = 0; i < 10; i++)
		loop_turn(&loop, 0);
}

static void every_message_arrives_as_it_was_sent(void **state UNUSED)
{
	char body[4096], tail[1000];
	int null = open("/dev/null", O_RDONLY);

	for (size_t i = 0; i < sizeof(body); i++)
		body[i] = (char)(i * 7);
	memset(tail, 't', sizeof(tail));
#define X(name, tag, fds_, tail_, what)                                                            \
	got = 0;                                                                                   \
	assert_true(                                                                               \
	    msg_send(&a, MSG_##name, body, tail, (tail_) ? sizeof(tail) : 0, &null, (fds_) > 0));  \
	turn();                                                                                    \
	assert_int_equal(got, 1);                                                                  \
	assert_int_equal(last.type, MSG_##name);                                                   \
	assert_int_equal(last.fds_len, (fds_) > 0);                                                \
	assert_int_equal(last.tail_len, (tail_) ? sizeof(tail) : 0);                               \
	assert_memory_equal(last_body, body, sizeof(struct tag));                                  \
	assert_memory_equal(last_tail, tail, last.tail_len);                                       \
	assert_string_equal(msg_name(MSG_##name), #name);
	MSG_TABLE(X)
#undef X
	assert_int_equal(ended, 0);
	close(null);
}

static void the_longest_tail_fits(void **state UNUSED)
{
	static char tail[MSG_TAIL_MAX];

	memset(tail, 'x', sizeof(tail));
	assert_true(msg_send(&a, MSG_START, &(struct msg_start){0}, tail, sizeof(tail), NULL, 0));
	turn();
	assert_int_equal(last.tail_len, MSG_TAIL_MAX);
	assert_memory_equal(last_tail, tail, sizeof(tail));
}

static void a_descriptor_that_is_not_taken_is_closed_and_a_taken_one_works(void **state UNUSED)
{
	int before, null = open("/dev/null", O_RDONLY);
	char c;

	before = open_fds();
	for (int i = 0; i < 20; i++)
		msg_send(&a, MSG_TABLE, &(struct msg_table){1}, NULL, 0, &null, 1);
	turn();
	assert_int_equal(got, 20);
	assert_int_equal(open_fds(), before);
	keep_fd = true;
	msg_send(&a, MSG_TABLE, &(struct msg_table){1}, NULL, 0, &null, 1);
	turn();
	assert_int_equal(read(kept_fd, &c, 1), 0);
	assert_true(fcntl(kept_fd, F_GETFD) & FD_CLOEXEC);
	close(kept_fd);
	close(null);
}

/* Sends a packet as it is to b's successor; it must end the channel, and reach nobody. */
static void send_bad(const void *packet, size_t len, const int *fds, int fds_len)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(16 * sizeof(int))];
	} control = {0};
	struct iovec iov = {(void *)packet, len};
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};
	int before;

	msg_channel_close(&a);
	msg_channel_close(&b);
	if (raw[0] >= 0)
		close(raw[0]);
	if (raw[1] >= 0)
		close(raw[1]);
	assert_int_equal(msg_pair(raw), 0);
	got = ended = 0;
	before = open_fds();
	assert_int_equal(msg_channel_open(&b, &loop, TAKE_FD(raw[1])), 0);
	if (fds_len) {
		h.msg_control = &control;
		h.msg_controllen = CMSG_SPACE((size_t)fds_len * sizeof(int));
		*CMSG_FIRSTHDR(&h) = (struct cmsghdr){CMSG_LEN((size_t)fds_len * sizeof(int)),
						      SOL_SOCKET, SCM_RIGHTS};
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&h)), fds, (size_t)fds_len * sizeof(int));
	}
	assert_int_equal(sendmsg(raw[0], &h, 0), len);
	turn();
	assert_int_equal(got, 0);
	assert_int_equal(ended, 1);
	assert_false(msg_channel_is_open(&b));
	assert_int_equal(open_fds(), before - 1); /* its own end, and nothing that came with it */
}

static void a_bad_packet_ends_the_channel_and_leaks_nothing(void **state UNUSED)
{
	static char packet[200000] __attribute__((aligned(8)));
	uint32_t *head = (uint32_t *)packet;
	int fds[16];

	for (int i = 0; i < 16; i++)
		fds[i] = STDERR_FILENO;
	send_bad(packet, 1, NULL, 0);
	head[0] = MSG_COUNT;
	send_bad(packet, 12, NULL, 0);
	head[0] = MSG_NONE;
	send_bad(packet, 8, NULL, 0);
	head[0] = MSG_BEAT;
	send_bad(packet, 8 + sizeof(struct msg_none) - 1, NULL, 0);
	head[1] = 4; /* a tail where there may be none */
	send_bad(packet, 8 + sizeof(struct msg_none) + 4, NULL, 0);
	head[1] = 0;
	send_bad(packet, 8 + sizeof(struct msg_none), fds, 1);
	send_bad(packet, 8 + sizeof(struct msg_none), fds, 16);
	head[0] = MSG_TABLE;
	send_bad(packet, 8 + sizeof(struct msg_table), fds, 2);
	head[0] = MSG_START;
	head[1] = MSG_TAIL_MAX + 1;
	send_bad(packet, 8 + sizeof(struct msg_start) + MSG_TAIL_MAX + 1, NULL, 0);
	send_bad(packet, sizeof(packet), NULL, 0);
}

static void the_end_of_a_peer_is_told_once(void **state UNUSED)
{
	msg_channel_close(&a);
	turn();
	assert_int_equal(ended, 1);
	assert_string_equal(end_reason, "closed");
	assert_false(msg_send(&b, MSG_BEAT, &(struct msg_none){0}, NULL, 0, NULL, 0));
	turn();
	assert_int_equal(ended, 1);
}

static void what_the_socket_does_not_take_waits_in_order(void **state UNUSED)
{
	uint64_t sent = 0;

	while (a.queue_len < 100) { /* b does not read: the loop does not turn */
		sent++;
		assert_true(msg_send(&a, MSG_UNLISTEN, &(struct msg_id){sent}, NULL, 0, NULL, 0));
	}
	for (uint64_t seen = 0; seen < sent;) {
		loop_turn(&loop, 1000);
		assert_int_equal(((struct msg_id *)last_body)->id, got);
		seen = (uint64_t)got;
	}
	assert_int_equal(a.queue_len, 0);
	assert_int_equal(ended, 0);
}

static void a_peer_that_never_reads_is_given_up_at_the_bound_and_leaks_nothing(void **state UNUSED)
{
	int null = open("/dev/null", O_RDONLY), before = open_fds();
	int sent = 0;

	while (msg_send(&a, MSG_TABLE, &(struct msg_table){1}, NULL, 0, &null, sent % 64 == 0))
		assert_true(++sent < 200000);
	assert_int_equal(a.queue_len, MSG_QUEUE_MAX);
	assert_int_equal(ended, 0); /* not from within msg_send() */
	b.on_msg = on_msg;
	while (ended < 2)
		loop_turn(&loop, 1000);
	assert_false(msg_channel_is_open(&a));
	close(null);
	assert_int_equal(open_fds(), before - 3);
}

static void strings_of_a_tail_are_split_and_counted(void **state UNUSED)
{
	const char tail[] = "one\0\0three\0cut";
	struct msg m = {.tail = tail, .tail_len = sizeof(tail) - 1};
	const char *s[4];
	size_t at = 0;

	assert_true(msg_strings(&m, &at, 3, s));
	assert_string_equal(s[0], "one");
	assert_string_equal(s[1], "");
	assert_string_equal(s[2], "three");
	assert_false(msg_strings(&m, &at, 1, s)); /* without its end */
	m.tail_len = 0;
	at = 0;
	assert_true(msg_strings(&m, &at, 0, s));
	assert_false(msg_strings(&m, &at, 1, s));
}

static void each_part_gets_its_shared_descriptors_without_gaps(void **state UNUSED)
{
	assert_int_equal(shared_at(PART_ROUTER, SHARED_NUMBERS), 0);
	assert_int_equal(shared_at(PART_ROUTER, SHARED_RING), 3);
	assert_int_equal(shared_at(PART_CONTROLLER, SHARED_ROUTER_BELL), 1);
	assert_int_equal(shared_at(PART_CONTROLLER, SHARED_RING), -1);
	assert_int_equal(shared_at(PART_LOGGER, SHARED_NUMBERS), -1);
	assert_int_equal(shared_at(PART_LOGGER, SHARED_LOG_BELL), 0);
	assert_int_equal(shared_at(PART_LOGGER, SHARED_RING), 1);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
	    T(every_message_arrives_as_it_was_sent),
	    T(the_longest_tail_fits),
	    T(a_descriptor_that_is_not_taken_is_closed_and_a_taken_one_works),
	    T(a_bad_packet_ends_the_channel_and_leaks_nothing),
	    T(the_end_of_a_peer_is_told_once),
	    T(what_the_socket_does_not_take_waits_in_order),
	    T(a_peer_that_never_reads_is_given_up_at_the_bound_and_leaks_nothing),
	    cmocka_unit_test(strings_of_a_tail_are_split_and_counted),
	    cmocka_unit_test(each_part_gets_its_shared_descriptors_without_gaps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
