/* SPDX-License-Identifier: Apache-2.0
 *
 * The controller: decides, remembers, tells. It may die, hang or be out of disk at any line
 * without a user noticing.
 *
 *	argv: upstate _controller STATE_DIR CONFIGURATION
 */
#pragma once

int controller_main(int argc, char **argv);
int trial_main(int argc, char **argv); /* trial.c */
