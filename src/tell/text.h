/* SPDX-License-Identifier: Apache-2.0
 *
 * Strings from anywhere (reasons, names, what people typed) made fit for XML, HTML and addresses.
 *
 * What comes out is UTF-8 that XML 1.0 allows (section 2.2): control characters other than tab and newline,
 * and those that set the direction of text, are left out; what is not UTF-8 becomes U+FFFD. libxml2's
 * writer checks none of this.
 */
#pragma once

#include "base/buf.h"

void text_clean(struct buf *b, const char *s);
/* Cleaned, and & < > " ' written as references: right in an element and in a quoted attribute. */
void text_html(struct buf *b, const char *s);
/* Percent-encoded (RFC 3986) apart from unreserved characters and slashes. */
void text_path(struct buf *b, const char *s);
