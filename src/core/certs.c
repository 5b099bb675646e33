/* SPDX-License-Identifier: Apache-2.0
 *
 * Like the routing table, it is checked as a whole before it is taken up, and then read without a
 * check. Names are sorted, so that the one for a client is found in a few comparisons.
 */
#include "core/certs.h"

#include <ctype.h>
#include <string.h>

/* --- building --- */

/* What a name is stored as: without "*". */
static const char *name_text(const char *name)
{
	return name[0] == '*' ? name + 1 : name;
}

uint64_t certs_size(const struct certs_in *in)
{
	uint64_t size = sizeof(struct certs) + in->pair_count * sizeof(struct certs_pair);

	for (uint32_t i = 0; i < in->pair_count; i++) {
		const struct certs_in_pair *p = &in->pairs[i];

		size += (uint64_t)p->chain_len + p->key_len;
		for (uint32_t n = 0; n < p->name_count; n++)
			size += sizeof(struct certs_name) + strlen(p->names[n]);
	}
	return size + 16; /* of alignment */
}

static int compare(const char *base, const struct certs_name *a, const char *text, uint32_t len)
{
	int order = memcmp(base + a->text, text, MIN(a->len, len));

	return order ? order : a->len < len ? -1 : a->len > len;
}

/* By text; then the earlier pair first. */
static int by_text(const void *pa, const void *pb, void *base)
{
	const struct certs_name *a = pa, *b = pb;
	int order = compare(base, a, (const char *)base + b->text, b->len);

	return order ? order : a->pair < b->pair ? -1 : a->pair > b->pair;
}

static int check_input(const struct certs_in *in, struct err *e)
{
	uint64_t names = 0;

	if (!in->pair_count || in->pair_count > CERTS_PAIRS_MAX)
		return err_set(e, ERR_LIMIT, "%u certificates; there is room for 1 to %u", in->pair_count,
			       CERTS_PAIRS_MAX);
	for (uint32_t i = 0; i < in->pair_count; i++) {
		names += in->pairs[i].name_count;
		for (uint32_t n = 0; n < in->pairs[i].name_count; n++)
			if (!*name_text(in->pairs[i].names[n]) ||
			    strlen(in->pairs[i].names[n]) > CERTS_NAME_MAX)
				return err_set(e, ERR_INPUT, "a name of a certificate is empty or too long");
	}
	if (names > CERTS_NAMES_MAX)
		return err_set(e, ERR_LIMIT, "the certificates have %llu names; there is room for %u",
			       (unsigned long long)names, CERTS_NAMES_MAX);
	if (certs_size(in) > CERTS_BYTES_MAX)
		return err_set(e, ERR_LIMIT, "the certificates take %llu bytes; there is room for %u",
			       (unsigned long long)certs_size(in), CERTS_BYTES_MAX);
	return 0;
}

static uint32_t put(char *base, uint32_t *at, const void *bytes, uint32_t len)
{
	uint32_t where = *at;

	if (len)
		memcpy(base + where, bytes, len);
	*at += len;
	return where;
}

static void put_names(char *base, uint32_t *at, struct certs_name *names, uint32_t *count,
		      const struct certs_in_pair *p, uint32_t pair)
{
	for (uint32_t i = 0; i < p->name_count; i++) {
		const char *text = name_text(p->names[i]);
		uint32_t len = (uint32_t)strlen(text), where = put(base, at, text, len);

		for (char *c = base + where; c < base + where + len; c++)
			*c = (char)tolower((unsigned char)*c);
		names[(*count)++] = (struct certs_name){where, len, pair};
	}
}

/* Sorts, and leaves each name to the first pair that has it. */
static uint32_t settle(char *base, struct certs_name *names, uint32_t count)
{
	uint32_t kept = 0;

	if (count)
		qsort_r(names, count, sizeof(*names), by_text, base);
	for (uint32_t i = 0; i < count; i++)
		if (!kept || compare(base, &names[kept - 1], base + names[i].text, names[i].len))
			names[kept++] = names[i];
	return kept;
}

int certs_build(const struct certs_in *in, uint64_t generation, void *mem, struct err *e)
{
	struct certs *c = mem;
	struct certs_pair *pairs;
	struct certs_name *names;
	uint32_t at = sizeof(*c), total = 0;
	char *base = mem;

	if (check_input(in, e) < 0)
		return -(int)e->code;
	for (uint32_t i = 0; i < in->pair_count; i++)
		total += in->pairs[i].name_count;
	*c = (struct certs){.magic = CERTS_MAGIC, .version = CERTS_VERSION, .size = certs_size(in),
			    .generation = generation, .pair_count = in->pair_count, .pairs = at};
	memcpy(c->tickets, in->tickets, sizeof(c->tickets));
	pairs = (void *)(base + at);
	at += in->pair_count * (uint32_t)sizeof(*pairs);
	c->names = at;
	names = (void *)(base + at);
	at += total * (uint32_t)sizeof(*names);
	for (uint32_t i = 0; i < in->pair_count; i++) {
		const struct certs_in_pair *p = &in->pairs[i];

		pairs[i] = (struct certs_pair){.id = p->id, .from_ms = p->from_ms, .until_ms = p->until_ms,
					       .chain_len = p->chain_len, .key_len = p->key_len};
		pairs[i].chain = put(base, &at, p->chain, p->chain_len);
		pairs[i].key = put(base, &at, p->key, p->key_len);
		put_names(base, &at, names, &c->name_count, p, i);
	}
	c->name_count = settle(base, names, c->name_count);
	return certs_check(mem, (size_t)c->size, e);
}

