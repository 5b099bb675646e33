/* SPDX-License-Identifier: Apache-2.0
 *
 * Built from libyaml's events rather than its documents: events come one by one, so
 * depth and number are bounded before memory is spent, and each carries its place.
 */
#include "conf/tree.h"

#include <string.h>
#include <yaml.h>

#include "base/map.h"

#define CHUNK_BYTES 65536

struct tree_chunk {
	struct tree_chunk *next;
	size_t used, size;
	_Alignas(16) char data[];
};

struct level {
	struct tree_node *node;
	struct tree_node *key; /* of a map: waits for its value */
	bool dropped;	       /* that key stands twice: its value is read and forgotten */
	struct map keys;       /* hash of a key -> node */
};

struct builder {
	struct tree *tree;
	struct conf_problems *problems;
	const char *text, *end;
	struct level levels[TREE_DEPTH_MAX];
	uint32_t depth;
	uint32_t documents;
	bool failed;
};

/* --- memory --- */

static void *tree_alloc(struct tree *t, size_t size)
{
	struct tree_chunk *c = t->chunks;
	void *p;

	size = (size + 15) & ~(size_t)15;
	if (!c || c->size - c->used < size) {
		size_t room = MAX(size, (size_t)CHUNK_BYTES);

		c = util_alloc(sizeof(*c) + room);
		c->size = room;
		c->next = t->chunks;
		t->chunks = c;
	}
	p = c->data + c->used;
	c->used += size;
	return p;
}

void tree_free(struct tree *t)
{
	for (struct tree_chunk *c = t->chunks, *next; c; c = next) {
		next = c->next;
		free(c);
	}
	*t = (struct tree){0};
}

/* --- before libyaml --- */

