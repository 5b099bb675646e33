/* SPDX-License-Identifier: Apache-2.0
 *
 * Making a user: the password comes from the terminal or from standard input, never from the command
 * line, which anyone on the machine can read. It is wiped when it was hashed.
 */
#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <termios.h>

#include "cli/cli_priv.h"
#include "wire/password.h"

/* One line, without its end. */
static int read_line(FILE *from, char ret[PASSWORD_MOST + 2], struct err *e)
{
	size_t len;

	if (!fgets(ret, PASSWORD_MOST + 2, from))
		return err_set(e, ERR_INPUT, "no password came");
	len = strlen(ret);
	if (len && ret[len - 1] == '\n')
		ret[--len] = '\0';
	if (len > PASSWORD_MOST)
		return err_set(e, ERR_INPUT, "the password is longer than %u characters", PASSWORD_MOST);
	if (len < PASSWORD_LEAST)
		return err_set(e, ERR_INPUT,
			       "the password has fewer than %u characters: long ones are what keeps the users of "
			       "an app apart from who guesses", PASSWORD_LEAST);
	return 0;
}

/* Asks without showing what is typed; the terminal is as before afterwards. */
static int ask(const char *what, char ret[PASSWORD_MOST + 2], struct err *e)
{
	struct termios before, quiet;
	int rc;

	fprintf(stderr, "%s: ", what);
	if (tcgetattr(STDIN_FILENO, &before) < 0)
		return err_sys(e, "asking on the terminal");
	quiet = before;
	quiet.c_lflag &= ~(tcflag_t)ECHO;
	if (tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet) < 0)
		return err_sys(e, "asking on the terminal");
	rc = read_line(stdin, ret, e);
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
	fputc('\n', stderr);
	return rc;
}

static int get_password(char ret[PASSWORD_MOST + 2], struct err *e)
{
	char again[PASSWORD_MOST + 2];
	int rc;

	setvbuf(stdin, NULL, _IONBF, 0); /* no copy of it in a buffer */
	if (!isatty(STDIN_FILENO))
		return read_line(stdin, ret, e);
	rc = ask("Password", ret, e);
	if (rc == 0)
		rc = ask("Again", again, e);
	if (rc == 0 && strcmp(ret, again) != 0)
		rc = err_set(e, ERR_INPUT, "the two are not the same");
	explicit_bzero(again, sizeof(again));
	return rc;
}

static int check_name(const char *name, struct err *e)
{
	size_t len = strlen(name);

	if (!len || len > 64 || strpbrk(name, ":'\""))
		return err_set(e, ERR_INPUT, "a name has 1 to 64 characters, without ':' and quotes");
	for (const char *p = name; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 127)
			return err_set(e, ERR_INPUT, "a name has no control characters");
	return 0;
}

int verb_password(struct cli *c, struct err *e)
{
	char password[PASSWORD_MOST + 2], text[PASSWORD_TEXT];
	uint8_t salt[PASSWORD_SALT];
	struct password_hasher h;
	int rc = check_name(c->args[0], e);

	if (rc == 0)
		rc = get_password(password, e);
	if (rc < 0) {
		explicit_bzero(password, sizeof(password));
		return rc;
	}
	if (getrandom(salt, sizeof(salt), 0) != sizeof(salt) || !password_init(&h)) {
		explicit_bzero(password, sizeof(password));
		return err_set(e, ERR_SYS, "no hash can be made: out of memory?");
	}
	password_write(&h, salt, password, strlen(password), text);
	explicit_bzero(password, sizeof(password));
	password_fini(&h);
	printf("\"%s:%s\"\n", c->args[0], text);
	return 0;
}
