/* SPDX-License-Identifier: Apache-2.0 */
#include "keep/kept.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "wire/shm.h"

#define PAD(n) (((n) + 7) & ~(size_t)7)

static_assert(sizeof(struct kept_head) % 8 == 0 && sizeof(struct kept_keeper) % 8 == 0 &&
		      sizeof(struct kept_part) % 8 == 0 && sizeof(struct kept_listener) % 8 == 0 &&
		      sizeof(struct kept_instance) % 8 == 0,
	      "structs of the file follow one another, each aligned");

/* --- writing ------------------------------------------------------------- */

static void add_keeper(const struct keeper *k, struct buf *b)
{
	struct kept_keeper *s = util_alloc(sizeof(*s));

	util_copy(s->state, sizeof(s->state), k->state);
	util_copy(s->conf, sizeof(s->conf), k->conf);
	util_copy(s->cgroup, sizeof(s->cgroup), k->cgroup);
	util_copy(s->notify_path, sizeof(s->notify_path), k->notify_path);
	s->lock_fd = k->lock_fd;
	for (int i = 0; i < SHARED_COUNT; i++)
		s->shared[i] = k->shared[i];
	for (int i = 0; i < 2; i++) {
		s->table_fd[i] = k->tables[i].fd;
		s->table_generation[i] = k->tables[i].generation;
	}
	s->certs_fd = k->certs.fd;
	s->certs_generation = k->certs.generation;
	s->checks_fd = k->checks.fd;
	s->checks_generation = k->checks.generation;
	s->cgroup_tag = k->cgroup_tag;
	s->removed = k->removed;
	s->files_soft = k->files_soft;
	s->threads = k->threads;
	s->root = k->root;
	s->ready = k->ready;
	s->logconf_set = k->logconf_set;
	s->namespaces = k->namespaces;
	s->landlock = k->landlock;
	s->logconf = k->logconf;
	for (int i = 0; i < k->passed_count; i++)
		s->passed[i] = k->passed[i];
	buf_add(b, s, sizeof(*s));
	free(s);
}

static void add_part(const struct keeper *k, int i, struct buf *b)
{
	const struct part_proc *p = k->parts[i];
	struct kept_part s = {.part = (uint32_t)i,
			      .state = p->state,
			      .proc = (uint32_t)(p - k->procs),
			      .bank = p->bank,
			      .pid = p->child.pid,
			      .channel = msg_channel_is_open(&p->channel) ? p->channel.io.fd : -1,
			      .quick_crashes = p->quick_crashes,
			      .starts = p->starts,
			      .since_wall_ms = p->since_wall_ms,
			      .supervise = p->supervise};

	util_copy(s.reason, sizeof(s.reason), p->reason);
	buf_add(b, &s, sizeof(s));
}

static void add_instance(const struct instance *in, struct buf *b)
{
	static const char zero[8];
	struct kept_instance s = {.id = in->id,
				  .since_wall_ms = in->since_wall_ms,
				  .next_wall_ms = in->next_wall_ms,
				  .stop_by_ms = in->stop_by_ms,
				  .timer_at_ms = in->timer.at_ms,
				  .timer_armed = in->timer.armed,
				  .start = in->order.start,
				  .tail_len = (uint32_t)in->order.tail_len,
				  .state = in->state,
				  .starts = in->starts,
				  .group_tries = in->group_tries,
				  .stop_signal = in->stop_signal,
				  .grace_ms = in->grace_ms,
				  .pid = in->child.pid,
				  .group_pid = in->group_pid,
				  .setup_fd = in->setup_io.fd,
				  .notify_fd = in->notify_io.fd,
				  .out = {in->out[0], in->out[1]},
				  .group_dir = in->group_dir,
				  .wait_status = in->wait_status,
				  .setup_failed = in->setup_failed,
				  .killed = in->killed,
				  .supervise = in->supervise};

	util_copy(s.group, sizeof(s.group), in->group);
	util_copy(s.reason, sizeof(s.reason), in->reason);
	buf_add(b, &s, sizeof(s));
	buf_add(b, in->order.tail, in->order.tail_len);
	buf_add(b, zero, PAD(in->order.tail_len) - in->order.tail_len);
}

