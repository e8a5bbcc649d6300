#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Golden tests of the command line: run.sh BIN CASES DATA
# A case file is made of lines
#   $ command      run by sh in an empty folder, with BIN (where nabla and compare_tensors lie) first in PATH and DATA
#                  in the variable of that name; files of earlier cases of the same file are there
#   ? code         the exit code it must have (0 if not given)
#   1> regex       a line of stdout must match (grep -E); 2> the same of stderr
#   1! regex       no line of stdout may match; 2! the same of stderr
#   # remark
# A case may have any number of > and ! lines.
bin=$1 cases=$2 DATA=$3
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/work"
PATH=$bin:$PATH
export PATH DATA
command='' count=0 failed=0

complain() {
    failed=$((failed + 1))
    echo "FAILED: $command"
    echo "  $1"
    sed 's/^/  stdout: /' "$folder/1" | head -n 20
    sed 's/^/  stderr: /' "$folder/2" | head -n 20
}

run_case() {
    [ -n "$command" ] || return
    count=$((count + 1))
    (cd "$folder/work" && exec sh -c "$command" </dev/null >"$folder/1" 2>"$folder/2")
    code=$?
    [ "$code" = "$expected" ] || complain "exit code $code, expected $expected"
    while read -r stream regex; do
        file=$folder/${stream%?}
        case $stream in
        ?'>') grep -Eq -e "$regex" "$file" || complain "nothing in stream ${stream%?} matches: $regex" ;;
        ?'!') ! grep -Eq -e "$regex" "$file" || complain "stream ${stream%?} matches: $regex" ;;
        esac
    done <"$folder/checks"
    command=''
}

while IFS= read -r line; do
    case $line in
    '$ '*) run_case; command=${line#??} expected=0; : >"$folder/checks" ;;
    '? '*) expected=${line#??} ;;
    [12]['>!']' '*) printf '%s\n' "$line" >>"$folder/checks" ;;
    '' | '#'*) ;;
    *) echo "$cases: cannot read the line: $line"; exit 1 ;;
    esac
done <"$cases"
run_case
echo "$count cases, $failed failures"
[ "$failed" = 0 ] && [ "$count" -gt 0 ]
