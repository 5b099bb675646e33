/* SPDX-License-Identifier: Apache-2.0
 *
 * The keeper: what `upstate serve` becomes. It holds every socket, starts and
 * reaps everything else, and is the one process that must not fail; so it is
 * small, has one thread and one loop, parses nothing that came from outside, and
 * after its start waits for nobody.
 */
#pragma once

struct keep_options {
	const char *conf_path;
	const char *state_dir;
	const char *binary; /* run as the other processes; NULL: this one */
};

/* Who the router runs as when the keeper is root: a number that no account of Debian has. The
 * keeper starts it so; it never has a privilege to drop. */
#define KEEP_ROUTER_ID 64999
/* The same for uacme, which gets certificates (control/acme_run.c). */
#define KEEP_ACME_ID 64998
/* And the watcher, which talks to strangers too. */
#define KEEP_WATCHER_ID 64997

/* `upstate _keeper KEPT OLD [WHY]`: goes on as the keeper that this process was, see upgrade.c. */
int keep_resume_main(int argc, char **argv);
int keep_trial_main(int argc, char **argv);
/* Serves until it is told to end; returns the exit status. 3: another serve works on this state. */
int keep_serve(const struct keep_options *options);
