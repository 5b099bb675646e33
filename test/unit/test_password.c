/* SPDX-License-Identifier: Apache-2.0
 *
 * Passwords: written, recognized, and taken out of their field.
 */
#include "unit.h"

#include "wire/password.h"

static void a_password_is_recognized_by_its_text_and_no_other_is(void **state UNUSED)
{
	static const uint8_t salt[PASSWORD_SALT] = {0, 1, 2, 0xff};
	struct password_hasher h;
	char text[PASSWORD_TEXT];
	size_t n = PASSWORD_TEXT - 1;

	assert_true(password_init(&h));
	password_write(&h, salt, "correct horse", 13, text);
	/* printf '\0\1\2\377\0\0\0\0\0\0\0\0\0\0\0\0correct horse' | sha256sum */
	assert_string_equal(text, "sha256:000102ff000000000000000000000000:"
				  "4635cd8ef5502b492c8b5125c42ff60146ed7414053bbd693309bccc0b1e92d9");
	assert_true(password_is(&h, text, n, "correct horse", 13));
	assert_true(password_is(&h, text, n, "correct horse", 13)); /* the hasher can be used again */
	assert_false(password_is(&h, text, n, "correct hors", 12));
	assert_false(password_is(&h, text, n, "", 0));
	assert_false(password_is(&h, "", 0, "", 0));
	assert_false(password_is(&h, text, n - 1, "correct horse", 13));
	for (size_t i = 0; i < n; i++) { /* each character of the text counts */
		char was = text[i];

		text[i] = was == '0' ? '1' : '0';
		assert_false(password_is(&h, text, n, "correct horse", 13));
		text[i] = was;
	}
	password_fini(&h);
}

/* "name|password", or "-". */
static const char *basic(const char *field)
{
	static char said[2 * PASSWORD_BASIC];
	char ret[PASSWORD_BASIC];
	const char *password;
	size_t len;

	if (!password_basic(field, strlen(field), ret, &password, &len))
		return "-";
	assert_int_equal(strlen(password), len);
	snprintf(said, sizeof(said), "%s|%s", ret, password);
	return said;
}

static void the_field_is_taken_apart(void **state UNUSED)
{
	char longer[PASSWORD_BASIC + 20] = "Basic ";

	assert_string_equal(basic("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), "Aladdin|open sesame"); /* RFC 7617 */
	assert_string_equal(basic("bASIC   QWxhZGRpbjpvcGVuIHNlc2FtZQ"), "Aladdin|open sesame");
	assert_string_equal(basic("Basic dGVzdDoxMjPCow=="), "test|123\xc2\xa3");
	assert_string_equal(basic("Basic Og=="), "|");
	assert_string_equal(basic("Basic YTpiOmM="), "a|b:c");
	assert_string_equal(basic("Basic YWJj"), "-");	     /* no colon */
	assert_string_equal(basic("Basic QQBCOmM="), "-"); /* NUL in the name */
	assert_string_equal(basic("Basic YTpi YTpi"), "-");
	assert_string_equal(basic("Basic YTp"), "a|");
	assert_string_equal(basic("Basic YTpiY"), "-");
	assert_string_equal(basic("Basic ="), "-");
	assert_string_equal(basic("Basic "), "-");
	assert_string_equal(basic("Basic"), "-");
	assert_string_equal(basic("Bearer YTpi"), "-");
	assert_string_equal(basic(""), "-");
	memset(longer + 6, 'O', PASSWORD_BASIC - 1);
	assert_string_equal(basic(longer), "-"); /* no colon, but it fits */
	memset(longer + 6, 'O', PASSWORD_BASIC);
	assert_string_equal(basic(longer), "-");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_password_is_recognized_by_its_text_and_no_other_is),
	    cmocka_unit_test(the_field_is_taken_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
