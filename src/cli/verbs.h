/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of verbs and the table of options. Parsing, help, completion, upstate(1) and the
 * messages about wrong words are loops over them; a new verb is a new row and its handler.
 */
#pragma once

#include <jansson.h>

#include "base/buf.h"
#include "base/err.h"

#define CLI_INTERRUPTED 130

/* X(NAME, long, short, argument or NULL, help) */
#define VERBS_OPTION_TABLE(X)                                                                      \
	X(STATE, "--state", 0, "DIR",                                                              \
	  "the state directory (else $UPSTATE_STATE; else /var/lib/upstate for root, "             \
	  "~/.local/state/upstate for others)")                                                    \
	X(CONF, "--config", 'c', "FILE",                                                           \
	  "the configuration (else ./upstate.yaml, else /etc/upstate/upstate.yaml)")               \
	X(WHY, "--why", 0, "TEXT", "the reason, for the history")                                  \
	X(JSON, "--json", 0, NULL, "print the answer of the API as it is")                         \
	X(DETACH, "--detach", 0, NULL, "begin the change and do not wait for its end")             \
	X(LINES, "--lines", 'n', "N", "how many lines (100)")                                      \
	X(FOLLOW, "--follow", 'f', NULL, "go on with what comes")                                  \
	X(AT, "--at", 0, "TIME", "what ran at this moment: 2026-11-22, 2026-11-22T10:30, ...")     \
	X(LIMIT, "--limit", 0, "N", "how many records (50)")                                       \
	X(VERIFY, "--verify", 0, NULL, "compute the whole chain anew")                             \
	X(CHECKOUT, "--checkout", 0, "DIR", "with --at: write the files that ran then below DIR")  \
	X(SPA, "--spa", 0, NULL,                                                                   \
	  "an app of one page: /index.html for paths that are no file and have no dot at the end") \
	X(CACHE, "--cache", 0, "TEXT",                                                             \
	  "Cache-Control of files that are not named by their content (no-cache)")                \
	X(METHOD, "--method", 'X', "METHOD", "the request's method (GET)")                         \
	X(HEADER, "--header", 'H', "'NAME: VALUE'", "a header of the request; may be given again") \
	X(FROM, "--from", 0, "ADDRESS", "the client's address")                                    \
	X(ONCE, "--once", 0, NULL, "one table of one second, then end")                            \
	X(VALUE, "--value", 0, "NUMBER", "a number that goes with it, for the thresholds of the check")   \
	X(TOOK, "--took", 0, "MS", "how long it took, in milliseconds")                              \
	X(HELP, "--help", 'h', NULL, "tell about the verb")

enum verbs_option {
#define X(name, long_, short_, arg, help) OPTION_##name,
	VERBS_OPTION_TABLE(X)
#undef X
	OPTION_COUNT
};

#define OPTION_BIT(name) (1u << OPTION_##name)

struct verbs_option_row {
	const char *name;
	char letter;
	const char *argument;
	const char *help;
};

#define CLI_ARGS_MAX 3
#define CLI_HEADERS_MAX 16

struct verbs_row;

/* One call of the program, parsed. */
struct cli {
	const struct verbs_row *verb;
	const char *args[CLI_ARGS_MAX];
	int arg_count;
	/* Text of those with an argument, "" of those without; NULL: not given. */
	const char *values[OPTION_COUNT];
	const char *headers[CLI_HEADERS_MAX]; /* the one option that may be given again */
	int header_count;
	char state_dir[4096];
	char conf_path[4096];
	bool tty;	 /* standard output is a terminal */
	bool colour;	 /* and wants colours */
	int exit_status; /* what the API said that we end with; 0: nothing */
	struct api *api; /* opened at the first use */
};

/* Returns the exit status, or a negative error code with e set. */
typedef int verbs_handler(struct cli *c, struct err *e);

struct verbs_row {
	const char *name;
	const char *arguments; /* "APP DIR", "APP [RELEASE]" */
	int least, most;       /* of them */
	unsigned options;      /* bits; STATE and HELP are everybody's */
	verbs_handler *run;
	const char *help;  /* one line */
	const char *more;  /* the rest, in sentences */
	const char *exits; /* statuses beside 0, 1 and 2, in words; NULL */
};

extern const struct verbs_row verbs_rows[];
extern const size_t verbs_len;
extern const struct verbs_option_row verbs_options[OPTION_COUNT];

const struct verbs_row *verbs_find(const char *name); /* NULL: no such */
/* Says that there is no such verb, and which there are. */
int verbs_wrong(const char *word, struct err *e);
static inline bool verbs_takes(const struct verbs_row *verb, enum verbs_option option)
{
	return ((verb->options | OPTION_BIT(STATE) | OPTION_BIT(HELP)) >> option) & 1;
}

/* Parses the arguments after the program's name. A wrong word is ERR_INPUT with the right ones.
 * `help`, `--help` and nothing at all come out as verb "help". */
int verbs_parse(int argc, char **argv, struct cli *ret, struct err *e);

verbs_handler verb_serve, verb_check, verb_init, verb_deploy, verb_rollback, verb_abort,
    verb_attach, verb_hold, verb_resume, verb_drain, verb_fence, verb_unfence, verb_status,
    verb_history, verb_logs, verb_limits, verb_reload, verb_restart, verb_upgrade, verb_verify, verb_maintenance,
    verb_password, verb_completion, verb_manual, verb_help, verb_version, verb_files,
    verb_explain, verb_top, verb_beat;

/* --- texts that come out of the tables (help.c) --- */

void help_all(struct buf *out);
void help_verb(const struct verbs_row *verb, struct buf *out);
void help_usage(const struct verbs_row *verb, struct buf *out); /* "upstate deploy APP DIR ..." */
void help_completion(struct buf *out);
void help_manual(struct buf *out); /* upstate(1), as mdoc */
