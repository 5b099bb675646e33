/* SPDX-License-Identifier: Apache-2.0
 *
 * uacme, as a process of its own: it speaks with a server on the network and reads what that says, so it gets a folder,
 * the key of the account, the request, and nothing else. From fork to exec it becomes another user (when Upstate is root),
 * sees of the file system what a program needs to run and its folder (Landlock), and has little room and time.
 *
 *	DIR/acme/run/private/key.pem	the account's key
 *	DIR/acme/run/csr.pem		what is asked for
 *	DIR/acme/run/hook		takes http-01 and nothing else: the router answers that by itself
 *	DIR/acme/run/csr-cert.pem	what came of it
 *
 * All but the last is written anew before each try, and nothing in it is believed afterwards.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <linux/landlock.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/log.h"
#include "control/acme_priv.h"
#include "keep/keep.h"

#define HOOK "#!/bin/sh\n[ \"$2\" = http-01 ]\n"

static uid_t own_user(void)
{
	return geteuid() == 0 ? KEEP_ACME_ID : (uid_t)-1;
}

/* --- its folder --- */

static int put_file(int folder, const char *name, const void *bytes, size_t len, mode_t mode, struct err *e)
{
	CLEANUP_FD int fd = -1;
	uid_t user = own_user();

	if (unlinkat(folder, name, 0) == 0 || errno == ENOENT)
		fd = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
	if (fd < 0 || fchmod(fd, mode) < 0 || (user != (uid_t)-1 && fchown(fd, user, user) < 0) ||
	    write(fd, bytes, len) != (ssize_t)len)
		return err_sys(e, "writing %s for uacme", name);
	return 0;
}

/* What uacme could have put in its place is not followed. */
static int open_folder(int at, const char *name, struct err *e)
{
	uid_t user = own_user();
	CLEANUP_FD int fd = -1;

	if (mkdirat(at, name, 0700) < 0 && errno != EEXIST)
		return err_sys(e, "making the folder '%s' for uacme", name);
	fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || (user != (uid_t)-1 && fchown(fd, user, user) < 0))
		return err_sys(e, "the folder '%s' of uacme", name);
	return TAKE_FD(fd);
}

int acme_folder(const char *dir, const struct buf *account, const struct buf *request, struct err *e)
{
	char path[600];
	CLEANUP_FD int folder = -1, private = -1;

	snprintf(path, sizeof(path), "%s/acme/run", dir);
	folder = open_folder(AT_FDCWD, path, e);
	if (folder < 0 || (private = open_folder(folder, "private", e)) < 0 ||
	    put_file(private, "key.pem", account->data, account->len, 0600, e) < 0 ||
	    put_file(folder, "csr.pem", request->data, request->len, 0600, e) < 0 ||
	    put_file(folder, "hook", HOOK, strlen(HOOK), 0700, e) < 0)
		return -(int)e->code;
	if (unlinkat(folder, "csr-cert.pem", 0) < 0 && errno != ENOENT)
		return err_sys(e, "removing the last result of uacme");
	return TAKE_FD(folder);
}

int acme_result(int folder, struct buf *ret, struct err *e)
{
	CLEANUP_FD int fd = openat(folder, "csr-cert.pem", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	char *room = buf_room(ret, PAIR_BYTES_MAX);
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || !room)
		return err_set(e, ERR_GONE, "uacme said that it has a certificate, and left none");
	for (; ret->len < PAIR_BYTES_MAX; ret->len += (size_t)n) {
		n = read(fd, ret->data + ret->len, PAIR_BYTES_MAX - ret->len);
		if (n < 0)
			return err_sys(e, "reading the certificate from uacme");
		if (n == 0)
			return 0;
	}
	return err_set(e, ERR_LIMIT, "the certificate from uacme is too long");
}

/* --- its rights --- */

#define READS (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define ALL (LANDLOCK_ACCESS_FS_MAKE_SYM * 2 - 1) /* of the first version; later ones are left as they are */

static void allow(int rules, const char *path, uint64_t rights)
{
	CLEANUP_FD int fd = open(path, O_PATH | O_CLOEXEC);
	struct landlock_path_beneath_attr below = {.allowed_access = rights, .parent_fd = fd};

	if (fd >= 0) /* what is not there need not be read */
		syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &below, 0);
}

