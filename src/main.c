/* SPDX-License-Identifier: Apache-2.0
 *
 * Upstate: one binary, several processes. The map of the tree:
 *
 *	base/     errors, buffers, lists, time, log: what everything uses
 *	core/     every decision, as pure functions: routing table, policies, balancing, retry, hold,
 *	          health, supervision, rollout; statuses of devices, incidents
 *	loop/     epoll, timers, signals, children
 *	wire/     HTTP/1, heads of HTTP/2, messages between our processes, memory shared between them
 *	conf/     the configuration file: one schema table
 *	state/    what must be remembered: SQLite, the chain of history
 *	keep/     the keeper: holds sockets, starts and reaps everything
 *	route/    the router: users' requests
 *	files/    a static file server, run as an instance
 *	logger/   the logger: output of instances, access log
 *	watch/    the watcher: measures what the apps stand on
 *	ship/     releases and their store; rollouts made real
 *	tell/     API, feeds, pages
 *	control/  the controller: ship, tell and state in one process
 *	cli/      the verbs, thin clients of the API
 *
 * `upstate serve` becomes the keeper; the keeper runs this binary again as the other
 * processes, under names that begin with "_" and need its socket on descriptor 3.
 */
#include <string.h>

#include "base/util.h"
#include "cli/cli.h"
#include "control/controller.h"
#include "keep/keep.h"
#include "logger/logger.h"
#include "route/router.h"
#include "watch/watcher.h"

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
} parts[] = {
	{"_keeper", keep_resume_main},
	{"_kept", keep_trial_main},
	{"_router", router_main},
	{"_controller", controller_main},
	{"_logger", logger_main},
	{"_watcher", watcher_main},
	{"_trial", trial_main},
};

static int serve(const char *conf_path, const char *state_dir)
{
	return keep_serve(&(struct keep_options){.conf_path = conf_path, .state_dir = state_dir});
}

int main(int argc, char **argv)
{
	for (size_t i = 0; argc > 1 && i < ARRAY_LEN(parts); i++)
		if (strcmp(argv[1], parts[i].name) == 0)
			return parts[i].run(argc, argv);
	cli_serve = serve;
	return cli_main(argc, argv);
}
