#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# run.sh figures|page|measure [NABLA]: the arithmetic of bench/evidence/*.py, a page of votes under node with jsdom, or
# measure.sh itself with a model of toy size, whose rows are then read. Exit code 77 where what it needs is not there.
here=$(dirname "$0")
export PYTHONDONTWRITEBYTECODE=1
command -v python3 >/dev/null || { echo "skipped: no python3 here" && exit 77; }
[ "$1" = figures ] && exec python3 "$here/test_evidence.py"

if [ "$1" = measure ]; then
  [ -x "$2" ] || { echo "skipped: no program nabla" && exit 77; }
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  measure() {
    QUICK=1 SEEDS=7 ONLY='sta-3-3-3' CARD='a card' RESULTS="$work/rows" \
      "$here/../../bench/evidence/measure.sh" "$work" "$@" >"$work/log" 2>&1
  }
  export NABLA="$2"
  measure base dense scratch one card || { cat "$work/log" && exit 1; }
  python3 "$here/measured.py" "$work/rows" || { cat "$work/log" && exit 1; }
  # again: nothing is left to do, and a part that is not there is refused
  cat "$work"/rows/*.csv >"$work/before"
  measure base dense scratch one && [ "$(wc -l <"$work/log")" = 1 ] || { cat "$work/log" && exit 1; }
  cat "$work"/rows/*.csv | cmp - "$work/before" || exit 1
  measure two && echo "no such part, and nothing said" && exit 1
  grep "no part 'two'" "$work/log"
  exit
fi

command -v node >/dev/null || { echo "skipped: no node here" && exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/one" "$work/other"
for i in 1 2 3; do
  echo "clip $i of one" >"$work/one/000$i.mp4"
  echo "clip $i of other" >"$work/other/000$i.mp4"
  echo "a caption, \"quoted\" <$i>" >>"$work/captions.txt"
done
python3 "$here/../../bench/evidence/votes.py" make "$work/one" "$work/other" -o "$work/votes.html" \
  --names 'one "quoted" name,other_name' &&
  node "$here/votes_page.mjs" "$work/votes.html" "$work/votes.csv" || exit $?
python3 "$here/../../bench/evidence/votes.py" sum "$work/votes.csv"
