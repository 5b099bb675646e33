/* SPDX-License-Identifier: Apache-2.0
 *
 * Everything that is told about verbs, out of the table: help, completion, upstate(1).
 */
#include <string.h>

#include "cli/verbs.h"

#define WIDTH 79

/* Wraps text at WIDTH; lines after the first are indented. column: where the first one begins. */
static void add_wrapped(struct buf *out, const char *text, int column, int indent)
{
	bool fresh = true;

	while (*text) {
		int len = (int)strcspn(text, " ");

		if (!fresh && column + 1 + len > WIDTH) {
			buf_addf(out, "\n%*s", indent, "");
			column = indent;
			fresh = true;
		}
		if (!fresh)
			buf_addc(out, ' ');
		column += !fresh + len;
		fresh = false;
		buf_add(out, text, (size_t)len);
		text += len;
		while (*text == ' ')
			text++;
	}
	buf_addc(out, '\n');
}

void help_usage(const struct verbs_row *verb, struct buf *out)
{
	buf_addf(out, "upstate %s", verb->name);
	if (*verb->arguments)
		buf_addf(out, " %s", verb->arguments);
	for (int i = 0; i < OPTION_COUNT; i++) {
		const struct verbs_option_row *row = &verbs_options[i];

		if (!((verb->options >> i) & 1))
			continue;
		if (row->letter)
			buf_addf(out, " [-%c%s%s]", row->letter, row->argument ? " " : "",
				 row->argument ? row->argument : "");
		else
			buf_addf(out, " [%s%s%s]", row->name, row->argument ? " " : "",
				 row->argument ? row->argument : "");
	}
}

void help_all(struct buf *out)
{
	buf_adds(out, "Upstate " UPSTATE_VERSION
		      " keeps an application up while everything under it changes.\n\n"
		      "usage: upstate VERB ... [--state DIR]\n\n");
	for (size_t i = 0; i < verbs_len; i++) {
		char call[40];

		snprintf(call, sizeof(call), "%s %s", verbs_rows[i].name, verbs_rows[i].arguments);
		buf_addf(out, "  %-24s%s\n", call, verbs_rows[i].help);
	}
	buf_adds(
	    out,
	    "\n'upstate help VERB' tells more; 'upstate init' writes a first configuration.\n");
}

void help_verb(const struct verbs_row *verb, struct buf *out)
{
	char exits[300];

	buf_adds(out, "usage: ");
	help_usage(verb, out);
	buf_addf(out, "\n\n  %s\n", verb->help);
	if (verb->more) {
		buf_adds(out, "\n  ");
		add_wrapped(out, verb->more, 2, 2);
	}
	buf_adds(out, "\noptions:\n");
	for (int i = 0; i < OPTION_COUNT; i++) {
		const struct verbs_option_row *row = &verbs_options[i];
		char name[64];

		if (!verbs_takes(verb, (enum verbs_option)i))
			continue;
		snprintf(name, sizeof(name), "%c%c%s%s%s%s", row->letter ? '-' : ' ',
			 row->letter ? row->letter : ' ', row->letter ? ", " : "  ", row->name,
			 row->argument ? " " : "", row->argument ? row->argument : "");
		buf_addf(out, "  %-20s  ", name);
		add_wrapped(out, row->help, 24, 24);
	}
	buf_adds(out, "\nexit status: ");
	snprintf(exits, sizeof(exits), "0 done, 1 failed, 2 wrong usage%s%s",
		 verb->exits ? ", " : "", verb->exits ? verb->exits : "");
	add_wrapped(out, exits, 13, 2);
}

void help_completion(struct buf *out)
{
	buf_adds(out, "# bash completion for upstate; eval \"$(upstate completion bash)\"\n"
		      "_upstate() {\n"
		      "\tlocal word=${COMP_WORDS[COMP_CWORD]} verb= options= i\n"
		      "\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
		      "\t\tcase ${COMP_WORDS[i]} in\n"
		      "\t\t--state | --why | --at | --limit | --lines | -n | -c | --config | "
		      "--checkout) ((i++)) ;;\n"
		      "\t\t-*) ;;\n"
		      "\t\t*) verb=${COMP_WORDS[i]}; break ;;\n"
		      "\t\tesac\n"
		      "\tdone\n"
		      "\tcase $verb in\n"
		      "\t\"\" | help) COMPREPLY=($(compgen -W '");
	for (size_t i = 0; i < verbs_len; i++)
		buf_addf(out, "%s%s", i ? " " : "", verbs_rows[i].name);
	buf_adds(out, "' -- \"$word\")); return ;;\n");
	for (size_t i = 0; i < verbs_len; i++) {
		buf_addf(out, "\t%s) options='", verbs_rows[i].name);
		for (int o = 0; o < OPTION_COUNT; o++)
			if (verbs_takes(&verbs_rows[i], (enum verbs_option)o))
				buf_addf(out, "%s ", verbs_options[o].name);
		if (strcmp(verbs_rows[i].name, "completion") == 0)
			buf_adds(out, "bash");
		if (strcmp(verbs_rows[i].name, "manual") == 0)
			buf_adds(out, "upstate.1 upstate.yaml.5");
		buf_adds(out, "' ;;\n");
	}
	buf_adds(out, "\tesac\n"
		      "\tif [[ $word == -* || $verb == completion || $verb == manual ]]; then\n"
		      "\t\tCOMPREPLY=($(compgen -W \"$options\" -- \"$word\"))\n"
		      "\telse\n"
		      "\t\tCOMPREPLY=($(compgen -f -- \"$word\"))\n"
		      "\tfi\n"
		      "}\n"
		      "complete -o filenames -F _upstate upstate\n");
}

