/* SPDX-License-Identifier: Apache-2.0
 *
 * What a keeper holds, as bytes in a sealed memory file: for itself, when it becomes another program
 * (upgrade.c). Descriptors stand as their numbers, times as those of clock_ms(), which goes on. A
 * keeper whose format is another one refuses the file; KEPT_FORMAT changes with any of these
 * structs, and with what they hold from other headers.
 */
#pragma once

#include "keep/keep_priv.h"

#define KEPT_MAGIC 0x5550534bu
#define KEPT_FORMAT 2

/* What the two programs must have in common, since processes of both work side by side. */
struct kept_head {
	uint32_t magic, format;
	uint32_t messages; /* msg_protocol() */
	uint32_t numbers;  /* SHM_VERSION */
	uint64_t size;	   /* of the file */
	uint32_t parts, listeners, instances, passed;
};

struct kept_keeper {
	char state[4096], conf[4096], cgroup[512], notify_path[MSG_PATH];
	int32_t lock_fd, shared[SHARED_COUNT], table_fd[2], certs_fd, checks_fd, zero;
	uint64_t table_generation[2], certs_generation, checks_generation, cgroup_tag, removed, files_soft;
	uint32_t threads, root, ready, logconf_set, namespaces;
	int32_t landlock;
	struct msg_logconf logconf;
	int32_t passed[KEEP_LISTENERS_MAX];
};

struct kept_part {
	uint32_t part, state, proc, bank;
	int32_t pid, channel;
	uint32_t quick_crashes, starts;
	uint64_t since_wall_ms;
	struct supervise supervise;
	char reason[MSG_REASON];
};

struct kept_listener {
	struct msg_listen order;
	int32_t fd, tries;
};

struct kept_instance {
	uint64_t id, since_wall_ms, next_wall_ms, stop_by_ms, timer_at_ms;
	struct msg_start start;
	uint32_t tail_len, state, starts, group_tries, stop_signal, grace_ms;
	int32_t pid, group_pid, setup_fd, notify_fd, out[2], group_dir, wait_status;
	uint32_t timer_armed, setup_failed, killed, zero;
	struct supervise supervise;
	char group[64], reason[MSG_REASON];
}; /* and tail_len bytes of its start order, filled up to a multiple of 8 */

/* A file that was read, and checked: pointers into it. Instances follow one another from the first on. */
struct kept {
	void *map;
	size_t size;
	const struct kept_head *head;
	const struct kept_keeper *keeper;
	const struct kept_part *parts;
	const struct kept_listener *listeners;
	const char *instances;
};

/* Writes down all that k holds; a sealed descriptor, close-on-exec, or -1 with e. */
int kept_write(const struct keeper *k, struct err *e);
int kept_read(int fd, struct kept *ret, struct err *e);
void kept_free(struct kept *kept);
const struct kept_instance *kept_next(const char **at); /* moves to the next one */
/* Makes k, which is init()ed and has its loop, hold it. */
int kept_adopt(struct keeper *k, const struct kept *kept, struct err *e);
/* Each descriptor that the next program must have: sets or clears close-on-exec. */
void kept_inherit(const struct keeper *k, bool inherit);
