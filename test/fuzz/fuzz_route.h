/* SPDX-License-Identifier: Apache-2.0
 *
 * A thread of the router without threads, with one app that has one target: a listening socket of the harness.
 */
#pragma once

#include <sys/un.h>

#include "route/route_priv.h"

static struct thread thread;
static struct router router = {.threads = &thread, .thread_count = 1, .controller_bell = -1,
			       .log_bell = -1, .main_bell = -1};
static struct table_listener anyone = {.app = UINT32_MAX};
static struct listener door = {.t = &thread, .conf = &anyone};
static int target;

static void take_table(const struct sockaddr_un *addr, bool h2)
{
	static const char *const any[] = {"*"}, *const root[] = {"/"};
	struct table_in_target g = {.id = 1, .slot = 1, .use = USE_SERVE, .kind = TARGET_UNIX, .name = "t",
				    .addr_len = sizeof(sa_family_t) + 6};
	struct table_in_app a = {.name = "a", .hosts = any, .host_count = 1, .paths = root,
				 .path_count = 1, .targets = &g, .target_count = 1,
				 .v = {.connect_ms = 1000, .response_ms = 1000, .body_ms = 1000,
				       .probe_ms = 1000, .probe_timeout_ms = 1000, .rise = 1, .fall = 1, .h2 = h2}};
	struct table_in in = {.apps = &a, .app_count = 1,
			      .limits = {.clients = 10, .streams = 50, .header_bytes = 4096,
					 .header_count = 50, .header_ms = 1000, .idle_ms = 1000}};
	struct buf b = {0};
	struct view *v = util_alloc(sizeof(*v));
	struct shared_app *app = util_alloc(sizeof(*app));
	struct shared_target *t = util_alloc(sizeof(*t));

	memcpy(g.addr, addr, sizeof(*addr));
	ensure(table_build(&in, 1, &b, NULL) == 0);
	app->refs = t->refs = 1;
	t->id = 1;
	t->health = HEALTH_UP;
	*v = (struct view){.refs = 1, .table = (const void *)b.data, .size = b.len};
	v->apps = memcpy(util_alloc(sizeof(app)), &app, sizeof(app));
	v->targets = memcpy(util_alloc(sizeof(t)), &t, sizeof(t));
	apps_take(&thread, v);
}

/* h2: the target speaks HTTP/2. */
static void start(bool h2)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	socklen_t len = sizeof(addr);

	target = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	ensure(bind(target, (void *)&addr, sizeof(sa_family_t)) == 0 && listen(target, 64) == 0);
	getsockname(target, (void *)&addr, &len); /* an abstract name of five letters */
	router.shm = shm_map(shm_create(1));
	thread.r = &router;
	ensure(router.shm && thread_init(&thread) == 0);
	take_table(&addr, h2);
}
