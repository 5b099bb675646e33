/* SPDX-License-Identifier: Apache-2.0
 *
 * upstate.yaml(5) and the first configuration. What a key is, its default and its
 * range come from the schema; only the frame is written here.
 */
#include <string.h>

#include "conf/schema.h"

/* Text for mdoc: a line that begins with a dot or quote, and backslashes, must not mean anything.
 */
static void add_text(struct buf *out, const char *text)
{
	if (*text == '.' || *text == '\'')
		buf_adds(out, "\\&");
	for (; *text; text++) {
		if (*text == '\\')
			buf_adds(out, "\\e");
		else if (*text == '"')
			buf_adds(out, "\\(dq");
		else if (*text == '\'')
			buf_adds(out, "\\(aq");
		else if (*text == '-')
			buf_adds(out, "\\-");
		else
			buf_addc(out, *text);
	}
}

/* As sentences, each on its own line, as mdoc wants them. */
static void add_sentences(struct buf *out, const char *text)
{
	const char *end;

	while ((end = strstr(text, ". "))) {
		CLEANUP_BUF struct buf one = {0};

		buf_add(&one, text, (size_t)(end - text) + 1);
		add_text(out, buf_str(&one));
		buf_addc(out, '\n');
		text = end + 2;
	}
	add_text(out, text);
	buf_addc(out, '\n');
}

static void add_facts(struct buf *out, const struct schema_row *row)
{
	char least[SCHEMA_NUMBER], most[SCHEMA_NUMBER];

	buf_adds(out, "\\(lB");
	buf_adds(out, schema_type_name(row->type));
	if (row->words) {
		buf_adds(out, ":");
		for (size_t i = 0; row->words[i]; i++)
			buf_addf(out, " %s", row->words[i]);
	}
	if (row->type == SCHEMA_INT || row->type == SCHEMA_MS || row->type == SCHEMA_BYTES ||
	    row->type == SCHEMA_BYTES32 || row->type == SCHEMA_PERCENT || row->type == SCHEMA_SECONDS) {
		buf_addf(out, ", %s to %s", schema_number(row->type, row->min, least),
			 schema_number(row->type, row->max, most));
	}
	if (row->fallback) {
		buf_adds(out, "; default ");
		add_text(out, row->fallback);
	}
	buf_adds(out, "\\(rB\n.br\n");
}

static void add_rows(struct buf *out, enum schema_owner owner)
{
	buf_adds(out, ".Bl -tag -width Ds\n");
	for (size_t i = 0; i < schema_len; i++) {
		const struct schema_row *row = &schema_rows[i];

		if (row->owner != owner)
			continue;
		buf_adds(out, ".It Ic ");
		add_text(out, row->path);
		buf_addc(out, '\n');
		if (row->type != SCHEMA_SECTION)
			add_facts(out, row);
		add_sentences(out, row->doc);
		if (row->type == SCHEMA_SIGNAL) {
			buf_adds(out, "Known are");
			for (size_t s = 0; schema_signals[s]; s++)
				buf_addf(out, "%s %s", s ? "," : "", schema_signals[s]);
			buf_adds(out, ".\n");
		}
		if (row->example) {
			buf_adds(out, ".br\nExample:\n.Ql ");
			add_text(out, schema_key(row));
			buf_adds(out, ": ");
			add_text(out, row->example);
			buf_addc(out, '\n');
		}
	}
	buf_adds(out, ".El\n");
}