/* --- upstate(1) --- */

static void add_mdoc(struct buf *out, const char *text)
{
	/* A sentence a line, as mdoc wants it; nothing at the start of a line may be a request. */
	for (bool start = true; *text; text++) {
		if (start && (*text == '.' || *text == '\''))
			buf_adds(out, "\\&");
		start = false;
		if (*text == '\\')
			buf_adds(out, "\\e");
		else if (*text == '-')
			buf_adds(out, "\\-");
		else if (*text == '\'')
			buf_adds(out, "\\(aq");
		else if (*text == '"')
			buf_adds(out, "\\(dq");
		else
			buf_addc(out, *text);
		if (*text == '.' && text[1] == ' ') {
			buf_addc(out, '\n');
			text++;
			start = true;
		}
	}
	buf_addc(out, '\n');
}

static void add_verb_mdoc(struct buf *out, const struct verbs_row *verb)
{
	buf_addf(out, ".It Nm Ic %s", verb->name);
	if (*verb->arguments)
		buf_addf(out, " %s", verb->arguments);
	for (int i = 0; i < OPTION_COUNT; i++) {
		const struct verbs_option_row *row = &verbs_options[i];

		if (!((verb->options >> i) & 1))
			continue;
		if (row->letter)
			buf_addf(out, " Op Fl %c", row->letter);
		else
			buf_addf(out, " Op Fl \\-%s", row->name + 2);
		if (row->argument)
			buf_addf(out, " Ar %s", row->argument);
	}
	buf_addc(out, '\n');
	buf_addf(out, "%c%s.\n", verb->help[0] - 'a' + 'A', verb->help + 1);
	if (verb->more)
		add_mdoc(out, verb->more);
}

static void add_options_mdoc(struct buf *out)
{
	buf_adds(out, ".Sh OPTIONS\n.Bl -tag -width Ds\n");
	for (int i = 0; i < OPTION_COUNT; i++) {
		const struct verbs_option_row *row = &verbs_options[i];

		buf_adds(out, ".It ");
		if (row->letter)
			buf_addf(out, "Fl %c , ", row->letter);
		buf_addf(out, "Fl \\-%s", row->name + 2);
		if (row->argument)
			buf_addf(out, " Ar %s", row->argument);
		buf_addc(out, '\n');
		add_mdoc(out, row->help);
	}
	buf_adds(out, ".El\n");
}

void help_manual(struct buf *out)
{
	buf_adds(
	    out,
	    ".Dd November 22, 2026\n.Dt UPSTATE 1\n.Os\n.Sh NAME\n.Nm upstate\n"
	    ".Nd keep an application up while everything under it changes\n"
	    ".Sh SYNOPSIS\n.Nm\n.Ar verb\n.Op Ar argument ...\n.Op Fl \\-state Ar dir\n"
	    ".Sh DESCRIPTION\n"
	    "Upstate routes the traffic of applications, ships their releases, supervises their\n"
	    "instances, and tells what their users saw.\n"
	    ".Nm\n.Ic serve\n"
	    "runs it; every other verb is a client of its API, over the socket\n"
	    ".Pa control.sock\n"
	    "in the state directory.\n.Pp\nThe verbs:\n.Bl -tag -width Ds\n");
	for (size_t i = 0; i < verbs_len; i++)
		add_verb_mdoc(out, &verbs_rows[i]);
	buf_adds(out, ".El\n");
	add_options_mdoc(out);
	buf_adds(
	    out,
	    ".Sh ENVIRONMENT\n.Bl -tag -width Ds\n.It Ev UPSTATE_STATE\nThe state directory, when\n"
	    ".Fl \\-state\nis not given.\n.It Ev UPSTATE_THREADS\nThreads of the router, 1 to 64; else one for each CPU, at most 8.\n.It Ev NO_COLOR\nWhen set, no colours are used.\n.El\n"
	    ".Sh EXIT STATUS\n.Bl -tag -width Ds\n.It 0\nDone.\n.It 1\nFailed.\n"
	    ".It 2\nWrong usage, or a configuration with mistakes.\n"
	    ".It 3\nRefused: right, but not now, or not by this user.\n"
	    ".It 4\nUndone: the change failed and was rolled back.\n"
	    ".It 130\nInterrupted while following a change, which goes on.\n.El\n"
	    ".Sh EXAMPLES\n.Bd -literal -offset indent\n"
	    "upstate init\n"
	    "upstate serve &\n"
	    "upstate deploy hello ./public \\-\\-why \\(dqfirst release\\(dq\n"
	    "upstate status\n"
	    "upstate rollback hello \\-\\-why \\(dqthe logo is upside down\\(dq\n"
	    "upstate history hello \\-\\-at 2026\\-11\\-22T10:30\n"
	    ".Ed\n.Sh SEE ALSO\n.Xr upstate.yaml 5\n");
}
