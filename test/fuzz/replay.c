/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs a fuzz harness over each file of a folder, as an ordinary test.
 */
#include <dirent.h>
#include <string.h>

#include "base/util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void replay_file(const char *path)
{
	CLEANUP_FILE FILE *f = fopen(path, "rb");
	static uint8_t data[1 << 20];
	uint8_t *exact;
	size_t n;

	ensure(f);
	n = fread(data, 1, sizeof(data), f);
	exact = util_alloc(n); /* so that reading past the end is noticed */
	memcpy(exact, data, n);
	LLVMFuzzerTestOneInput(exact, n);
	free(exact);
}

int main(int argc, char **argv)
{
	DIR *dir = argc > 1 ? opendir(argv[1]) : NULL;
	struct dirent *entry;
	int files = 0;

	if (!dir) {
		fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
		return 2;
	}
	while ((entry = readdir(dir))) {
		char path[4096];

		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", argv[1], entry->d_name);
		replay_file(path);
		files++;
	}
	closedir(dir);
	printf("%d files\n", files);
	return files ? 0 : 1; /* a corpus that is not there tests nothing */
}
