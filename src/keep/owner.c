/* SPDX-License-Identifier: Apache-2.0
 *
 * Who has the port that we want? The kernel says which socket listens there
 * (/proc/net/tcp) but not whose it is: that is found by looking for the socket
 * among the descriptors of the processes that we may see. Done only to word an
 * error; bounded in files and in time.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "keep/keep_priv.h"

#define OWNER_MS 100 /* then the port is just "in use" */
#define TCP_LISTENS 0x0a

/* The inode of the socket that listens on the port, 0: none seen. Which address it is on does
 * not matter much: a wildcard on either side collides too. */
static unsigned long listening_inode(const char *table, unsigned port)
{
	CLEANUP_FILE FILE *f = fopen(table, "re");
	char line[512];
	unsigned has_port, state;
	unsigned long inode;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line,
			   "%*d: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x %*s %*s %*s %*d %*d %lu",
			   &has_port, &state, &inode) == 3 &&
		    has_port == port && state == TCP_LISTENS && inode)
			return inode;
	return 0;
}

static bool has_socket(const char *pid, const char *wanted)
{
	char path[300], link[64];
	struct dirent *entry;
	bool found = false;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%.20s/fd", pid);
	dir = opendir(path);
	while (dir && !found && (entry = readdir(dir))) {
		ssize_t n = readlinkat(dirfd(dir), entry->d_name, link, sizeof(link) - 1);

		if (n < 0)
			continue;
		link[n] = '\0';
		found = !strcmp(link, wanted);
	}
	if (dir)
		closedir(dir);
	return found;
}

static void describe(const char *pid, char *text, size_t size)
{
	char path[64], name[32] = "a process";
	CLEANUP_FILE FILE *f = NULL;

	snprintf(path, sizeof(path), "/proc/%.20s/comm", pid);
	f = fopen(path, "re");
	if (f && fgets(name, sizeof(name), f))
		name[strcspn(name, "\n")] = '\0';
	snprintf(text, size, "%s (pid %.20s)", name, pid);
}

bool owner_of_port(const struct sockaddr_storage *addr, char *text, size_t size)
{
	const struct sockaddr_in *in = (const void *)addr; /* the port of both families is there */
	uint64_t until = clock_ms() + OWNER_MS;
	unsigned long inode;
	struct dirent *entry;
	char wanted[64];
	bool found = false;
	DIR *proc;

	if (addr->ss_family == AF_UNIX)
		return false;
	inode = listening_inode("/proc/net/tcp", ntohs(in->sin_port));
	if (!inode)
		inode = listening_inode("/proc/net/tcp6", ntohs(in->sin_port));
	proc = inode ? opendir("/proc") : NULL;
	if (!proc)
		return false;
	snprintf(wanted, sizeof(wanted), "socket:[%lu]", inode);
	while (!found && clock_ms() < until && (entry = readdir(proc))) {
		if (entry->d_name[0] < '1' || entry->d_name[0] > '9')
			continue;
		found = has_socket(entry->d_name, wanted);
		if (found)
			describe(entry->d_name, text, size);
	}
	closedir(proc);
	return found;
}
