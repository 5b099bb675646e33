/* SPDX-License-Identifier: Apache-2.0
 *
 * The command line: `upstate VERB ...`. Each verb is a row in verbs.c and a thin client of the
 * API; nothing is possible here that curl could not do.
 */
#pragma once

/* Runs one verb; returns the exit status: 0 done, 1 failed, 2 wrong usage, 3 refused, 4 undone,
 * 130 interrupted while what was begun goes on. */
int cli_main(int argc, char **argv);

/* What `upstate serve` does after its options were read and the configuration was found right; set
 * by main.c, because serving is made of the processes that the command line is a client of. */
extern int (*cli_serve)(const char *conf_path, const char *state_dir);