/* Length of the UTF-8 sequence at p, or 0 when there is none (RFC 3629). */
static size_t utf8_len(const unsigned char *p, const unsigned char *end)
{
	size_t n = p[0] < 0x80	 ? 1
		   : p[0] < 0xc2 ? 0
		   : p[0] < 0xe0 ? 2
		   : p[0] < 0xf0 ? 3
		   : p[0] < 0xf5 ? 4
				 : 0;

	if (!n || (size_t)(end - p) < n)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
	    (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return n;
}

static bool check_bytes(const char *text, size_t len, struct conf_problems *problems)
{
	const unsigned char *p = (const unsigned char *)text, *end = p + len;
	uint32_t line = 1, column = 1;

	while (p < end) {
		size_t n = utf8_len(p, end);

		if (!n) {
			problem_error(problems, line, column,
				      "byte 0x%02x is not UTF-8: save the file as UTF-8", *p);
			return false;
		}
		if ((*p < ' ' && *p != '\t' && *p != '\n' && *p != '\r') || *p == 127) {
			problem_error(
			    problems, line, column,
			    "a control character (0x%02x) stands here; this is a text file", *p);
			return false;
		}
		column = *p == '\n' ? 1 : column + 1;
		line += *p == '\n';
		p += n;
	}
	return true;
}

/* --- what libyaml could not read --- */

/* Is a tab among the blanks that line (from 0) begins with? */
static bool indented_with_tab(const struct builder *b, size_t line)
{
	const char *p = b->text;

	for (; line && p < b->end; line--) {
		p = memchr(p, '\n', (size_t)(b->end - p));
		if (!p)
			return false;
		p++;
	}
	while (p < b->end && *p == ' ')
		p++;
	return p < b->end && *p == '\t';
}

/* libyaml's words for it, and ours. %u, where it stands, is the line on which the thing began. */
static const struct {
	const char *problem, *said;
} hints[] = {
    {"cannot start any token", "this character cannot begin a value; put the value in quotes"},
    {"alphabetic or numeric character",
     "'*' and '&' begin a name in YAML: put the value in quotes, as in \"*\""},
    {"mapping values are not allowed", "a ':' cannot stand here: a key above lacks its ':', or "
				       "this line is indented too far, or the value "
				       "holds a ': ' and needs quotes"},
    {"unexpected end of stream", "the quotes that begin on line %u are never closed"},
    {"did not find expected key", "this line belongs nowhere: keys of one map (the one here begins "
				  "on line %u) stand in the same column"},
    {"did not find expected '-' indicator",
     "this line belongs nowhere: each item of the list that begins on line %u begins with '- '"},
    {"did not find expected ',' or '}'",
     "the '{' on line %u wants ',' or '}' here; a value with any of {}[], in it needs quotes"},
    {"did not find expected ',' or ']'",
     "the '[' on line %u wants ',' or ']' here; a value with any of {}[], in it needs quotes"},
    {"could not find expected ':'", "a key stands here without ': ' after it"},
};

static void explain(struct builder *b, const yaml_parser_t *y)
{
	const char *what = y->problem ? y->problem : "it cannot be read";
	uint32_t line = (uint32_t)y->problem_mark.line + 1;
	uint32_t column = (uint32_t)y->problem_mark.column + 1;
	uint32_t began = y->context ? (uint32_t)y->context_mark.line + 1 : line;

	b->failed = true;
	if (indented_with_tab(b, y->problem_mark.line)) {
		problem_error(b->problems, line, 1,
			      "a tab is used for indentation; YAML wants spaces");
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(hints); i++) {
		const char *said = hints[i].said, *number = strstr(said, "%u");

		if (!strstr(what, hints[i].problem))
			continue;
		if (number)
			problem_error(b->problems, line, column, "%.*s%u%s", (int)(number - said),
				      said, began, number + 2);
		else
			problem_error(b->problems, line, column, "%s", said);
		return;
	}
	problem_error(b->problems, line, column, "not YAML: %s", what);
}

static void refuse(struct builder *b, const yaml_event_t *ev, const char *why)
{
	problem_error(b->problems, (uint32_t)ev->start_mark.line + 1,
		      (uint32_t)ev->start_mark.column + 1, "%s", why);
	b->failed = true;
}

/* --- building --- */

static struct tree_node *node_new(struct builder *b, const yaml_event_t *ev, enum tree_kind kind)
{
	struct tree_node *n;

	if (++b->tree->nodes > TREE_NODES_MAX) {
		refuse(b, ev, "the file has too many values (2,000,000 at most)");
		return NULL;
	}
	n = tree_alloc(b->tree, sizeof(*n));
	n->kind = kind;
	n->line = (uint32_t)ev->start_mark.line + 1;
	n->column = (uint32_t)ev->start_mark.column + 1;
	return n;
}

static void append(struct tree_node *parent, struct tree_node *child)
{
	if (parent->last)
		parent->last->next = child;
	else
		parent->first = child;
	parent->last = child;
	parent->len++;
}

static void take_key(struct builder *b, struct level *l, struct tree_node *key)
{
	uint64_t hash = map_hash(key->text, key->len);
	const struct tree_node *first = map_get(&l->keys, hash);

	l->key = key;
	l->dropped = first && strcmp(first->text, key->text) == 0;
	if (l->dropped) {
		problem_error(b->problems, key->line, key->column,
			      "'%.80s' stands here a second time; the first is on line %u",
			      key->text, first->line);
		return;
	}
	append(l->node, key);
	map_put(&l->keys, hash, key);
}

/* Puts a node where it belongs: under the list, as a key, or as the value of one. */
static void place(struct builder *b, const yaml_event_t *ev, struct tree_node *n)
{
	struct level *l = b->depth ? &b->levels[b->depth - 1] : NULL;

	if (!l)
		b->tree->root = n;
	else if (l->node->kind == TREE_LIST)
		append(l->node, n);
	else if (l->key) {
		l->key->value = n;
		l->key = NULL;
	} else if (n->kind == TREE_TEXT)
		take_key(b, l, n);
	else
		refuse(b, ev, "a key must be text");
}

static void push(struct builder *b, const yaml_event_t *ev, enum tree_kind kind)
{
	struct tree_node *n = node_new(b, ev, kind);

	if (!n)
		return;
	if (b->depth == TREE_DEPTH_MAX) {
		refuse(b, ev, "nested too deeply");
		return;
	}
	place(b, ev, n);
	if (!b->failed)
		b->levels[b->depth++] = (struct level){.node = n};
}

static void pop(struct builder *b)
{
	ensure(b->depth);
	map_free(&b->levels[--b->depth].keys);
}

static void scalar(struct builder *b, const yaml_event_t *ev)
{
	size_t len = ev->data.scalar.length;
	struct tree_node *n = node_new(b, ev, TREE_TEXT);
	char *text;

	if (!n)
		return;
	if (memchr(ev->data.scalar.value, '\0', len)) {
		refuse(b, ev, "a NUL byte cannot stand in a value");
		return;
	}
	text = tree_alloc(b->tree, len + 1);
	memcpy(text, ev->data.scalar.value, len);
	n->text = text;
	n->len = (uint32_t)len;
	n->plain = ev->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	place(b, ev, n);
}

static bool has_extras(struct builder *b, const yaml_event_t *ev, const yaml_char_t *anchor,
		       const yaml_char_t *tag)
{
	if (anchor)
		refuse(b, ev, "anchors ('&name') are not supported: write the values out");
	else if (tag)
		refuse(b, ev, "tags ('!name') are not supported: remove it");
	return anchor || tag;
}

static void on_event(struct builder *b, const yaml_event_t *ev)
{
	switch (ev->type) {
	case YAML_DOCUMENT_START_EVENT:
		if (b->documents++)
			refuse(b, ev,
			       "a second document begins here; one file holds one configuration");
		break;
	case YAML_ALIAS_EVENT:
		refuse(b, ev,
		       "aliases ('*name') are not supported: write the values out, or put quotes "
		       "around a '*' that is meant as text");
		break;
	case YAML_SCALAR_EVENT:
		if (!has_extras(b, ev, ev->data.scalar.anchor, ev->data.scalar.tag))
			scalar(b, ev);
		break;
	case YAML_SEQUENCE_START_EVENT:
		if (!has_extras(b, ev, ev->data.sequence_start.anchor, ev->data.sequence_start.tag))
			push(b, ev, TREE_LIST);
		break;
	case YAML_MAPPING_START_EVENT:
		if (!has_extras(b, ev, ev->data.mapping_start.anchor, ev->data.mapping_start.tag))
			push(b, ev, TREE_MAP);
		break;
	case YAML_SEQUENCE_END_EVENT:
	case YAML_MAPPING_END_EVENT:
		pop(b);
		break;
	default:
		break;
	}
}

bool tree_parse(const char *text, size_t len, struct tree *ret, struct conf_problems *problems)
{
	struct builder b = {.tree = ret, .problems = problems};
	yaml_parser_t y;
	bool end = false;

	*ret = (struct tree){0};
	if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) { /* a byte order mark */
		text += 3;
		len -= 3;
	}
	if (!check_bytes(text, len, problems))
		return false;
	b.text = text;
	b.end = text + len;
	ensure(yaml_parser_initialize(&y));
	yaml_parser_set_encoding(&y, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&y, (const unsigned char *)text, len);
	while (!b.failed && !end) {
		yaml_event_t ev;

		if (!yaml_parser_parse(&y, &ev)) {
			explain(&b, &y);
			break;
		}
		on_event(&b, &ev);
		end = ev.type == YAML_STREAM_END_EVENT;
		yaml_event_delete(&ev);
	}
	while (b.depth)
		pop(&b);
	yaml_parser_delete(&y);
	if (b.failed)
		tree_free(ret);
	return !b.failed;
}

struct tree_node *tree_key(const struct tree_node *map, const char *key)
{
	if (!map || map->kind != TREE_MAP)
		return NULL;
	for (struct tree_node *n = map->first; n; n = n->next)
		if (strcmp(n->text, key) == 0)
			return n;
	return NULL;
}

bool tree_nothing(const struct tree_node *n)
{
	return !n || (n->kind == TREE_TEXT && n->plain &&
		      (n->len == 0 || strcmp(n->text, "~") == 0 || strcmp(n->text, "null") == 0));
}

const char *tree_kind_name(const struct tree_node *n)
{
	static const char *const names[] = {"text", "a list", "a map of keys"};

	return tree_nothing(n) ? "nothing" : names[n->kind];
}
