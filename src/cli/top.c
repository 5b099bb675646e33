/* SPDX-License-Identifier: Apache-2.0
 *
 * upstate top: the terminal. The alternate screen is entered and left with plain ANSI codes; whatever
 * ends the program (q, a signal, an error) leaves the terminal as it was. A pipe, --once and --json
 * get one table of one second.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/cli_priv.h"
#include "cli/top.h"

#define EVERY_MS 1000
#define FIRST_MS 300 /* the first interval is short, so that there is soon something to see */
#define LATE_MS 2000
#define FILTER_MAX 40

static volatile sig_atomic_t stop_wanted; /* Ctrl-Z */
static struct termios before;
static bool raw;

static void on_change(int signal UNUSED)
{
	/* It only has to end poll(). */
}

static void on_stop(int signal UNUSED)
{
	stop_wanted = 1;
}

static void say(const char *text, size_t len)
{
	while (len) {
		ssize_t n = write(STDOUT_FILENO, text, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return;
		text += n;
		len -= (size_t)n;
	}
}

static void enter_screen(void)
{
	static const char on[] = "\033[?1049h\033[?25l";
	struct termios now;

	if (isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &before) == 0) {
		now = before;
		now.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
		now.c_cc[VMIN] = 0;
		now.c_cc[VTIME] = 0;
		raw = tcsetattr(STDIN_FILENO, TCSANOW, &now) == 0;
	}
	say(on, sizeof(on) - 1);
}

static void leave_screen(void)
{
	static const char off[] = "\033[?25h\033[?1049l";

	say(off, sizeof(off) - 1);
	if (raw)
		tcsetattr(STDIN_FILENO, TCSANOW, &before);
	raw = false;
}

/* As without us: the shell has its terminal back until it says fg. */
static void suspend(void)
{
	stop_wanted = 0;
	leave_screen();
	raise(SIGSTOP);
	enter_screen();
}

static void find_size(struct top_view *v)
{
	struct winsize w = {0};

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) < 0 || !w.ws_col || !w.ws_row)
		w = (struct winsize){.ws_col = 80, .ws_row = 24};
	v->width = MAX(w.ws_col, 20);
	v->height = MAX(w.ws_row, 4);
}

struct top_run {
	struct cli *c;
	struct buf path;
	struct top top;
	struct top_view view;
	json_t *last; /* the numbers that the next ones are compared with */
	char filter[FILTER_MAX];
	char trouble[200];
	uint64_t asked_ms;
	bool over;
};

static int get_numbers(struct top_run *r, struct err *e)
{
	json_t *now;
	int rc = cli_get(r->c, buf_str(&r->path), &now, e);

	if (rc < 0)
		return rc;
	top_free(&r->top);
	top_rows(r->last, now, &r->top);
	top_sort(&r->top, r->view.key);
	json_decref(r->last);
	r->last = now;
	return 0;
}

/* --- keys --- */

static void type_filter(struct top_run *r, char key)
{
	size_t len = strlen(r->filter);

	if (key == '\r' || key == '\n') {
		r->view.typing = false;
	} else if (key == '\033') {
		r->view.typing = false;
		r->filter[0] = '\0';
	} else if ((key == 127 || key == '\b') && len) {
		r->filter[len - 1] = '\0';
	} else if (key > ' ' && key < 127 && len + 1 < sizeof(r->filter)) {
		r->filter[len] = key;
		r->filter[len + 1] = '\0';
	}
	r->view.skip = 0;
}

static void scroll(struct top_run *r, long by)
{
	r->view.skip = by < 0 && r->view.skip < (size_t)-by ? 0 : r->view.skip + (size_t)by;
}

static void press(struct top_run *r, char key)
{
	static const char letters[] = {
#define X(name, letter, text) letter,
		TOP_KEY_TABLE(X)
#undef X
	};
	const char *sort = memchr(letters, key, sizeof(letters));

	if (sort) {
		r->view.key = (enum top_key)(sort - letters);
		top_sort(&r->top, r->view.key);
	} else if (key == 'q') {
		r->over = true;
	} else if (key == ' ') {
		r->view.paused = !r->view.paused;
	} else if (key == 't') {
		r->view.targets = !r->view.targets;
	} else if (key == '/') {
		r->view.typing = true;
	} else if (key == 'j') {
		scroll(r, 1);
	} else if (key == 'k') {
		scroll(r, -1);
	}
}

