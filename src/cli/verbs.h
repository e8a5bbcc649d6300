/* SPDX-License-Identifier: Apache-2.0 */
/* Every verb, one a file. */
#ifndef CLI_VERBS_H
#define CLI_VERBS_H

#include "cli/options.h"

extern const cli_verb cli_verb_attend;
extern const cli_verb cli_verb_bench;
extern const cli_verb cli_verb_clips;
extern const cli_verb cli_verb_decode;
extern const cli_verb cli_verb_encode;
extern const cli_verb cli_verb_eval;
extern const cli_verb cli_verb_generate;
extern const cli_verb cli_verb_info;
extern const cli_verb cli_verb_mask;
extern const cli_verb cli_verb_train;

#endif
