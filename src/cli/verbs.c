/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/verbs.h"

#include <string.h>

#include "conf/conf.h"

#define O(name) OPTION_BIT(name)

/* clang-format off */
const struct verbs_row verbs_rows[] = {
	{"serve", "", 0, 0, O(CONF), verb_serve, "run, in the foreground",
	 "Reads the configuration, opens the sockets and serves until it is told to end (TERM or INT). Tells "
	 "READY=1 to $NOTIFY_SOCKET and takes listening sockets by $LISTEN_FDS, as systemd hands them over. One "
	 "serve works on one state directory.",
	 "3 when another serve works on this state directory."},
	{"check", "", 0, 0, O(CONF) | O(JSON), verb_check, "tell whether the configuration is right",
	 "Every mistake is told at once, as file:line:column. Nothing is changed, and nothing needs to run.", NULL},
	{"init", "[FILE]", 0, 1, 0, verb_init, "write a first configuration",
	 "Writes a commented upstate.yaml into this directory, or FILE. A file that is there is left alone.",
	 "3 when the file is there."},
	{"deploy", "APP DIR", 2, 2, O(WHY) | O(DETACH) | O(JSON), verb_deploy, "ship a directory as the next release",
	 "Reads the tree, sends the files that Upstate does not have yet, and follows the change: new instances "
	 "start, take over one by one, and must do well for a while. If one does not, the change is undone by itself. "
	 "Interrupting the command does not stop the change; 'attach' follows it again.",
	 "3 when another change of the app is going on or the disk is full, 4 when the change was undone."},
	{"rollback", "APP [RELEASE]", 1, 2, O(WHY) | O(DETACH) | O(JSON), verb_rollback,
	 "go straight back to the release before, or to RELEASE",
	 "RELEASE is a number or an id, as 12, guestbook@12 or its first letters. Never refused for what is going on: it "
	 "supersedes it.",
	 "4 when it was undone."},
	{"abort", "APP", 1, 1, O(WHY) | O(DETACH) | O(JSON), verb_abort, "undo the change that is going on",
	 "Legal at every moment. Ends with 0 when the release before serves again.", NULL},
	{"attach", "CHANGE", 1, 1, O(JSON), verb_attach, "follow a change until its end",
	 "CHANGE is its number, as deploy and rollback print it. One that has ended shows its receipt.",
	 "4 when the change was undone."},
	{"status", "[APP]", 0, 1, O(JSON), verb_status, "tell how it is now",
	 "All apps, or one with its instances and targets. good: all is well. bad: it works, but worse than it should. ugly: it does "
	 "not work. unknown: nobody could look.", NULL},
	{"top", "[APP]", 0, 1, O(ONCE) | O(JSON), verb_top, "watch apps and targets live",
	 "Requests a second, latency, failures, what waits and what is inside, of each second. Keys: r, p, f, h, i, n sort by requests, p99, "
	 "failures, held, inside, name; / filters by app, t hides targets, space pauses, j and k scroll, q ends. In a pipe it prints one "
	 "table and ends.", NULL},
	{"explain", "URL", 1, 1, O(METHOD) | O(HEADER) | O(FROM) | O(JSON), verb_explain,
	 "tell where a request would go now, and why",
	 "Which app, and which patterns lost to it; which targets could be next, and why the others are not; what "
	 "would happen if it had to wait; which headers are added. Nothing is sent. What is not known is said.",
	 "1 when the request would be refused."},
	{"history", "[APP]", 0, 1, O(AT) | O(LIMIT) | O(VERIFY) | O(CHECKOUT) | O(JSON), verb_history,
	 "tell who changed what, when and why; what ran at a time",
	 "Records are chained by their hashes, so that none can be changed or taken out unnoticed; --verify "
	 "computes the chain anew. --at tells what ran at a moment (UTC unless it says otherwise), and --checkout writes the "
	 "files of that release, each verified by its hash, into a new directory.", NULL},
	{"logs", "APP", 1, 1, O(LINES) | O(FOLLOW), verb_logs, "show what the instances of an app printed", NULL, NULL},
	{"verify", "[APP]", 0, 1, O(JSON), verb_verify, "compare what lies on disk with what was shipped",
	 "Hashes every file of the releases in use anew. Ends with 1 when anything differs.", NULL},
	{"hold", "APP", 1, 1, O(WHY) | O(JSON), verb_hold, "let the requests of an app wait", 
	 "Requests wait, within the bounds of the configuration, until 'resume'. What is inside goes on.", NULL},
	{"resume", "APP", 1, 1, O(WHY) | O(JSON), verb_resume, "let the waiting requests go on", NULL, NULL},
	{"maintenance", "APP on|off", 2, 2, O(WHY) | O(JSON), verb_maintenance, "answer every request of an app with its maintenance page",
	 "With 503 and Retry-After, and the page of errors.503 if the app has one. What is inside goes on.",
	 "3 for off while the configuration says on."},
	{"drain", "APP TARGET", 2, 2, O(WHY) | O(JSON), verb_drain, "send nothing new to a target",
	 "What is inside may finish, within the limit of the configuration. 'unfence' brings it back.", NULL},
	{"fence", "APP TARGET", 2, 2, O(WHY) | O(JSON), verb_fence, "send nothing to a target, cut what is inside", NULL, NULL},
	{"unfence", "APP TARGET", 2, 2, O(WHY) | O(JSON), verb_unfence, "send requests to a target again", NULL, NULL},
	{"beat", "DEVICE [CHECK]", 1, 2, O(VALUE) | O(TOOK) | O(JSON), verb_beat, "tell that something is well, for a check of kind push",
	 "Meant for the end of a job: a backup that has ended well says so, and when it does not for too long, its device is ugly. CHECK "
	 "is the name of one, where a device has several. It is remembered when the command has ended with 0.", NULL},
	{"reload", "", 0, 0, O(JSON), verb_reload, "take the configuration as it is now",
	 "It is taken as a whole or, when it has mistakes, not at all.", NULL},
	{"files", "DIR", 1, 1, O(SPA) | O(CACHE), verb_files, "serve the files of a directory, as an app",
	 "Meant as 'run: upstate files .'. Listens on $UPSTATE_SOCKET, or on 127.0.0.1 at $PORT when that is set. GET and "
	 "HEAD; index.html for a directory, 404.html for what is not there. NAME.br and NAME.gz beside NAME are sent to who "
	 "takes them. Tags come from the content and hold over releases; ranges are served. A file with a hash in its name "
	 "(app.3f2a1b9c.js) is cached for ever. Names that begin with a dot are not served, but for /.well-known/. At most "
	 "4096 connections and 512 open files at once; a file whose hash takes over a second is sent without its tag until it is "
	 "known.", NULL},
	{"restart", "router", 1, 1, O(WHY) | O(JSON), verb_restart, "put another router in the place of the one that serves",
	 "Nobody notices: the new one takes the same sockets, the connections between requests and the requests that "
	 "wait; what is inside the old one is answered first, within the 'drain' of its app. 'status' shows the old one until it is empty.",
	 "3 when the router before has not finished yet."},
	{"upgrade", "[BINARY]", 0, 1, O(WHY) | O(JSON), verb_upgrade, "put another version of Upstate in the place of the one that runs",
	 "BINARY, or the file that now lies where the running program came from, is tried first: it must get ready on a copy of the "
	 "state, and understand what the keeper holds. Then the keeper becomes that program; instances go on, sockets stay open, and "
	 "connections and waiting requests go over to its router. A program that does not get ready leaves all as it is, or "
	 "is undone.",
	 "3 when the program was refused and nothing has changed, 4 when it was undone."},
	{"limits", "", 0, 0, O(JSON), verb_limits, "every bound in the program, its use, how often it overflowed", NULL, NULL},
	{"password", "NAME", 1, 1, 0, verb_password, "make a user for 'auth' in the configuration",
	 "Asks for a password on the terminal, or reads it as the first line of its input, and prints the line to put below "
	 "auth.users. Only a hash of it is printed, nothing is kept.", NULL},
	{"completion", "bash", 1, 1, 0, verb_completion, "print completion for a shell",
	 "Try: eval \"$(upstate completion bash)\"", NULL},
	{"manual", "[PAGE]", 0, 1, 0, verb_manual, "print a manual page: upstate.1 or upstate.yaml.5",
	 "As mdoc; read it with: upstate manual upstate.yaml.5 | man -l -", NULL},
	{"help", "[VERB]", 0, 1, 0, verb_help, "tell about a verb", NULL, NULL},
	{"version", "", 0, 0, 0, verb_version, "tell the version", NULL, NULL},
};
/* clang-format on */