bool certs_rotate(struct certs_ticket tickets[CERTS_TICKETS], const struct certs_ticket *fresh,
		  uint64_t now_ms)
{
	uint64_t made = tickets[0].made_ms;

	if (made && made <= now_ms && now_ms - made < CERTS_TICKET_MS)
		return false;
	memmove(&tickets[1], &tickets[0], (CERTS_TICKETS - 1) * sizeof(*tickets));
	tickets[0] = *fresh;
	tickets[0].made_ms = now_ms;
	return true;
}

/* --- reading --- */

static const struct certs_name *find_name(const struct certs *c, const char *text, uint32_t len)
{
	uint32_t from = 0, to = c->name_count;

	while (from < to) {
		uint32_t mid = from + (to - from) / 2;
		int order = compare((const char *)c, &certs_names(c)[mid], text, len);

		if (order == 0)
			return &certs_names(c)[mid];
		if (order < 0)
			from = mid + 1;
		else
			to = mid;
	}
	return NULL;
}

uint32_t certs_find(const struct certs *c, const char *host, size_t len)
{
	const struct certs_name *n;
	char lower[CERTS_NAME_MAX];
	const char *dot;

	if (len && host[len - 1] == '.') /* some send the name with its root */
		len--;
	/* What begins with a dot is how wildcards are stored, and no name. */
	if (!len || len > sizeof(lower) || host[0] == '.')
		return 0;
	for (size_t i = 0; i < len; i++)
		lower[i] = (char)tolower((unsigned char)host[i]);
	n = find_name(c, lower, (uint32_t)len);
	if (n)
		return n->pair;
	dot = memchr(lower, '.', len);
	n = dot ? find_name(c, dot, (uint32_t)(len - (size_t)(dot - lower))) : NULL;
	return n ? n->pair : 0;
}

const struct certs_pair *certs_by_id(const struct certs *c, uint64_t id)
{
	for (uint32_t i = 0; i < c->pair_count; i++)
		if (certs_pairs(c)[i].id == id)
			return &certs_pairs(c)[i];
	return NULL;
}

static bool inside(const struct certs *c, uint32_t at, uint64_t len)
{
	return at >= sizeof(*c) && at <= c->size && len <= c->size - at;
}

static const char *check_names(const struct certs *c)
{
	const struct certs_name *n = certs_names(c);

	for (uint32_t i = 0; i < c->name_count; i++) {
		if (!n[i].len || n[i].len > CERTS_NAME_MAX || !inside(c, n[i].text, n[i].len))
			return "a name lies outside of it";
		if (n[i].pair >= c->pair_count)
			return "a name belongs to no certificate";
		if (i && compare((const char *)c, &n[i - 1], certs_bytes(c, n[i].text), n[i].len) >= 0)
			return "its names are not in order";
	}
	return NULL;
}

static const char *check_all(const struct certs *c, size_t len)
{
	if (c->magic != CERTS_MAGIC || c->version != CERTS_VERSION)
		return "they are of another kind or version";
	if (c->size != len)
		return "they are cut short";
	if (!c->pair_count || c->pair_count > CERTS_PAIRS_MAX || c->name_count > CERTS_NAMES_MAX)
		return "there are none, or too many";
	if (c->pairs % 8 || c->names % 4 ||
	    !inside(c, c->pairs, c->pair_count * sizeof(struct certs_pair)) ||
	    !inside(c, c->names, c->name_count * sizeof(struct certs_name)))
		return "an array lies outside";
	for (uint32_t i = 0; i < c->pair_count; i++) {
		const struct certs_pair *p = &certs_pairs(c)[i];

		if (!p->chain_len || !p->key_len || !inside(c, p->chain, p->chain_len) ||
		    !inside(c, p->key, p->key_len))
			return "a certificate or key lies outside";
	}
	return check_names(c);
}

int certs_check(const void *data, size_t len, struct err *e)
{
	const char *wrong = "they are cut short";

	if (len >= sizeof(struct certs) && len <= CERTS_BYTES_MAX && (uintptr_t)data % 8 == 0)
		wrong = check_all(data, len);
	return wrong ? err_set(e, ERR_CORRUPT, "the certificates cannot be used: %s", wrong) : 0;
}