/* Arrows and the like come as more bytes after an Esc, all at once. */
static void take_keys(struct top_run *r)
{
	char keys[64];
	ssize_t n = read(STDIN_FILENO, keys, sizeof(keys));

	if (n <= 0 && !(n < 0 && errno == EINTR)) {
		raw = false; /* the terminal is gone */
		r->over = n == 0 && !isatty(STDIN_FILENO);
		return;
	}
	for (ssize_t i = 0; i < n; i++) {
		if (keys[i] == '\033' && n - i >= 3 && keys[i + 1] == '[') {
			char code = keys[i + 2];

			scroll(r, code == 'A' ? -1 : code == 'B' ? 1 : code == '5' ? -10 : code == '6' ? 10 : 0);
			i += 2 + ((code == '5' || code == '6') && i + 3 < n);
		} else if (r->view.typing) {
			type_filter(r, keys[i]);
		} else {
			press(r, keys[i]);
		}
	}
}

/* --- live --- */

static void draw(struct top_run *r)
{
	CLEANUP_BUF struct buf out = {0};

	find_size(&r->view);
	buf_adds(&out, "\033[H\033[K");
	top_draw(&r->top, &r->view, &out);
	buf_adds(&out, "\033[J");
	say(buf_str(&out), out.len);
}

static void wait_for_keys(struct top_run *r, uint64_t until_ms)
{
	struct pollfd p = {.fd = raw ? STDIN_FILENO : -1, .events = POLLIN};
	uint64_t now = clock_ms();

	if (poll(&p, 1, now < until_ms ? (int)(until_ms - now) : 0) > 0)
		take_keys(r);
	if (stop_wanted)
		suspend();
}

/* While an answer is awaited: who looks at a screen that stands still must know, and may leave. */
static void on_wait(void *arg)
{
	struct top_run *r = arg;
	uint64_t ms = clock_ms() - r->asked_ms;

	if (ms < LATE_MS)
		return;
	snprintf(r->trouble, sizeof(r->trouble), "no answer for %u s", (unsigned)(ms / 1000));
	wait_for_keys(r, 0);
	draw(r);
	if (r->over)
		api_interrupt();
}

/* Numbers that do not come are said to be old; the screen stays, and they are asked for again. */
static void refresh(struct top_run *r)
{
	struct err e;

	if (r->view.paused)
		return;
	r->asked_ms = clock_ms();
	if (get_numbers(r, &e) < 0)
		util_text(r->trouble, sizeof(r->trouble), e.msg);
	else
		r->trouble[0] = '\0';
}

static int live(struct top_run *r)
{
	struct sigaction change = {.sa_handler = on_change}, stop = {.sa_handler = on_stop};
	uint64_t next = clock_ms() + FIRST_MS;

	api_catch_interrupts();
	api_on_wait(r->c->api, on_wait, r);
	sigaction(SIGWINCH, &change, NULL);
	sigaction(SIGCONT, &change, NULL);
	sigaction(SIGTSTP, &stop, NULL);
	signal(SIGPIPE, SIG_IGN);
	atexit(leave_screen);
	enter_screen();
	while (!r->over && !api_interrupted()) {
		draw(r);
		wait_for_keys(r, next);
		if (clock_ms() < next || r->over || api_interrupted())
			continue;
		refresh(r);
		next = MAX(next + EVERY_MS, clock_ms() + EVERY_MS / 2);
	}
	return 0; /* atexit() leaves the screen */
}

static int once(struct top_run *r, struct err *e)
{
	struct buf out = {.max = 256u << 20};
	int rc;

	nanosleep(&(struct timespec){.tv_sec = EVERY_MS / 1000}, NULL);
	rc = get_numbers(r, e);
	if (rc < 0)
		return rc;
	if (r->c->values[OPTION_JSON])
		return cli_print_json(top_json(&r->top));
	top_draw(&r->top, &r->view, &out);
	cli_print(&out);
	return 0;
}

int verb_top(struct cli *c, struct err *e)
{
	struct top_run r = {.c = c};
	bool one = c->values[OPTION_ONCE] || c->values[OPTION_JSON] || !c->tty;
	int rc;

	r.view = (struct top_view){.colour = c->colour, .targets = true, .filter = r.filter, .trouble = r.trouble};
	buf_adds(&r.path, "/v1/numbers");
	if (c->arg_count) {
		buf_adds(&r.path, "?app=");
		api_escape(&r.path, c->args[0]);
	}
	rc = get_numbers(&r, e);
	if (rc == 0)
		rc = one ? once(&r, e) : live(&r);
	top_free(&r.top);
	json_decref(r.last);
	buf_free(&r.path);
	return rc;
}
