/* SPDX-License-Identifier: Apache-2.0
 *
 *	logger.c    start, messages, the end
 *	stream.c    the output of an instance, cut into lines
 *	access.c    records of the router, made JSON
 *	logfile.c   a file with a bound
 */
#pragma once

#include "base/buf.h"
#include "base/list.h"
#include "wire/access.h"
#include "wire/msg.h"

struct ring;

#define LOG_LINE_MAX 8192    /* of text; the rest of a longer line is cut, and counted in it */
#define LOG_PARTIAL_MS 200   /* then a line without its end is written as it is */
#define LOG_STREAMS_MAX 1100 /* the keeper's limit of instances, and some that are just ending */
#define LOG_BATCH_MS 50
#define LOG_FILE_BYTES (10u << 20)
#define LOG_FILES 5

/* --- logfile.c ----------------------------------------------------------- */

struct logfile {
	const struct msg_logconf *conf;
	char path[4300];
	int fd; /* -1: not open (yet, or it cannot be) */
	uint64_t size;
	uint64_t dropped;     /* bytes that could not be written since it was last said */
	uint64_t retry_ms;    /* before this, opening is not tried again */
	int error;	      /* of the last try */
	uint64_t complain_ms; /* before this, nothing is said again */
};

void logfile_init(struct logfile *f, const struct msg_logconf *conf, const char *state,
		  const char *name);
/* Whole lines. Writes all of it, or nothing and counts it. */
void logfile_write(struct logfile *f, const char *data, size_t len, uint64_t now_ms);
void logfile_fini(struct logfile *f);

/* --- stream.c ------------------------------------------------------------ */

/* Bytes of one stream on their way to lines; apart from its descriptor, so that it can be tested.
 */
struct lines {
	char name[MSG_NAME];
	char text[LOG_LINE_MAX];
	size_t len;
	uint64_t cut; /* bytes of this line beyond that */
};

/* Appends the lines that end within data to out; keeps the rest. */
void lines_add(struct lines *l, const char *data, size_t len, uint64_t wall_ms, struct buf *out);
/* Appends what is there though its end is not. */
void lines_flush(struct lines *l, uint64_t wall_ms, struct buf *out);

struct app_log {
	struct list link;
	char app[64];
	uint32_t streams;
	struct logfile file;
};

struct stream {
	struct list link;
	struct logger *logger;
	struct app_log *log;
	struct loop_io io;
	struct loop_timer partial;
	uint64_t id;
	struct lines lines;
};

/* Takes fd over. */
void stream_open(struct logger *lg, const struct msg_stream *m, int fd);
void stream_drain_all(struct logger *lg); /* to the end of what is there */

/* --- access.c ------------------------------------------------------------ */

/* One record as a line of JSON. False: its lengths do not add up. */
bool access_line(const char *record, uint32_t len, struct buf *out);
void access_start(struct logger *lg, int bell, struct ring *rings, uint32_t count);
void access_drain(struct logger *lg);

/* --- logger.c ------------------------------------------------------------ */

struct logger {
	struct loop loop;
	const char *state;
	struct msg_channel channel;
	struct msg_logconf conf;
	struct loop_timer beat;
	struct list streams, app_logs;
	uint32_t stream_count;
	struct buf out; /* lines on their way to a file */
	struct logfile access_file;
	struct loop_io bell;
	struct loop_timer batch;
	struct ring *rings;
	uint32_t ring_count;
};