const size_t verbs_len = ARRAY_LEN(verbs_rows);

const struct verbs_option_row verbs_options[OPTION_COUNT] = {
#define X(name_, long_, short_, arg, help_) [OPTION_##name_] = {long_, short_, arg, help_},
    VERBS_OPTION_TABLE(X)
#undef X
};

const struct verbs_row *verbs_find(const char *name)
{
	for (size_t i = 0; i < verbs_len; i++)
		if (strcmp(verbs_rows[i].name, name) == 0)
			return &verbs_rows[i];
	return NULL;
}

/* --- wrong words --- */

int verbs_wrong(const char *word, struct err *e)
{
	const char *names[ARRAY_LEN(verbs_rows)], *nearest;
	CLEANUP_BUF struct buf list = {0};

	for (size_t i = 0; i < verbs_len; i++) {
		names[i] = verbs_rows[i].name;
		buf_addf(&list, "%s%s", i ? ", " : "", names[i]);
	}
	nearest = conf_nearest(word, names, verbs_len);
	return err_set(e, ERR_INPUT, "there is no verb '%.80s'%s%s%s verbs: %s", word,
		       nearest ? "; did you mean '" : "", nearest ? nearest : "",
		       nearest ? "'?" : ";", buf_str(&list));
}

static int wrong_option(const struct verbs_row *verb, const char *word, struct err *e)
{
	const char *names[OPTION_COUNT], *nearest;
	CLEANUP_BUF struct buf list = {0};
	size_t n = 0;

	for (size_t i = 0; i < OPTION_COUNT; i++) {
		if (verb && !verbs_takes(verb, (enum verbs_option)i))
			continue;
		names[n] = verbs_options[i].name;
		buf_addf(&list, "%s%s", n ? ", " : "", names[n]);
		n++;
	}
	nearest = conf_nearest(word, names, n);
	return err_set(e, ERR_INPUT, "%s%s%s has no option '%.80s'%s%s%s options: %s",
		       verb ? "'" : "", verb ? verb->name : "upstate", verb ? "'" : "", word,
		       nearest ? "; did you mean '" : "", nearest ? nearest : "",
		       nearest ? "'?" : ";", buf_str(&list));
}

