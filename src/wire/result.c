/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/result.h"

#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

static_assert(sizeof(struct result) == 32, "records are read by another process");

const char *result_value_text(double value, enum result_unit unit, char text[64])
{
	static const char *const units[] = {
#define X(name, how) how,
	    RESULT_UNIT_TABLE(X)
#undef X
	};

	text[0] = '\0';
	if (isnan(value))
		return text;
	if (unit == RESULT_BYTES_UNIT && fabs(value) >= 1024) {
		static const char *const large[] = {"KiB", "MiB", "GiB", "TiB", "PiB"};
		size_t i = 0;

		for (value /= 1024; fabs(value) >= 1024 && i + 1 < ARRAY_LEN(large); i++)
			value /= 1024;
		snprintf(text, 64, "%.3g %s", value, large[i]);
	} else if (fabs(value) >= 100) {
		snprintf(text, 64, "%.0f%s", value, units[unit]);
	} else {
		snprintf(text, 64, "%.3g%s", value, units[unit]);
	}
	return text;
}

int results_create(void)
{
	CLEANUP_FD int fd = memfd_create("upstate-results", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || ftruncate(fd, sizeof(struct results)) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -1;
	return TAKE_FD(fd);
}

struct results *results_map(int fd)
{
	void *p = mmap(NULL, sizeof(struct results), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* One line without control characters, whole characters of UTF-8, blanks folded. */
static void clean(char *text)
{
	char *to = text;

	util_utf8(text);
	for (const char *p = text; *p; p++) {
		bool blank = (unsigned char)*p <= ' ' || *p == 127;

		if (!blank)
			*to++ = *p;
		else if (to > text && to[-1] != ' ')
			*to++ = ' ';
	}
	while (to > text && to[-1] == ' ')
		to--;
	*to = '\0';
}

bool result_put(struct results *rs, const struct result *r, const char *text)
{
	char cleaned[RESULT_TEXT_MAX + 1];
	struct result copy = *r;
	size_t len;
	char *room;

	util_text(cleaned, sizeof(cleaned), text);
	clean(cleaned);
	len = strlen(cleaned);
	room = ring_reserve(&rs->ring, (uint32_t)(sizeof(*r) + len));
	if (!room) {
		atomic_fetch_add_explicit(&rs->results_dropped, 1, memory_order_relaxed);
		return false;
	}
	copy.text_len = (uint16_t)len;
	memcpy(room, &copy, sizeof(copy));
	memcpy(room + sizeof(copy), cleaned, len);
	return ring_commit(&rs->ring, (uint32_t)(sizeof(copy) + len));
}

bool result_read(const char *record, uint32_t len, struct result *ret, char ret_text[RESULT_TEXT_MAX + 1])
{
	struct result r;

	if (len < sizeof(r))
		return false;
	memcpy(&r, record, sizeof(r)); /* what is checked is not what its writer may still change */
	if (r.text_len > RESULT_TEXT_MAX || len != sizeof(r) + r.text_len || r.outcome >= STATUS_COUNT ||
	    r.unit >= RESULT_UNIT_COUNT)
		return false;
	memcpy(ret_text, record + sizeof(r), r.text_len);
	ret_text[r.text_len] = '\0';
	clean(ret_text);
	*ret = r;
	return true;
}
