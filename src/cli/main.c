/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/report.h"
#include "cli/signals.h"
#include "cli/verbs.h"

static const cli_verb *const verbs[] = {
    &cli_verb_generate, &cli_verb_encode, &cli_verb_decode, &cli_verb_train, &cli_verb_eval,
    &cli_verb_clips,    &cli_verb_attend, &cli_verb_mask,   &cli_verb_bench, &cli_verb_info,
};

static void print_screen(void) {
    printf("nabla %s: text to video with block-sparse attention (NABLA), and the training of such models\n\n",
           nabla_version());
    for (int32_t i = 0; i < CLI_COUNT(verbs); i++)
        printf("  nabla %-9s %s\n", verbs[i]->name, verbs[i]->summary);
    printf("\nexamples:\n"
           "  nabla generate \"a red circle moving right\"\n"
           "  nabla train -o mine --steps 2000 --policy nabla-0.7\n"
           "  nabla attend qkv.safetensors --grid 4x32x32 --policy nabla-0.7_sta-1-3-3 -o out.safetensors\n"
           "\nnabla VERB -h explains a verb, nabla VERB -H all its flags.\n");
}

static const cli_verb *find_verb(const char *name) {
    for (int32_t i = 0; i < CLI_COUNT(verbs); i++)
        if (strcmp(verbs[i]->name, name) == 0) return verbs[i];
    return NULL;
}

static int unknown_verb(const char *name) {
    const char *names[CLI_COUNT(verbs)];
    for (int32_t i = 0; i < CLI_COUNT(verbs); i++)
        names[i] = verbs[i]->name;
    const char *near = cli_nearest(name, names, CLI_COUNT(verbs));
    if (near) return cli_misuse(NULL, "unknown verb '%s': did you mean '%s'?", name, near);
    return cli_misuse(NULL, "unknown verb '%s': nabla alone lists them", name);
}

static int run(int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : "help";
    if (strcmp(name, "--version") == 0 || strcmp(name, "version") == 0) {
        printf("nabla %s\n", nabla_version());
        return CLI_DONE;
    }
    const int help = strcmp(name, "help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "--help") == 0;
    if (help && argc <= 2) {
        print_screen();
        return CLI_DONE;
    }
    const cli_verb *verb = find_verb(help ? argv[2] : name);
    if (!verb) return unknown_verb(help ? argv[2] : name);
    cli_catch_signals();
    char *ask[] = {argv[0], (char[]){"-h"}, NULL};
    return help ? verb->run(verb, 2, ask) : verb->run(verb, argc - 1, argv + 1);
}

int main(int argc, char **argv) {
    const int code = run(argc, argv);
    /* A full disk or a closed pipe shows only now; results that did not arrive are a failure. */
    if (fflush(stdout) != 0 || ferror(stdout)) {
        const int failed = cli_fail(NULL, "cannot write to standard output: %s", strerror(errno));
        return code ? code : failed;
    }
    return code;
}