void conf_manual(struct buf *out)
{
	CLEANUP_BUF struct buf example = {0};

	conf_example(&example);
	buf_adds(
	    out,
	    ".Dd November 22, 2026\n"
	    ".Dt UPSTATE.YAML 5\n"
	    ".Os\n"
	    ".Sh NAME\n"
	    ".Nm upstate.yaml\n"
	    ".Nd configuration of Upstate\n"
	    ".Sh DESCRIPTION\n"
	    "One YAML file says which apps there are, how they run, and under which names users\n"
	    "reach them.\n"
	    "Everything but\n"
	    ".Ic apps\n"
	    "has a default.\n"
	    ".Pp\n"
	    ".Ic upstate check\n"
	    "reads the file and tells every mistake at once, each with its line and column.\n"
	    "A running Upstate takes a changed file as a whole or not at all.\n"
	    ".Pp\n"
	    "A duration is a number with\n"
	    ".Ql ms , s , m , h\n"
	    "or\n"
	    ".Ql d ;\n"
	    "without a unit it counts seconds.\n"
	    "A size is a number of bytes, with\n"
	    ".Ql k , M , G\n"
	    "or\n"
	    ".Ql KiB , MiB , GiB\n"
	    "for powers of 1024, and\n"
	    ".Ql kB , MB , GB\n"
	    "for powers of 1000.\n"
	    "Where a list has one item, the item alone will do.\n"
	    "Anchors, aliases and tags are refused; a value that begins with\n"
	    ".Ql *\n"
	    "needs quotes.\n"
	    ".Ss The whole\n");
	add_rows(out, SCHEMA_TOP);
	buf_adds(out, ".Ss An item of certificates\n");
	add_rows(out, SCHEMA_CERT);
	buf_adds(out, ".Ss An app\n"
		      "Each app needs\n"
		      ".Ic run\n"
		      "or\n"
		      ".Ic targets ,\n"
		      "and not both.\n");
	add_rows(out, SCHEMA_APP);
	buf_adds(out, ".Ss A device\n");
	add_rows(out, SCHEMA_DEVICE);
	buf_adds(out, ".Ss A check\n"
		      "Its first key says what it measures.\n"
		      "What is wrong with this machine itself (no network, no descriptors, too much to do) makes a device\n"
		      ".Em unknown ,\n"
		      "never bad or ugly.\n");
	add_rows(out, SCHEMA_CHECK);
	buf_adds(out, ".Sh ENVIRONMENT\n"
		      "An instance finds in its environment:\n"
		      ".Bl -tag -width Ds\n"
		      ".It Ev UPSTATE_SOCKET\n"
		      "The unix socket that it listens on, when\n"
		      ".Ic run\n"
		      "names it.\n"
		      ".It Ev PORT\n"
		      "Else: the port of 127.0.0.1 that it listens on.\n"
		      "Programs that read it by themselves need not have it named.\n"
		      ".It Ev UPSTATE_DATA\n"
		      "The directory that is kept across releases, when\n"
		      ".Ic data\n"
		      "names one.\n"
		      ".It Ev NOTIFY_SOCKET\n"
		      "Where it says READY=1, when\n"
		      ".Ic ready.notify\n"
		      "is true.\n"
		      ".El\n"
		      ".Sh FILES\n"
		      ".Bl -tag -width Ds\n"
		      ".It Pa ./upstate.yaml\n"
		      "Read when it is there.\n"
		      ".It Pa /etc/upstate/upstate.yaml\n"
		      "Read otherwise.\n"
		      ".El\n"
		      ".Sh EXAMPLES\n"
		      "Three lines make an app:\n"
		      ".Bd -literal -offset indent\n"
		      "apps:\n"
		      "  hello:\n"
		      "    run: gunicorn \\-\\-bind unix:$UPSTATE_SOCKET app:app\n"
		      ".Ed\n"
		      ".Pp\n"
		      "What\n"
		      ".Ic upstate init\n"
		      "writes:\n"
		      ".Bd -literal -offset indent\n");
	for (const char *line = buf_str(&example); *line;) {
		const char *end = strchrnul(line, '\n');
		CLEANUP_BUF struct buf one = {0};

		buf_add(&one, line, (size_t)(end - line));
		add_text(out, buf_str(&one));
		buf_addc(out, '\n');
		line = *end ? end + 1 : end;
	}
	buf_adds(out, ".Ed\n"
		      ".Sh SEE ALSO\n"
		      ".Xr upstate 1\n");
}

void conf_example(struct buf *out)
{
	buf_adds(
	    out,
	    "# The configuration of Upstate. `upstate check` tells whether it is right;\n"
	    "# `man upstate.yaml` (or `upstate manual upstate.yaml.5`) tells every key.\n"
	    "\n"
	    "listen:\n"
	    "  - http: 127.0.0.1:8080      # users; 0.0.0.0:8080 to be reached from other "
	    "machines\n"
	    "\n"
	    "admin:\n"
	    "  http: 127.0.0.1:8081        # status page and feeds\n"
	    "\n"
	    "apps:\n"
	    "  hello:\n"
	    "    # Runs in the directory of the release: upstate deploy hello DIR --why \"first\"\n"
	    "    run: upstate files .      # its files; or, for a program: gunicorn --bind unix:$UPSTATE_SOCKET app:app\n"
	    "    instances: 2              # one can be replaced while the other answers\n"
	    "    health: { path: / }       # is asked every second; 2xx and 3xx are good\n"
	    "    # hosts: [hello.example.org]   # needed as soon as there is a second app\n"
	    "    # data: hello                  # a directory that outlives releases: "
	    "$UPSTATE_DATA\n"
	    "\n"
	    "  # A server that Upstate does not run, only routes to:\n"
	    "  # legacy:\n"
	    "  #   hosts: [old.example.org]\n"
	    "  #   targets: [127.0.0.1:9001, 127.0.0.1:9002]\n");
}
