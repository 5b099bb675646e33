/* SPDX-License-Identifier: Apache-2.0 */
#include "core/retry.h"

#include <errno.h>

static bool proven_unread(const struct retry_facts *f)
{
	return f->is_unix && f->unread_counts && f->error == ECONNRESET && f->all_written &&
	       f->writes == 1 && f->written <= RETRY_WRITE_MAX;
}

enum retry_verdict retry_decide(const struct retry_facts *f)
{
	if (f->answer_begun || !f->replayable)
		return RETRY_NO;
	if (f->written == 0)
		return RETRY_UNSENT;
	if (f->refused)
		return RETRY_UNREAD;
	if (f->stuck)
		return f->safe_method && !f->moved && f->died_under < 2 ? RETRY_MOVED : RETRY_NO;
	if (proven_unread(f))
		return RETRY_UNREAD;
	/* A target that is only slow did not break: asking another doubles the load that made it
	 * slow. */
	if (f->safe_method && f->error != ETIMEDOUT && f->died_under < 2)
		return RETRY_SAFE;
	return RETRY_NO;
}
