/* SPDX-License-Identifier: Apache-2.0
 *
 * Shipping a tree of 20,000 files (191 MB) through the store, beside what teams use for it by hand:
 * rsync with a switched link, and git. Each way ends with a complete, separate tree of the release,
 *on disk (sync). The ways take turns; each cell is the median of the rounds and the best of them,
 *because other work on the machine only ever adds.
 *
 *	store_bench [FOLDER [ROUNDS]]    prints Markdown; works in a new folder below FOLDER
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "ship/store.h"

#define FILES 20000
#define BYTES 191000000
#define ROUNDS_MAX 15

enum { FIRST, AGAIN, CHANGED, VERIFY, STEPS };
static const char *const step_names[STEPS] = {"first", "same again", "2 % changed", "verify"};
enum { SCAN, MISSING, INTAKE, STAGE, PARTS };
static const char *const part_names[PARTS] = {"scan", "missing", "intake", "stage and verify"};

static struct err e;
static int rounds = 3;
static double parts[STEPS][PARTS][ROUNDS_MAX];

static void must(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "store_bench: %s: %s\n", what, *e.msg ? e.msg : strerror(errno));
	exit(1);
}

/* --- the tree --- */

static uint64_t draw(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return *seed >> 33;
}

static void put(int i, uint64_t version, size_t size)
{
	char path[64], data[131072];
	uint64_t seed = (uint64_t)i * 1000 + version;
	CLEANUP_FD int fd = -1;

	snprintf(path, sizeof(path), "src/%d", i / 400);
	mkdir(path, 0755);
	snprintf(path, sizeof(path), "src/%d/%d", i / 400, i / 20);
	mkdir(path, 0755);
	snprintf(path, sizeof(path), "src/%d/%d/%d.bin", i / 400, i / 20, i);
	for (size_t at = 0; at < sizeof(data); at += 4)
		memcpy(data + at, &(uint32_t){(uint32_t)draw(&seed)}, 4);
	unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	must(fd >= 0 && write(fd, data, size) == (ssize_t)size, path);
}

/* Many small files and few large ones: 1 in 8 has three quarters of the bytes. */
static void make_source(void)
{
	uint64_t seed = 1;
	const size_t mean = BYTES / FILES;

	must(mkdir("src", 0755) == 0, "src");
	for (int i = 0; i < FILES; i++)
		put(i, 0, draw(&seed) % (i % 8 ? mean * 4 / 7 : mean * 12) + 1);
}

/* 300 contents, 50 new, 50 gone, 50 modes. */
static void change_source(void)
{
	char path[64];

	for (int i = 0; i < 300; i++)
		put(i * 60, 1, 9500);
	for (int i = 0; i < 50; i++) {
		put(FILES + i, 1, 9500);
		snprintf(path, sizeof(path), "src/%d/%d/%d.bin", (i * 60 + 7) / 400,
			 (i * 60 + 7) / 20, i * 60 + 7);
		must(unlink(path) == 0, path);
		snprintf(path, sizeof(path), "src/%d/%d/%d.bin", (i * 60 + 9) / 400,
			 (i * 60 + 9) / 20, i * 60 + 9);
		must(chmod(path, 0755) == 0, path);
	}
}

/* --- the store --- */

static void feed_file(struct store_intake *in, const struct store_file *f)
{
	static char data[262144];
	char head[128], path[4200];
	int n = snprintf(head, sizeof(head), "%s %llu %c\n", f->hash, (unsigned long long)f->size,
			 f->executable ? 'x' : '-');
	CLEANUP_FD int fd = -1;
	ssize_t got;

	must(store_intake_feed(in, head, (size_t)n, &e) == 0, "feed");
	snprintf(path, sizeof(path), "src/%s", f->path);
	fd = open(path, O_RDONLY);
	while ((got = read(fd, data, sizeof(data))) > 0)
		must(store_intake_feed(in, data, (size_t)got, &e) == 0, "feed");
}

static void ship(struct store *s, struct store_manifest *m, double part[PARTS][ROUNDS_MAX],
		 int round)
{
	uint64_t t[PARTS + 1], bytes, objects;
	struct store_intake *in;
	CLEANUP_FREE bool *want = NULL;

	t[SCAN] = clock_us();
	must(store_scan("src", m, NULL, NULL, &e) == 0, "scan");
	t[MISSING] = clock_us();
	want = util_alloc(m->len);
	must(store_missing(s, m, want, &bytes, &e) == 0, "missing");
	t[INTAKE] = clock_us();
	must(store_intake_begin(s, &in, &e) == 0, "intake");
	for (size_t i = 0; i < m->len; i++)
		if (want[i])
			feed_file(in, &m->files[i]);
	must(store_intake_end(in, &objects, &e) == 0, "intake");
	t[STAGE] = clock_us();
	must(store_stage(s, m, &e) == 0, "stage");
	t[PARTS] = clock_us();
	for (int i = 0; i < PARTS; i++)
		part[i][round] = (double)(t[i + 1] - t[i]) / 1e6;
}

