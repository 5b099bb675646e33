/* SPDX-License-Identifier: Apache-2.0
 *
 * The logger has no decision to take: it reads what there is and writes it. It ends
 * when its channel to the keeper does, after it has written what was there.
 */
#include "logger/logger.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "logger/logger_priv.h"
#include "wire/ring.h"
#include "wire/shm.h"

static void on_beat(struct loop_timer *timer)
{
	struct logger *lg = container_of(timer, struct logger, beat);

	msg_send(&lg->channel, MSG_BEAT, &(struct msg_none){0}, NULL, 0, NULL, 0);
	loop_timer_set(&lg->loop, timer, lg->loop.now_ms + 1000);
}

static void take_shared(struct logger *lg, struct msg *m)
{
	const struct msg_shared *s = m->body;
	int bell = shared_at(PART_LOGGER, SHARED_LOG_BELL);
	int ring = shared_at(PART_LOGGER, SHARED_RING);
	struct ring *rings;

	if (lg->rings || m->fds_len <= MAX(bell, ring))
		return;
	rings = ring_map(m->fds[ring], s->threads * SHM_BANKS);
	if (!rings) {
		log_error("log.access", "reason=\"the rings cannot be mapped: %s\"",
			  strerror(errno));
		return;
	}
	access_start(lg, TAKE_FD(m->fds[bell]), rings, s->threads * SHM_BANKS);
}

static void take_conf(struct logger *lg, const struct msg_logconf *conf)
{
	lg->conf = *conf;
	if (!lg->conf.file_bytes)
		lg->conf.file_bytes = LOG_FILE_BYTES;
	if (!lg->conf.files)
		lg->conf.files = LOG_FILES;
}

static void on_msg(struct msg_channel *ch, struct msg *m)
{
	struct logger *lg = container_of(ch, struct logger, channel);

	switch (m->type) {
	case MSG_SHARED:
		take_shared(lg, m);
		break;
	case MSG_STREAM:
		if (m->fds_len == 1)
			stream_open(lg, m->body, TAKE_FD(m->fds[0]));
		break;
	case MSG_LOGCONF:
		take_conf(lg, m->body);
		break;
	default:
		break;
	}
}

static void on_end(struct msg_channel *ch, const char *reason UNUSED)
{
	loop_stop(&container_of(ch, struct logger, channel)->loop);
}

static int start(struct logger *lg)
{
	char dir[4200];

	lg->conf = (struct msg_logconf){LOG_FILE_BYTES, LOG_FILES, 1};
	lg->channel.on_msg = on_msg;
	lg->channel.on_end = on_end;
	lg->beat.on_time = on_beat;
	list_init(&lg->streams);
	list_init(&lg->app_logs);
	snprintf(dir, sizeof(dir), "%s/log", lg->state);
	if (mkdir(dir, 0750) < 0 && errno != EEXIST) /* it drains all the same */
		log_warn("log.dir", "dir=%s reason=\"%s\"", dir, strerror(errno));
	if (loop_init(&lg->loop) < 0 ||
	    msg_channel_open(&lg->channel, &lg->loop, MSG_CHANNEL_FD) < 0) {
		log_error("log.start", "reason=\"%s\"", strerror(errno));
		return -1;
	}
	msg_send(&lg->channel, MSG_READY, &(struct msg_none){0}, NULL, 0, NULL, 0);
	on_beat(&lg->beat);
	return 0;
}

int logger_main(int argc, char **argv)
{
	static struct logger lg;

	log_init("logger", LOG_INFO);
	if (argc != 3) {
		fprintf(stderr, "upstate: the logger is started by upstate serve\n");
		return 2;
	}
	lg.state = argv[2];
	if (start(&lg) < 0)
		return 1;
	loop_run(&lg.loop);
	stream_drain_all(&lg);
	if (lg.rings)
		access_drain(&lg);
	return 0;
}
