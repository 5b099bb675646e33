/* SPDX-License-Identifier: Apache-2.0
 *
 * Content types by extension. Text is UTF-8: what is written today is. A type that a browser would
 * execute is never guessed: an unknown extension is a download.
 */
#include "files/ask.h"

#include <string.h>
#include <strings.h>

#define TEXT "; charset=utf-8"

static const struct {
	const char *extension, *type;
} types[] = {
	{"html", "text/html" TEXT},
	{"htm", "text/html" TEXT},
	{"css", "text/css" TEXT},
	{"js", "text/javascript" TEXT},
	{"mjs", "text/javascript" TEXT},
	{"json", "application/json"},
	{"map", "application/json"},
	{"webmanifest", "application/manifest+json"},
	{"txt", "text/plain" TEXT},
	{"md", "text/markdown" TEXT},
	{"csv", "text/csv" TEXT},
	{"ics", "text/calendar" TEXT},
	{"vtt", "text/vtt" TEXT},
	{"xml", "application/xml"},
	{"xhtml", "application/xhtml+xml"},
	{"atom", "application/atom+xml"},
	{"rss", "application/rss+xml"},
	{"svg", "image/svg+xml"},
	{"png", "image/png"},
	{"jpg", "image/jpeg"},
	{"jpeg", "image/jpeg"},
	{"gif", "image/gif"},
	{"webp", "image/webp"},
	{"avif", "image/avif"},
	{"ico", "image/vnd.microsoft.icon"},
	{"bmp", "image/bmp"},
	{"woff2", "font/woff2"},
	{"woff", "font/woff"},
	{"ttf", "font/ttf"},
	{"otf", "font/otf"},
	{"mp4", "video/mp4"},
	{"m4v", "video/mp4"},
	{"webm", "video/webm"},
	{"mov", "video/quicktime"},
	{"mp3", "audio/mpeg"},
	{"m4a", "audio/mp4"},
	{"ogg", "audio/ogg"},
	{"opus", "audio/ogg"},
	{"wav", "audio/wav"},
	{"flac", "audio/flac"},
	{"pdf", "application/pdf"},
	{"wasm", "application/wasm"},
	{"zip", "application/zip"},
	{"gz", "application/gzip"},
	{"tar", "application/x-tar"},
	{"xz", "application/x-xz"},
	{"epub", "application/epub+zip"},
};

const char *type_of(const char *name)
{
	const char *slash = strrchr(name, '/'), *dot = strrchr(slash ? slash + 1 : name, '.');

	for (size_t i = 0; dot && i < ARRAY_LEN(types); i++)
		if (strcasecmp(dot + 1, types[i].extension) == 0)
			return types[i].type;
	return "application/octet-stream";
}

/* Both a letter and a digit: a date or a number is no hash, nor is a word like "facade". */
static bool is_hash(const char *s, size_t len)
{
	size_t digits = 0;

	if (len < 8 || len > 64)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (s[i] >= '0' && s[i] <= '9')
			digits++;
		else if (s[i] < 'a' || s[i] > 'f')
			return false;
	}
	return digits && digits < len;
}

bool type_is_fingerprinted(const char *name)
{
	const char *slash = strrchr(name, '/'), *at = slash ? slash + 1 : name;
	size_t len;

	/* Not the first piece: there it would be the name. Not the last: that is the extension. */
	for (at += strcspn(at, ".-"); *at; at += len) {
		len = strcspn(++at, ".-");
		if (at[len] == '.' && is_hash(at, len))
			return true;
	}
	return false;
}