static double by_store(int step, int round)
{
	static struct store_manifest m;
	struct store *s;
	uint64_t start = clock_us();

	must(store_open("store", &s, &e) == 0, "open");
	if (step == VERIFY) {
		must(store_verify(s, &m, &e) == 0, "verify");
	} else {
		store_manifest_free(&m);
		ship(s, &m, parts[step], round);
	}
	store_close(s);
	return (double)(clock_us() - start) / 1e6;
}

/* --- the others --- */

static double by_shell(const char *fmt, ...) PRINTF(1, 2);
static double by_shell(const char *fmt, ...)
{
	char command[1024];
	uint64_t start = clock_us();
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(command, sizeof(command), fmt, ap);
	va_end(ap);
	must(system(command) == 0, command);
	return (double)(clock_us() - start) / 1e6;
}

static double by_rsync(int step, int round UNUSED)
{
	if (step == VERIFY)
		return by_shell("test -z \"$(rsync -anci --delete src/ rs/current/)\"");
	return by_shell("mkdir -p rs && rsync -a --delete --link-dest=../current src/ rs/%d/ && "
			"ln -sfn %d rs/current && sync -f rs",
			step, step);
}

static double by_git(int step, int round UNUSED)
{
	if (step == VERIFY)
		return by_shell("git --git-dir=g fsck --full >/dev/null 2>&1");
	return by_shell("export GIT_DIR=g; [ -e g ] || git init -q; git --work-tree=src add -A && "
			"git --work-tree=src -c user.name=b -c user.email=b@localhost "
			"-c gc.auto=0 commit -q --allow-empty -m %d && mkdir gt%d && "
			"GIT_INDEX_FILE=$PWD/gi%d git --work-tree=gt%d checkout -q -f HEAD -- . && "
			"sync -f gt%d",
			step, step, step, step, step);
}

static struct way {
	const char *name, *needs;
	double (*run)(int step, int round);
	double seconds[STEPS][ROUNDS_MAX];
} ways[] = {
    {"Upstate's store", "true", by_store, {{0}}},
    {"rsync, link switched", "rsync --version", by_rsync, {{0}}},
    {"git, checked out", "git --version", by_git, {{0}}},
};

static bool installed(const struct way *w)
{
	char command[64];

	snprintf(command, sizeof(command), "%s >/dev/null 2>&1", w->needs);
	return system(command) == 0;
}

static void run_round(int round)
{
	by_shell("rm -rf ./*");
	make_source();
	sync();
	for (int step = 0; step < STEPS; step++) {
		if (step == CHANGED) {
			change_source();
			sync();
		}
		for (size_t w = 0; w < ARRAY_LEN(ways); w++)
			if (installed(&ways[w]))
				ways[w].seconds[step][round] = ways[w].run(step, round);
	}
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void print_cell(double *values)
{
	qsort(values, (size_t)rounds, sizeof(*values), by_value);
	printf("|%.2f (%.2f)", values[rounds / 2], values[0]);
}

static void print_table(void)
{
	printf("%d files, %d MB; seconds, median (best) of %d rounds\n\n|", FILES, BYTES / 1000000,
	       rounds);
	for (int step = 0; step < STEPS; step++)
		printf("|%s", step_names[step]);
	printf("|\n|-|-|-|-|-|\n");
	for (size_t w = 0; w < ARRAY_LEN(ways); w++) {
		printf("|%s", ways[w].name);
		for (int step = 0; step < STEPS; step++)
			if (installed(&ways[w]))
				print_cell(ways[w].seconds[step]);
			else
				printf("|not installed");
		printf("|\n");
	}
	printf("\nParts of the store's\n\n|");
	for (int part = 0; part < PARTS; part++)
		printf("|%s", part_names[part]);
	printf("|\n|-|-|-|-|-|\n");
	for (int step = 0; step < VERIFY; step++) {
		printf("|%s", step_names[step]);
		for (int part = 0; part < PARTS; part++)
			print_cell(parts[step][part]);
		printf("|\n");
	}
}

int main(int argc, char **argv)
{
	char folder[4096];

	snprintf(folder, sizeof(folder), "%s/store-bench.XXXXXX", argc > 1 ? argv[1] : "/var/tmp");
	if (argc > 2)
		rounds = (int)strtol(argv[2], NULL, 10);
	must(rounds >= 1 && rounds <= ROUNDS_MAX, "ROUNDS is 1 to 15");
	must(mkdtemp(folder) && chdir(folder) == 0, folder);
	for (int i = 0; i < rounds; i++)
		run_round(i);
	print_table();
	must(chdir("/") == 0, "/");
	by_shell("rm -rf '%s'", folder);
	return 0;
}
