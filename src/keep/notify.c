/* SPDX-License-Identifier: Apache-2.0
 *
 * sd_notify: an instance says READY=1 when it can work, STOPPING=1 when it is about
 * to end. Anything else in the message is for other supervisors, and is ignored. Only
 * processes of the instance are listened to.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/log.h"
#include "keep/keep_priv.h"

#define NOTIFY_BYTES 4096
#define NOTIFY_BUDGET 16 /* messages taken in one turn */

static bool is_its_own(const struct instance *in, const struct ucred *from)
{
	uid_t uid = in->order.start.uid == (uint32_t)-1 ? geteuid() : in->order.start.uid;

	return from->uid == uid || getsid(from->pid) == in->group_pid ||
	       getpgid(from->pid) == in->group_pid;
}

/* Is `word` a line of the text? */
static bool says(const char *text, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = text; (p = strstr(p, word)); p += n)
		if ((p == text || p[-1] == '\n') && (p[n] == '\n' || !p[n]))
			return true;
	return false;
}

/* One message into text (terminated). False: none is there. */
static bool receive(int fd, char *text, struct ucred *ret_from)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(struct ucred))]; /* no room for descriptors: dropped */
	} control;
	struct iovec iov = {text, NOTIFY_BYTES - 1};
	struct msghdr h = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = &control,
			   .msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(fd, &h, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (n < 0)
		return false;
	text[n] = '\0';
	*ret_from = (struct ucred){.uid = (uid_t)-1, .pid = -1};
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&h); c; c = CMSG_NXTHDR(&h, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS)
			memcpy(ret_from, CMSG_DATA(c), sizeof(*ret_from));
	return true;
}

static void on_notify(struct loop_io *io, uint32_t events UNUSED)
{
	struct instance *in = container_of(io, struct instance, notify_io);
	char text[NOTIFY_BYTES];
	struct ucred from;

	for (int i = 0; i < NOTIFY_BUDGET && receive(io->fd, text, &from); i++) {
		if (!in->child.pid || !is_its_own(in, &from))
			continue;
		if (says(text, "STOPPING=1") && in->state == INSTANCE_RUNNING) {
			util_copy(in->reason, sizeof(in->reason), "says that it is about to end");
			instance_tell(in);
		}
		if (says(text, "READY=1"))
			instance_step_on(in, INSTANCE_EVENT_READY); /* never its end */
	}
}

int notify_open(struct instance *in, int fd, struct err *e)
{
	in->notify_io.on_ready = on_notify;
	if (loop_io_add(&in->keeper->loop, &in->notify_io, fd, EPOLLIN) < 0)
		return err_sys(e, "notify socket");
	return 0;
}

void notify_close(struct instance *in)
{
	int fd = in->notify_io.fd;

	if (fd < 0)
		return;
	loop_io_del(&in->keeper->loop, &in->notify_io);
	close(fd);
}