static int wrong_count(const struct verbs_row *verb, const char *extra, struct err *e)
{
	CLEANUP_BUF struct buf usage = {0};

	help_usage(verb, &usage);
	if (extra)
		return err_set(e, ERR_INPUT, "'%.80s' is one word too many; usage: %s", extra,
			       buf_str(&usage));
	return err_set(e, ERR_INPUT, "'%s' needs %s; usage: %s", verb->name, verb->arguments,
		       buf_str(&usage));
}

/* --- parsing --- */

/* Which option is it? A value that stands in the same word ("--at=X", "-n5") is put into
 * *ret_value. */
static int find_option(const char *word, const char **ret_value)
{
	size_t len = strcspn(word, "=");

	*ret_value = NULL;
	for (int i = 0; i < OPTION_COUNT; i++) {
		const struct verbs_option_row *row = &verbs_options[i];

		if (strncmp(word, "--", 2) == 0) {
			if (strlen(row->name) != len || strncmp(row->name, word, len) != 0)
				continue;
			*ret_value = word[len] ? word + len + 1 : NULL;
			return i;
		}
		if (row->letter && row->letter == word[1]) {
			*ret_value = word[2] ? word + 2 : NULL;
			return i;
		}
	}
	return -1;
}

/* Takes the option at argv[*i], and its argument. */
static int take_option(int argc, char **argv, int *i, struct cli *ret, struct err *e)
{
	const char *value;
	int option = find_option(argv[*i], &value);
	const struct verbs_option_row *row;

	if (option < 0)
		return wrong_option(ret->verb, argv[*i], e);
	row = &verbs_options[option];
	if (!row->argument && value)
		return err_set(e, ERR_INPUT, "%s takes no value ('%.80s')", row->name, value);
	if (row->argument && !value) {
		if (*i + 1 >= argc)
			return err_set(e, ERR_INPUT, "%s needs a value: %s %s", row->name,
				       row->name, row->argument);
		value = argv[++*i];
	}
	ret->values[option] = value ? value : "";
	if (option == OPTION_HEADER) {
		if (ret->header_count == CLI_HEADERS_MAX)
			return err_set(e, ERR_INPUT, "%s: more than %d headers", row->name, CLI_HEADERS_MAX);
		ret->headers[ret->header_count++] = value;
	}
	return 0;
}

/* Options may stand before their verb; only now is known whether it takes them. */
static int check_options(const struct cli *c, struct err *e)
{
	for (int i = 0; i < OPTION_COUNT; i++)
		if (c->values[i] && !verbs_takes(c->verb, (enum verbs_option)i))
			return wrong_option(c->verb, verbs_options[i].name, e);
	return 0;
}

static int take_word(const char *word, struct cli *ret, struct err *e)
{
	if (!ret->verb) {
		ret->verb = verbs_find(word);
		return ret->verb ? 0 : verbs_wrong(word, e);
	}
	if (ret->arg_count == ret->verb->most)
		return wrong_count(ret->verb, word, e);
	ret->args[ret->arg_count++] = word;
	return 0;
}

int verbs_parse(int argc, char **argv, struct cli *ret, struct err *e)
{
	bool words_only = false;
	int rc = 0;

	for (int i = 1; i < argc && rc == 0; i++) {
		if (!words_only && strcmp(argv[i], "--") == 0)
			words_only = true;
		else if (!words_only && !ret->verb && strcmp(argv[i], "--version") == 0)
			ret->verb = verbs_find("version");
		else if (!words_only && argv[i][0] == '-' && argv[i][1])
			rc = take_option(argc, argv, &i, ret, e);
		else
			rc = take_word(argv[i], ret, e);
	}
	if (rc < 0)
		return rc;
	if (ret->values[OPTION_HELP] || !ret->verb) {
		ret->args[0] = ret->verb ? ret->verb->name : NULL;
		ret->arg_count = ret->verb ? 1 : 0;
		ret->verb = verbs_find("help");
		return 0;
	}
	rc = check_options(ret, e);
	if (rc == 0 && ret->arg_count < ret->verb->least)
		rc = wrong_count(ret->verb, NULL, e);
	return rc;
}