static int seal(const struct buf *b, struct err *e)
{
	CLEANUP_FD int fd = memfd_create("upstate-kept", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (b->failed)
		return err_set(e, ERR_LIMIT, "what the keeper holds is too much to write down");
	if (fd < 0 || ftruncate(fd, (off_t)b->len) < 0 || pwrite(fd, b->data, b->len, 0) != (ssize_t)b->len ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return err_sys(e, "memory for what the keeper holds");
	return TAKE_FD(fd);
}

int kept_write(const struct keeper *k, struct err *e)
{
	CLEANUP_BUF struct buf b = {.max = 256u << 20};
	struct kept_head head = {.magic = KEPT_MAGIC, .format = KEPT_FORMAT, .messages = msg_protocol(),
				 .numbers = SHM_VERSION};
	struct listener *l;
	struct instance *in;

	head.parts = PART_COUNT;
	head.passed = (uint32_t)k->passed_count;
	LIST_EACH (l, &k->listeners, link)
		head.listeners++;
	LIST_EACH (in, &k->instances, link)
		head.instances++;
	buf_add(&b, &head, sizeof(head));
	add_keeper(k, &b);
	for (int i = 0; i < PART_COUNT; i++)
		add_part(k, i, &b);
	LIST_EACH (l, &k->listeners, link) {
		struct kept_listener s = {l->order, l->fd, l->tries};

		buf_add(&b, &s, sizeof(s));
	}
	LIST_EACH (in, &k->instances, link)
		add_instance(in, &b);
	if (!b.failed)
		((struct kept_head *)b.data)->size = b.len;
	return seal(&b, e);
}

/* --- reading ------------------------------------------------------------- */

const struct kept_instance *kept_next(const char **at)
{
	const struct kept_instance *in = (const void *)*at;

	*at += sizeof(*in) + PAD(in->tail_len);
	return in;
}

static const char *wrong_head(const struct kept_head *h, size_t size)
{
	if (size < sizeof(*h) || h->magic != KEPT_MAGIC)
		return "it is none";
	if (h->format != KEPT_FORMAT)
		return "it has another format";
	if (h->messages != msg_protocol())
		return "its processes speak otherwise with one another";
	if (h->numbers != SHM_VERSION)
		return "its numbers have another layout";
	if (h->size != size || h->parts != PART_COUNT || h->listeners > KEEP_LISTENERS_MAX ||
	    h->instances > KEEP_INSTANCES_MAX + 1 || h->passed > KEEP_LISTENERS_MAX)
		return "it has another size";
	return NULL;
}

static const char *wrong_parts(const struct kept *kept)
{
	uint32_t seen = 0;

	for (int i = 0; i < PART_COUNT; i++) {
		const struct kept_part *p = &kept->parts[i];

		if (p->part != (uint32_t)i || p->proc >= PART_COUNT || p->state > PART_STATE_DOWN ||
		    p->bank >= SHM_BANKS || (seen & 1u << p->proc))
			return "its parts do not add up";
		seen |= 1u << p->proc;
	}
	return NULL;
}

/* Fills in where everything stands; NULL, or what is wrong. */
static const char *lay_out(struct kept *kept)
{
	const char *at = kept->map, *end = at + kept->size, *next;

	kept->head = kept->map;
	at += sizeof(*kept->head);
	kept->keeper = (const void *)at;
	at += sizeof(*kept->keeper);
	kept->parts = (const void *)at;
	at += PART_COUNT * sizeof(*kept->parts);
	kept->listeners = (const void *)at;
	at += kept->head->listeners * sizeof(*kept->listeners);
	kept->instances = at;
	if (at > end)
		return "it is too short";
	for (uint32_t i = 0; i < kept->head->instances; i++) {
		if ((size_t)(end - at) < sizeof(struct kept_instance))
			return "it is too short";
		next = at;
		if (kept_next(&next)->tail_len > MSG_TAIL_MAX || next > end)
			return "an instance is too long";
		if (((const struct kept_instance *)(const void *)at)->state >= INSTANCE_GONE)
			return "an instance is in no state";
		at = next;
	}
	return at == end ? wrong_parts(kept) : "it is too long";
}

int kept_read(int fd, struct kept *ret, struct err *e)
{
	const char *why;
	struct stat st;

	*ret = (struct kept){0};
	if (fstat(fd, &st) < 0)
		return err_sys(e, "what the keeper holds");
	ret->size = (size_t)st.st_size;
	ret->map = ret->size ? mmap(NULL, ret->size, PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;
	if (ret->map == MAP_FAILED) {
		ret->map = NULL;
		return err_sys(e, "what the keeper holds");
	}
	why = wrong_head(ret->map, ret->size);
	if (!why)
		why = lay_out(ret);
	if (!why)
		return 0;
	kept_free(ret);
	return err_set(e, ERR_REFUSED, "what the keeper holds cannot be taken over by this program: %s", why);
}

void kept_free(struct kept *kept)
{
	if (kept->map)
		munmap(kept->map, kept->size);
	*kept = (struct kept){0};
}

/* --- descriptors --------------------------------------------------------- */

static void inherit_fd(int fd, bool inherit)
{
	if (fd >= 0)
		fcntl(fd, F_SETFD, inherit ? 0 : FD_CLOEXEC);
}

void kept_inherit(const struct keeper *k, bool inherit)
{
	struct listener *l;
	struct instance *in;

	inherit_fd(k->lock_fd, inherit);
	for (int i = 0; i < SHARED_COUNT; i++)
		inherit_fd(k->shared[i], inherit);
	for (int i = 0; i < 2; i++)
		inherit_fd(k->tables[i].fd, inherit);
	inherit_fd(k->certs.fd, inherit);
	inherit_fd(k->checks.fd, inherit);
	for (int i = 0; i < k->passed_count; i++)
		inherit_fd(k->passed[i], inherit);
	for (int i = 0; i < PART_COUNT; i++)
		if (msg_channel_is_open(&k->parts[i]->channel))
			inherit_fd(k->parts[i]->channel.io.fd, inherit);
	LIST_EACH (l, &k->listeners, link)
		inherit_fd(l->fd, inherit);
	LIST_EACH (in, &k->instances, link) {
		const int fds[] = {in->setup_io.fd, in->notify_io.fd, in->out[0], in->out[1], in->group_dir};

		for (size_t i = 0; i < ARRAY_LEN(fds); i++)
			inherit_fd(fds[i], inherit);
	}
}

/* --- taking over --------------------------------------------------------- */

static int adopt_keeper(struct keeper *k, const struct kept *kept, struct err *e)
{
	const struct kept_keeper *s = kept->keeper;

	util_copy(k->state, sizeof(k->state), s->state);
	util_copy(k->conf, sizeof(k->conf), s->conf);
	util_copy(k->cgroup, sizeof(k->cgroup), s->cgroup);
	util_copy(k->notify_path, sizeof(k->notify_path), s->notify_path);
	k->lock_fd = s->lock_fd;
	for (int i = 0; i < SHARED_COUNT; i++)
		k->shared[i] = s->shared[i];
	for (int i = 0; i < 2; i++)
		k->tables[i] = (struct keep_table){s->table_fd[i], s->table_generation[i]};
	k->certs = (struct keep_table){s->certs_fd, s->certs_generation};
	k->checks = (struct keep_table){s->checks_fd, s->checks_generation};
	k->cgroup_tag = s->cgroup_tag;
	k->removed = s->removed;
	k->files_soft = s->files_soft;
	k->threads = s->threads;
	k->root = s->root;
	k->ready = s->ready;
	k->logconf_set = s->logconf_set;
	k->namespaces = s->namespaces;
	k->landlock = s->landlock;
	k->logconf = s->logconf;
	k->passed_count = (int)kept->head->passed;
	k->passed = util_alloc((kept->head->passed + 1) * sizeof(int));
	for (int i = 0; i < k->passed_count; i++)
		k->passed[i] = s->passed[i];
	k->shm = shm_map(k->shared[SHARED_NUMBERS]);
	return k->shm ? 0 : err_sys(e, "the numbers");
}

static int adopt_part(struct keeper *k, const struct kept_part *s, struct err *e)
{
	struct part_proc *p = &k->procs[s->proc];

	k->parts[s->part] = p;
	p->part = (enum part)s->part;
	p->state = (enum part_state)s->state;
	p->bank = s->bank;
	p->quick_crashes = s->quick_crashes;
	p->starts = s->starts;
	p->since_wall_ms = s->since_wall_ms;
	p->supervise = s->supervise;
	p->was_ready = true;
	util_copy(p->reason, sizeof(p->reason), s->reason);
	if (s->pid > 0 && loop_child_add(&k->loop, &p->child, s->pid) < 0)
		return err_sys(e, "watching the %s", part_name(p->part));
	if (s->channel >= 0 && msg_channel_open(&p->channel, &k->loop, s->channel) < 0)
		return err_sys(e, "the channel of the %s", part_name(p->part));
	part_adopted(p);
	return 0;
}

int kept_adopt(struct keeper *k, const struct kept *kept, struct err *e)
{
	const char *at = kept->instances;

	if (adopt_keeper(k, kept, e) < 0)
		return -(int)e->code;
	for (int i = 0; i < PART_COUNT; i++)
		if (adopt_part(k, &kept->parts[i], e) < 0)
			return -(int)e->code;
	for (uint32_t i = 0; i < kept->head->listeners; i++)
		listen_adopt(k, &kept->listeners[i].order, kept->listeners[i].fd, kept->listeners[i].tries);
	for (uint32_t i = 0; i < kept->head->instances; i++) {
		const struct kept_instance *s = kept_next(&at);

		if (instance_adopt(k, s, (const char *)(s + 1), e) < 0)
			return -(int)e->code;
	}
	return 0;
}
