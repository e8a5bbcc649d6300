#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# run.sh figures|page: the arithmetic of bench/evidence/*.py, or a page of votes under node with jsdom.
# Exit code 77 where what it needs is not there.
here=$(dirname "$0")
export PYTHONDONTWRITEBYTECODE=1
command -v python3 >/dev/null || { echo "skipped: no python3 here" && exit 77; }
[ "$1" = figures ] && exec python3 "$here/test_evidence.py"

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
