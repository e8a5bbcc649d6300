# SPDX-License-Identifier: Apache-2.0
# Completion for bash. The program's own help is the only list of verbs and flags.
_nabla() {
    local word=${COMP_WORDS[COMP_CWORD]} verb=${COMP_WORDS[1]}
    if ((COMP_CWORD == 1)); then
        mapfile -t COMPREPLY < <(compgen -W "$(nabla | sed -n 's/^  nabla \([a-z]*\)  *[^ -].*/\1/p' | sort -u)" -- "$word")
    elif [[ $word == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(nabla "$verb" -H 2>/dev/null | sed -n 's/^  \(-., \)\{0,1\}\(--[a-z0-9-]*\).*/\2/p')" -- "$word")
    else
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
    fi
}
complete -o filenames -F _nabla nabla