/* Where programs, what they are linked with, names and trusted authorities lie. */
static bool drop_files(void)
{
	static const char *const reads[] = {"/usr", "/bin", "/lib", "/lib32", "/lib64", "/sbin", "/etc", "/dev",
					    "/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager", "/run/nscd",
					    "/var/lib/ca-certificates", "/opt", "/nix"};
	struct landlock_ruleset_attr attr = {.handled_access_fs = ALL};
	CLEANUP_FD int rules = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);

	if (rules < 0) /* a kernel without it */
		return true;
	for (size_t i = 0; i < ARRAY_LEN(reads); i++)
		allow(rules, reads[i], READS);
	allow(rules, ".", ALL);
	allow(rules, "/dev/null", LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE);
	return syscall(SYS_landlock_restrict_self, rules, 0) == 0;
}

static bool drop_user(void)
{
	uid_t user = own_user();

	return user == (uid_t)-1 || (setgroups(0, NULL) == 0 && setresgid(user, user, user) == 0 &&
				     setresuid(user, user, user) == 0);
}

static bool limit(int what, rlim_t most)
{
	struct rlimit r;

	if (getrlimit(what, &r) < 0)
		return false;
	r.rlim_max = MIN(r.rlim_max, most);
	r.rlim_cur = MIN(r.rlim_cur, r.rlim_max);
	return setrlimit(what, &r) == 0;
}

/* Of the environment, how it is to be found and how the world is to be reached; the rest may hold secrets. */
static char **environment(void)
{
	static const char *const names[] = {"PATH", "https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "TZ"};
	static char *list[ARRAY_LEN(names) + 1];
	uint32_t n = 0;

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		for (char **v = environ; *v; v++)
			if (strncmp(*v, names[i], strlen(names[i])) == 0 && (*v)[strlen(names[i])] == '=') {
				list[n++] = *v;
				break; /* one that stands there twice is taken once: there is room for no more */
			}
	return list;
}

__attribute__((noreturn)) static void become(int folder, char *const *argv, int out, pid_t parent)
{
	char **env = environment();
	const char *step = "its descriptors";
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	if (setsid() < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 || dup2(out, STDERR_FILENO) < 0 ||
	    syscall(SYS_close_range, 3, ~0u, CLOSE_RANGE_CLOEXEC) < 0)
		goto failed;
	step = "its limits";
	if (!limit(RLIMIT_CPU, 60) || !limit(RLIMIT_FSIZE, 4 << 20) || !limit(RLIMIT_CORE, 0) || !limit(RLIMIT_NOFILE, 256))
		goto failed;
	step = "its folder";
	if (fchdir(folder) < 0)
		goto failed;
	step = "becoming a user without rights";
	if (!drop_user())
		goto failed;
	step = "giving up rights";
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || !drop_files())
		goto failed;
	/* After the change of user, which clears it. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		goto failed;
	environ = env;
	step = "running it (the package uacme must be installed)";
	execvp(argv[0], argv);
failed:
	fprintf(stderr, "uacme: failed: %s: %s\n", step, strerror(errno));
	_exit(126);
}

pid_t acme_start(int folder, char *const *argv, int *ret_out, struct err *e)
{
	pid_t parent = getpid(), pid;
	int ends[2];

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return err_sys(e, "a pipe for uacme");
	fcntl(ends[1], F_SETFL, 0); /* it waits with a line that we have no room for */
	pid = fork();
	if (pid == 0)
		become(folder, argv, ends[1], parent);
	close(ends[1]);
	if (pid < 0) {
		close(ends[0]);
		return err_sys(e, "no process for uacme");
	}
	*ret_out = ends[0];
	return pid;
}

/* --- what it says --- */

/* The server's own words stand in the JSON that uacme prints (RFC 7807: detail). Else its first line that says that
 * something failed. */
void acme_reason(const char *said, char *ret, size_t size)
{
	const char *brace = strchr(said, '{'), *line = strstr(said, "failed");
	CLEANUP(json_decrefp) json_t *problem = brace ? json_loads(brace, JSON_DISABLE_EOF_CHECK, NULL) : NULL;
	const char *detail = json_string_value(json_object_get(problem, "detail"));
	char text[400];

	if (detail) {
		util_text(ret, size, detail);
	} else {
		while (line && line > said && line[-1] != '\n')
			line--;
		line = line ? line : said;
		line += strncmp(line, "uacme: ", 7) == 0 ? 7 : 0;
		snprintf(text, sizeof(text), "%.*s", (int)MIN(strcspn(line, "\n"), sizeof(text) - 1), line);
		util_text(ret, size, text[0] ? text : "uacme did not say why");
	}
	for (char *c = ret; *c; c++)
		*c = *c == '"' ? '\'' : (unsigned char)*c < ' ' ? ' ' : *c;
}
